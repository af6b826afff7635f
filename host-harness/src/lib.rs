//! (to come)

pub mod load;
pub mod provision;
pub mod scenario;
pub mod serving;

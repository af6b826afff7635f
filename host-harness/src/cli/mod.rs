//! (to come)

pub(crate) mod demo;

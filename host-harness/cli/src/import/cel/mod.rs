//! CEL, as far as conditions on requests need it: comparisons of texts, `&&`, `||`, `!`.
//!
//! | module | contents |
//! |---|---|
//! | `parser` | expressions |
//! | `convert` | expressions as conditions |
//!
//! A comparison of a missing value is an error in CEL, and the condition then does not hold, also if it is negated:
//! `!=` and `!` require the value here as well.

mod convert;
mod parser;

pub(super) use self::convert::{Operand, condition};
pub(super) use self::parser::{Expression, parse};

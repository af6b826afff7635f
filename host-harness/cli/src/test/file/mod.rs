//! Test file: YAML with a configuration and tests, each a list of steps.

mod budget;
mod expect;
mod request;
mod step;
mod suite;
mod upstream;

pub(super) use crate::reader::Mistake;
pub(super) use budget::{Amount, BudgetExpectation, shown as shown_amount};
pub(super) use expect::{Expect, Matcher};
pub(super) use request::{Claims, Pace, Requests};
pub(super) use step::{Action, RedisState, Step};
pub(crate) use suite::Suite;
pub(super) use suite::{Configuration, Test};
pub(super) use upstream::{End, Moment, Upstream};

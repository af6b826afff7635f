//! Model of the script that gives back what a request spent that buckets in other hash slots denied.

use super::model::{Model, State};
use super::script_model::{ScriptCall, number};
use crate::limit::algorithm::{DeniedSpend, Log, Shape, Units};
use crate::redis::Reply;
use crate::units::Micros;

/// Entries of a sliding log that are searched, from the newest on.
const MAX_ENTRIES: usize = 128;
/// Entries of the log of what was given back to a bucket.
const MAX_GIVEN: usize = 64;

impl Model {
    /// Returns the reply to a call of the script: the number of buckets that were given back to.
    pub(super) fn give_back_all(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
        let mut given = 0_i64;
        for (key, arguments) in call.keys.iter().zip(call.arguments.chunks(6)) {
            let is_given = give_back(self.bucket(key), now, arguments)?;
            given = given.saturating_add(is_given.into());
        }
        Some(Reply::Integer(given))
    }
}

fn give_back(state: &mut State, now: Micros, arguments: &[Vec<u8>]) -> Option<bool> {
    let [letter, when, cost, reset, x, y] = arguments else { return None };
    let (at, cost) = (Micros(number(when)?), number(cost)?);
    let given = match letter.as_slice() {
        b"t" | b"b" => {
            let shape = Shape::of_arguments(number(x)?, number(y)?, 0)?;
            // Leases end, and are returned: the bucket may have been full all the time.
            let given = &mut state.given;
            let knows_others = letter == b"t" && (given.len() < MAX_GIVEN || given.front().is_some_and(|it| it.0 < at));
            let full_in = knows_others.then_some(Micros(number(reset)?));
            let others = given.iter().filter(|(its, _)| *its >= at).map(|(_, units)| units.0).sum();
            let spend = DeniedSpend { at, price: Units(cost), full_in, others: Units(others) };
            state.tokens.as_mut().and_then(|tokens| tokens.give_back(&shape, &spend))
        }
        b"l" => remove(&mut state.log, at, cost).then_some(Units(cost)),
        b"s" => {
            let window = Micros(number(x)?);
            let counts = state.sliding.as_mut();
            counts.is_some_and(|counts| counts.give_back(at, cost, window)).then_some(Units(cost))
        }
        _ => state.window.as_mut().is_some_and(|count| count.give_back(at, cost)).then_some(Units(cost)),
    };
    if let Some(amount) = given {
        state.given.push_back((now, amount));
        state.given.drain(..state.given.len().saturating_sub(MAX_GIVEN));
    }
    Some(given.is_some())
}

/// Removes the newest entry of this time and cost.
fn remove(log: &mut Log, at: Micros, cost: u64) -> bool {
    let oldest = log.len().saturating_sub(MAX_ENTRIES);
    let place = log.iter().rposition(|entry| *entry == (at, cost)).filter(|place| *place >= oldest);
    place.and_then(|place| log.remove(place)).is_some()
}

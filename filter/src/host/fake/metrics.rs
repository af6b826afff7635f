//! Metrics of the fake host, by name.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

use crate::host::{HostError, Metric};

#[derive(Default)]
struct State {
    /// Names of the metrics; the id of a metric is its place, from 1.
    names: Vec<String>,
    values: BTreeMap<u32, i64>,
    recorded: BTreeMap<u32, Vec<u64>>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

pub(super) fn reset() {
    STATE.take();
}

pub(super) fn define_metric(_kind: Metric, name: &str) -> Result<u32, HostError> {
    with(|state| state.names.push(name.to_owned()));
    Ok(id_of(name))
}

pub(super) fn increment(metric: u32, offset: i64) -> Result<(), HostError> {
    with(|state| *state.values.entry(metric).or_default() += offset);
    Ok(())
}

pub(super) fn record_value(histogram: u32, value: u64) -> Result<(), HostError> {
    with(|state| state.recorded.entry(histogram).or_default().push(value));
    Ok(())
}

/// Value of a counter or a gauge.
pub(crate) fn metric(name: &str) -> i64 {
    let id = id_of(name);
    with(|state| state.values.get(&id).copied()).unwrap_or_default()
}

/// Takes the values recorded in a histogram, in their order.
pub(crate) fn take_recorded(name: &str) -> Vec<u64> {
    let id = id_of(name);
    with(|state| state.recorded.remove(&id)).unwrap_or_default()
}

fn id_of(name: &str) -> u32 {
    let at = with(|state| state.names.iter().position(|known| known == name)).expect("the metric is defined");
    u32::try_from(at + 1).expect("few metrics")
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(act)
}

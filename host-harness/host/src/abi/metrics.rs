//! Host functions for metrics. Metrics are in the host's registry; all VMs share the metric of a name.

use std::collections::HashMap;

use wasmtime::Caller;

use super::memory::{Fault, Guest, Status, answer};
use super::state::HostState;
use crate::stats::{Kind, Metric};

/// Maximum number of definitions of one VM.
const MAX_DEFINITIONS: usize = 1_000_000;

/// Metrics of a VM, by id.
///
/// As in Envoy, the low two bits of an id are the metric's kind, and each definition of a name has an id of its own.
#[derive(Default)]
pub(crate) struct VmMetrics {
    by_id: HashMap<u32, Metric>,
    /// Number of definitions of each kind.
    defined: [u32; 3],
}

pub(super) fn define(
    mut caller: Caller<'_, HostState>,
    kind: u32,
    name: u32,
    name_length: u32,
    id_at: u32,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let name = guest.read_text(name, name_length)?;
        let kind_of = kind_of(kind).ok_or(Status::BadArgument)?;
        let state = guest.state();
        // Envoy's prefix for metrics of modules.
        let name = format!("wasmcustom.{name}");
        let stats = &state.shared.stats;
        if state.metrics.by_id.len() >= MAX_DEFINITIONS {
            return Err(Status::InternalFailure.into());
        }
        if !stats.has(&name) {
            state.shared.storage.keep(name.len())?;
        }
        let metric = stats.metric(&name, kind_of).ok_or(Status::BadArgument)?;
        let defined = state.metrics.defined.get_mut(kind as usize).ok_or(Status::BadArgument)?;
        *defined += 1;
        let id = (*defined << 2) | kind;
        state.metrics.by_id.insert(id, metric);
        guest.write_u32(id_at, id)
    })())
}

pub(super) fn increment(mut caller: Caller<'_, HostState>, id: u32, offset: i64) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        match metric(guest.state(), id)? {
            Metric::Counter(counter) => match u64::try_from(offset) {
                Ok(offset) if offset > 0 => counter.add(offset),
                _ => return Err(Status::BadArgument.into()),
            },
            Metric::Gauge(gauge) => gauge.shift(offset),
            Metric::Histogram(_) => return Err(Status::BadArgument.into()),
        }
        Ok(())
    })())
}

pub(super) fn record(mut caller: Caller<'_, HostState>, id: u32, value: i64) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let value = value.cast_unsigned();
        match guest.state().metrics.by_id.get(&id).ok_or(Status::NotFound)? {
            Metric::Counter(counter) => counter.add(value),
            Metric::Gauge(gauge) => gauge.set(value),
            Metric::Histogram(histogram) => histogram.record(value),
        }
        Ok(())
    })())
}

pub(super) fn value(mut caller: Caller<'_, HostState>, id: u32, value_at: u32) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let value = match metric(guest.state(), id)? {
            Metric::Counter(counter) => counter.value(),
            Metric::Gauge(gauge) => gauge.value(),
            Metric::Histogram(_) => return Err(Status::BadArgument.into()),
        };
        guest.write_u64(value_at, value)
    })())
}

/// Returns the metric with an id.
///
/// # Errors
/// `NotFound` for an unknown id of a counter or gauge, `BadArgument` for any other unknown id, as in Envoy.
fn metric(state: &HostState, id: u32) -> Result<&Metric, Fault> {
    let missing = if id & 3 < 2 { Status::NotFound } else { Status::BadArgument };
    Ok(state.metrics.by_id.get(&id).ok_or(missing)?)
}

fn kind_of(kind: u32) -> Option<Kind> {
    match kind {
        0 => Some(Kind::Counter),
        1 => Some(Kind::Gauge),
        2 => Some(Kind::Histogram),
        _ => None,
    }
}

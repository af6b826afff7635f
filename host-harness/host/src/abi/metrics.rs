//! Host functions for metrics. Metrics are in the host's registry; all VMs share the metric of a name.

use std::collections::HashMap;

use wasmtime::Caller;

use super::memory::{Guest, Status, answer};
use super::state::HostState;
use crate::stats::{Kind, Metric};

/// Metrics of a VM, by id. The low two bits of an id are the metric's kind, as in Envoy.
#[derive(Default)]
pub(crate) struct VmMetrics {
    by_id: HashMap<u32, Metric>,
    defined: u32,
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
        let kind_of = match kind {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Histogram,
            _ => return Err(Status::BadArgument.into()),
        };
        let state = guest.state();
        // Envoy's prefix for metrics of modules.
        let metric = state.shared.stats.metric(&format!("wasmcustom.{name}"), kind_of).ok_or(Status::BadArgument)?;
        state.metrics.defined += 1;
        let id = (state.metrics.defined << 2) | kind;
        state.metrics.by_id.insert(id, metric);
        guest.write_u32(id_at, id)
    })())
}

pub(super) fn increment(mut caller: Caller<'_, HostState>, id: u32, offset: i64) -> wasmtime::Result<u32> {
    answer((|| {
        let metric = caller.data_mut().metrics.by_id.get(&id).ok_or(Status::NotFound)?;
        match metric {
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
    answer((|| {
        let value = value.cast_unsigned();
        match caller.data_mut().metrics.by_id.get(&id).ok_or(Status::NotFound)? {
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
        let value = match guest.state().metrics.by_id.get(&id).ok_or(Status::NotFound)? {
            Metric::Counter(counter) => counter.value(),
            Metric::Gauge(gauge) => gauge.value(),
            Metric::Histogram(_) => return Err(Status::BadArgument.into()),
        };
        guest.write_u64(value_at, value)
    })())
}

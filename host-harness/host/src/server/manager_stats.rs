//! Counters of a connection manager, under Envoy's names.

use std::sync::Arc;

use crate::abi::shared::Shared;
use crate::stats::{Counter, Gauge};

pub(crate) struct ManagerStats {
    pub(crate) requests: Arc<Counter>,
    connections: Arc<Counter>,
    active: Arc<Gauge>,
    by_class: [Arc<Counter>; 4],
}

impl ManagerStats {
    pub(super) fn new(shared: &Shared, prefix: &str) -> Self {
        let counter = |name: &str| shared.stats.counter(&format!("http.{prefix}.{name}"));
        Self {
            requests: counter("downstream_rq_total"),
            connections: counter("downstream_cx_total"),
            active: shared.stats.gauge(&format!("http.{prefix}.downstream_cx_active")),
            by_class: ["2xx", "3xx", "4xx", "5xx"].map(|class| counter(&format!("downstream_rq_{class}"))),
        }
    }

    pub(crate) fn connected(&self) {
        self.connections.add(1);
        self.active.shift(1);
    }

    pub(crate) fn disconnected(&self) {
        self.active.shift(-1);
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = usize::from(status / 100).checked_sub(2).and_then(|class| self.by_class.get(class)) {
            counter.add(1);
        }
    }
}

//! Active health checks of a cluster's endpoints, and the choice among the healthy ones.
//!
//! As in Envoy, an endpoint is unhealthy until its first check passes, and the first check alone makes it healthy. With
//! fewer healthy endpoints than the panic threshold, all are used.

use std::cell::Cell;
use std::io;
use std::rc::Weak;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Cluster;
use crate::bootstrap::HealthCheck;
use crate::io::Connection;

/// Longest answer to a check.
const MAX_ANSWER: usize = 64 * 1024;

/// Health of one endpoint.
pub(super) struct Endpoint {
    healthy: watch::Sender<bool>,
    tally: Cell<Tally>,
}

/// Results of the latest checks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    /// Whether a check has passed before.
    known: bool,
    healthy: bool,
    /// Number of checks in a row that contradict `healthy`.
    against: u32,
}

impl Tally {
    fn note(mut self, passed: bool, check: &HealthCheck) -> Self {
        if passed == self.healthy {
            return Self { against: 0, ..self };
        }
        self.against += 1;
        let threshold = if passed { check.healthy_threshold } else { check.unhealthy_threshold };
        if self.against >= threshold || (passed && !self.known) {
            self = Self { known: true, healthy: passed, against: 0 };
        }
        self
    }
}

impl Endpoint {
    /// Creates the health of an endpoint; without health checks, it is healthy.
    pub(super) fn new(is_checked: bool) -> Self {
        Self { healthy: watch::Sender::new(!is_checked), tally: Cell::default() }
    }

    /// Returns when the endpoint has become unhealthy; never, if it stays as it is.
    pub(super) async fn failed(&self) {
        let mut healthy = self.healthy.subscribe();
        loop {
            // The sender is in `self`.
            let _ = healthy.changed().await;
            if !*healthy.borrow_and_update() {
                return;
            }
        }
    }

    fn is_healthy(&self) -> bool {
        *self.healthy.borrow()
    }
}

/// Returns the index of the endpoint that is used in this turn.
pub(super) fn choose(endpoints: &[Endpoint], panic_threshold: u32, turn: usize) -> Option<usize> {
    let healthy: Vec<usize> = (0..).zip(endpoints).filter(|(_, it)| it.is_healthy()).map(|(index, _)| index).collect();
    let panics = healthy.len() * 100 < endpoints.len() * usize::try_from(panic_threshold).unwrap_or(usize::MAX);
    if panics { turn.checked_rem(endpoints.len()) } else { healthy.get(turn.checked_rem(healthy.len())?).copied() }
}

/// Checks an endpoint until the cluster is gone.
pub(super) async fn run(cluster: Weak<Cluster>, index: usize) {
    let mut connection = None;
    loop {
        let interval = {
            let Some(cluster) = cluster.upgrade() else { return };
            let Some(check) = &cluster.config.health_check else { return };
            let Some(endpoint) = cluster.health.get(index) else { return };
            let passed = matches!(timeout(check.timeout, probe(&cluster, index, &mut connection)).await, Ok(Ok(())));
            if !passed {
                connection = None;
            }
            let tally = endpoint.tally.get().note(passed, check);
            endpoint.tally.set(tally);
            endpoint.healthy.send_if_modified(|healthy| std::mem::replace(healthy, tally.healthy) != tally.healthy);
            check.interval
        };
        sleep(interval).await;
    }
}

/// Checks an endpoint once, on the connection of the check before if that is still open.
async fn probe(cluster: &Cluster, index: usize, connection: &mut Option<Connection>) -> io::Result<()> {
    let (Some(check), Some(endpoint)) = (&cluster.config.health_check, cluster.config.endpoints.get(index)) else {
        return Ok(());
    };
    let open = match connection {
        Some(open) => open,
        None => connection.insert(cluster.reach(endpoint).await.map_err(|failed| failed.error)?.0),
    };
    if let Some(bytes) = &check.send {
        open.write_all(bytes).await?;
        open.flush().await?;
    }
    let mut answer = Vec::new();
    while !has_in_order(&answer, &check.receive) {
        if open.read_buf(&mut answer).await? == 0 || answer.len() > MAX_ANSWER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether the answer has all blocks, in this order, with any bytes between them.
fn has_in_order(answer: &[u8], blocks: &[Vec<u8>]) -> bool {
    let mut rest = answer;
    blocks.iter().all(|block| {
        let found = rest.windows(block.len()).position(|window| window == block);
        found.is_some_and(|at| {
            rest = rest.get(at + block.len()..).unwrap_or_default();
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheck {
        let time = Duration::from_secs(1);
        let receive = Vec::new();
        HealthCheck { timeout: time, interval: time, unhealthy_threshold, healthy_threshold, send: None, receive }
    }

    #[test]
    fn an_answer_has_the_blocks_in_order() {
        let blocks = [b"master".to_vec(), b"*2".to_vec()];
        assert!(has_in_order(b"*3\r\n$6\r\nmaster\r\n:0\r\n*2\r\n", &blocks));
        assert!(!has_in_order(b"*2 before master", &blocks));
        assert!(!has_in_order(b"*3\r\n$5\r\nslave\r\n", &blocks));
        assert!(has_in_order(b"", &[]));
    }

    #[test]
    fn the_first_pass_makes_an_endpoint_healthy_and_later_ones_need_the_threshold() {
        let check = check(2, 3);
        let mut tally = Tally::default();
        let mut healthy = Vec::new();
        for passed in [false, true, false, true, false, false, true, true, true, false] {
            tally = tally.note(passed, &check);
            healthy.push(tally.healthy);
        }
        assert_eq!(healthy, [false, true, true, true, true, false, false, false, true, true]);
    }

    #[test]
    fn healthy_endpoints_are_used_in_turn_and_all_in_a_panic() {
        let endpoints: Vec<Endpoint> = [true, false, true].map(Endpoint::new).into();
        let choices = |threshold| (0..4).map(|turn| choose(&endpoints, threshold, turn)).collect::<Vec<_>>();
        assert_eq!(choices(0), [Some(1); 4]);
        assert_eq!(choices(33), [Some(1); 4]);
        assert_eq!(choices(50), [Some(0), Some(1), Some(2), Some(0)]);
        endpoints[1].healthy.send_replace(false);
        assert_eq!(choices(0), [None; 4]);
        assert_eq!(choose(&[], 50, 0), None);
    }
}

//! Listener, cluster of Redis and the filter itself replaced under load; drain; hot restart. On real Envoy: the embedded
//! host reads no such files.

mod filed;

use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderMap;
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use weir::{Load, Phases, Trial};
use weir_provision::client::Client;

use self::filed::{DRAINED, Filed, LEASE, Resource, SOON, WORKERS, endpoint};
use crate::dns::Forwarder;

/// A timeout that no busy machine exceeds: a check that fails has lost its connection or its cluster.
const LOAD: Load = Load { timeout: Duration::from_secs(4), ..Load::STEADY };
/// Number of times that a resource is replaced.
const TIMES: u64 = 4;
/// Time between two of them.
const EVERY: Duration = Duration::from_millis(150);
/// The second address of Redis.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Requests in flight during a hot restart and a drain.
const HELD: u64 = 10;

/// Change of a running Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Filter,
    Listener,
    Cluster,
    Address,
    NoCluster,
    HotRestart,
}

pub(super) const CHANGES: [(Change, &str); 6] = [
    (Change::Filter, "filter replaced × 4 (ECDS)"),
    (Change::Listener, "listener replaced × 4 (LDS)"),
    (Change::Cluster, "cluster of Redis replaced × 4 (CDS)"),
    (Change::Address, "address of Redis replaced × 4 (CDS)"),
    (Change::NoCluster, "cluster of Redis removed for 1 s (CDS)"),
    (Change::HotRestart, "hot restart"),
];

impl Change {
    /// Whether connections to Redis are lost, and checks with them.
    fn loses_connections(self) -> bool {
        matches!(self, Self::Cluster | Self::Address | Self::NoCluster)
    }

    /// Time of load after the change: until lost connections are opened again, with a few attempts 50 ms apart and more;
    /// until what was replaced is drained.
    fn after(self) -> Duration {
        match self {
            Self::Listener => DRAINED + Duration::from_secs(1),
            _ if self.loses_connections() => Duration::from_secs(3),
            _ => Duration::from_secs(1),
        }
    }

    async fn make(self, filed: &mut Filed) {
        match self {
            Self::HotRestart => hot_restart(filed).await,
            Self::NoCluster => {
                filed.replace(Resource::NoCluster).await;
                sleep(Duration::from_secs(1)).await;
                filed.replace(Resource::Cluster).await;
            }
            _ => {
                for nth in 1..=TIMES {
                    self.once(filed, nth).await;
                    sleep(EVERY).await;
                }
            }
        }
    }

    async fn once(self, filed: &mut Filed, nth: u64) {
        let resource = match self {
            Self::Filter => {
                filed.filter()["response"]["body"] = body(nth).into();
                Resource::Limiter
            }
            Self::Listener => {
                // More than the filter chain: Envoy replaces the listener as a whole.
                filed.listener["per_connection_buffer_limit_bytes"] = (1_048_576 + nth).into();
                Resource::Listener
            }
            Self::Address => {
                let mut addr = filed.redis.addr();
                if nth % 2 == 1 {
                    addr.set_ip(OTHER.into());
                }
                filed.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0] = endpoint(addr);
                Resource::Cluster
            }
            _ => {
                filed.cluster["connect_timeout"] = format!("1.{nth}s").into();
                Resource::Cluster
            }
        };
        filed.replace(resource).await;
    }

    /// Counter of such changes, and the number of them.
    fn counted(self) -> (&'static str, u64) {
        match self {
            Self::Filter => ("weir.config_reload", TIMES),
            Self::Listener => ("listener_manager.listener_modified", TIMES),
            Self::Cluster | Self::Address => ("cluster_manager.cluster_modified", TIMES),
            Self::NoCluster => ("cluster_manager.cluster_removed", 1),
            Self::HotRestart => ("server.hot_restart_epoch", 1),
        }
    }
}

/// Starts an Envoy for all changes, and a second address of its Redis.
pub(super) async fn start() -> Option<Filed> {
    let mut filed = Filed::start(LOAD).await?;
    filed.forwarder = Some(Forwarder::start(OTHER, filed.redis.addr()).await);
    Some(filed)
}

/// Makes the change under load.
pub(super) async fn trial_of(change: Change, filed: &mut Filed) -> Trial {
    let (counter, times) = change.counted();
    let before = filed.stat(counter);
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::ZERO, after: change.after() };
    let ingress = filed.ingress;
    let trial = LOAD.run_at(ingress, phases, async || change.make(filed).await, async || ()).await;
    assert_eq!(filed.stat(counter), before + times, "{change:?}: {counter}");
    // What was replaced has closed its connections.
    filed.until_connections_are(WORKERS as usize).await;
    trial
}

/// Requests in flight end at the process that is replaced, and return their slots.
async fn hot_restart(filed: &mut Filed) {
    let held = filed.hold(HELD).await;
    let replaced = block_in_place(|| filed.start_successor());
    filed.upstream.answer();
    assert_eq!(held.join_all().await, [200; HELD as usize]);
    filed.until_slots_are(0).await;
    let deadline = Instant::now() + SOON;
    while replaced.is_alive() {
        assert!(Instant::now() < deadline, "the process that is replaced still runs:\n{}", replaced.log());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_proxy_loses_no_request_and_admits_none_too_many() {
    let Some(mut filed) = start().await else { return };
    for (change, name) in CHANGES {
        let trial = trial_of(change, &mut filed).await;
        println!("{name}: {trial}");
        trial.as_asked();
        assert_eq!(trial.over_admitted, 0, "{name}: {trial}");
        match change {
            Change::NoCluster => assert!(trial.failed > 0, "{name}: {trial}"),
            _ => assert!(trial.failed < trial.decided, "{name}: {trial}"),
        }
        assert!(trial.failed == 0 || change.loses_connections(), "{name}: {trial}");
        assert!(trial.mostly_decided_after < change.after(), "{name}: {trial}");
        if change == Change::Filter {
            assert_eq!(filed.denied().await, body(TIMES));
        }
    }
}

/// Body of denied responses, by the number of the configuration.
fn body(nth: u64) -> String {
    format!("limited by configuration {nth}")
}

/// The listener closes, and requests in flight go on: their slots are renewed, and returned at their ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_keep_their_slots_while_the_listener_drains() {
    let Some(filed) = Filed::start(LOAD).await else { return };
    let held = filed.hold(HELD).await;
    let mut admin = Client::new(filed.envoy.admin(), SOON);
    let drains = admin.send(&Method::POST, "/drain_listeners?graceful", &HeaderMap::new(), "".into()).await.unwrap();
    assert_eq!(drains.status, 200);
    let deadline = Instant::now() + SOON;
    while TcpStream::connect(filed.ingress).await.is_ok() {
        assert!(Instant::now() < deadline, "the listener does not close");
        sleep(Duration::from_millis(20)).await;
    }
    sleep(2 * LEASE).await;
    assert_eq!(filed.slots(), HELD);
    filed.upstream.answer();
    assert_eq!(held.join_all().await, [200; HELD as usize]);
    filed.until_slots_are(0).await;
}

/// A configuration with an error leaves the old one in force, also for a filter that has its file alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_of_the_filter_is_refused() {
    let Some(mut filed) = Filed::start(LOAD).await else { return };
    filed.filter()["limits"][0]["token_bucket"]["max_tokens"] = "many".into();
    filed.replace(Resource::WrongLimiter).await;
    assert_eq!(filed.limit_in_force("alice").await, Some(LOAD.max_tokens));
    filed.filter()["limits"][0]["token_bucket"]["max_tokens"] = 7.into();
    filed.replace(Resource::Limiter).await;
    let deadline = Instant::now() + SOON;
    while filed.limit_in_force("bob").await != Some(7) {
        assert!(Instant::now() < deadline, "the next configuration is not in force");
    }
}

//! Fixtures of the end-to-end tests: a mesh of hosts and one Redis, and a proxy that injects faults between them.
//!
//! ```ignore
//! let Some(mesh) = Mesh::on(HostKind::Envoy, "envoy/quickstart.yaml").start().await else { return };
//! mesh.get("alice").await.admitted().remaining(19);
//! ```
//!
//! Every mesh has its own Redis, ports and key prefix, so that tests run in parallel. A fixture that fails panics,
//! which fails the test; a missing component skips the test (see [`or_skip`]).

mod acl;
pub mod answer;
pub mod ask;
mod buckets;
mod calendar;
pub mod mesh;
pub mod provider;
mod readiness;
pub mod redis_cluster;
pub mod redis_group;
mod redis_stats;
mod resp_server;
pub mod secured;
pub mod tls_proxy;
pub mod trial;
mod variable;

pub use acl::{add_user, change_user, permissions};
pub use answer::Answer;
pub use calendar::offset_at_noon;
pub use mesh::{Mesh, MeshBuilder};
pub use provider::Provider;
pub use redis_cluster::RedisCluster;
pub use redis_group::RedisGroup;
pub use redis_stats::{buckets_asked, evaluations};
pub use resp_server::refusing_scripts;
pub use trial::{Load, Phases, Trial};
pub use variable::has_variable;
pub use weir_harness::serving::HostKind;
pub use weir_host::fault::{Fault, FaultProxy, Rule};
pub use weir_provision::or_skip;

/// Declares two tests for each of these async functions of a [`HostKind`]: on the embedded host and on Envoy.
#[macro_export]
macro_rules! on_both_hosts {
    ($($scenario:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() { super::$scenario(weir::HostKind::Embedded).await })*
        }
        mod envoy {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() { super::$scenario(weir::HostKind::Envoy).await })*
        }
    };
}

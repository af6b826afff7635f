//! Fixtures of the end-to-end tests: a mesh of hosts around one Redis, and a proxy that makes trouble between them.
//!
//! ```ignore
//! let Some(mesh) = Mesh::on(HostKind::Envoy, "envoy/quickstart.yaml").start().await else { return };
//! mesh.get("alice").await.admitted().remaining(19);
//! ```
//!
//! Every mesh has a Redis, ports and a key prefix of its own, so that tests run side by side. A fixture that cannot
//! do its work panics, which fails the test; only a component that cannot be had skips it (see [`or_skip`]).

pub mod answer;
pub mod fault_proxy;
pub mod mesh;
mod redis_stats;

pub use answer::Answer;
pub use fault_proxy::{Fault, FaultProxy};
pub use mesh::{Mesh, MeshBuilder};
pub use redis_stats::{buckets_asked, evaluations};
pub use weir_harness::{provision::or_skip, serving::HostKind};

/// Runs each of these scenarios, async functions of a [`HostKind`], on both hosts, as tests of their own.
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

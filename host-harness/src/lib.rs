//! Proxy-wasm 0.2.1 host that serves HTTP from Envoy's own YAML, without Envoy.
//!
//! [`Bootstrap`] parses the file and refuses unsupported fields by name. [`Host`] serves the bootstrap: hyper for
//! downstream and upstream, filters on wasmtime, one VM for each worker. The harness follows Envoy's behaviour at the
//! ABI, with Envoy's limits and errors, so that a filter cannot distinguish the hosts.
//!
//! | module | contents |
//! |---|---|
//! | `bootstrap` | parser of Envoy's YAML into validated types |
//! | `access_log` | format strings and their values for a stream; the writer |
//! | `native` | Envoy's HTTP filters whose results limits can use as keys |
//! | `http` | streams as filters see them: headers, shared state, local replies |
//! | `abi` | host functions imported by modules: they record effects and perform none |
//! | `vm` | modules, VMs, plugins and their failures, the filter chain |
//! | `upstream` | clusters: HTTP, raw TCP, upstream filters; callouts and gRPC streams |
//! | `server` | workers, listeners, and downstream streams |
//! | [`provision`] | tools and servers for a run: the wasm target, the filter, Redis, Envoy |
//! | [`scenario`] | a bootstrap file with changed addresses |
//! | [`serving`] | a scenario on a running host: the embedded host or Envoy |
//! | [`load`] | load client and its report |

mod abi;
mod access_log;
mod admin;
pub mod bootstrap;
pub mod cli;
mod http;
pub mod load;
mod native;
pub mod provision;
pub mod scenario;
mod server;
pub mod serving;
mod stats;
mod upstream;
mod vm;

pub use bootstrap::{Bootstrap, BootstrapError};
pub use server::{Host, HostError, HostOptions, Running};
pub use stats::Stats;
pub use vm::VmError;

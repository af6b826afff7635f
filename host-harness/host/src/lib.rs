//! Proxy-wasm 0.2.1 host that serves HTTP from Envoy's own YAML, without Envoy.
//!
//! [`Bootstrap`] parses the file and refuses unsupported fields by name. [`Host`] serves the bootstrap: hyper for
//! downstream and upstream, filters on wasmtime, one VM for each worker. The host follows Envoy's behaviour at the ABI,
//! with Envoy's limits and errors, so that a filter cannot distinguish the hosts.
//!
//! | module | contents |
//! |---|---|
//! | [`documents`] | YAML and JSON documents as trees in which every value has its place |
//! | [`bootstrap`] | parser of Envoy's YAML into validated types |
//! | [`scenario`] | a bootstrap file with changed addresses |
//! | `http` | streams as filters see them: headers, shared state, local replies |
//! | `access_log` | format strings and their values for a stream; the writer |
//! | [`preflight`] | a request at a limiter, without a server |
//! | [`spelling`] | the known name that a misspelt name resembles |
//! | `native` | Envoy's HTTP filters whose results limits can use as keys |
//! | [`jws`] | signatures of JSON Web Tokens |
//! | `abi` | host functions imported by modules: they record effects and perform none |
//! | `vm` | modules, VMs, plugins and their failures, the filter chain |
//! | [`printable`] | texts without control characters |
//! | `log_lines` | log lines of the host: their number, and their control characters |
//! | `io` | byte streams of connections: TCP or TLS |
//! | `upstream` | clusters: HTTP, raw TCP, upstream filters; callouts and gRPC streams |
//! | [`resp`] | values of Redis' protocol |
//! | [`fault`] | faults between a host and its clusters |
//! | `server` | workers, listeners, and downstream streams |
//! | [`trace`] | observer of callbacks, host calls and bytes |
//! | `stats`, `admin` | counters of the host and of its modules, and the listener that shows them |
//! | `fuzzing` | calls of host functions with any arguments, for tests and the fuzz targets |

mod abi;
mod access_log;
mod admin;
pub mod bootstrap;
pub mod documents;
pub mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod io;
pub mod jws;
mod log_lines;
mod native;
pub mod preflight;
pub mod printable;
pub mod resp;
pub mod scenario;
mod server;
pub mod spelling;
mod stats;
mod stats_tags;
pub mod trace;
mod upstream;
mod vm;

pub use abi::limits::GuestLimits;
pub use abi::pairs::encode as encode_pairs;
pub use bootstrap::{Bootstrap, BootstrapError};
pub use server::{Host, HostError, HostOptions, Running};
pub use stats::Stats;
pub use vm::VmError;

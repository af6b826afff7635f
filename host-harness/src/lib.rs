//! A proxy-wasm 0.2.1 host that serves HTTP from Envoy's own YAML, without Envoy.
//!
//! [`Bootstrap`] reads the file and refuses by name what the harness does not honour; [`Host`] serves it: hyper in
//! front and behind, the filters on wasmtime in between, one VM for each worker. A filter cannot tell it from Envoy by
//! the ABI; where it could, the harness does as Envoy does, with its limits and its errors.
//!
//! | room | what is in it |
//! |---|---|
//! | `bootstrap` | the YAML, as values that cannot be wrong |
//! | `access_log` | format strings and what they say of an exchange; the one writer |
//! | `native` | the few of Envoy's own HTTP filters that limits build on |
//! | `abi` | the functions a module imports: they note effects, and do nothing else |
//! | `vm` | modules, VMs, plugins and their failures, the filter chain |
//! | `upstream` | clusters: HTTP, raw TCP, upstream filters; callouts and gRPC streams |
//! | `server` | workers, listeners, a request's way |
//! | [`provision`] | finds, fetches and runs what a run needs: the wasm target, the filter, Redis, Envoy |
//! | [`scenario`] | a bootstrap file, moved to other ports and otherwise unchanged |
//! | [`serving`] | a scenario on either host, this one or Envoy |
//! | [`load`] | traffic, and what became of it |

#[expect(unreachable_pub, reason = "the rooms' items are public to each other, not to others")]
mod abi;
mod access_log;
mod admin;
pub mod bootstrap;
pub mod cli;
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

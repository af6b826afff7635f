//! The glue between the proxy and the rest of the filter: the only code that talks to the proxy.
//!
//! One module plays two roles, told apart by `root_id`: `limiter` among a listener's HTTP filters, and `bridge`
//! among the upstream HTTP filters of the Redis cluster.
//!
//! [`abi`] is how callbacks come in and calls go out; [`contexts`] finds the [`worker`] or the [`bridge`] that a
//! callback is for.

mod abi;
mod bridge;
mod contexts;
mod host;
mod memory;
mod wire;
mod worker;

fn log_error(line: &str) {
    log(abi::Level::Error, line);
}

fn log_warning(line: &str) {
    log(abi::Level::Warn, line);
}

#[inline(never)]
fn log(level: abi::Level, line: &str) {
    abi::log(level, &["weir: ", line].concat());
}

//! Proxy-wasm plugin: the only code that calls the proxy.
//!
//! The wasm module has two roles, chosen by `root_id`: `limiter` among a listener's HTTP filters, and `bridge` among
//! the upstream HTTP filters of the Redis cluster.
//!
//! [`abi`] receives callbacks and makes host calls; [`contexts`] finds the [`worker`] or the [`bridge`] of a callback.

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

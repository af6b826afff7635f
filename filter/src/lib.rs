//! Weir's filter: rate limits kept in Redis, checked from inside the proxy.
//!
//! Modules, in the order in which a request passes through them:
//!
//! 1. [`config`] parses the plugin's JSON into validated limits, when the plugin starts;
//! 2. [`descriptor`] builds a bucket key from the request's attributes, for each limit that applies;
//! 3. [`limit`] encodes all of a request's checks as one script call, and decodes the reply into a verdict;
//! 4. [`redis`] carries the call to Redis and its reply back, or reports the failure;
//! 5. [`response`] turns the verdict into status, headers and body;
//! 6. [`usage`] reads what the response of a language model has used, and what that costs;
//! 7. [`limiter`] is the state machine that runs steps 2 to 6 for each request;
//! 8. [`overrides`] holds the limits that operators change at run time, read from Redis at an interval;
//! 9. `worker` passes the proxy's callbacks to the limiter and carries out its effects;
//! 10. `host` has the proxy's functions: `host::wasm` over the proxy-wasm ABI, `host::native` over a trait;
//! 11. `exports` has the functions that the proxy calls, each of which calls the worker; [`native`] has the same
//!     functions for hosts that run the filter natively, in tests of limits and in simulations.
//!
//! Imports go one way: `units`, `table`, `pairs`, `double`, `json_text` and `protobuf`; then [`redis`], [`descriptor`],
//! [`usage`], [`limit`], [`response`], [`config`], [`overrides`], [`limiter`], `host`, `worker`, `exports` or
//! [`native`]. A module imports only modules before it.
//!
//! Every module but the last three is free of I/O and clocks: events go in, effects come out, `now` is an argument.
//!
//! The wasm is built without `std`, which would be an eighth of its size.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

#[macro_use]
extern crate alloc;

pub mod config;
pub mod descriptor;
mod double;
#[cfg(target_arch = "wasm32")]
mod exports;
#[cfg_attr(target_arch = "wasm32", allow(unreachable_pub, reason = "`native` exports these types, where it is"))]
mod host;
mod json_text;
pub mod limit;
pub mod limiter;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
pub mod overrides;
mod pairs;
mod protobuf;
pub mod redis;
pub mod response;
mod table;
pub mod units;
pub mod usage;
mod worker;

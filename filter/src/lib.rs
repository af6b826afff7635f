//! Weir's filter: rate limits kept in Redis, checked from inside the proxy.
//!
//! A request's way through it, room by room:
//!
//! 1. [`config`] turned the plugin's JSON into limits that cannot be wrong;
//! 2. [`descriptor`] makes a bucket key of the request's attributes, for each limit that applies;
//! 3. [`limit`] makes one script call of them all, and later reads the reply into a verdict;
//! 4. [`redis`] carries the call to Redis and its reply back, or says why it could not;
//! 5. [`respond`] turns the verdict into status, headers and body;
//! 6. [`limiter`] is the state machine that leads a request through 2 to 5;
//! 7. [`overrides`] are what operators say of limits at run time, read from Redis now and then;
//! 8. `worker` leads the proxy's callbacks to that machine, and carries out its effects;
//! 9. `host` has the proxy's functions: `host::wasm` over proxy-wasm's binary interface, `host::fake` in native tests.
//!
//! Everything but `worker` and `host` is free of I/O and clocks: events go in, effects come out, `now` is an argument.
//!
//! The wasm is built without `std`, which is an eighth of it otherwise.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

#[macro_use]
extern crate alloc;

pub mod config;
pub mod descriptor;
mod double;
#[cfg(any(target_arch = "wasm32", test))]
mod host;
pub mod limit;
pub mod limiter;
pub mod overrides;
mod pairs;
mod protobuf;
pub mod redis;
pub mod respond;
mod table;
pub mod units;
#[cfg(any(target_arch = "wasm32", test))]
mod worker;

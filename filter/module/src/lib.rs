//! Wasm module of the filter: the library `weir_filter` of the package `weir-limiter`, linked with its exported callbacks.

#![cfg_attr(target_arch = "wasm32", no_std)]

pub use weir_filter::*;

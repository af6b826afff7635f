//! The Lua that Redis runs, held against its Rust specification in a real Redis.

mod expiry;
mod histories;
mod joined;
mod leases;
mod promises;
mod proxies;
mod sizes;
mod store;

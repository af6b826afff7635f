//! The Lua scripts in a real Redis, compared with their Rust specification.

mod budgets;
mod expiry;
mod give_back;
mod heal;
mod histories;
mod joined;
mod leases;
mod local;
mod promises;
mod proxies;
mod refunds;
mod sizes;
mod store;

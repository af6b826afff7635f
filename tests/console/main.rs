//! `weir console`: its answers to programs and what its page shows in Chromium, with a real Redis under real traffic.

mod access;
mod browser;
mod budgets;
mod changes;
mod cluster;
mod desk;
mod figures;
mod outages;
mod pages;

//! `proxy_get_configuration` of ABI 0.1.0: the plugin's configuration while it is configured, else the VM's.

use wasmtime::Caller;

use super::memory::{Guest, answer};
use super::state::HostState;

pub(super) fn configuration(mut caller: Caller<'_, HostState>, value_at: u32, length_at: u32) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    let state = guest.state();
    let configured = state.plugin().filter(|root| root.configuring).map(|root| root.plugin.configuration.clone());
    let value = configured.unwrap_or_else(|| state.vm_configuration.clone());
    answer(guest.give(&value, value_at, length_at))
}

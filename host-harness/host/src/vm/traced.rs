//! Callbacks of a VM, as a trace shows them.

use crate::abi::state::HostState;
use crate::trace::numbers::Numbers;
use crate::trace::{PluginName, Tracing, Value, What, signature};

/// Returns the host's observer, but not to a VM that only validates.
fn tracing(state: &HostState) -> Option<&Tracing> {
    state.inbox.as_ref().map(|_| &state.shared.tracing)
}

/// Reports the start of a callback, if the host has a tracer.
pub(super) fn trace_start<P: Numbers>(state: &HostState, name: &'static str, arguments: &P) {
    let Some(tracing) = tracing(state) else { return };
    tracing.record(|| {
        let plugin = state
            .plugin()
            .map(|root| PluginName { name: root.plugin.name.clone(), root_id: root.plugin.root_id.clone() });
        let names = signature::arguments(name).iter().copied();
        let values = arguments.numbers().into_iter().map(|number| Value::Number(number.into()));
        What::Callback { plugin: plugin.unwrap_or_default(), name, arguments: names.zip(values).collect() }
    });
}

/// Reports the end of a callback, if the host has a tracer; `result` is `None` after a trap.
pub(super) fn trace_end<R: Numbers>(state: &HostState, name: &'static str, result: Option<&R>) {
    let Some(tracing) = tracing(state) else { return };
    tracing.record(|| {
        let value = result.and_then(|result| result.numbers().first().map(|value| signature::result(name, *value)));
        What::Returned { name, result: value, trapped: result.is_none() }
    });
}

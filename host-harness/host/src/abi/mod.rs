//! Host side of proxy-wasm 0.2.1: every function that a module may import.
//!
//! A host function reads and changes only the host state of its VM. Work outside the VM is recorded as a
//! [`state::Effect`] and performed after the VM has returned. Every pointer is checked: no argument of a module makes
//! the host panic.

mod buffers;
mod callout;
mod config;
mod foreign;
pub(crate) mod in_flight;
pub(crate) mod limits;
mod maps;
pub(crate) mod memory;
mod metadata;
pub(crate) mod metrics;
pub(crate) mod pairs;
pub(crate) mod property;
pub(crate) mod shared;
pub(crate) mod state;
mod stream;
pub(crate) mod version;
mod wasi;
mod wire;

use wasmtime::{Caller, Linker};

use limits::START_LINES;
use memory::{Fault, Guest, Status, answer};
use state::HostState;

use crate::log_lines::printable;

type Call<'a> = Caller<'a, HostState>;
type Answer = wasmtime::Result<u32>;

/// Adds the imports that all ABI versions have; [`version::Abi::add_to_linker`] adds the others.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker)?;
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", current_time)?;
    linker.func_wrap("env", "proxy_get_status", get_status)?;
    linker.func_wrap("env", "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap("env", "proxy_done", done)?;
    linker.func_wrap("env", "proxy_call_foreign_function", foreign::call)?;
    linker.func_wrap("env", "pthread_equal", |left: u32, right: u32| u32::from(left == right))?;
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: u32| {})?;
    linker.func_wrap("env", "envoy_resolve_dns", resolve_dns)?;

    linker.func_wrap("env", "proxy_get_header_map_value", maps::map_value)?;
    linker.func_wrap("env", "proxy_get_header_map_pairs", maps::map_pairs)?;
    linker.func_wrap("env", "proxy_get_header_map_size", maps::map_size)?;
    linker.func_wrap("env", "proxy_set_header_map_pairs", maps::set_map_pairs)?;
    linker.func_wrap("env", "proxy_add_header_map_value", maps::add_map_value)?;
    linker.func_wrap("env", "proxy_replace_header_map_value", maps::replace_map_value)?;
    linker.func_wrap("env", "proxy_remove_header_map_value", maps::remove_map_value)?;
    linker.func_wrap("env", "proxy_get_buffer_bytes", buffers::buffer_bytes)?;
    linker.func_wrap("env", "proxy_get_buffer_status", buffers::buffer_status)?;
    linker.func_wrap("env", "proxy_set_buffer_bytes", buffers::set_buffer_bytes)?;
    linker.func_wrap("env", "proxy_send_local_response", stream::send_local_response)?;

    linker.func_wrap("env", "proxy_get_property", property::property)?;
    linker.func_wrap("env", "proxy_set_property", property::set_property)?;

    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", callout::set_tick_period)?;
    linker.func_wrap("env", "proxy_http_call", callout::http_call)?;
    linker.func_wrap("env", "proxy_grpc_call", callout::grpc_call)?;
    linker.func_wrap("env", "proxy_grpc_stream", callout::grpc_stream)?;
    linker.func_wrap("env", "proxy_grpc_send", callout::grpc_send)?;
    linker.func_wrap("env", "proxy_grpc_cancel", callout::grpc_cancel)?;
    linker.func_wrap("env", "proxy_grpc_close", callout::grpc_close)?;

    linker.func_wrap("env", "proxy_get_shared_data", get_shared_data)?;
    linker.func_wrap("env", "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap("env", "proxy_register_shared_queue", register_shared_queue)?;
    linker.func_wrap("env", "proxy_resolve_shared_queue", resolve_shared_queue)?;
    linker.func_wrap("env", "proxy_enqueue_shared_queue", enqueue_shared_queue)?;
    linker.func_wrap("env", "proxy_dequeue_shared_queue", dequeue_shared_queue)?;

    linker.func_wrap("env", "proxy_define_metric", metrics::define)?;
    linker.func_wrap("env", "proxy_increment_metric", metrics::increment)?;
    linker.func_wrap("env", "proxy_record_metric", metrics::record)?;
    linker.func_wrap("env", "proxy_get_metric", metrics::value)?;
    Ok(())
}

/// Logs a line of a module with Envoy's prefix: plugin name, root id and VM id.
///
/// Lines beyond the limits of [`limits`] are dropped or cut.
pub(crate) fn log_line(state: &mut HostState, level: log::Level, message: &[u8]) {
    let mut prefix = String::new();
    if let Some(root) = state.plugin() {
        for part in [&root.plugin.name, &root.plugin.root_id, &state.vm_id] {
            if !part.is_empty() {
                prefix.push(' ');
                prefix.push_str(part);
            }
        }
    }
    let prefix = printable(&prefix);
    let Some(line) = state.usage.log_line(message) else {
        if state.usage.is_first_dropped_line() {
            log::warn!(target: "wasm", "wasm log{prefix}: further lines of this callback are dropped");
        }
        return;
    };
    let line = String::from_utf8_lossy(line);
    let line = printable(&line);
    log::log!(target: "wasm", level, "wasm log{prefix}: {line}");
    // The error of a start does not repeat what the log shows.
    let is_shown = level <= log::max_level();
    if let Some(log) = state.log.as_mut().filter(|log| !is_shown && log.len() < START_LINES) {
        log.push(line.into_owned());
    }
}

/// Logs a line of the host about a module's call: it counts as a line of the module.
pub(crate) fn host_line(state: &mut HostState, level: log::Level, line: std::fmt::Arguments<'_>) {
    if state.usage.log_line(b"").is_some() {
        log::log!(target: "wasm", level, "{line}");
    } else if state.usage.is_first_dropped_line() {
        log::warn!(target: "wasm", "further lines of this callback are dropped");
    }
}

fn log(mut caller: Call<'_>, level: u32, message: u32, length: u32) -> Answer {
    let mut guest = Guest::initializing(&mut caller);
    answer((|| {
        let message = guest.read(message, length)?;
        let level = match level {
            0 => log::Level::Trace,
            1 => log::Level::Debug,
            2 => log::Level::Info,
            3 => log::Level::Warn,
            4 | 5 => log::Level::Error,
            _ => return Err(Status::BadArgument.into()),
        };
        log_line(guest.state(), level, &message);
        Ok(())
    })())
}

fn get_log_level(mut caller: Call<'_>, level_at: u32) -> Answer {
    let level = match log::max_level() {
        log::LevelFilter::Trace => 0,
        log::LevelFilter::Debug => 1,
        log::LevelFilter::Info => 2,
        log::LevelFilter::Warn => 3,
        log::LevelFilter::Error => 4,
        log::LevelFilter::Off => 5,
    };
    answer(Guest::new(&mut caller).write_u32(level_at, level))
}

fn current_time(mut caller: Call<'_>, time_at: u32) -> Answer {
    answer(Guest::new(&mut caller).write_u64(time_at, wasi::realtime()))
}

fn get_status(mut caller: Call<'_>, code_at: u32, message_at: u32, length_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let (code, message) = guest.state().root()?.status.clone();
        guest.write_u32(code_at, code)?;
        guest.give(message.as_bytes(), message_at, length_at)
    })())
}

fn set_effective_context(mut caller: Call<'_>, context: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    let state = guest.state();
    // 0 is the VM's own context: the running callback's context acts again.
    if context != 0 && !state.contexts.contains_key(&context) {
        return Ok(Status::BadArgument as u32);
    }
    state.effective = context;
    Ok(Status::Ok as u32)
}

/// Ends a root context that deferred its end in `proxy_on_done`; `NotFound` for other contexts, as in Envoy.
fn done(mut caller: Call<'_>) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let root = guest.state().root()?;
        if std::mem::take(&mut root.ending) { Ok(()) } else { Err(Status::NotFound.into()) }
    })())
}

/// Returns `Unimplemented`: an extension of Envoy that is not part of proxy-wasm.
fn resolve_dns(mut caller: Call<'_>, address: u32, length: u32, _token_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        guest.read(address, length)?;
        Err(Status::Unimplemented.into())
    })())
}

fn get_shared_data(
    mut caller: Call<'_>,
    key: u32,
    key_length: u32,
    value_at: u32,
    length_at: u32,
    cas_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let key = guest.read(key, key_length)?;
        let state = guest.state();
        let (value, cas) = state.shared.data(&state.vm_id, &key).ok_or(Status::NotFound)?;
        guest.give(&value, value_at, length_at)?;
        guest.write_u32(cas_at, cas)
    })())
}

fn set_shared_data(mut caller: Call<'_>, key: u32, key_length: u32, value: u32, value_length: u32, cas: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
        let state = guest.state();
        Ok(state.shared.set_data(&state.vm_id, &key, value, cas)?)
    })())
}

fn register_shared_queue(mut caller: Call<'_>, name: u32, name_length: u32, token_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let name = guest.read(name, name_length)?;
        let state = guest.state();
        let token = state.shared.register_queue(&state.vm_id, &name, state.inbox.clone(), state.root_id())?;
        guest.write_u32(token_at, token)
    })())
}

fn resolve_shared_queue(
    mut caller: Call<'_>,
    vm_id: u32,
    vm_id_length: u32,
    name: u32,
    name_length: u32,
    token_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let (vm_id, name) = (guest.read(vm_id, vm_id_length)?, guest.read(name, name_length)?);
        let state = guest.state();
        // An empty id is that of the calling VM.
        let vm_id = if vm_id.is_empty() { state.vm_id.as_bytes() } else { &vm_id };
        let token = state.shared.resolve_queue(vm_id, &name).ok_or(Status::NotFound)?;
        guest.write_u32(token_at, token)
    })())
}

fn enqueue_shared_queue(mut caller: Call<'_>, token: u32, data: u32, length: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let data = guest.read(data, length)?;
        Ok(guest.state().shared.enqueue(token, data)?)
    })())
}

fn dequeue_shared_queue(mut caller: Call<'_>, token: u32, data_at: u32, length_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let item = guest.state().shared.dequeue(token).map_err(Fault::Status)?;
        guest.give(&item, data_at, length_at)
    })())
}

//! Filter that makes the host calls that its configuration and its requests name, and logs their outcomes.
//!
//! A script has parts, one for each callback: `request_headers: add 0 x-a 1; return 1 | log: get 2 :status`. The plugin's
//! configuration is the script of its root context and of HTTP contexts; the header `x-script` is that of its request.
//! Each callback logs its name and arguments, then each call and its outcome. `return` sets the callback's result; `last`
//! as a context is the latest HTTP context.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, missing_docs, reason = "callbacks are unmangled symbols, and public")]

mod calls;
mod imports;

use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static SCRIPTS: RefCell<HashMap<u32, String>> = RefCell::default();
    static CONFIGURATION: RefCell<String> = RefCell::default();
    static LAST: RefCell<u32> = const { RefCell::new(0) };
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::leak(vec![0; size].into_boxed_slice()).as_mut_ptr()
}

fn log(text: &str) {
    // SAFETY: the pointer is that of a live text with its length.
    unsafe { imports::proxy_log(2, text.as_ptr(), text.len()) };
}

/// Logs a callback, runs its part of the context's script and of the configuration, and returns the last `return`.
fn run(context: u32, callback: &str, arguments: &str, default: u32) -> u32 {
    log(format!("{callback} {arguments}").trim_end());
    let own = SCRIPTS.with_borrow(|scripts| scripts.get(&context).cloned()).unwrap_or_default();
    let common = CONFIGURATION.with_borrow(String::clone);
    let mut returned = default;
    for part in common.split('|').chain(own.split('|')) {
        let Some((name, commands)) = part.split_once(':').filter(|(name, _)| name.trim() == callback) else { continue };
        for command in commands.split(';') {
            let last = LAST.with_borrow(u32::to_string);
            let words: Vec<&str> =
                command.split_whitespace().map(|word| if word == "last" { last.as_str() } else { word }).collect();
            match words.as_slice() {
                [] => {}
                ["return", value] => returned = value.parse().unwrap_or(0),
                words => {
                    let outcome = calls::call(words).unwrap_or_else(|| "unknown".to_owned());
                    log(&format!("{name}: {}: {outcome}", command.trim(), name = name.trim()));
                }
            }
        }
    }
    returned
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    if root == 0 {
        // In Envoy, a root context can read its configuration from here on.
        CONFIGURATION.set(calls::configuration());
        run(context, "create_root", "", 0);
    } else {
        LAST.set(context);
        run(context, "create", "", 0);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, size: u32) -> u32 {
    run(context, "vm_start", &size.to_string(), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, size: u32) -> u32 {
    run(context, "configure", &(size > 0).to_string(), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    run(context, "tick", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, _queue: u32) {
    run(context, "queue_ready", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    run(context, "done", "", 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    run(context, "log", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    run(context, "delete", "", 0);
    SCRIPTS.with_borrow_mut(|scripts| scripts.remove(&context));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    let script = calls::header("x-script");
    SCRIPTS.with_borrow_mut(|scripts| scripts.insert(context, script));
    run(context, "request_headers", &format!("{count} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    run(context, "request_body", &format!("{size} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    run(context, "request_trailers", &count.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    run(context, "response_headers", &format!("{count} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    run(context, "response_body", &format!("{size} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    run(context, "response_trailers", &count.to_string(), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, token: u32, headers: u32, body: u32, trailers: u32) {
    run(context, "call_response", &format!("{token} {} {} {trailers}", headers > 0, body > 0), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_initial_metadata(context: u32, token: u32, count: u32) {
    run(context, "grpc_initial", &format!("{token} {}", count > 0), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(context: u32, token: u32, size: u32) {
    run(context, "grpc_receive", &format!("{token} {size}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_trailing_metadata(context: u32, token: u32, count: u32) {
    run(context, "grpc_trailing", &format!("{token} {count}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(context: u32, token: u32, status: u32) {
    run(context, "grpc_close", &format!("{token} {status}"), 0);
}

//! Callbacks that the host calls, exported by name.

#![allow(unsafe_code, reason = "an unmangled name can collide with another symbol; these names are the ABI's")]

use crate::host::OneThread;
use crate::worker::Contexts;

static CONTEXTS: OneThread<Contexts> = OneThread::new(Contexts::new());

unsafe extern "C" {
    /// Runs the C library's constructors; the linker generates it.
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // Without this call, the linker makes every export run the constructors.
    // SAFETY: called by the host, once, before anything else.
    unsafe { __wasm_call_ctors() };
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    CONTEXTS.create(context, root);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    CONTEXTS.configure(root, size).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    CONTEXTS.done(context);
    // The context has no work left: the proxy may delete it now.
    true.into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    CONTEXTS.with_worker(root, |worker| worker.tick());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, queue: u32) {
    CONTEXTS.with_worker(root, |worker| worker.turn_ends(queue));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _count: usize, end_of_stream: u32) -> u32 {
    CONTEXTS.request_headers(context, end_of_stream != 0) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    CONTEXTS.request_body(context, size, end_of_stream != 0) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, _count: usize) -> u32 {
    CONTEXTS.request_trailers(context) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _count: usize, end_of_stream: u32) -> u32 {
    CONTEXTS.response_headers(context, end_of_stream != 0) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    CONTEXTS.response_body(context, size, end_of_stream != 0) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, _count: usize) -> u32 {
    CONTEXTS.response_trailers(context) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(root: u32, token: u32, headers: usize, size: usize, _trailers: usize) {
    CONTEXTS.with_worker(root, |worker| worker.callout_response(token, headers, size));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(root: u32, token: u32, size: usize) {
    CONTEXTS.with_worker(root, |worker| worker.stream_message(token, size));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(root: u32, token: u32, _status: u32) {
    CONTEXTS.with_worker(root, |worker| worker.stream_close(token));
}

//! Host functions of proxy-wasm 0.2.1 and WASI that the filter calls.
//!
//! Each returns a status, 0 for success. A function with `*mut *mut u8` and `*mut usize` parameters has the module
//! allocate memory, fills it, and writes its address and size there; a null address means no value.

#![allow(unsafe_code, reason = "foreign functions")]

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(super) fn proxy_log(level: u32, line: *const u8, line_size: usize) -> u32;
    pub(super) fn proxy_set_effective_context(context: u32) -> u32;
    pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;

    pub(super) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        bytes: *mut *mut u8,
        bytes_size: *mut usize,
    ) -> u32;
    pub(super) fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        bytes: *const u8,
        bytes_size: usize,
    ) -> u32;

    pub(super) fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, pairs_size: *mut usize) -> u32;
    pub(super) fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    pub(super) fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;

    pub(super) fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    pub(super) fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;

    pub(super) fn proxy_continue_stream(stream: u32) -> u32;
    pub(super) fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;

    pub(super) fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_milliseconds: u32,
        token: *mut u32,
    ) -> u32;

    pub(super) fn proxy_grpc_stream(
        cluster: *const u8,
        cluster_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        token: *mut u32,
    ) -> u32;
    pub(super) fn proxy_grpc_send(token: u32, message: *const u8, message_size: usize, end_of_stream: u32) -> u32;
    pub(super) fn proxy_grpc_cancel(token: u32) -> u32;
    pub(super) fn proxy_grpc_close(token: u32) -> u32;

    pub(super) fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
    pub(super) fn proxy_enqueue_shared_queue(queue: u32, message: *const u8, message_size: usize) -> u32;
    pub(super) fn proxy_dequeue_shared_queue(queue: u32, message: *mut *mut u8, message_size: *mut usize) -> u32;

    pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    pub(super) fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    pub(super) fn proxy_record_metric(metric: u32, value: u64) -> u32;
}

// WASI snapshot preview 1. `random_get` is called by the crate `getrandom`.
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    pub(super) fn clock_time_get(clock: u32, precision: u64, nanos: *mut u64) -> u32;
    pub(super) fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
    pub(super) fn environ_get(entries: *mut *mut u8, bytes: *mut u8) -> u32;
}

// The C library: only `memcmp` is used, which the compiler calls.
#[link(name = "c")]
unsafe extern "C" {}

//! Typed wrappers of the host functions.

#![allow(unsafe_code, reason = "foreign functions; every address that they get is of a slice that outlives the call")]

use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ptr::{null, null_mut};

use super::given::receive;
use super::imports;
use crate::host::abi::Stream;
use crate::host::{Buffer, Headers, HostError, Level, Metric};

/// gRPC status of a local reply to a request that is not gRPC.
const NO_GRPC_STATUS: i32 = -1;
/// WASI's id of the monotonic clock.
const MONOTONIC: u32 = 1;
/// No pairs, encoded.
const NO_PAIRS: [u8; 4] = [0; 4];

/// Writes a line to the host's log.
pub(crate) fn log(level: Level, line: &str) {
    // SAFETY: see the top of the file; also for the calls below. A failure to log cannot be reported.
    let _ = unsafe { imports::proxy_log(level as u32, line.as_ptr(), line.len()) };
}

/// Returns the monotonic clock's time, in nanoseconds since an unspecified epoch.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut nanos = 0;
    // All hosts have a monotonic clock.
    let _ = unsafe { imports::clock_time_get(MONOTONIC, 0, &raw mut nanos) };
    nanos
}

/// Returns a random number. `None` where the host has none.
pub(crate) fn random() -> Option<u64> {
    getrandom::u64().ok()
}

/// Returns the VM's environment: `NAME=value` entries, each followed by a zero byte.
pub(crate) fn environment() -> Vec<u8> {
    let (mut count, mut size) = (0, 0);
    if done(unsafe { imports::environ_sizes_get(&raw mut count, &raw mut size) }).is_err() {
        return Vec::new();
    }
    let (mut entries, mut bytes) = (vec![null_mut(); count], vec![0; size]);
    match done(unsafe { imports::environ_get(entries.as_mut_ptr(), bytes.as_mut_ptr()) }) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Sets the context on which the host calls that follow act.
pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    done(unsafe { imports::proxy_set_effective_context(context) })
}

/// Sets the period of the root context's ticks, in milliseconds; 0 turns them off.
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    done(unsafe { imports::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Returns the first `size` bytes of a buffer; no bytes where the host has no buffer.
pub(crate) fn buffer(buffer: Buffer, size: usize) -> Vec<u8> {
    receive(|at, length| unsafe { imports::proxy_get_buffer_bytes(buffer as u32, 0, size, at, length) })
        .unwrap_or_default()
}

/// Replaces the first `size` bytes of a buffer.
pub(crate) fn replace_buffer(buffer: Buffer, size: usize, bytes: &[u8]) -> Result<(), HostError> {
    done(unsafe { imports::proxy_set_buffer_bytes(buffer as u32, 0, size, bytes.as_ptr(), bytes.len()) })
}

/// Returns all headers, encoded as [`pairs`](crate::pairs); no bytes where the host has no header map.
pub(crate) fn headers(headers: Headers) -> Vec<u8> {
    receive(|at, length| unsafe { imports::proxy_get_header_map_pairs(headers as u32, at, length) }).unwrap_or_default()
}

/// Returns the value of a header; in Envoy, the first of several.
pub(crate) fn header(headers: Headers, name: &str) -> Option<Vec<u8>> {
    receive(|at, length| unsafe {
        imports::proxy_get_header_map_value(headers as u32, name.as_ptr(), name.len(), at, length)
    })
}

/// Sets a header, replacing all headers of the same name.
pub(crate) fn set_header(headers: Headers, name: &str, value: &str) -> Result<(), HostError> {
    done(unsafe {
        imports::proxy_replace_header_map_value(headers as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Removes all headers of a name.
pub(crate) fn remove_header(headers: Headers, name: &str) -> Result<(), HostError> {
    done(unsafe { imports::proxy_remove_header_map_value(headers as u32, name.as_ptr(), name.len()) })
}

/// Returns a property by its path. `None` where the property is missing or empty.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    receive(|at, length| unsafe { imports::proxy_get_property(path.as_ptr(), path.len(), at, length) })
        .filter(|value| !value.is_empty())
}

/// Sets a property whose path is one name.
pub(crate) fn set_property(name: &str, value: &str) -> Result<(), HostError> {
    done(unsafe { imports::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Resumes the effective context's request.
pub(crate) fn resume_request() -> Result<(), HostError> {
    done(unsafe { imports::proxy_continue_stream(Stream::Request as u32) })
}

/// Resumes the effective context's response.
pub(crate) fn resume_response() -> Result<(), HostError> {
    done(unsafe { imports::proxy_continue_stream(Stream::Response as u32) })
}

/// Answers the effective context's request with a local reply. `details` are for the access log; `headers` are encoded
/// [`pairs`](crate::pairs).
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[u8],
    body: &[u8],
    grpc_status: Option<u32>,
) -> Result<(), HostError> {
    let grpc_status = grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(NO_GRPC_STATUS);
    done(unsafe {
        imports::proxy_send_local_response(
            status.into(),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

/// Makes an HTTP callout to a cluster and returns its token, by which the root context receives the response. `headers`
/// are encoded [`pairs`](crate::pairs); the timeout is in milliseconds.
pub(crate) fn http_call(cluster: &str, headers: &[u8], body: &[u8], timeout: u32) -> Result<u32, HostError> {
    let mut token = 0;
    done(unsafe {
        imports::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            NO_PAIRS.as_ptr(),
            NO_PAIRS.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Opens a gRPC stream from the root context to a cluster and returns its token.
pub(crate) fn open_stream(cluster: &str, service: &str, method: &str) -> Result<u32, HostError> {
    let mut token = 0;
    done(unsafe {
        imports::proxy_grpc_stream(
            cluster.as_ptr(),
            cluster.len(),
            service.as_ptr(),
            service.len(),
            method.as_ptr(),
            method.len(),
            NO_PAIRS.as_ptr(),
            NO_PAIRS.len(),
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Sends a message on a stream.
pub(crate) fn send(stream: u32, message: &[u8]) -> Result<(), HostError> {
    done(unsafe { imports::proxy_grpc_send(stream, message.as_ptr(), message.len(), 0) })
}

/// Resets a stream immediately.
pub(crate) fn cancel_stream(stream: u32) -> Result<(), HostError> {
    done(unsafe { imports::proxy_grpc_cancel(stream) })
}

/// Closes this side of a stream.
pub(crate) fn close_stream(stream: u32) -> Result<(), HostError> {
    done(unsafe { imports::proxy_grpc_close(stream) })
}

/// Registers a shared queue and returns its id. Each message in the queue calls the root context back, on this thread.
pub(crate) fn register_queue(name: &str) -> Result<u32, HostError> {
    let mut queue = 0;
    done(unsafe { imports::proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) })?;
    Ok(queue)
}

/// Appends an empty message to a queue.
pub(crate) fn enqueue(queue: u32) -> Result<(), HostError> {
    done(unsafe { imports::proxy_enqueue_shared_queue(queue, null(), 0) })
}

/// Takes the next message out of a queue, if any.
pub(crate) fn dequeue(queue: u32) -> Option<Vec<u8>> {
    receive(|at, length| unsafe { imports::proxy_dequeue_shared_queue(queue, at, length) })
}

/// Defines a metric at the host and returns its id.
pub(crate) fn define_metric(kind: Metric, name: &str) -> Result<u32, HostError> {
    let mut metric = 0;
    done(unsafe { imports::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) })?;
    Ok(metric)
}

/// Adds to a counter or a gauge. Only a gauge may be decreased.
pub(crate) fn increment(metric: u32, offset: i64) -> Result<(), HostError> {
    done(unsafe { imports::proxy_increment_metric(metric, offset) })
}

/// Adds a value to a histogram.
pub(crate) fn record_value(histogram: u32, value: u64) -> Result<(), HostError> {
    done(unsafe { imports::proxy_record_metric(histogram, value) })
}

fn done(status: u32) -> Result<(), HostError> {
    NonZeroU32::new(status).map_or(Ok(()), |status| Err(HostError(status)))
}

//! The host's functions, with types.

#![allow(
    unsafe_code,
    reason = "functions of another language; the addresses that they get are of slices that outlive them"
)]

use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ptr::{null, null_mut};

use super::given::taken;
use super::imports;
use crate::host::{Buffer, Headers, Level, Refused};

/// The streams of the request and of the response, as `continue` and `close` have them.
const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
/// A metric that only grows.
const COUNTER: u32 = 0;
/// A local reply that says nothing to gRPC.
const NO_GRPC_STATUS: i32 = -1;
/// WASI's clock that never goes back.
const MONOTONIC: u32 = 1;
/// No pairs, encoded.
const NO_PAIRS: [u8; 4] = [0; 4];

/// Writes a line to the host's log.
pub(crate) fn log(level: Level, line: &str) {
    // SAFETY: see the top of the file; so below. There is nowhere to say that the log refused a line.
    let _ = unsafe { imports::proxy_log(level as u32, line.as_ptr(), line.len()) };
}

/// What the monotonic clock says: nanoseconds, since whenever.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut nanos = 0;
    // All hosts have that clock.
    let _ = unsafe { imports::clock_time_get(MONOTONIC, 0, &raw mut nanos) };
    nanos
}

/// The VM's environment: each `NAME=value` is followed by a zero byte.
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

/// From here on, what is asked of the host is asked in the place of another context.
pub(crate) fn set_effective_context(context: u32) -> Result<(), Refused> {
    done(unsafe { imports::proxy_set_effective_context(context) })
}

/// Has the root context called every so often: milliseconds, 0 for never.
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), Refused> {
    done(unsafe { imports::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// The first `size` bytes of a buffer; none where the host has none.
pub(crate) fn buffer(buffer: Buffer, size: usize) -> Vec<u8> {
    taken(|at, length| unsafe { imports::proxy_get_buffer_bytes(buffer as u32, 0, size, at, length) })
        .unwrap_or_default()
}

/// Puts bytes in the place of the first `size` of a buffer.
pub(crate) fn replace_buffer(buffer: Buffer, size: usize, bytes: &[u8]) -> Result<(), Refused> {
    done(unsafe { imports::proxy_set_buffer_bytes(buffer as u32, 0, size, bytes.as_ptr(), bytes.len()) })
}

/// All headers, encoded as [`pairs`](crate::pairs); no bytes where the host has none.
pub(crate) fn headers(headers: Headers) -> Vec<u8> {
    taken(|at, length| unsafe { imports::proxy_get_header_map_pairs(headers as u32, at, length) }).unwrap_or_default()
}

/// One header's value.
pub(crate) fn header(headers: Headers, name: &str) -> Option<Vec<u8>> {
    taken(|at, length| unsafe {
        imports::proxy_get_header_map_value(headers as u32, name.as_ptr(), name.len(), at, length)
    })
}

/// Sets a header, in the place of all that have its name.
pub(crate) fn set_header(headers: Headers, name: &str, value: &str) -> Result<(), Refused> {
    done(unsafe {
        imports::proxy_replace_header_map_value(headers as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// A property by its path. An empty one is none.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    taken(|at, length| unsafe { imports::proxy_get_property(path.as_ptr(), path.len(), at, length) })
        .filter(|value| !value.is_empty())
}

/// Sets a property of one step.
pub(crate) fn set_property(name: &str, value: &str) -> Result<(), Refused> {
    done(unsafe { imports::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Lets go on what a request's callback held.
pub(crate) fn resume_request() -> Result<(), Refused> {
    done(unsafe { imports::proxy_continue_stream(REQUEST) })
}

/// Lets go on what a response's callback held.
pub(crate) fn resume_response() -> Result<(), Refused> {
    done(unsafe { imports::proxy_continue_stream(RESPONSE) })
}

/// Answers a request. `details` are for the access log; `headers` are encoded pairs.
pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    headers: &[u8],
    body: &str,
    grpc_status: Option<u32>,
) -> Result<(), Refused> {
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

/// Sends a request to a cluster; a callback of the root context will tell of its response, by the token given here.
/// `headers` are encoded pairs; the timeout is in milliseconds.
pub(crate) fn http_call(cluster: &str, headers: &[u8], body: &[u8], timeout: u32) -> Result<u32, Refused> {
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

/// Opens a gRPC stream of the root context's to a cluster.
pub(crate) fn open_stream(cluster: &str, service: &str, method: &str) -> Result<u32, Refused> {
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
pub(crate) fn send(stream: u32, message: &[u8]) -> Result<(), Refused> {
    done(unsafe { imports::proxy_grpc_send(stream, message.as_ptr(), message.len(), 0) })
}

/// Ends a stream at once.
pub(crate) fn cancel_stream(stream: u32) -> Result<(), Refused> {
    done(unsafe { imports::proxy_grpc_cancel(stream) })
}

/// Ends this side of a stream.
pub(crate) fn close_stream(stream: u32) -> Result<(), Refused> {
    done(unsafe { imports::proxy_grpc_close(stream) })
}

/// A queue of this name. A callback of the root context, in this thread, will tell of each message in it.
pub(crate) fn register_queue(name: &str) -> Result<u32, Refused> {
    let mut queue = 0;
    done(unsafe { imports::proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) })?;
    Ok(queue)
}

/// Puts an empty message into a queue.
pub(crate) fn enqueue(queue: u32) -> Result<(), Refused> {
    done(unsafe { imports::proxy_enqueue_shared_queue(queue, null(), 0) })
}

/// Takes a message out of a queue, if there is one.
pub(crate) fn dequeue(queue: u32) -> Option<Vec<u8>> {
    taken(|at, length| unsafe { imports::proxy_dequeue_shared_queue(queue, at, length) })
}

/// Makes a counter known to the host, and gives its id.
pub(crate) fn define_counter(name: &str) -> Result<u32, Refused> {
    let mut counter = 0;
    done(unsafe { imports::proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut counter) })?;
    Ok(counter)
}

/// Adds to a counter.
pub(crate) fn increment(counter: u32, gained: i64) -> Result<(), Refused> {
    done(unsafe { imports::proxy_increment_metric(counter, gained) })
}

fn done(status: u32) -> Result<(), Refused> {
    NonZeroU32::new(status).map_or(Ok(()), |status| Err(Refused(status)))
}

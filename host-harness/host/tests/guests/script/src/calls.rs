//! Host calls by name, each with its outcome as text: its status, then what it returned.

use std::ptr::null_mut;

use crate::imports as host;

/// Calls the host function that `words` name, and returns its outcome; `None` for an unknown name.
pub(crate) fn call(words: &[&str]) -> Option<String> {
    let text = |place: usize| words.get(place).copied().unwrap_or("");
    let number = |place: usize| text(place).parse::<i64>().unwrap_or(0);
    let id = |place: usize| number(place) as u32;
    let size = |place: usize| number(place) as usize;
    // SAFETY: every pointer is that of a live value with the length beside it.
    Some(unsafe {
        match text(0) {
            "get" => {
                given(|at, length| host::proxy_get_header_map_value(id(1), text(2).as_ptr(), text(2).len(), at, length))
            }
            "pairs" => {
                let (status, bytes) = taken(|at, length| host::proxy_get_header_map_pairs(id(1), at, length));
                format!("{status} {}", pairs_text(&bytes))
            }
            "size" => {
                let mut size = 0;
                let status = host::proxy_get_header_map_size(id(1), &raw mut size);
                format!("{status} {size}")
            }
            "add" => only(host::proxy_add_header_map_value(
                id(1),
                text(2).as_ptr(),
                text(2).len(),
                text(3).as_ptr(),
                text(3).len(),
            )),
            "set" => only(host::proxy_replace_header_map_value(
                id(1),
                text(2).as_ptr(),
                text(2).len(),
                text(3).as_ptr(),
                text(3).len(),
            )),
            "remove" => only(host::proxy_remove_header_map_value(id(1), text(2).as_ptr(), text(2).len())),
            "setpairs" => {
                let pairs = encoded(text(2));
                only(host::proxy_set_header_map_pairs(id(1), pairs.as_ptr(), pairs.len()))
            }
            "buffer" => given(|at, length| host::proxy_get_buffer_bytes(id(1), size(2), size(3), at, length)),
            "bufferstatus" => {
                let (mut length, mut flags) = (0, 0);
                let status = host::proxy_get_buffer_status(id(1), &raw mut length, &raw mut flags);
                format!("{status} {length} {flags}")
            }
            "setbuffer" => only(host::proxy_set_buffer_bytes(id(1), size(2), size(3), text(4).as_ptr(), text(4).len())),
            "property" => {
                let path = text(1).replace('.', "\0");
                given(|at, length| host::proxy_get_property(path.as_ptr(), path.len(), at, length))
            }
            "setproperty" => {
                let path = text(1).replace('.', "\0");
                only(host::proxy_set_property(path.as_ptr(), path.len(), text(2).as_ptr(), text(2).len()))
            }
            "shared" => {
                let mut cas = 0;
                let (status, value) = taken(|at, length| {
                    host::proxy_get_shared_data(text(1).as_ptr(), text(1).len(), at, length, &raw mut cas)
                });
                format!("{status} {} {}", String::from_utf8_lossy(&value), cas != 0)
            }
            "setshared" => only(host::proxy_set_shared_data(
                text(1).as_ptr(),
                text(1).len(),
                text(2).as_ptr(),
                text(2).len(),
                id(3),
            )),
            "register" => {
                let mut queue = 0;
                only(host::proxy_register_shared_queue(text(1).as_ptr(), text(1).len(), &raw mut queue))
            }
            "resolve" => only(resolve(text(1), text(2)).0),
            "enqueue" => {
                let (_, queue) = resolve("", text(1));
                only(host::proxy_enqueue_shared_queue(queue, text(2).as_ptr(), text(2).len()))
            }
            "dequeue" => {
                let (_, queue) = resolve("", text(1));
                given(|at, length| host::proxy_dequeue_shared_queue(queue, at, length))
            }
            "metric" => metric(id(1), text(2), number(3)),
            "unknownmetric" => {
                let mut value = 0;
                let get = host::proxy_get_metric(id(1), &raw mut value);
                format!("{} {} {get}", host::proxy_increment_metric(id(1), 1), host::proxy_record_metric(id(1), 1))
            }
            "tick" => only(host::proxy_set_tick_period_milliseconds(id(1))),
            "reply" => {
                let headers = encoded(text(3));
                only(host::proxy_send_local_response(
                    id(1),
                    text(5).as_ptr(),
                    text(5).len(),
                    text(2).as_ptr(),
                    text(2).len(),
                    headers.as_ptr(),
                    headers.len(),
                    text(4).parse().unwrap_or(-1),
                ))
            }
            "continue" => only(host::proxy_continue_stream(id(1))),
            "close" => only(host::proxy_close_stream(id(1))),
            "context" => only(host::proxy_set_effective_context(id(1))),
            "done" => only(host::proxy_done()),
            "log" => only(host::proxy_log(id(1), text(2).as_ptr(), text(2).len())),
            "loglevel" => {
                let mut level = 0;
                only(host::proxy_get_log_level(&raw mut level))
            }
            "time" => {
                let mut time = 0;
                let status = host::proxy_get_current_time_nanoseconds(&raw mut time);
                format!("{status} {}", time > 1_500_000_000_000_000_000)
            }
            "status" => {
                let mut code = 0;
                let (status, message) = taken(|at, length| host::proxy_get_status(&raw mut code, at, length));
                format!("{status} {code} {}", String::from_utf8_lossy(&message))
            }
            "call" => {
                let headers = encoded(text(2));
                let (trailers, mut token) = (encoded(text(4)), 0);
                let status = host::proxy_http_call(
                    text(1).as_ptr(),
                    text(1).len(),
                    headers.as_ptr(),
                    headers.len(),
                    text(3).as_ptr(),
                    text(3).len(),
                    trailers.as_ptr(),
                    if text(4).is_empty() { 0 } else { trailers.len() },
                    number(5) as u32,
                    &raw mut token,
                );
                format!("{status} {token}")
            }
            "grpccall" => {
                let (metadata, mut token) = (encoded(text(3)), 0);
                let status = host::proxy_grpc_call(
                    text(1).as_ptr(),
                    text(1).len(),
                    b"service".as_ptr(),
                    7,
                    text(2).as_ptr(),
                    text(2).len(),
                    metadata.as_ptr(),
                    metadata.len(),
                    text(4).as_ptr(),
                    text(4).len(),
                    id(5),
                    &raw mut token,
                );
                format!("{status} {token}")
            }
            "grpcstream" => {
                let (metadata, mut token) = (encoded(text(3)), 0);
                let status = host::proxy_grpc_stream(
                    text(1).as_ptr(),
                    text(1).len(),
                    b"service".as_ptr(),
                    7,
                    text(2).as_ptr(),
                    text(2).len(),
                    metadata.as_ptr(),
                    metadata.len(),
                    &raw mut token,
                );
                format!("{status} {token}")
            }
            "grpcsend" => only(host::proxy_grpc_send(id(1), text(2).as_ptr(), text(2).len(), id(3))),
            "grpccancel" => only(host::proxy_grpc_cancel(id(1))),
            "grpcclose" => only(host::proxy_grpc_close(id(1))),
            "foreign" => {
                let arguments = unescaped(text(2));
                given(|at, length| {
                    host::proxy_call_foreign_function(
                        text(1).as_ptr(),
                        text(1).len(),
                        arguments.as_ptr(),
                        arguments.len(),
                        at,
                        length,
                    )
                })
            }
            _ => return None,
        }
    })
}

fn only(status: u32) -> String {
    status.to_string()
}

/// Calls a function that returns bytes; the text shows bytes that are not printable by their numbers.
fn given(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> String {
    let (status, bytes) = taken(call);
    format!("{status} {}", bytes.escape_ascii())
}

fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> (u32, Vec<u8>) {
    let (mut at, mut length) = (null_mut(), 0);
    let status = call(&raw mut at, &raw mut length);
    if at.is_null() {
        return (status, Vec::new());
    }
    // SAFETY: the host has written `length` bytes to memory that this module allocated for it.
    let bytes = unsafe { std::slice::from_raw_parts(at, length) }.to_vec();
    (status, bytes)
}

fn resolve(vm_id: &str, name: &str) -> (u32, u32) {
    let mut queue = 0;
    // SAFETY: every pointer is that of a live value with the length beside it.
    let status = unsafe {
        host::proxy_resolve_shared_queue(vm_id.as_ptr(), vm_id.len(), name.as_ptr(), name.len(), &raw mut queue)
    };
    (status, queue)
}

/// Defines, increments, records and reads a metric.
fn metric(kind: u32, name: &str, offset: i64) -> String {
    let (mut metric, mut value) = (0, 0);
    // SAFETY: every pointer is that of a live value with the length beside it.
    unsafe {
        let defined = host::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut metric);
        let incremented = host::proxy_increment_metric(metric, offset);
        let first = (host::proxy_get_metric(metric, &raw mut value), value);
        let recorded = host::proxy_record_metric(metric, 5);
        let second = (host::proxy_get_metric(metric, &raw mut value), value);
        format!("{defined} {metric} {incremented} {first:?} {recorded} {second:?}")
    }
}

/// Encodes `name=value,name=value`.
fn encoded(pairs: &str) -> Vec<u8> {
    let pairs: Vec<(&str, &str)> = pairs
        .split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in &pairs {
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Returns encoded pairs as `name=value,name=value`.
fn pairs_text(bytes: &[u8]) -> String {
    let Some((count, rest)) = bytes.split_first_chunk::<4>() else { return String::new() };
    let count = u32::from_le_bytes(*count) as usize;
    let texts = rest.get(count * 8..).unwrap_or_default();
    let texts: Vec<&[u8]> = texts.split(|byte| *byte == 0).take(count * 2).collect();
    let pairs = texts.chunks(2).map(|pair| pair.iter().map(|text| text.escape_ascii().to_string()).collect::<Vec<_>>());
    pairs.map(|pair| pair.join("=")).collect::<Vec<_>>().join(",")
}

/// Returns bytes of text with `%XX`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.push(u8::from_str_radix(code, 16).unwrap_or(b'?'));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// Returns the plugin's configuration; empty where it cannot be read.
pub(crate) fn configuration() -> String {
    // SAFETY: the pointers are those of live values.
    let (_, bytes) = taken(|at, length| unsafe { host::proxy_get_buffer_bytes(7, 0, 100_000, at, length) });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns a request header; empty if it is missing.
pub(crate) fn header(name: &str) -> String {
    // SAFETY: the pointers are those of live values.
    let (_, bytes) =
        taken(|at, length| unsafe { host::proxy_get_header_map_value(0, name.as_ptr(), name.len(), at, length) });
    String::from_utf8_lossy(&bytes).into_owned()
}

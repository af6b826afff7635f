//! Host functions of an HTTP stream: header maps, buffers, continuing and closing the stream, local replies.

use bytes::{Bytes, BytesMut};
use wasmtime::Caller;

use super::memory::{Fault, Guest, Status, answer};
use super::pairs;
use super::state::{Effect, HostState, HttpContext};
use crate::http::{Direction, Headers, LocalReply};

type Answer = wasmtime::Result<u32>;

const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const LAST_MAP: u32 = 7;
const LAST_BUFFER: u32 = 8;

pub(super) fn map_value(
    mut caller: Caller<'_, HostState>,
    map: u32,
    key: u32,
    key_length: u32,
    value_at: u32,
    length_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let key = guest.read(key, key_length)?;
        let value = with_map(guest.state(), map, |headers| headers.first(&key).cloned()).ok_or(Status::BadArgument)?;
        guest.give(&value.ok_or(Status::NotFound)?, value_at, length_at)
    })())
}

pub(super) fn map_pairs(mut caller: Caller<'_, HostState>, map: u32, pairs_at: u32, length_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let encoded = with_map(guest.state(), map, |headers| {
            if headers.is_empty() {
                return Vec::new();
            }
            let entries: Vec<_> = headers.iter().collect();
            pairs::encode(entries.iter().map(|(name, value)| (*name, *value)))
        });
        guest.give(&encoded.unwrap_or_default(), pairs_at, length_at)
    })())
}

pub(super) fn map_size(mut caller: Caller<'_, HostState>, map: u32, size_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let size = with_map(guest.state(), map, Headers::byte_size).ok_or(Status::BadArgument)?;
        guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))
    })())
}

pub(super) fn set_map_pairs(mut caller: Caller<'_, HostState>, map: u32, data: u32, length: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let headers = read_pairs(&mut guest, data, length)?;
        with_open_map(guest.state(), map, |target| *target = headers)
    })())
}

pub(super) fn add_map_value(
    mut caller: Caller<'_, HostState>,
    map: u32,
    key: u32,
    key_length: u32,
    value: u32,
    value_length: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
        with_open_map(guest.state(), map, |headers| headers.add(key, value))
    })())
}

pub(super) fn replace_map_value(
    mut caller: Caller<'_, HostState>,
    map: u32,
    key: u32,
    key_length: u32,
    value: u32,
    value_length: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
        with_open_map(guest.state(), map, |headers| headers.set(key, value))
    })())
}

pub(super) fn remove_map_value(mut caller: Caller<'_, HostState>, map: u32, key: u32, key_length: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let key = guest.read(key, key_length)?;
        with_open_map(guest.state(), map, |headers| headers.remove(&key))
    })())
}

pub(super) fn buffer_bytes(
    mut caller: Caller<'_, HostState>,
    buffer: u32,
    start: u32,
    max_length: u32,
    data_at: u32,
    length_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(buffer, LAST_BUFFER)?;
        let taken = with_buffer(guest.state(), buffer, |bytes| {
            let rest = bytes.get(start as usize..).unwrap_or_default();
            rest.get(..max_length as usize).unwrap_or(rest).to_vec()
        });
        guest.give(&taken.ok_or(Status::NotFound)?, data_at, length_at)
    })())
}

pub(super) fn buffer_status(mut caller: Caller<'_, HostState>, buffer: u32, length_at: u32, flags_at: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(buffer, LAST_BUFFER)?;
        let length = with_buffer(guest.state(), buffer, <[u8]>::len).ok_or(Status::NotFound)?;
        guest.write_u32(length_at, u32::try_from(length).unwrap_or(u32::MAX))?;
        guest.write_u32(flags_at, 0)
    })())
}

/// Replaces the start of a body, or appends to it; other positions are a bad argument, as in Envoy.
pub(super) fn set_buffer_bytes(
    mut caller: Caller<'_, HostState>,
    buffer: u32,
    start: u32,
    length: u32,
    data: u32,
    data_length: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(buffer, LAST_BUFFER)?;
        let data = guest.read(data, data_length)?;
        let direction = match buffer {
            0 => Direction::Request,
            1 => Direction::Response,
            _ => return Err(Status::BadArgument.into()),
        };
        let http = guest.state().http().ok_or(Status::BadArgument)?;
        let mut views = http.stream.views.borrow_mut();
        let view = views.get_mut(http.filter).ok_or(Status::BadArgument)?;
        let [request, response] = &mut view.bodies;
        let body = if direction == Direction::Request { request } else { response };
        match start as usize {
            0 => {
                let rest = body.get(length as usize..).unwrap_or_default();
                let mut joined = BytesMut::with_capacity(data.len() + rest.len());
                joined.extend_from_slice(&data);
                joined.extend_from_slice(rest);
                *body = joined;
            }
            start if start >= body.len() => body.extend_from_slice(&data),
            _ => return Err(Status::BadArgument.into()),
        }
        Ok(())
    })())
}

pub(super) fn continue_stream(mut caller: Caller<'_, HostState>, kind: u32) -> Answer {
    answer((|| {
        let state = caller.data_mut();
        let direction = match kind {
            0 => Direction::Request,
            1 => Direction::Response,
            _ => return Err(Status::BadArgument.into()),
        };
        if let Some(http) = state.http() {
            // As in Envoy, the request's headers and trailers can no longer be changed, in either direction.
            if let Some(view) = http.stream.views.borrow_mut().get_mut(http.filter) {
                view.request_headers = false;
                view.request_trailers = false;
            }
            let effect = Effect::Continue { stream: http.control.clone(), filter: http.filter, direction };
            state.effects.push(effect);
        }
        Ok(())
    })())
}

pub(super) fn close_stream(mut caller: Caller<'_, HostState>, kind: u32) -> Answer {
    answer((|| {
        let state = caller.data_mut();
        if kind > 3 {
            return Err(Status::BadArgument.into());
        }
        if let Some(effect) = state.http().map(|http| Effect::Reset { stream: http.control.clone() })
            && kind < 2
        {
            state.effects.push(effect);
        }
        Ok(())
    })())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
pub(super) fn send_local_response(
    mut caller: Caller<'_, HostState>,
    status: u32,
    details: u32,
    details_length: u32,
    body: u32,
    body_length: u32,
    headers: u32,
    headers_length: u32,
    grpc_status: i32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        // As in Envoy: white space would split the field in an access log.
        let details = guest.read_text(details, details_length)?.replace(|char: char| char.is_ascii_whitespace(), "_");
        let body = Bytes::from(guest.read(body, body_length)?);
        let headers = read_pairs(&mut guest, headers, headers_length)?;
        let status = u16::try_from(status).map_err(|_| Status::BadArgument)?;
        let reply = LocalReply { status, headers, body, grpc_status: u32::try_from(grpc_status).ok(), details };
        let state = guest.state();
        if let Some((stream, filter)) = state.http().map(|http| (http.control.clone(), http.filter)) {
            state.effects.push(Effect::LocalReply { stream, filter, reply });
        }
        state.stopped = true;
        state.just_answered = true;
        Ok(())
    })())
}

/// Reads pairs from the module's memory; malformed pairs become an empty map, as in Envoy.
pub(super) fn read_pairs(guest: &mut Guest<'_, '_>, data: u32, length: u32) -> Result<Headers, Fault> {
    let bytes = guest.read(data, length)?;
    Ok(pairs::decode(&bytes).unwrap_or_else(|error| {
        log::warn!(target: "wasm", "a module passed malformed pairs: {error}");
        Headers::new()
    }))
}

fn known(kind: u32, last: u32) -> Result<(), Status> {
    if kind > last { Err(Status::BadArgument) } else { Ok(()) }
}

/// Reads a map; `None` if it is absent, or closed to the acting filter.
fn with_map<T>(state: &HostState, map: u32, read: impl FnOnce(&Headers) -> T) -> Option<T> {
    if map <= RESPONSE_TRAILERS {
        let http = state.http()?;
        let logging = http.stream.views.borrow().get(http.filter).is_some_and(|view| view.logging);
        if !logging && !is_open(http, map) {
            return None;
        }
        let stream = &http.stream;
        return match map {
            REQUEST_HEADERS => Some(read(&stream.request_headers.borrow())),
            REQUEST_TRAILERS => stream.request_trailers.borrow().as_ref().map(read),
            RESPONSE_HEADERS => stream.response_headers.borrow().as_ref().map(read),
            _ => stream.response_trailers.borrow().as_ref().map(read),
        };
    }
    let root = state.plugin()?;
    match map {
        4 => root.grpc.initial.as_ref().map(read),
        5 => root.grpc.trailing.as_ref().map(read),
        6 => root.response.as_ref().map(|response| read(&response.headers)),
        _ => root.response.as_ref().map(|response| read(&response.trailers)),
    }
}

/// Changes a map; `BadArgument` if it is absent, or closed to the acting filter.
fn with_open_map(state: &HostState, map: u32, change: impl FnOnce(&mut Headers)) -> Result<(), Fault> {
    let http = state.http().ok_or(Status::BadArgument)?;
    if !is_open(http, map) {
        return Err(Status::BadArgument.into());
    }
    let stream = &http.stream;
    let changed = match map {
        REQUEST_HEADERS => {
            change(&mut stream.request_headers.borrow_mut());
            Some(())
        }
        REQUEST_TRAILERS => stream.request_trailers.borrow_mut().as_mut().map(change),
        RESPONSE_HEADERS => stream.response_headers.borrow_mut().as_mut().map(change),
        _ => stream.response_trailers.borrow_mut().as_mut().map(change),
    };
    Ok(changed.ok_or(Status::BadArgument)?)
}

fn is_open(http: &HttpContext, map: u32) -> bool {
    let views = http.stream.views.borrow();
    views.get(http.filter).is_some_and(|view| match map {
        REQUEST_HEADERS => view.request_headers,
        REQUEST_TRAILERS => view.request_trailers,
        RESPONSE_HEADERS => view.response_headers,
        RESPONSE_TRAILERS => view.response_trailers,
        _ => false,
    })
}

fn with_buffer<T>(state: &HostState, buffer: u32, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    match buffer {
        0 | 1 => {
            let http = state.http()?;
            let views = http.stream.views.borrow();
            let body = views.get(http.filter)?.bodies.get(buffer as usize)?;
            Some(read(body))
        }
        4 => state.plugin()?.response.as_ref().map(|response| read(&response.body)),
        5 => Some(read(&state.plugin()?.grpc.message)),
        6 => Some(read(&state.vm_configuration)),
        7 => {
            let root = state.plugin()?;
            root.configuring.then(|| read(&root.plugin.configuration))
        }
        // 2, 3 and 8: buffers of network filters and foreign functions, which the harness does not have.
        _ => Some(read(&[])),
    }
}

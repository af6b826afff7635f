//! Host functions for header maps: headers and trailers of an HTTP stream, of a callout's response, of a gRPC stream.
//!
//! A filter can change the maps of its own stream while they are open to it, and read them then and in `proxy_on_log`.
//! At the end of a body without trailers, a filter that changes the trailers adds them.

use wasmtime::Caller;

use super::host_line;
use super::memory::{Fault, Guest, Status, answer};
use super::pairs::{self, PairsError};
use super::state::{HostState, HttpContext};
use super::version::Abi;
use crate::http::{FilterView, Headers};

type Answer = wasmtime::Result<u32>;

const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const LAST_MAP: u32 = 7;

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
        let state = guest.state();
        let value = match with_map(state, map, |headers| headers.first(&key).cloned()) {
            Some(value) => value,
            None if is_logging(state) => None,
            None => return Err(Status::BadArgument.into()),
        };
        match value {
            Some(value) => guest.give(&value, value_at, length_at),
            None if state.abi == Abi::V0_1_0 => guest.give(b"", value_at, length_at),
            None => Err(Status::NotFound.into()),
        }
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
        let size = with_open_map(guest.state(), map, |headers| headers.byte_size())?;
        guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))
    })())
}

pub(super) fn set_map_pairs(mut caller: Caller<'_, HostState>, map: u32, data: u32, length: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        known(map, LAST_MAP)?;
        let headers = read_pairs(&mut guest, data, length)?;
        guest.state().usage.keep(headers.byte_size())?;
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
        guest.state().usage.keep(key.len() + value.len())?;
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
        guest.state().usage.keep(key.len() + value.len())?;
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

/// Reads pairs from the module's memory; malformed pairs become an empty map, as in Envoy.
pub(super) fn read_pairs(guest: &mut Guest<'_, '_>, data: u32, length: u32) -> Result<Headers, Fault> {
    if length as usize > pairs::MAX_BYTES {
        note_malformed(guest, &PairsError::TooLarge(length as usize));
        return guest.read(data, length.min(1)).map(|_| Headers::new());
    }
    let bytes = guest.read(data, length)?;
    Ok(pairs::decode(&bytes).unwrap_or_else(|error| {
        note_malformed(guest, &error);
        Headers::new()
    }))
}

fn note_malformed(guest: &mut Guest<'_, '_>, error: &PairsError) {
    host_line(guest.state(), log::Level::Warn, format_args!("a module passed malformed pairs: {error}"));
}

pub(super) fn known(kind: u32, last: u32) -> Result<(), Status> {
    if kind > last { Err(Status::BadArgument) } else { Ok(()) }
}

/// Reads a map; `None` if it is absent, or closed to the acting filter.
fn with_map<T>(state: &HostState, map: u32, read: impl FnOnce(&Headers) -> T) -> Option<T> {
    if map <= RESPONSE_TRAILERS {
        let http = state.http()?;
        // As in Envoy, the trailers of a request cannot be read in `proxy_on_log`.
        let shown = if is_logging(state) { map != REQUEST_TRAILERS } else { is_open(http, map) };
        let stream = shown.then_some(&http.stream)?;
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
        _ => root.response.as_ref().and_then(|response| response.trailers.as_ref()).map(read),
    }
}

/// Changes a map, or adds trailers; `BadArgument` if the map is absent, or closed to the acting filter.
fn with_open_map<T>(state: &HostState, map: u32, change: impl FnOnce(&mut Headers) -> T) -> Result<T, Fault> {
    let http = state.http().ok_or(Status::BadArgument)?;
    add_trailers(http, map);
    if !is_open(http, map) {
        return Err(Status::BadArgument.into());
    }
    let stream = &http.stream;
    let changed = match map {
        REQUEST_HEADERS => Some(change(&mut stream.request_headers.borrow_mut())),
        REQUEST_TRAILERS => stream.request_trailers.borrow_mut().as_mut().map(change),
        RESPONSE_HEADERS => stream.response_headers.borrow_mut().as_mut().map(change),
        _ => stream.response_trailers.borrow_mut().as_mut().map(change),
    };
    Ok(changed.ok_or(Status::BadArgument)?)
}

/// Adds empty trailers at the end of a body that has none.
fn add_trailers(http: &HttpContext, map: u32) {
    let (trailers, direction) = match map {
        REQUEST_TRAILERS => (&http.stream.request_trailers, 0),
        RESPONSE_TRAILERS => (&http.stream.response_trailers, 1),
        _ => return,
    };
    let mut views = http.stream.views.borrow_mut();
    let Some(view) = views.get_mut(http.filter) else { return };
    if view.body_ends.get(direction) == Some(&true) && trailers.borrow().is_none() {
        trailers.replace(Some(Headers::new()));
        *open_trailers(view, direction) = true;
    }
}

fn open_trailers(view: &mut FilterView, direction: usize) -> &mut bool {
    if direction == 0 { &mut view.request_trailers } else { &mut view.response_trailers }
}

/// Whether `proxy_on_log` of the acting context is running.
fn is_logging(state: &HostState) -> bool {
    state.http().is_some_and(|http| http.stream.views.borrow().get(http.filter).is_some_and(|view| view.logging))
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

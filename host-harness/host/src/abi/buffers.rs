//! Host functions for buffers: bodies, messages and configurations.

use bytes::BytesMut;
use wasmtime::Caller;

use super::maps::known;
use super::memory::{Guest, Status, answer};
use super::state::HostState;

type Answer = wasmtime::Result<u32>;

const RESPONSE_BODY: u32 = 1;
const LAST_BUFFER: u32 = 8;

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
        with_buffer(guest.state(), buffer, |_| ()).ok_or(Status::NotFound)?;
        let data = guest.read(data, data_length)?;
        let state = guest.state();
        state.usage.keep(data.len())?;
        let http = state.http().filter(|_| buffer <= RESPONSE_BODY).ok_or(Status::BadArgument)?;
        let mut views = http.stream.views.borrow_mut();
        let view = views.get_mut(http.filter).ok_or(Status::BadArgument)?;
        if view.body_open.get(buffer as usize) != Some(&true) {
            return Err(Status::BadArgument.into());
        }
        let body = view.bodies.get_mut(buffer as usize).ok_or(Status::BadArgument)?;
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

fn with_buffer<T>(state: &HostState, buffer: u32, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    match buffer {
        0 | 1 => {
            let Some(http) = state.http() else { return Some(read(&[])) };
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

//! Host functions of an HTTP stream: continuing and closing it, local replies.

use bytes::Bytes;
use wasmtime::Caller;

use super::maps::read_pairs;
use super::memory::{Fault, Guest, Status, answer};
use super::state::{Effect, HostState};
use crate::http::{Direction, LocalReply};

type Answer = wasmtime::Result<u32>;

pub(super) fn continue_stream(mut caller: Caller<'_, HostState>, kind: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer(match kind {
        0 => resume(guest.state(), Direction::Request),
        1 => resume(guest.state(), Direction::Response),
        // Streams of network filters: an HTTP filter has none.
        2 => Ok(()),
        3 => Err(Status::Unimplemented.into()),
        _ => Err(Status::BadArgument.into()),
    })
}

/// `proxy_continue_request` of ABI 0.1.0.
pub(super) fn continue_request(mut caller: Caller<'_, HostState>) -> Answer {
    answer(resume(Guest::new(&mut caller).state(), Direction::Request))
}

/// `proxy_continue_response` of ABI 0.1.0.
pub(super) fn continue_response(mut caller: Caller<'_, HostState>) -> Answer {
    answer(resume(Guest::new(&mut caller).state(), Direction::Response))
}

fn resume(state: &mut HostState, direction: Direction) -> Result<(), Fault> {
    let Some(http) = state.http() else { return Ok(()) };
    // As in Envoy, the request's headers and trailers can no longer be changed, in either direction.
    if let Some(view) = http.stream.views.borrow_mut().get_mut(http.filter) {
        view.request_headers = false;
        view.request_trailers = false;
        view.body_open[0] = false;
        view.body_ends[0] = false;
    }
    let effect = Effect::Continue { stream: http.control.clone(), filter: http.filter, direction };
    state.record(effect, 0)
}

pub(super) fn close_stream(mut caller: Caller<'_, HostState>, kind: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        if kind > 3 {
            return Err(Status::BadArgument.into());
        }
        let state = guest.state();
        match state.http().map(|http| Effect::Reset { stream: http.control.clone() }) {
            Some(effect) if kind < 2 => state.record(effect, 0),
            _ => Ok(()),
        }
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
        let reply = LocalReply {
            status,
            headers,
            body,
            grpc_status: u32::try_from(grpc_status).ok(),
            details,
            changes: Vec::new(),
        };
        let state = guest.state();
        if let Some((stream, filter)) = state.http().map(|http| (http.control.clone(), http.filter)) {
            let bytes = reply.headers.byte_size() + reply.body.len() + reply.details.len();
            state.record(Effect::LocalReply { stream, filter, reply }, bytes)?;
        }
        state.stopped = true;
        state.just_answered = true;
        Ok(())
    })())
}

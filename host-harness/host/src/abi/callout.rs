//! Host functions that start something outside the VM: HTTP callouts, gRPC calls and streams, ticks.
//!
//! Each function records an [`Effect`] and returns its token; the host performs the effect after the VM has returned.

use bytes::Bytes;
use wasmtime::Caller;

use super::host_line;
use super::maps::read_pairs;
use super::memory::{Fault, Guest, Status, answer};
use super::state::{Effect, GrpcHandle, GrpcTarget, HostState};
use super::wire;

type Answer = wasmtime::Result<u32>;

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
pub(super) fn http_call(
    mut caller: Caller<'_, HostState>,
    cluster: u32,
    cluster_length: u32,
    headers: u32,
    headers_length: u32,
    body: u32,
    body_length: u32,
    trailers: u32,
    trailers_length: u32,
    timeout: u32,
    token_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let cluster = guest.read_text(cluster, cluster_length)?;
        let body = Bytes::from(guest.read(body, body_length)?);
        let mut headers = read_pairs(&mut guest, headers, headers_length)?;
        // As in Envoy, trailers are read and not sent.
        read_pairs(&mut guest, trailers, trailers_length)?;
        guest.write_u32(token_at, 0)?;
        let state = guest.state();
        let complete = [":method", ":path", ":authority"].iter().all(|name| headers.first(name.as_bytes()).is_some());
        // Envoy's timeout is a signed number of milliseconds.
        if !state.clusters.contains(&cluster) || !complete || i32::try_from(timeout).is_err() {
            return Err(Status::BadArgument.into());
        }
        if !body.is_empty() {
            headers.set("content-length", body.len().to_string());
        }
        let root = state.root_id();
        state.root()?.can_call()?;
        let bytes = headers.byte_size() + body.len();
        let reservation = state.in_flight.keep(bytes)?;
        let token = state.tokens.next_http_call();
        state.root()?.calls.insert(token);
        state.record(Effect::HttpCall { root, token, cluster, headers, body, timeout, reservation }, bytes)?;
        guest.write_u32(token_at, token)
    })())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
pub(super) fn grpc_call(
    mut caller: Caller<'_, HostState>,
    target: u32,
    target_length: u32,
    service: u32,
    service_length: u32,
    method: u32,
    method_length: u32,
    metadata: u32,
    metadata_length: u32,
    message: u32,
    message_length: u32,
    timeout: u32,
    token_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let message = Bytes::from(guest.read(message, message_length)?);
        let strings = [(target, target_length), (service, service_length), (method, method_length)];
        open(&mut guest, strings, (metadata, metadata_length), Some((message, timeout)), token_at)
    })())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
pub(super) fn grpc_stream(
    mut caller: Caller<'_, HostState>,
    target: u32,
    target_length: u32,
    service: u32,
    service_length: u32,
    method: u32,
    method_length: u32,
    metadata: u32,
    metadata_length: u32,
    token_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    let strings = [(target, target_length), (service, service_length), (method, method_length)];
    answer(open(&mut guest, strings, (metadata, metadata_length), None, token_at))
}

fn open(
    guest: &mut Guest<'_, '_>,
    [target, service, method]: [(u32, u32); 3],
    metadata: (u32, u32),
    unary: Option<(Bytes, u32)>,
    token_at: u32,
) -> Result<(), Fault> {
    let target = guest.read(target.0, target.1)?;
    let service = guest.read_text(service.0, service.1)?;
    let method = guest.read_text(method.0, method.1)?;
    let metadata = read_pairs(guest, metadata.0, metadata.1)?;
    guest.write_u32(token_at, 0)?;
    let state = guest.state();
    // The target is a `GrpcService` message or a plain cluster name; any other target is refused, as in Envoy.
    let cluster = match envoy_grpc_cluster(&target) {
        Some(cluster) => cluster,
        None => {
            String::from_utf8(target).ok().filter(|name| state.clusters.contains(name)).ok_or(Status::ParseFailure)?
        }
    };
    if !state.clusters.contains(&cluster) {
        return Err(Status::InternalFailure.into());
    }
    let root = state.root_id();
    state.root()?.can_call()?;
    let bytes = metadata.byte_size() + service.len() + method.len() + unary.as_ref().map_or(0, |(it, _)| it.len());
    let reservation = state.in_flight.keep(bytes)?;
    let token = match unary {
        Some(_) => state.tokens.next_grpc_call(),
        None => state.tokens.next_grpc_stream(),
    };
    state.root()?.streams.insert(token, GrpcHandle { unary: unary.is_some(), ..GrpcHandle::default() });
    let target = GrpcTarget { cluster, service, method };
    state.record(Effect::GrpcOpen { root, token, target, metadata, unary, reservation }, bytes)?;
    guest.write_u32(token_at, token)
}

pub(super) fn grpc_send(
    mut caller: Caller<'_, HostState>,
    token: u32,
    message: u32,
    message_length: u32,
    end: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let message = Bytes::from(guest.read(message, message_length)?);
        let state = guest.state();
        if token & 3 != 2 {
            return Err(Status::BadArgument.into());
        }
        let handle = state.root()?.streams.get(&token).ok_or(Status::NotFound)?;
        if handle.remote_closed {
            // Envoy follows a dangling pointer here.
            let line = format_args!("a module sent a message on gRPC stream {token}, which its upstream closed");
            host_line(state, log::Level::Error, line);
            return Err(Status::NotFound.into());
        }
        let bytes = message.len();
        let reservation = state.in_flight.keep(bytes)?;
        let after_answer = std::mem::take(&mut state.just_answered);
        state.record(Effect::GrpcSend { token, message, end: end != 0, after_answer, reservation }, bytes)
    })())
}

pub(super) fn grpc_cancel(mut caller: Caller<'_, HostState>, token: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let state = guest.state();
        is_grpc(token)?;
        state.root()?.streams.remove(&token).ok_or(Status::NotFound)?;
        state.record(Effect::GrpcCancel { token }, 0)
    })())
}

pub(super) fn grpc_close(mut caller: Caller<'_, HostState>, token: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let state = guest.state();
        is_grpc(token)?;
        let streams = &mut state.root()?.streams;
        let handle = streams.get_mut(&token).ok_or(Status::NotFound)?;
        handle.local_closed = true;
        let (unary, over) = (handle.unary, handle.remote_closed);
        if unary || over {
            streams.remove(&token);
        }
        if !over {
            state.record(if unary { Effect::GrpcCancel { token } } else { Effect::GrpcClose { token } }, 0)?;
        }
        Ok(())
    })())
}

pub(super) fn set_tick_period(mut caller: Caller<'_, HostState>, period: u32) -> Answer {
    let mut guest = Guest::new(&mut caller);
    let state = guest.state();
    let root = state.root_id();
    answer(state.record(Effect::Tick { root, period }, 0))
}

fn is_grpc(token: u32) -> Result<(), Status> {
    if matches!(token & 3, 1 | 2) { Ok(()) } else { Err(Status::BadArgument) }
}

/// Returns `envoy_grpc.cluster_name` of a serialised `envoy.config.core.v3.GrpcService`; `None` for other bytes.
fn envoy_grpc_cluster(message: &[u8]) -> Option<String> {
    let service = wire::fields(message)?;
    let envoy_grpc = wire::fields(wire::bytes(&service, 1))?;
    let name = wire::bytes(&envoy_grpc, 1);
    (!name.is_empty()).then(|| String::from_utf8(name.to_vec()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_service_message_names_its_cluster() {
        let mut message = vec![0x0a, 7, 0x0a, 5];
        message.extend_from_slice(b"redis");
        assert_eq!(envoy_grpc_cluster(&message).as_deref(), Some("redis"));
        message.extend_from_slice(&[0x1a, 2, 8, 1]);
        assert_eq!(envoy_grpc_cluster(&message).as_deref(), Some("redis"));
    }

    #[test]
    fn a_plain_name_is_no_grpc_service_message() {
        for name in ["redis", "backend", "", "\n\u{5}red", "a"] {
            assert_eq!(envoy_grpc_cluster(name.as_bytes()), None, "{name:?}");
        }
    }
}

//! `get_property` and `set_property`: attributes of an HTTP stream.
//!
//! Numbers are 8 bytes, little-endian; times are nanoseconds; strings are their bytes; maps are pairs. (Envoy,
//! "Attributes".) Envoy attributes that the harness does not support are not found.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::Caller;

use super::memory::{Guest, Status, answer};
use super::metadata;
use super::pairs;
use super::state::HostState;
use crate::bootstrap::{Action, NodeIdentity, Route};
use crate::http::{ConnectionInfo, FilterView, Headers, Stream};

/// Maximum length of a property's path in bytes; no longer path is found.
const MAX_PATH: u32 = 64 * 1024;
/// Groups of properties that Envoy does not serialize as a whole.
const WHOLE: [&[u8]; 5] = [b"request", b"response", b"filter_state", b"source", b"destination"];

pub(super) fn property(
    mut caller: Caller<'_, HostState>,
    path: u32,
    path_length: u32,
    value_at: u32,
    length_at: u32,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        if path_length > MAX_PATH {
            return Err(Status::NotFound.into());
        }
        let path = guest.read(path, path_length)?;
        if WHOLE.contains(&path.as_slice()) {
            return Err(Status::SerializationFailure.into());
        }
        let value = find(guest.state(), &path).ok_or(Status::NotFound)?;
        guest.give(&value, value_at, length_at)
    })())
}

pub(super) fn set_property(
    mut caller: Caller<'_, HostState>,
    path: u32,
    path_length: u32,
    value: u32,
    value_length: u32,
) -> wasmtime::Result<u32> {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let (path, value) = (guest.read(path, path_length)?, guest.read(value, value_length)?);
        guest.state().usage.keep(path.len() + value.len())?;
        let state = guest.state();
        let http = state.http().ok_or(Status::NotFound)?;
        let readonly = state.plugin().and_then(|root| root.declared.get(&path)).is_some_and(|readonly| *readonly);
        let mut filter_state = http.stream.filter_state.borrow_mut();
        let key = own_state(&path);
        if readonly && filter_state.contains_key(&key) {
            return Err(Status::BadArgument.into());
        }
        filter_state.insert(key, value);
        Ok(())
    })())
}

fn find(state: &HostState, path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&str> = path.split(|byte| *byte == 0).map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    let stream = state.http().map(|http| http.stream.as_ref());
    let root = state.plugin();
    match parts.as_slice() {
        ["plugin_name"] => Some(root?.plugin.name.clone().into_bytes()),
        ["plugin_root_id"] => Some(root?.plugin.root_id.clone().into_bytes()),
        ["plugin_vm_id"] => Some(state.vm_id.clone().into_bytes()),
        ["metadata"] => {
            Some(stream.map(|stream| metadata::message(&stream.dynamic_metadata.borrow())).unwrap_or_default())
        }
        ["request", name @ ..] => {
            // As in Envoy, a filter that has released the headers cannot read them.
            let shown = view(state).is_some_and(|view| view.request_headers || view.logging);
            let headers = stream?.request_headers.borrow();
            request(stream?, if shown { &headers } else { &NO_HEADERS }, name)
        }
        ["response", name @ ..] => response(stream?, &*view(state)?, name),
        ["source", name] => address(stream?.info.source?, name),
        ["destination", name] => address(stream?.info.destination?, name),
        ["upstream", "request_attempt_count"] => number(stream.map(|it| u64::from(it.info.upstream.get().is_some()))?),
        ["upstream", "transport_failure_reason"] => stream?.info.upstream.get().map(|_| Vec::new()),
        ["upstream", name] => address(stream?.info.upstream.get()?, name),
        ["connection_id"] | ["connection", "id"] => number(stream?.info.connection_id),
        ["connection", name] => connection(&stream?.info.connection, name),
        ["xds", "node", rest @ ..] => node(&root?.node, rest),
        ["xds", "listener_direction"] => number(stream?.info.connection.direction),
        ["xds", "filter_chain_name"] => Some(stream?.info.connection.chain.clone().into_bytes()),
        ["xds", "route_name"] => stream?.with_route(|_, route| route.name.clone().into_bytes()),
        ["xds", "virtual_host_name"] => stream?.with_route(|host, _| host.name.clone().into_bytes()),
        ["xds", "cluster_name"] => {
            let own = stream?.info.cluster.clone();
            own.or_else(|| stream?.with_route(|_, route| cluster_of(route))?).map(String::into_bytes)
        }
        ["metadata", "filter_metadata", namespace, keys @ ..] => {
            let metadata = stream?.dynamic_metadata.borrow();
            metadata_bytes(keys.iter().try_fold(metadata.get(*namespace)?, |value, key| value.get(key))?)
        }
        ["filter_state", key] => stream?.filter_state.borrow().get(key.as_bytes()).cloned(),
        // As in Envoy, a property of several parts that a filter sets is not found.
        [_] => stream?.filter_state.borrow().get(&own_state(path)).cloned(),
        _ => None,
    }
}

/// Returns a property of a stream for a limiter that reads its request: see [`Preflight`](crate::preflight::Preflight).
pub(crate) fn of_stream(stream: &Stream, path: &[&str]) -> Option<Vec<u8>> {
    match path {
        ["metadata"] => Some(metadata::message(&stream.dynamic_metadata.borrow())),
        ["request", name @ ..] => request(stream, &stream.request_headers.borrow(), name),
        ["source", name] => address(stream.info.source?, name),
        ["destination", name] => address(stream.info.destination?, name),
        ["xds", "route_name"] => stream.with_route(|_, route| route.name.clone().into_bytes()),
        ["xds", "virtual_host_name"] => stream.with_route(|host, _| host.name.clone().into_bytes()),
        ["xds", "cluster_name"] => stream.with_route(|_, route| cluster_of(route))?.map(String::into_bytes),
        ["metadata", "filter_metadata", namespace, keys @ ..] => {
            let metadata = stream.dynamic_metadata.borrow();
            metadata_bytes(keys.iter().try_fold(metadata.get(*namespace)?, |value, key| value.get(key))?)
        }
        ["filter_state", key] => stream.filter_state.borrow().get(key.as_bytes()).cloned(),
        _ => None,
    }
}

static NO_HEADERS: Headers = Headers::new();

fn view(state: &HostState) -> Option<std::cell::Ref<'_, FilterView>> {
    let http = state.http()?;
    std::cell::Ref::filter_map(http.stream.views.borrow(), |views| views.get(http.filter)).ok()
}

fn request(stream: &Stream, headers: &Headers, name: &[&str]) -> Option<Vec<u8>> {
    let header = |name: &str| headers.first(name.as_bytes()).map(|value| value.to_vec());
    let path = || headers.text(":path");
    match name {
        ["path"] => header(":path"),
        ["url_path"] => Some(path()?.split('?').next()?.as_bytes().to_vec()),
        ["query"] => Some(path()?.split_once('?').map_or("", |(_, query)| query).as_bytes().to_vec()),
        ["host"] => header(":authority"),
        ["scheme"] => header(":scheme"),
        ["method"] => header(":method"),
        ["referer"] => header("referer"),
        ["useragent"] => header("user-agent"),
        ["id"] => header("x-request-id"),
        ["protocol"] => Some(stream.info.protocol.as_bytes().to_vec()),
        ["headers", name] => headers.joined(name.as_bytes()),
        ["headers"] => Some(as_pairs(headers)),
        ["time"] => number(nanos(stream.info.started)),
        ["duration"] if stream.info.ended.get() => {
            number(u64::try_from(stream.info.started.elapsed().ok()?.as_nanos()).ok()?)
        }
        ["size"] => {
            let declared = headers.text("content-length").and_then(|length| length.parse().ok());
            number(declared.unwrap_or_else(|| stream.info.request_bytes.get()))
        }
        ["total_size"] => number(stream.info.request_bytes.get() + headers.byte_size() as u64),
        _ => None,
    }
}

/// Returns an attribute of the response. As in Envoy, a filter that has released the headers cannot read them.
fn response(stream: &Stream, view: &FilterView, name: &[&str]) -> Option<Vec<u8>> {
    let (headers, trailers) = (stream.response_headers.borrow(), stream.response_trailers.borrow());
    let status = headers.as_ref().and_then(|headers| headers.text(":status")?.parse().ok());
    let trailers = trailers.as_ref().filter(|_| view.response_trailers || view.logging);
    let headers = headers.as_ref().filter(|_| view.response_headers || view.logging);
    match name {
        ["code"] => number(status?),
        ["code_details"] => {
            let details = stream.info.response_details.borrow();
            (!details.is_empty()).then(|| details.clone().into_bytes())
        }
        ["headers", name] => headers?.joined(name.as_bytes()),
        ["headers"] => Some(as_pairs(headers?)),
        ["trailers", name] => trailers?.joined(name.as_bytes()),
        ["trailers"] => Some(as_pairs(trailers?)),
        ["grpc_status"] => {
            let status = trailers.and_then(|trailers| trailers.text("grpc-status"));
            number(status.or_else(|| headers?.text("grpc-status"))?.parse().ok()?)
        }
        ["size"] => number(stream.info.response_bytes.get()),
        ["total_size"] => number(stream.info.response_bytes.get() + headers.map_or(0, Headers::byte_size) as u64),
        ["flags"] => number(stream.info.response_flags.get().bits()),
        _ => None,
    }
}

fn connection(info: &ConnectionInfo, name: &str) -> Option<Vec<u8>> {
    match name {
        "requested_server_name" => Some(info.server_name.clone().into_bytes()),
        "mtls" => Some(vec![u8::from(info.is_mutual_tls)]),
        "tls_version" => info.tls_version.map(|version| version.as_bytes().to_vec()),
        _ => None,
    }
}

fn address(address: SocketAddr, name: &str) -> Option<Vec<u8>> {
    match name {
        "address" => Some(address.to_string().into_bytes()),
        "port" => number(u64::from(address.port())),
        _ => None,
    }
}

fn node(node: &NodeIdentity, name: &[&str]) -> Option<Vec<u8>> {
    match name {
        ["id"] => Some(node.id.clone().into_bytes()),
        ["cluster"] => Some(node.cluster.clone().into_bytes()),
        ["metadata", keys @ ..] => {
            let value = keys.iter().try_fold(&node.metadata, |value, key| value.get(key))?;
            metadata_bytes(value)
        }
        _ => None,
    }
}

/// Returns the bytes of a scalar, without its type: only the message of all metadata has types.
///
/// `None` for lists and objects: Envoy encodes them differently from one request to the next.
fn metadata_bytes(value: &serde_json::Value) -> Option<Vec<u8>> {
    match value {
        serde_json::Value::String(text) => Some(text.clone().into_bytes()),
        serde_json::Value::Bool(flag) => Some(vec![u8::from(*flag)]),
        serde_json::Value::Number(number) => Some(number.as_f64()?.to_le_bytes().to_vec()),
        _ => None,
    }
}

/// Returns Envoy's key for filter state that wasm filters set.
fn own_state(path: &[u8]) -> Vec<u8> {
    [b"wasm.", path].concat()
}

fn cluster_of(route: &Route) -> Option<String> {
    match &route.action {
        Action::Cluster { cluster, .. } => Some(cluster.clone()),
        Action::Direct(_) | Action::Redirect(_) => None,
    }
}

fn as_pairs(headers: &Headers) -> Vec<u8> {
    let entries: Vec<_> = headers.iter().collect();
    pairs::encode(entries.iter().map(|(name, value)| (*name, *value)))
}

fn number(value: u64) -> Option<Vec<u8>> {
    Some(value.to_le_bytes().to_vec())
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

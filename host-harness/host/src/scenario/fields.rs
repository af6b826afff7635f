//! Fields of a document by protobuf's JSON: in snake case or in camel case, and one item in the place of a list.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::documents::camel_case;

/// Returns a field by its name in snake case.
pub(super) fn field_mut<'v>(value: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    let object = value.as_object_mut()?;
    if object.contains_key(name) { object.get_mut(name) } else { object.get_mut(&camel_case(name)) }
}

/// Returns the items of a list; a value that is no list is its only item.
pub(super) fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    let items: &mut [Value] = match list {
        None | Some(Value::Null) => &mut [],
        Some(Value::Array(items)) => items.as_mut_slice(),
        Some(one) => std::slice::from_mut(one),
    };
    items.iter_mut()
}

pub(super) fn name_of(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

/// Returns the listeners or the clusters of a document.
pub(super) fn resources<'v>(document: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    items(field_mut(document, "static_resources").and_then(|resources| field_mut(resources, list)))
}

/// Returns the addresses of a cluster's endpoints.
pub(super) fn endpoints(cluster: &mut Value) -> impl Iterator<Item = &mut Value> {
    let assignment = field_mut(cluster, "load_assignment");
    let localities = items(assignment.and_then(|assignment| field_mut(assignment, "endpoints")));
    let endpoints = localities.flat_map(|locality| items(field_mut(locality, "lb_endpoints")));
    endpoints.filter_map(|endpoint| field_mut(field_mut(endpoint, "endpoint")?, "address"))
}

pub(super) fn set_address(address: &mut Value, addr: SocketAddr) -> bool {
    let Some(socket) = field_mut(address, "socket_address").and_then(Value::as_object_mut) else { return false };
    socket.insert("address".into(), json!(addr.ip().to_string()));
    socket.remove("portValue");
    socket.insert("port_value".into(), json!(addr.port()));
    true
}

pub(super) fn address(address: &mut Value) -> Option<SocketAddr> {
    let (host, port) = host_port(address)?;
    Some(SocketAddr::new(host.parse().ok()?, port))
}

/// Returns the host, an address or a name, and the port.
pub(super) fn host_port(address: &mut Value) -> Option<(String, u16)> {
    let socket = field_mut(address, "socket_address")?;
    let host = socket.get("address")?.as_str()?.to_owned();
    let port = match field_mut(socket, "port_value")? {
        Value::String(text) => text.parse().ok()?,
        number => u16::try_from(number.as_u64()?).ok()?,
    };
    Some((host, port))
}

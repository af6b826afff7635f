//! Encoder of all dynamic metadata as a serialised `envoy.config.core.v3.Metadata`, with typed values.
//!
//! Source: envoy/config/core/v3/base.proto, google/protobuf/struct.proto.

use std::collections::BTreeMap;

use serde_json::Value;

/// Returns the serialised `Metadata` of all filters, by filter name.
pub(super) fn message(filters: &BTreeMap<String, Value>) -> Vec<u8> {
    filters.iter().flat_map(|(name, metadata)| entry(name, &fields_of(metadata))).collect()
}

/// Returns a serialised `Struct`.
fn fields_of(value: &Value) -> Vec<u8> {
    let fields = value.as_object().into_iter().flatten();
    fields.flat_map(|(key, value)| entry(key, &value_of(value))).collect()
}

/// Returns a serialised `Value`.
fn value_of(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![1 << 3, 0],
        Value::Number(number) => {
            let double = number.as_f64().unwrap_or_default();
            [&[2 << 3 | 1][..], &double.to_le_bytes()].concat()
        }
        Value::String(text) => bytes(3, text.as_bytes()),
        Value::Bool(flag) => vec![4 << 3, u8::from(*flag)],
        Value::Object(_) => bytes(5, &fields_of(value)),
        Value::Array(items) => {
            let items: Vec<u8> = items.iter().flat_map(|item| bytes(1, &value_of(item))).collect();
            bytes(6, &items)
        }
    }
}

/// Returns an entry of the map in field 1.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    bytes(1, &[bytes(1, key.as_bytes()), bytes(2, value)].concat())
}

/// Returns a length-delimited field.
fn bytes(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = payload.len();
    while length > 0x7f {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(payload);
    field
}

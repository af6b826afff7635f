//! Values of properties of a request, which the proxy or other filters set.

use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::property_path::PropertyPath;
use crate::double;
use crate::protobuf::{Fields, Wire};

impl PropertyPath {
    /// Returns the value for `request`, as text.
    pub(super) fn value(&self, request: &dyn Attributes) -> Option<Vec<u8>> {
        let path: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let value = request.property(&path).filter(|value| !value.is_empty())?;
        match path.as_slice() {
            ["metadata", "filter_metadata", filter, keys @ ..] if is_ambiguous(&value) => {
                let Some(metadata) = request.property(&["metadata"]).filter(|metadata| !metadata.is_empty()) else {
                    // The proxy does not expose types: a value with control characters is not a string.
                    return Some(value).filter(|value| is_printed(value));
                };
                text(find(&metadata, filter, keys)?)
            }
            _ => Some(value),
        }
    }
}

/// Whether bytes may be the encoding of another type than a string: a double (8 bytes), a boolean (1 byte), or a list
/// or an object, which Envoy encodes as pairs with 32-bit sizes. Without a type, strings may look the same.
fn is_ambiguous(value: &[u8]) -> bool {
    matches!(value.len(), 1 | 8) || value.contains(&0)
}

fn is_printed(value: &[u8]) -> bool {
    str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control))
}

/// Finds the `google.protobuf.Value` at `keys` of a filter's metadata, in an `envoy.config.core.v3.Metadata`.
fn find<'a>(metadata: &'a [u8], filter: &str, keys: &[&str]) -> Option<&'a [u8]> {
    let mut fields = entry(metadata, filter)?;
    let (last, nested) = keys.split_last()?;
    for key in nested {
        // Field 5 of a value is an object.
        fields = field(entry(fields, key)?, 5)?;
    }
    entry(fields, last)
}

/// Returns the value for `key` in a message whose field 1 is a map.
fn entry<'a>(message: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let entries = Fields(message).map_while(|field| match field? {
        (1, Wire::Bytes(entry)) => Some(Some(entry)),
        _ => Some(None),
    });
    entries
        .flatten()
        .filter(|entry| field(entry, 1).unwrap_or_default() == key.as_bytes())
        .last()
        .and_then(|entry| field(entry, 2))
}

/// Returns the bytes of the last field with this number.
fn field(message: &[u8], number: u64) -> Option<&[u8]> {
    let fields = Fields(message).map_while(|field| field);
    let bytes = fields.filter_map(|(found, wire)| match wire {
        Wire::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    });
    bytes.last()
}

/// Returns the text of a `google.protobuf.Value`.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    match Fields(value).map_while(|field| field).last()? {
        (2, Wire::Fixed64(bits)) => double::text(f64::from_bits(bits)).map(String::into_bytes),
        (3, Wire::Bytes(text)) => Some(text.to_vec()).filter(|text| !text.is_empty()),
        (4, Wire::Varint(bit)) => Some(if bit == 0 { b"false".to_vec() } else { b"true".to_vec() }),
        _ => None,
    }
}

//! Decoder for a serialised `google.protobuf.Struct`: Envoy's form of a plugin configuration of that type.
//!
//! Envoy's documentation promises JSON for it; Envoy 1.40 was observed to pass the message's own encoding.
//! Source: google/protobuf/struct.proto, and protobuf.dev, "Encoding".

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Number, Value};

use crate::double::whole;
use crate::protobuf::{Fields, Wire};

/// Deepest nesting, deeper than any configuration's.
const MAX_DEPTH: u32 = 32;

/// Decodes a serialised `Struct` into an object. `None` where `bytes` are no `Struct`.
pub(super) fn decode_struct(bytes: &[u8]) -> Option<Value> {
    object(bytes, MAX_DEPTH)
}

fn object(bytes: &[u8], depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (1, Wire::Bytes(entry)) = field? else { return None };
        let (mut key, mut value) = (String::new(), Value::Null);
        for field in Fields(entry) {
            match field? {
                (1, Wire::Bytes(text)) => key = text_of(text)?,
                (2, Wire::Bytes(bytes)) => value = self::value(bytes, depth)?,
                _ => return None,
            }
        }
        object.insert(key, value);
    }
    Some(Value::Object(object))
}

fn value(bytes: &[u8], depth: u32) -> Option<Value> {
    let mut value = Value::Null;
    for field in Fields(bytes) {
        value = match field? {
            (1, Wire::Varint(_)) => Value::Null,
            (2, Wire::Fixed64(bits)) => Value::Number(number(f64::from_bits(bits))?),
            (3, Wire::Bytes(text)) => Value::String(text_of(text)?),
            (4, Wire::Varint(bit)) => Value::Bool(bit != 0),
            (5, Wire::Bytes(fields)) => object(fields, depth)?,
            (6, Wire::Bytes(items)) => list(items, depth)?,
            _ => return None,
        };
    }
    Some(value)
}

fn list(bytes: &[u8], depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let items = Fields(bytes).map(|field| match field? {
        (1, Wire::Bytes(item)) => value(item, depth),
        _ => None,
    });
    items.collect::<Option<Vec<Value>>>().map(Value::Array)
}

/// Converts a double to a number: whole numbers become integers, as from JSON.
fn number(double: f64) -> Option<Number> {
    whole(double).map_or_else(|| Number::from_f64(double), |whole| Some(whole.into()))
}

fn text_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn field(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = payload.len();
        while length > 0x7f {
            field.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        field.push(u8::try_from(length).expect("seven bits"));
        field.extend_from_slice(payload);
        field
    }

    fn entry(key: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
    }

    #[test]
    fn every_kind_of_value_is_decoded() {
        let number = |double: f64| [&[2 << 3 | 1][..], &double.to_le_bytes()].concat();
        let list = field(6, &[field(1, &number(20.0)), field(1, &number(0.5))].concat());
        let message = [
            entry("null", &[1 << 3, 0]),
            entry("text", &field(3, "é".as_bytes())),
            entry("yes", &[4 << 3, 1]),
            entry("nested", &field(5, &entry("list", &list))),
            entry("nothing", &[]),
        ]
        .concat();
        let expected = json!({"null": null, "text": "é", "yes": true, "nested": {"list": [20, 0.5]}, "nothing": null});
        assert_eq!(decode_struct(&message), Some(expected));
    }

    #[test]
    fn a_truncated_or_too_deeply_nested_message_is_refused() {
        let message = entry("text", &field(3, b"abc"));
        for length in 1..message.len() {
            assert_eq!(decode_struct(&message[..length]), None, "{length}");
        }
        let nested = |depth| (1..depth).fold(entry("a", &[]), |inner, _| entry("a", &field(5, &inner)));
        assert!(decode_struct(&nested(32)).is_some());
        assert_eq!(decode_struct(&nested(33)), None);
        assert_eq!(decode_struct(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = decode_struct(&bytes);
        }
    }
}

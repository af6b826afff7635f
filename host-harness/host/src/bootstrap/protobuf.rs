//! Encoder of `google.protobuf.Struct` as Envoy passes it to a module: the serialised message.
//!
//! Envoy's documentation promises JSON text; Envoy 1.40 was observed to pass these bytes.
//! (google/protobuf/struct.proto)

use serde_json::{Map, Value};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;

/// Returns an object as a serialised `Struct`. Numbers become doubles: integers beyond 2⁵³ lose their last digits.
pub(super) fn encode_struct(object: &Map<String, Value>) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, value) in object {
        let mut entry = Vec::new();
        delimited(&mut entry, 1, key.as_bytes());
        delimited(&mut entry, 2, &encode_value(value));
        delimited(&mut message, 1, &entry);
    }
    message
}

fn encode_value(value: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    match value {
        Value::Null => message.extend([tag(1, VARINT), 0]),
        Value::Number(number) => {
            message.push(tag(2, FIXED64));
            message.extend(number.as_f64().unwrap_or_default().to_le_bytes());
        }
        Value::String(text) => delimited(&mut message, 3, text.as_bytes()),
        Value::Bool(flag) => message.extend([tag(4, VARINT), u8::from(*flag)]),
        Value::Object(object) => delimited(&mut message, 5, &encode_struct(object)),
        Value::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                delimited(&mut list, 1, &encode_value(item));
            }
            delimited(&mut message, 6, &list);
        }
    }
    message
}

fn tag(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn delimited(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(tag(field, LENGTH_DELIMITED));
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: Value) -> Vec<u8> {
        value.as_object().map(encode_struct).unwrap_or_default()
    }

    #[test]
    fn each_kind_of_value_has_its_field() {
        assert_eq!(encoded(serde_json::json!({"a": null})), b"\x0a\x07\x0a\x01a\x12\x02\x08\x00");
        assert_eq!(encoded(serde_json::json!({"a": true})), b"\x0a\x07\x0a\x01a\x12\x02\x20\x01");
        assert_eq!(encoded(serde_json::json!({"a": "b"})), b"\x0a\x08\x0a\x01a\x12\x03\x1a\x01b");
        let number = [b"\x0a\x0e\x0a\x01a\x12\x09\x11".as_slice(), &20_f64.to_le_bytes()].concat();
        assert_eq!(encoded(serde_json::json!({"a": 20})), number);
        assert_eq!(encoded(serde_json::json!({"a": ["b"]})), b"\x0a\x0c\x0a\x01a\x12\x07\x32\x05\x0a\x03\x1a\x01b");
        assert_eq!(encoded(serde_json::json!({"a": {}})), b"\x0a\x07\x0a\x01a\x12\x02\x2a\x00");
    }

    #[test]
    fn a_long_text_has_a_length_of_two_bytes() {
        let message = encoded(serde_json::json!({"": "x".repeat(300)}));
        assert!(message.starts_with(b"\x0a\xb4\x02\x0a\x00\x12\xaf\x02\x1a\xac\x02x"), "{message:x?}");
    }
}

//! Reader of protobuf's wire format: the fields of one message, without its schema.

/// Field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message; `None` if it is malformed. Groups are refused.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        let number = (key >> 3 != 0).then_some(key >> 3)?;
        let value;
        (value, message) = match key & 7 {
            0 => varint(rest).map(|(value, rest)| (Value::Number(value), rest))?,
            1 => rest.split_at_checked(8).map(|(value, rest)| (Value::Bytes(value), rest))?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(value), rest)
            }
            5 => rest.split_at_checked(4).map(|(value, rest)| (Value::Bytes(value), rest))?,
            _ => return None,
        };
        found.push(Field { number, value });
    }
    Some(found)
}

/// Returns the last value of a field of bytes or text; empty if the field is absent.
pub(super) fn bytes<'a>(fields: &[Field<'a>], number: u64) -> &'a [u8] {
    let values = fields.iter().rev().filter(|field| field.number == number);
    values
        .filter_map(|field| if let Value::Bytes(value) = field.value { Some(value) } else { None })
        .next()
        .unwrap_or_default()
}

/// Returns the last value of a number, enum or boolean; 0 if the field is absent.
pub(super) fn number(fields: &[Field<'_>], number: u64) -> u64 {
    let values = fields.iter().rev().filter(|field| field.number == number);
    values
        .filter_map(|field| if let Value::Number(value) = field.value { Some(value) } else { None })
        .next()
        .unwrap_or_default()
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_numbers() {
        let message = [0x0a, 1, b'a', 0x10, 0x96, 1, 0x0a, 2, b'b', b'c'];
        let fields = fields(&message).unwrap();
        assert_eq!((bytes(&fields, 1), number(&fields, 2), number(&fields, 3)), (&b"bc"[..], 150, 0));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for message in [&[0x0a, 5, b'a'][..], &[0x10], &[0x10, 0x80], &[0x03], &[0xff; 20], &[0x02, 0]] {
            assert_eq!(fields(message), None, "{message:?}");
        }
    }
}

//! Pairs codec of proxy-wasm: encoding of header maps and metadata between host and module.
//!
//! Layout: the count, then the two lengths of every pair, then the bytes of every name and value with a NUL after each.
//! Numbers are 32 bits, little-endian. Decoding refuses truncated input, trailing bytes, more than 1,024 pairs and more
//! than 1 MiB (proxy-wasm-cpp-host's limits).

use bytes::Bytes;

use crate::http::Headers;

const MAX_PAIRS: usize = 1024;
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Error of [`decode`]: the bytes from a module are not valid pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairsError {
    #[error("expected at most {MAX_BYTES} bytes, found {0}")]
    TooLarge(usize),
    #[error("expected at most {MAX_PAIRS} pairs, found {0}")]
    TooMany(usize),
    #[error("truncated")]
    Truncated,
    #[error("missing NUL after a name or a value")]
    Unterminated,
    #[error("trailing bytes after the last pair")]
    TrailingBytes,
}

/// Encodes names and values, for example of headers, as a module passes them to its host.
pub fn encode<'a, N, V>(pairs: impl ExactSizeIterator<Item = (&'a N, &'a V)> + Clone) -> Vec<u8>
where
    N: AsRef<[u8]> + 'a + ?Sized,
    V: AsRef<[u8]> + 'a + ?Sized,
{
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let size: usize = pairs.clone().map(|(name, value)| name.as_ref().len() + value.as_ref().len() + 10).sum();
    let mut encoded = Vec::with_capacity(4 + size);
    encoded.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs.clone() {
        encoded.extend_from_slice(&length(name.as_ref()));
        encoded.extend_from_slice(&length(value.as_ref()));
    }
    for (name, value) in pairs {
        for bytes in [name.as_ref(), value.as_ref()] {
            encoded.extend_from_slice(bytes);
            encoded.push(0);
        }
    }
    encoded
}

/// Decodes pairs; empty input is an empty map.
pub(crate) fn decode(bytes: &[u8]) -> Result<Headers, PairsError> {
    if bytes.is_empty() {
        return Ok(Headers::new());
    }
    if bytes.len() > MAX_BYTES {
        return Err(PairsError::TooLarge(bytes.len()));
    }
    let (count, rest) = number(bytes)?;
    if count > MAX_PAIRS {
        return Err(PairsError::TooMany(count));
    }
    let (mut lengths, mut data) = rest.split_at_checked(count * 8).ok_or(PairsError::Truncated)?;
    let mut pairs = Headers::new();
    for _ in 0..count {
        let (name_length, rest) = number(lengths)?;
        let (value_length, rest) = number(rest)?;
        lengths = rest;
        let (name, rest) = terminated(data, name_length)?;
        let (value, rest) = terminated(rest, value_length)?;
        data = rest;
        pairs.add(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }
    if data.is_empty() { Ok(pairs) } else { Err(PairsError::TrailingBytes) }
}

fn number(bytes: &[u8]) -> Result<(usize, &[u8]), PairsError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(PairsError::Truncated)?;
    Ok((u32::from_le_bytes(*number) as usize, rest))
}

fn terminated(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8]), PairsError> {
    let (found, rest) = bytes.split_at_checked(length).ok_or(PairsError::Truncated)?;
    match rest.split_first() {
        Some((0, rest)) => Ok((found, rest)),
        Some(_) => Err(PairsError::Unterminated),
        None => Err(PairsError::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        [("a", "1"), ("", ""), ("name", "a value")].into_iter().collect()
    }

    #[test]
    fn encoded_pairs_decode_to_the_same_headers() {
        let entries = headers();
        let pairs: Vec<(Bytes, Bytes)> = entries.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        assert_eq!(decode(&encode(pairs.iter().map(|(n, v)| (n, v)))), Ok(headers()));
        assert_eq!(decode(b""), Ok(Headers::new()));
        assert_eq!(decode(&[0; 4]), Ok(Headers::new()));
    }

    #[test]
    fn truncated_and_trailing_bytes_are_refused() {
        let entries = headers();
        let pairs: Vec<(Bytes, Bytes)> = entries.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        let whole = encode(pairs.iter().map(|(n, v)| (n, v)));
        for cut in 1..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(decode(&longer), Err(PairsError::TrailingBytes));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(decode(&[255; 12]), Err(PairsError::TooMany(u32::MAX as usize)));
        assert_eq!(decode(&[1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0]), Err(PairsError::Truncated));
        assert_eq!(decode(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', b'!', 0]), Err(PairsError::Unterminated));
        assert!(matches!(decode(&vec![0; MAX_BYTES + 1]), Err(PairsError::TooLarge(_))));
    }
}

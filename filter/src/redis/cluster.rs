//! Redis Cluster: the hash slots of keys.

/// Number of hash slots.
const SLOTS: u16 = 16_384;
/// Polynomial of the CRC: CRC-16/XMODEM.
const POLYNOMIAL: u16 = 0x1021;

/// Topology of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// A single Redis has all keys.
    #[default]
    Single,
    /// The keys are spread over the masters of a Redis Cluster, behind a proxy that sends each command to the master of
    /// its first key. All keys of a command are in one [hash slot](hash_slot).
    Cluster,
}

/// Returns the hash slot of a key: that of its hash tag, which is the part between the first `{` and the next `}`, or
/// of the whole key if it has no hash tag or an empty one.
#[must_use]
pub fn hash_slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let behind = key.get(open.wrapping_add(1)..)?;
        let close = behind.iter().position(|byte| *byte == b'}')?;
        behind.get(..close).filter(|tag| !tag.is_empty())
    };
    let hashed = tag().unwrap_or(key);
    hashed.iter().fold(0, |crc, byte| next(crc ^ (u16::from(*byte) << 8))) % SLOTS
}

/// Shifts a byte out of the CRC. A table would be 512 bytes of wasm.
fn next(crc: u16) -> u16 {
    (0..8).fold(crc, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of `CLUSTER KEYSLOT`. Tests of keys compare arbitrary ones with the `redis-protocol` crate.
    #[test]
    fn slots_are_those_of_redis() {
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}.bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("{}foo", 9_500),
            ("foo{", 7_673),
            ("weir:{per_user:alice}", 3_833),
            ("weir:{per_user:alice}#override", 3_833),
        ] {
            assert_eq!(hash_slot(key.as_bytes()), slot, "{key}");
        }
    }
}

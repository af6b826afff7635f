//! Bucket keys. No client can forge the key of another bucket.
//!
//! Each value is percent-encoded, so that a colon in a key always separates two values; an empty value is a lone `%`,
//! so that one empty value differs from no value. A value whose encoding is longer than 128 bytes is replaced by `#`
//! and its BLAKE2b hash in hexadecimal. If all values together are longer than that, they are replaced in the same way.
//! No encoded value starts with `#`.
//!
//! In a Redis Cluster, a key has a hash tag: the braces in it are the only ones behind the prefix, as those in values
//! are encoded. All keys of one bucket, and those of other buckets with the same tag, are in one hash slot.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::budget::{Exhausted, Purpose};
use super::hash::{Hash, hash};
use super::memo::{HASHED_BYTE, Memo};
use super::value::Value;

/// Maximum length in bytes of a value, and of all values, that a key contains unhashed.
const MAX_DESCRIPTOR: usize = 128;
/// Work of percent-encoding one byte.
const ENCODED_BYTE: usize = 120;
/// Maximum length of a value that is encoded without charge: all entries of all limits have at most 8 KiB of them.
const UNPRICED: usize = 16;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Place of the hash tag in a bucket's key: the part in braces, by which a Redis Cluster chooses the hash slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashTag {
    /// No hash tag: Redis is no cluster.
    #[default]
    None,
    /// The limit's name and all values: `weir:{per_user:alice}`.
    Bucket,
    /// The value of the entry with this index, whatever the limit: `weir:per_user:{acme}:alice`.
    Entry(usize),
}

/// Writer of a key, value by value.
pub(super) struct KeyWriter {
    key: Vec<u8>,
    stem: usize,
    hash_tag: HashTag,
    /// Number of values so far.
    values: usize,
    /// The value in braces, if there is one yet.
    tag: Range<usize>,
}

impl KeyWriter {
    /// Creates a key that starts with `stem`, unencoded, as [`stem_of`] returns it for `hash_tag`.
    pub(super) fn new(stem: &[u8], hash_tag: HashTag) -> Self {
        let mut key = Vec::with_capacity(stem.len().saturating_add(MAX_DESCRIPTOR));
        key.extend_from_slice(stem);
        Self { key, stem: stem.len(), hash_tag, values: 0, tag: 0..0 }
    }

    /// Appends a value of a request. Hashes of long values are shared through the memo.
    pub(super) fn push_shared(&mut self, value: &Value<'_>, memo: &Memo) -> Result<(), Exhausted> {
        self.begin_value();
        if value.len() > MAX_DESCRIPTOR {
            push_hash(&mut self.key, &memo.hash(value)?);
        } else {
            if value.len() > UNPRICED {
                memo.charge(Purpose::Key, value.len().saturating_mul(ENCODED_BYTE))?;
            }
            self.push_short(value);
        }
        self.end_value();
        Ok(())
    }

    /// Appends a value.
    pub(super) fn push(&mut self, value: &[u8]) {
        self.begin_value();
        if value.len() > MAX_DESCRIPTOR {
            push_hash(&mut self.key, &hash(value));
        } else {
            self.push_short(value);
        }
        self.end_value();
    }

    fn push_short(&mut self, value: &[u8]) {
        let start = self.key.len();
        if value.is_empty() {
            self.key.push(b'%');
        }
        let mut rest = value;
        loop {
            let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
            let (spelled, other) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            self.key.extend_from_slice(spelled);
            let Some((byte, after)) = other.split_first() else { break };
            self.key.push(b'%');
            push_hex(&mut self.key, *byte);
            rest = after;
        }
        if self.key.len().saturating_sub(start) > MAX_DESCRIPTOR {
            self.key.truncate(start);
            push_hash(&mut self.key, &hash(value));
        }
    }

    fn begin_value(&mut self) {
        if self.key.len() > self.stem {
            self.key.push(b':');
        }
        if self.hash_tag == HashTag::Entry(self.values) {
            self.tag.start = self.key.len();
            self.key.push(b'{');
        }
    }

    fn end_value(&mut self) {
        if self.hash_tag == HashTag::Entry(self.values) {
            self.key.push(b'}');
            self.tag.end = self.key.len();
        }
        self.values = self.values.saturating_add(1);
    }

    /// Returns the key, and charges the work of hashing to the request.
    pub(super) fn finish_shared(self, memo: &Memo) -> Result<Vec<u8>, Exhausted> {
        let length = self.key.len().saturating_sub(self.stem);
        if length > MAX_DESCRIPTOR {
            memo.charge(Purpose::Key, length.saturating_mul(HASHED_BYTE))?;
        }
        Ok(self.finish())
    }

    /// Returns the key.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let descriptor = self.key.get(self.stem..).unwrap_or_default();
        if descriptor.len() > MAX_DESCRIPTOR {
            let hash = hash(descriptor);
            let tag = self.key.get(self.tag).unwrap_or_default().to_vec();
            self.key.truncate(self.stem);
            self.key.extend(tag);
            push_hash(&mut self.key, &hash);
        }
        if self.hash_tag == HashTag::Bucket {
            self.key.push(b'}');
        }
        self.key
    }
}

/// Returns the start of all keys of a limit, before its first value.
pub(super) fn stem_of(key_prefix: &str, limit: &str, hash_tag: HashTag) -> Vec<u8> {
    let opening = if hash_tag == HashTag::Bucket { "{" } else { "" };
    [key_prefix, opening, limit, ":"].concat().into_bytes()
}

/// Returns the key of the bucket with these values, without a request and a hash tag:
/// `{prefix}{limit}:{value}:{value}…`, as a [`Descriptor`](super::Descriptor) with as many entries writes it.
#[must_use]
pub fn bucket_key(key_prefix: &str, limit: &str, values: &[impl AsRef<[u8]>]) -> Vec<u8> {
    tagged_bucket_key(key_prefix, limit, HashTag::None, values)
}

/// Returns the key of the bucket with these values, without a request, and with a hash tag.
#[must_use]
pub fn tagged_bucket_key(key_prefix: &str, limit: &str, tag: HashTag, values: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut key = KeyWriter::new(&stem_of(key_prefix, limit, tag), tag);
    values.iter().for_each(|value| key.push(value.as_ref()));
    key.finish()
}

/// Returns the hash of a key, for logs that must not contain the key: the first 8 bytes of its BLAKE2b hash
/// (`b2sum -l 128`), as 16 hexadecimal digits in lower case.
#[must_use]
pub fn key_hash(key: &[u8]) -> String {
    let hash = hash(key);
    let (start, _) = hash.split_at(hash.len() / 2);
    String::from_utf8(lower_hex(start)).unwrap_or_default()
}

/// Returns bytes as hexadecimal digits in lower case.
pub(super) fn lower_hex(bytes: &[u8]) -> Vec<u8> {
    let mut digits = Vec::new();
    bytes.iter().for_each(|byte| push_hex(&mut digits, *byte));
    digits.make_ascii_lowercase();
    digits
}

/// Whether a byte of a value is unencoded in a key.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'@' | b'/' | b'+' | b'-')
}

fn push_hash(key: &mut Vec<u8>, hash: &Hash) {
    key.push(b'#');
    hash.iter().for_each(|byte| push_hex(key, *byte));
}

/// Appends a byte as two hexadecimal digits in capitals.
pub(crate) fn push_hex(key: &mut Vec<u8>, byte: u8) {
    for digit in [byte >> 4, byte & 0x0f] {
        key.extend(HEX.get(usize::from(digit)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(values: &[&[u8]]) -> Vec<u8> {
        bucket_key("weir:", "per_user", values)
    }

    fn text(values: &[&[u8]]) -> String {
        String::from_utf8(key(values)).unwrap()
    }

    #[test]
    fn ordinary_values_are_readable() {
        assert_eq!(text(&[b"alice@example.org", b"/a/b_c~d+e-f.g"]), "weir:per_user:alice@example.org:/a/b_c~d+e-f.g");
    }

    #[test]
    fn a_value_with_a_colon_differs_from_two_values() {
        assert_eq!(text(&[b"a:b"]), "weir:per_user:a%3Ab");
        assert_ne!(key(&[b"a:b"]), key(&[b"a", b"b"]));
        assert_ne!(key(&[b"a%3ab"]), key(&[b"a:b"]));
    }

    #[test]
    fn a_value_cannot_choose_a_slot_of_a_redis_cluster() {
        assert!(!text(&[b"{x}"]).contains(['{', '}']));
    }

    #[test]
    fn no_value_and_an_empty_value_have_different_keys() {
        let keys = [key(&[]), key(&[b""]), key(&[b"", b""]), key(&[b"%"]), key(&[b"a", b""]), key(&[b"a"])];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| one != other), "{one:?}");
        }
    }

    #[test]
    fn a_long_value_is_hashed_and_no_value_can_forge_the_hash() {
        let long = text(&[&[b'x'; 129]]);
        assert_eq!(text(&[&[b'x'; 128]]).len(), "weir:per_user:".len() + 128);
        assert_eq!(long, "weir:per_user:#B9EE96F69E8210C624FEE55D71D5A54F");
        let forged = long.strip_prefix("weir:per_user:").unwrap();
        assert_ne!(text(&[forged.as_bytes()]), long);
    }

    #[test]
    fn a_long_value_is_hashed_alone() {
        let (long, other) = (text(&[&[b'x'; 129]]), text(&[&[b' '; 43]]));
        assert_eq!(text(&[b"alice", &[b'x'; 129]]), long.replacen(":#", ":alice:#", 1));
        assert_eq!(other.len(), "weir:per_user:#".len() + 32);
        assert_ne!(other, text(&[&[b' '; 44]]));
        // Each value is short enough, but all values together are too long.
        let all = text(&[&[b'x'; 100], &[b'y'; 100]]);
        assert_eq!(all.len(), "weir:per_user:#".len() + 32);
        assert_ne!(all, text(&[&[b'x'; 100], &[b'z'; 100]]));
    }

    /// Keys of a request's values and of an operator's values are the same.
    #[test]
    fn a_request_and_an_operator_have_one_key() {
        let memo = Memo::default();
        let long = [b'x'; 30_000];
        for value in [&b"alice"[..], b"", &[b' '; 43], &[b'x'; 129], &long] {
            let mut writer = KeyWriter::new(b"weir:per_user:", HashTag::None);
            writer.push_shared(&Value::Lent(value), &memo).unwrap();
            writer.push_shared(&Value::Lent(value), &memo).unwrap();
            assert_eq!(writer.finish(), key(&[value, value]), "{} bytes", value.len());
        }
    }

    #[test]
    fn a_hash_tag_is_the_whole_bucket_or_one_value() {
        let key =
            |tag, values: &[&[u8]]| String::from_utf8(tagged_bucket_key("weir:", "per_user", tag, values)).unwrap();
        assert_eq!(key(HashTag::Bucket, &[b"acme", b"alice"]), "weir:{per_user:acme:alice}");
        assert_eq!(key(HashTag::Bucket, &[]), "weir:{per_user:}");
        assert_eq!(key(HashTag::Entry(0), &[b"acme", b"alice"]), "weir:per_user:{acme}:alice");
        assert_eq!(key(HashTag::Entry(1), &[b"alice", b"acme"]), "weir:per_user:alice:{acme}");
        assert_eq!(key(HashTag::Entry(0), &[b"", b"alice"]), "weir:per_user:{%}:alice");
        assert_eq!(key(HashTag::Entry(0), &[b"a}b{c", b"{alice}"]), "weir:per_user:{a%7Db%7Bc}:%7Balice%7D");
        let long = key(HashTag::Entry(0), &[b"acme", &[b'x'; 128]]);
        assert!(
            long.starts_with("weir:per_user:{acme}#") && long.len() == "weir:per_user:{acme}#".len() + 32,
            "{long}"
        );
        let longer = key(HashTag::Entry(0), &[&[b'x'; 129], b"alice"]);
        assert_eq!(longer, "weir:per_user:{#B9EE96F69E8210C624FEE55D71D5A54F}:alice");
    }

    /// A value may be longer than the longest that a key contains unhashed, and have the characters of keys.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), prop::sample::select(b"{}:%#3a".to_vec())]
    }

    fn hash_slot_by_crate(key: &[u8]) -> u16 {
        redis_protocol::redis_keyslot(key)
    }

    proptest! {
        /// Values of clients choose no hash slot but by the value that is the tag, and forge no bucket.
        #[test]
        fn buckets_with_one_tag_are_in_one_slot_and_different(
            tag in vec(any_byte(), 0..150),
            [one, other] in [vec(any_byte(), 0..150), vec(any_byte(), 0..150)],
        ) {
            let key = |limit, hash_tag, values: &[&[u8]]| tagged_bucket_key("weir:", limit, hash_tag, values);
            let keys = [
                key("per_user", HashTag::Entry(0), &[&tag, &one]),
                key("per_user", HashTag::Entry(0), &[&tag, &other]),
                key("other", HashTag::Entry(1), &[&one, &tag]),
                key("per_tenant", HashTag::Entry(0), &[&tag]),
                [&key("per_tenant", HashTag::Entry(0), &[&tag])[..], b"#override"].concat(),
            ];
            let slots = keys.each_ref().map(|key| crate::redis::hash_slot(key));
            prop_assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
            prop_assert!(keys.iter().all(|key| hash_slot_by_crate(key) == slots[0]));
            let braces = |key: &Vec<u8>| key.iter().filter(|byte| matches!(byte, b'{' | b'}')).count();
            prop_assert!(keys.iter().all(|key| braces(key) == 2));
            prop_assert_eq!(one == other, keys[0] == keys[1]);
            let whole = [&one, &other].map(|value| key("per_user", HashTag::Bucket, &[&tag, value]));
            prop_assert_eq!(one == other, whole[0] == whole[1]);
            prop_assert_eq!(crate::redis::hash_slot(&whole[0]), hash_slot_by_crate(&whole[0]));
            let overridden = [&whole[0][..], b"#override"].concat();
            prop_assert_eq!(crate::redis::hash_slot(&whole[0]), crate::redis::hash_slot(&overridden));
        }

        #[test]
        fn different_values_have_different_keys(
            one in vec(vec(prop_oneof![any::<u8>(), Just(b':'), Just(b'%'), Just(b'#'), Just(b'3')], 0..4), 0..4),
            other in vec(vec(prop_oneof![any::<u8>(), Just(b':'), Just(b'%'), Just(b'#'), Just(b'3')], 0..4), 0..4),
        ) {
            let keys = [&one, &other].map(|values| key(&values.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            prop_assert_eq!(one == other, keys[0] == keys[1]);
        }

        #[test]
        fn keys_are_bounded_and_plain(values in vec(vec(any::<u8>(), 0..400), 0..5)) {
            let key = key(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert!(key.len() <= "weir:per_user:".len().saturating_add(MAX_DESCRIPTOR));
            prop_assert!(key.iter().all(u8::is_ascii_graphic));
        }
    }
}

//! Forms of values in keys: values as they are, in lower case, or hashed.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::sync::Arc;

use super::budget::{Exhausted, Purpose};
use super::hash::{Hash, HashKey};
use super::key::lower_hex;
use super::memo::{HASHED_BYTE, HashKind, Memo};
use super::value::Value;

/// Work of lowering one byte.
const LOWERED_BYTE: usize = 8;
/// Minimum number of bytes that a hash reads: a block.
const BLOCK: usize = 128;

/// Form of an entry's value in keys. The value's default has this form, too. By default, the value is unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueForm {
    /// Whether ASCII letters are in lower case. All other bytes are unchanged.
    pub lowercase: bool,
    /// Key of the hash in place of the value, as 32 hexadecimal digits in lower case. `None`: the value is not hashed.
    pub hash_key: Option<Arc<HashKey>>,
}

impl ValueForm {
    /// Returns a value in this form.
    #[must_use]
    pub fn of<'a>(&self, value: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.hash_key {
            Some(key) => Cow::Owned(lower_hex(&self.hash(key, value))),
            None if self.lowercase => lower(value),
            None => Cow::Borrowed(value),
        }
    }

    /// Whether a value may differ from its form.
    #[inline(always)]
    pub(super) fn changes_values(&self) -> bool {
        self.lowercase || self.hash_key.is_some()
    }

    /// Returns a value of a request in this form. Hashes are shared through the memo.
    pub(super) fn of_request<'a>(&self, value: Value<'a>, memo: &Memo) -> Result<Value<'a>, Exhausted> {
        if !self.changes_values() {
            return Ok(value);
        }
        let len = value.len();
        memo.charge(Purpose::Key, len.saturating_mul(LOWERED_BYTE))?;
        let Some(key) = &self.hash_key else {
            return Ok(match lower(&value) {
                Cow::Owned(lowered) => Value::Kept(Rc::from(lowered)),
                Cow::Borrowed(_) => value,
            });
        };
        let kind = if self.lowercase { HashKind::KeyedInLowerCase } else { HashKind::Keyed };
        let work = len.saturating_add(BLOCK).saturating_mul(HASHED_BYTE);
        let hash = memo.hash_once(&value, kind, work, &|value| self.hash(key, value))?;
        Ok(Value::Kept(Rc::from(lower_hex(&hash))))
    }

    fn hash(&self, key: &HashKey, value: &[u8]) -> Hash {
        if self.lowercase { key.hash(&lower(value)) } else { key.hash(value) }
    }
}

#[inline(never)]
fn lower(value: &[u8]) -> Cow<'_, [u8]> {
    if value.iter().any(u8::is_ascii_uppercase) { value.to_ascii_lowercase().into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests are from Python's `hashlib.blake2b(…, digest_size=16, key=b"0123456789abcdef")`.
    const OF_CAPITALS: &str = "0dfd9b790e7325135becb1f099f7b88d";
    const OF_LOWER_CASE: &str = "9d9b0a601972f0846de54da929fd6e55";

    fn form(lowercase: bool, is_hashed: bool) -> ValueForm {
        let key = || Arc::new(HashKey::new(b"0123456789abcdef").unwrap());
        ValueForm { lowercase, hash_key: is_hashed.then(key) }
    }

    /// The value in this form, as for an operator and twice as for a request.
    fn of(form: &ValueForm, value: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (operators, memo) = (text(&form.of(value.as_bytes())), Memo::default());
        for _ in 0..2 {
            assert_eq!(text(&form.of_request(value.into(), &memo).unwrap()), operators);
        }
        operators
    }

    #[test]
    fn a_hash_has_a_key_and_32_digits() {
        assert_eq!(of(&form(false, true), "SK-Alice"), OF_CAPITALS);
        assert_eq!(of(&form(false, true), "sk-alice"), OF_LOWER_CASE);
        assert_eq!(of(&form(false, true), ""), "ae1b7d5885b9050a9e768c79b773414a");
    }

    #[test]
    fn letters_are_lowered_before_they_are_hashed() {
        assert_eq!(of(&form(true, true), "SK-Alice"), OF_LOWER_CASE);
    }

    #[test]
    fn letters_beyond_ascii_keep_their_case() {
        assert_eq!(of(&form(true, false), "ÄRGER Straße"), "Ärger straße");
        assert_eq!(of(&form(true, false), "alice"), "alice");
        assert_eq!(of(&form(false, false), "Alice"), "Alice");
    }

    /// Two forms of one value do not share a hash.
    #[test]
    fn each_form_has_its_own_hash() {
        let memo = Memo::default();
        let of = |form: ValueForm| form.of_request("SK-Alice".into(), &memo).unwrap().to_vec();
        assert_eq!([of(form(false, true)), of(form(true, true))], [OF_CAPITALS.as_bytes(), OF_LOWER_CASE.as_bytes()]);
    }

    #[test]
    fn hashing_takes_from_the_work_of_the_request() {
        let memo = Memo::default();
        let values = vec![vec![b'x'; 10_000]; 5];
        let results = values.iter().map(|value| form(false, true).of_request(Value::Lent(value), &memo).is_ok());
        assert_eq!(results.collect::<Vec<_>>(), [true, true, true, false, false]);
    }
}

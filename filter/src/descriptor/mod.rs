//! Descriptors: derive the key of a request's bucket, its cost and the limits that apply from the request's attributes.
//!
//! The module is pure: a proxy or a test provides the request as [`Attributes`]. Values are bytes: clients may send any
//! bytes, and values are not assumed to be UTF-8.

mod attributes;
mod bad_request;
mod body;
mod body_headers;
mod budget;
mod cidr;
mod client_address;
mod cookie;
mod entry;
mod hash;
mod hits_addend;
mod host;
mod json_pointer;
mod key;
mod memo;
mod on_unreadable;
mod path;
mod path_parts;
mod predicate;
mod property;
mod property_path;
mod query;
mod regex;
mod repeated;
mod request_number;
mod search;
mod source;
mod source_value;
mod string_match;
mod trusted_proxies;
mod value;
mod value_form;

pub use self::attributes::Attributes;
#[cfg(test)]
pub(crate) use self::attributes::Request;
pub use self::bad_request::BadRequest;
pub(crate) use self::body::JsonScanner;
pub use self::body::{BodySize, RequestBody};
use self::budget::Exhausted;
pub use self::cidr::Cidr;
pub use self::client_address::{client_address, untrusted_address};
pub use self::entry::{EmptyValue, Entry};
pub use self::hash::HashKey;
pub use self::hits_addend::{HitsAddend, OnInvalid, RequestHits};
pub(crate) use self::host::is_host;
pub use self::json_pointer::JsonPointer;
pub use self::memo::Memo;
pub use self::on_unreadable::OnUnreadable;
pub use self::path::{PathPattern, PathTemplate};
pub use self::predicate::Predicate;
pub use self::property_path::PropertyPath;
pub use self::regex::{Regex, RegexError};
pub use self::repeated::Repeated;
pub use self::request_number::RequestNumber;
pub(crate) use self::request_number::decimal;
pub use self::source::Source;
pub use self::string_match::StringMatch;
pub use self::trusted_proxies::TrustedProxies;
pub use self::value::Value;
pub use self::value_form::ValueForm;

use alloc::vec::Vec;

pub(crate) use self::key::push_hex;
pub use self::key::{HashTag, bucket_key, key_hash, tagged_bucket_key};
use self::key::{KeyWriter, stem_of};

/// Descriptor of a limit: selects the bucket of a request, one for each list of the entries' values.
///
/// The bucket's key is `{prefix}{limit}:{value}:{value}…`, unique among all lists of values and all limits. It is at
/// most 128 bytes longer than `{prefix}{limit}:`; with a [hash tag](HashTag), at most 163 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    stem: Vec<u8>,
    hash_tag: HashTag,
    entries: Vec<Entry>,
    /// Keys of exempt values.
    exempt: Vec<Vec<u8>>,
}

impl Descriptor {
    /// Creates the descriptor of the limit named `limit`, which contains no colon. Without entries, all requests share
    /// one bucket.
    #[must_use]
    pub fn new(key_prefix: &str, limit: &str, entries: Vec<Entry>) -> Self {
        Self::tagged(key_prefix, limit, entries, HashTag::None)
    }

    /// Creates the descriptor of a limit whose keys have a hash tag.
    #[must_use]
    pub fn tagged(key_prefix: &str, limit: &str, entries: Vec<Entry>, hash_tag: HashTag) -> Self {
        Self { stem: stem_of(key_prefix, limit, hash_tag), hash_tag, entries, exempt: Vec::new() }
    }

    /// Place of the hash tag in the keys.
    #[must_use]
    pub fn hash_tag(&self) -> HashTag {
        self.hash_tag
    }

    /// Exempts requests with exactly these values: one for each entry, in their order.
    #[must_use]
    pub fn exempting(mut self, values: &[&str]) -> Self {
        let mut key = KeyWriter::new(&self.stem, self.hash_tag);
        for (nth, value) in values.iter().enumerate() {
            let value = value.as_bytes();
            key.push(&self.entries.get(nth).map_or(value.into(), |entry| entry.form.of(value)));
        }
        self.exempt.push(key.finish());
        self
    }

    /// Entries, in the order of their values in the key.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the key of the request's bucket. `None` if an entry has neither a value nor a default, or if the values
    /// are exempt: then the limit does not apply. If the values are to be rejected, the rejection is recorded in the
    /// request's [memo](Attributes::memo).
    #[must_use]
    pub fn bucket_key(&self, request: &dyn Attributes) -> Option<Vec<u8>> {
        let key = self.written(request).unwrap_or_else(|Exhausted| {
            request.memo().reject(BadRequest::TooLarge);
            None
        });
        key.filter(|key| !self.exempt.contains(key))
    }

    fn written(&self, request: &dyn Attributes) -> Result<Option<Vec<u8>>, Exhausted> {
        let mut key = KeyWriter::new(&self.stem, self.hash_tag);
        for entry in &self.entries {
            let Some(value) = entry.value(request)? else { return Ok(None) };
            key.push_shared(&value, request.memo())?;
        }
        key.finish_shared(request.memo()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::attributes::Request;
    use super::*;

    fn per(entries: Vec<Entry>) -> Descriptor {
        Descriptor::new("weir:", "per_user", entries)
    }

    fn header(name: &str, default: Option<&str>) -> Entry {
        Entry { default: default.map(str::to_owned), ..Source::request_header(name).into() }
    }

    fn key(descriptor: &Descriptor, request: &Request) -> Option<String> {
        descriptor.bucket_key(request).map(|key| String::from_utf8(key).unwrap())
    }

    #[test]
    fn each_user_has_a_bucket() {
        let descriptor = per(vec![header("x-user-id", None)]);
        assert_eq!(key(&descriptor, &Request::default().header("x-user-id", "alice")).unwrap(), "weir:per_user:alice");
        assert_eq!(key(&descriptor, &Request::default().header("x-user-id", "bob")).unwrap(), "weir:per_user:bob");
    }

    #[test]
    fn a_request_without_the_header_is_not_limited_unless_there_is_a_default() {
        let request = Request::default();
        assert_eq!(key(&per(vec![header("x-user-id", None)]), &request), None);
        assert_eq!(key(&per(vec![header("x-user-id", Some("nobody"))]), &request).unwrap(), "weir:per_user:nobody");
    }

    #[test]
    fn an_empty_header_is_a_value() {
        let request = Request::default().header("x-user-id", "");
        assert_eq!(key(&per(vec![header("x-user-id", Some("nobody"))]), &request).unwrap(), "weir:per_user:%");
    }

    #[test]
    fn an_empty_header_may_count_as_missing() {
        let entry = |default| Entry { empty: EmptyValue::Missing, ..header("x-user-id", default) };
        let (empty, space) = (Request::default().header("x-user-id", ""), Request::default().header("x-user-id", " "));
        assert_eq!(key(&per(vec![entry(Some("nobody"))]), &empty).unwrap(), "weir:per_user:nobody");
        assert_eq!(key(&per(vec![entry(None)]), &empty), None);
        assert_eq!(key(&per(vec![entry(None)]), &space).unwrap(), "weir:per_user:%20");
    }

    /// An operator's values are hashed like those of requests.
    #[test]
    fn no_key_has_the_text_of_a_hashed_value() {
        let hash_key = HashKey::new(b"0123456789abcdef").map(Arc::new);
        let form = ValueForm { lowercase: true, hash_key };
        let hashed = Entry { form: form.clone(), ..header("x-api-key", Some("none")) };
        let descriptor = per(vec![hashed, header("x-user-id", None)]);
        let request = |key: &str| Request::default().header("x-api-key", key).header("x-user-id", "Alice");
        let own = "weir:per_user:9d9b0a601972f0846de54da929fd6e55:Alice";
        assert_eq!(key(&descriptor, &request("SK-Alice")).unwrap(), own);
        let operators = bucket_key("weir:", "per_user", &[form.of(b"sk-alice"), b"Alice".into()]);
        assert_eq!(String::from_utf8(operators).unwrap(), own);
        let unknown = key(&descriptor, &Request::default().header("x-user-id", "Alice")).unwrap();
        assert!(unknown.len() == own.len() && unknown != own, "{unknown}");
        let exempting = descriptor.exempting(&["SK-Alice", "Alice"]);
        assert_eq!(key(&exempting, &request("sk-alice")), None);
        assert!(key(&exempting, &request("sk-bob")).is_some());
    }

    #[test]
    fn without_entries_all_requests_share_one_bucket() {
        assert_eq!(key(&per(vec![]), &Request::default()).unwrap(), "weir:per_user:");
    }

    #[test]
    fn entries_values_follow_each_other() {
        let descriptor = per(vec![
            Source::GenericKey { descriptor_value: "api v2".to_owned() }.into(),
            Source::Method.into(),
            Source::Path(PathPattern::Any).into(),
            Source::RemoteAddress(TrustedProxies::Hops(0)).into(),
        ]);
        let request =
            Request::default().header(":method", "GET").header(":path", "/items/7?page=2").source("[2001:db8::1]:4711");
        assert_eq!(key(&descriptor, &request).unwrap(), "weir:per_user:api%20v2:GET:/items/7:2001%3Adb8%3A%3A1");
    }

    #[test]
    fn an_address_behind_proxies_is_the_forwarded_one() {
        let descriptor = per(vec![Source::RemoteAddress(TrustedProxies::Hops(1)).into()]);
        let request = Request::default().header("x-forwarded-for", "6.6.6.6, 203.0.113.9").source("10.0.0.1:80");
        assert_eq!(key(&descriptor, &request).unwrap(), "weir:per_user:203.0.113.9");
    }

    #[test]
    fn exempt_values_are_matched_all_and_in_order() {
        let header = |name: &str| header(name, Some("none"));
        let descriptor = per(vec![header("x-user-id"), header("x-plan")]).exempting(&["root", "gold"]);
        let request = |user: &str, plan: &str| {
            key(&descriptor, &Request::default().header("x-user-id", user).header("x-plan", plan))
        };
        assert_eq!(request("root", "gold"), None);
        for (user, plan) in [("gold", "root"), ("root", "free"), ("root:gold", ""), ("Root", "gold")] {
            assert!(request(user, plan).is_some(), "{user}, {plan}");
        }
    }
}

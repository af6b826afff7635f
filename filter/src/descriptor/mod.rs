//! From a request's attributes to the key of the bucket that it spends from.
//!
//! Everything here is pure: a proxy, or a test, lends the request as [`Attributes`]. Values are bytes: a client
//! may send any, and none is taken for UTF-8.

mod attributes;
mod client_address;
mod entry;
mod hits_addend;
mod key;
mod predicate;

pub use self::attributes::Attributes;
#[cfg(test)]
pub(crate) use self::attributes::Request;
pub use self::client_address::client_address;
pub use self::entry::Entry;
pub use self::hits_addend::HitsAddend;
pub use self::predicate::{Predicate, StringMatch};

use self::key::KeyWriter;
pub use self::key::bucket_key;

/// Which bucket of a limit a request spends from: one for each list of its entries' values.
///
/// The bucket's key is `{prefix}{limit}:{value}:{value}…`, and no list of values has another list's key, nor
/// another limit's. It is at most 128 bytes longer than `{prefix}{limit}:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    stem: Vec<u8>,
    entries: Vec<Entry>,
}

impl Descriptor {
    /// The descriptor of the limit named `limit`, which has no colon in it. Without entries, all requests share
    /// one bucket.
    #[must_use]
    pub fn new(key_prefix: &str, limit: &str, entries: Vec<Entry>) -> Self {
        Self { stem: [key_prefix, limit, ":"].concat().into_bytes(), entries }
    }

    /// The entries, in the order of their values in the key.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The key of `request`'s bucket. `None` where an entry has neither a value nor a default: then the limit
    /// does not apply.
    #[must_use]
    pub fn bucket_key(&self, request: &dyn Attributes) -> Option<Vec<u8>> {
        let mut key = KeyWriter::new(&self.stem);
        for entry in &self.entries {
            key.push(&entry.value(request)?);
        }
        Some(key.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::attributes::Request;
    use super::*;

    fn per(entries: Vec<Entry>) -> Descriptor {
        Descriptor::new("weir:", "per_user", entries)
    }

    fn header(name: &str, default: Option<&str>) -> Entry {
        Entry::RequestHeader { name: name.to_owned(), default: default.map(str::to_owned) }
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
    fn an_empty_header_is_a_value_like_any_other() {
        let request = Request::default().header("x-user-id", "");
        assert_eq!(key(&per(vec![header("x-user-id", Some("nobody"))]), &request).unwrap(), "weir:per_user:%");
    }

    #[test]
    fn without_entries_all_share_one_bucket() {
        assert_eq!(key(&per(vec![]), &Request::default()).unwrap(), "weir:per_user:");
    }

    #[test]
    fn entries_values_follow_each_other() {
        let descriptor = per(vec![
            Entry::GenericKey { descriptor_value: "api v2".to_owned() },
            Entry::Method,
            Entry::Path,
            Entry::RemoteAddress { trusted_hops: 0 },
        ]);
        let request =
            Request::default().header(":method", "GET").header(":path", "/items/7?page=2").source("[2001:db8::1]:4711");
        assert_eq!(key(&descriptor, &request).unwrap(), "weir:per_user:api%20v2:GET:/items/7:2001%3Adb8%3A%3A1");
    }

    #[test]
    fn an_address_behind_proxies_is_the_forwarded_one() {
        let descriptor = per(vec![Entry::RemoteAddress { trusted_hops: 1 }]);
        let request = Request::default().header("x-forwarded-for", "6.6.6.6, 203.0.113.9").source("10.0.0.1:80");
        assert_eq!(key(&descriptor, &request).unwrap(), "weir:per_user:203.0.113.9");
    }
}

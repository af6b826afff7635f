//! Header map as filters see it: ordered, with lower-case names, pseudo-headers, and values of any bytes.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::log_lines::{Throttle, printable_name};

/// Headers, trailers or gRPC metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    entries: Vec<(Bytes, Bytes)>,
}

impl Headers {
    /// Returns an empty map.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Returns the first value of a name; names are compared case-insensitively.
    #[must_use]
    pub(crate) fn first(&self, name: &[u8]) -> Option<&Bytes> {
        self.entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all values of a name, joined with commas; `None` if there is none.
    #[must_use]
    pub(crate) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self
            .entries
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
            .collect();
        if values.is_empty() { None } else { Some(values.join(&b","[..])) }
    }

    /// Returns the first value of a name if it is UTF-8.
    #[must_use]
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.first(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Adds a value; other values of the name stay. Pseudo-headers stand before all others.
    pub(crate) fn add(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let entry = (lower_case(name.into()), value.into());
        let is_pseudo = |name: &Bytes| name.first() == Some(&b':');
        if is_pseudo(&entry.0) && self.entries.last().is_some_and(|(last, _)| !is_pseudo(last)) {
            let end = self.entries.iter().position(|(name, _)| !is_pseudo(name)).unwrap_or_default();
            self.entries.insert(end, entry);
        } else {
            self.entries.push(entry);
        }
    }

    /// Replaces all values of a name with one, which is then the last header, as in Envoy.
    pub(crate) fn set(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.add(name, value);
    }

    /// Replaces all values of a name with one, in the place of the first; adds it last if there is none.
    pub(crate) fn replace(&mut self, name: &'static str, value: impl Into<Bytes>) {
        let mut value = Some(value.into());
        self.entries.retain_mut(|(key, kept)| {
            if key.as_ref() != name.as_bytes() {
                return true;
            }
            value.take().map(|value| *kept = value).is_some()
        });
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Joins the values of each of these names with commas.
    pub(crate) fn join(&mut self, names: &'static [&'static str]) {
        for name in names {
            let is_it = |(key, _): &&(Bytes, Bytes)| key.as_ref() == name.as_bytes();
            if self.entries.iter().filter(is_it).nth(1).is_some()
                && let Some(joined) = self.joined(name.as_bytes())
            {
                self.replace(name, joined);
            }
        }
    }

    /// Removes every value of a name.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        self.entries.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Returns every entry, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Bytes)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Number of entries.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the map has no entries.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Total size of all names and values in bytes.
    #[must_use]
    pub(crate) fn byte_size(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Whether the content type is gRPC: `application/grpc`, alone or with a `+` suffix.
    #[must_use]
    pub(crate) fn is_grpc(&self) -> bool {
        let rest = self.first(b"content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'+'))
    }

    /// Appends the entries of a hyper header map.
    pub(crate) fn extend_from(&mut self, map: &HeaderMap) {
        for (name, value) in map {
            self.entries
                .push((Bytes::copy_from_slice(name.as_str().as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
        }
    }

    /// Converts to a hyper header map, without pseudo-headers and without headers that are invalid in HTTP.
    pub(crate) fn to_http(&self) -> HeaderMap {
        static WARNINGS: Throttle = Throttle::new();
        let mut map = HeaderMap::with_capacity(self.entries.len());
        for (name, value) in self.entries.iter().filter(|(name, _)| name.first() != Some(&b':')) {
            match (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value.clone())) {
                (Ok(name), Ok(value)) => {
                    map.append(name, value);
                }
                _ => {
                    let name = printable_name(name);
                    WARNINGS.warn("http", format_args!("dropped a header that cannot be sent: `{name}`"));
                }
            }
        }
        map
    }
}

impl<N: Into<Bytes>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }
}

fn lower_case(name: Bytes) -> Bytes {
    if name.iter().any(u8::is_ascii_uppercase) { Bytes::from(name.to_ascii_lowercase()) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_set_has_one_value_and_stands_last_but_pseudo_headers_stand_first() {
        let mut headers: Headers = [(":path", "/"), ("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        headers.set("A", "9");
        headers.set(":path", "/other");
        headers.add(":method", "GET");
        let expected = [(":path", "/other"), (":method", "GET"), ("b", "2"), ("a", "9")];
        assert_eq!(headers, expected.into_iter().collect());
        headers.set("c", "4");
        assert_eq!(headers.text("C"), Some("4"));
    }

    #[test]
    fn values_are_joined_in_the_place_of_the_first() {
        let pairs = [("via", "a"), ("x", "1"), ("via", "b"), ("x", "2"), ("age", "3")];
        let mut headers: Headers = pairs.into_iter().collect();
        headers.join(&["age", "via", "vary"]);
        assert_eq!(headers, [("via", "a,b"), ("x", "1"), ("x", "2"), ("age", "3")].into_iter().collect());
        headers.replace("age", "4");
        headers.replace("vary", "x");
        assert_eq!((headers.text("age"), headers.text("vary")), (Some("4"), Some("x")));
    }

    #[test]
    fn names_are_compared_in_any_case() {
        let mut headers: Headers = [("X-User", "alice")].into_iter().collect();
        assert_eq!(headers.text("x-uSER"), Some("alice"));
        headers.remove(b"X-USER");
        assert!(headers.is_empty());
    }
}

//! Values of a request, as Weir's descriptors and predicates name them.

use super::condition::{Condition, Test};

/// Source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// All values of a header, with commas between them.
    Header(String),
    /// The first value of a header.
    FirstHeader(String),
    Query(String),
    /// Path without the query string.
    Path,
    Method,
    /// Host in one spelling, without a port.
    Host,
    Scheme,
    RemoteAddress,
    MaskedRemoteAddress {
        v4: u64,
        v6: u64,
    },
    RouteName,
    ClusterName,
    Metadata {
        key: String,
        path: Vec<String>,
    },
}

/// Entry of a descriptor: a source, and the value of requests without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) source: Source,
    pub(super) default: Option<String>,
}

impl Source {
    /// A header, of which Envoy's actions read the first value.
    pub(super) fn first_header(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            name => Self::FirstHeader(name.to_owned()),
        }
    }

    /// A header, whose values Envoy's matchers join.
    pub(super) fn header(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            name => Self::Header(name.to_owned()),
        }
    }

    /// Name for messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Header(name) | Self::FirstHeader(name) => format!("the header {name}"),
            Self::Query(name) => format!("the query parameter {name}"),
            Self::Path => "the path".to_owned(),
            Self::Method => "the method".to_owned(),
            Self::Host => "the host".to_owned(),
            Self::Scheme => "the scheme".to_owned(),
            Self::RemoteAddress => "remote_address".to_owned(),
            Self::MaskedRemoteAddress { .. } => "masked_remote_address".to_owned(),
            Self::RouteName => "the route's name".to_owned(),
            Self::ClusterName => "destination_cluster".to_owned(),
            Self::Metadata { key, .. } => format!("metadata of {key}"),
        }
    }

    /// The condition that a request has a value.
    pub(super) fn is_present(&self) -> Condition {
        match self {
            // Every request has its pseudo-headers.
            Self::Header(name) | Self::FirstHeader(name) if name.starts_with(':') => Condition::Always,
            Self::Header(_) | Self::FirstHeader(_) | Self::Query(_) | Self::Metadata { .. } => {
                Condition::Value(self.clone(), Test::Present)
            }
            _ => Condition::Always,
        }
    }

    /// The condition that the value equals a text. `None` if no predicate compares this source.
    pub(super) fn equals(&self, text: &str) -> Option<Condition> {
        match self {
            Self::RemoteAddress => {
                let bits = if text.contains(':') { 128 } else { 32 };
                let is_address = text.parse::<std::net::IpAddr>().is_ok();
                Some(if is_address { self.within(&format!("{text}/{bits}")) } else { Condition::Never })
            }
            Self::MaskedRemoteAddress { v4, v6 } => {
                let (address, bits) = text.split_once('/')?;
                let address: std::net::IpAddr = address.parse().ok()?;
                let masked = if address.is_ipv4() { v4 } else { v6 };
                let is_masked = bits.parse() == Ok(*masked);
                Some(if is_masked { Self::RemoteAddress.within(text) } else { Condition::Never })
            }
            _ => self.passes(Test::Exact(text.to_owned())),
        }
    }

    /// The condition that the value passes a test. `None` if no predicate does this.
    pub(super) fn passes(&self, test: Test) -> Option<Condition> {
        let is_comparable = match self {
            Self::Header(_) | Self::FirstHeader(_) | Self::Query(_) | Self::Path | Self::Method | Self::Host => true,
            Self::Metadata { .. } => true,
            Self::RemoteAddress => matches!(test, Test::Within(_)),
            Self::Scheme | Self::MaskedRemoteAddress { .. } | Self::RouteName | Self::ClusterName => false,
        };
        is_comparable.then(|| Condition::Value(self.clone(), test))
    }

    /// The condition that the address is in a range.
    pub(super) fn within(&self, range: &str) -> Condition {
        Condition::Value(self.clone(), Test::Within(vec![range.to_owned()]))
    }
}

impl Entry {
    pub(super) fn of(source: Source) -> Self {
        Self { source, default: None }
    }

    /// The condition that a request has a value for the entry.
    pub(super) fn is_present(&self) -> Condition {
        if self.default.is_some() { Condition::Always } else { self.source.is_present() }
    }

    /// The condition that the entry's value equals a text.
    pub(super) fn equals(&self, text: &str) -> Option<Condition> {
        let equal = self.source.equals(text)?;
        Some(if self.default.as_deref() == Some(text) { self.or_absent(equal) } else { equal })
    }

    /// The condition that the entry's value matches a pattern in which `*` stands for any text.
    pub(super) fn matches(&self, pattern: &str) -> Option<Condition> {
        let matched = match pattern.split('*').collect::<Vec<_>>().as_slice() {
            ["", ""] => self.source.is_present(),
            [prefix, ""] => self.source.passes(Test::Prefix((*prefix).to_owned()))?,
            ["", suffix] => self.source.passes(Test::Suffix((*suffix).to_owned()))?,
            parts => {
                let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
                self.source.passes(Test::Regex(parts.join(".*")))?
            }
        };
        let has_default = self.default.as_deref().is_some_and(|default| fits(pattern, default));
        Some(if has_default { self.or_absent(matched) } else { matched })
    }

    fn or_absent(&self, condition: Condition) -> Condition {
        Condition::any([condition, Condition::not(self.source.is_present())])
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, suffix) = rest.rsplit_once('*').map_or((None, rest), |(middle, suffix)| (Some(middle), suffix));
    let inner = text.strip_prefix(prefix).and_then(|text| text.strip_suffix(suffix));
    let Some(mut inner) = inner else { return false };
    for part in middle.iter().flat_map(|middle| middle.split('*')) {
        let Some(at) = inner.find(part) else { return false };
        inner = inner.get(at.saturating_add(part.len())..).unwrap_or_default();
    }
    true
}

/// A text as a regular expression that matches it alone.
pub(super) fn escaped(text: &str) -> String {
    let special = |character: char| r"\.+*?()|[]{}^$/".contains(character) && character != '/';
    text.chars().flat_map(|it| special(it).then_some('\\').into_iter().chain([it])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_ratelimit() {
        for (pattern, yes, no) in [
            ("foo*", "foobar", "fo"),
            ("*bar", "foobar", "bars"),
            ("a*b*c", "axbyc", "acb"),
            ("a*a", "aa", "a"),
            ("*", "", "-"),
            ("x", "x", "y"),
        ] {
            assert!(fits(pattern, yes), "{pattern} {yes}");
            assert!(pattern == "*" || !fits(pattern, no), "{pattern} {no}");
        }
        assert_eq!(escaped("a.b/c"), r"a\.b/c");
    }

    #[test]
    fn an_address_is_compared_as_a_range() {
        let equal = Source::RemoteAddress.equals("10.0.0.1").unwrap();
        assert_eq!(equal, Condition::Value(Source::RemoteAddress, Test::Within(vec!["10.0.0.1/32".to_owned()])));
        let masked = Source::MaskedRemoteAddress { v4: 8, v6: 128 };
        assert_eq!(masked.equals("10.0.0.0/8").unwrap(), Source::RemoteAddress.within("10.0.0.0/8"));
        assert_eq!(masked.equals("10.0.0.0/16"), Some(Condition::Never), "no address has this value");
    }
}

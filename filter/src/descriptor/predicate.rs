//! Which requests a limit concerns.

use super::attributes::Attributes;
use super::entry;

/// A statement about a request. Values are compared byte by byte, case included; header names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// The path, without its query string, matches.
    Path(StringMatch),
    /// The method is one of these.
    Method(Vec<String>),
    /// The header is there and matches; of a repeated one, all its values joined by commas.
    Header {
        /// The header.
        name: String,
        /// What it must be.
        value: StringMatch,
    },
    /// The header is there, whatever its value.
    HeaderPresent {
        /// The header.
        name: String,
    },
    /// The other does not hold: an absent header does not match, so its `Not` holds.
    Not(Box<Predicate>),
}

impl Predicate {
    /// Whether this is true of `request`.
    #[must_use]
    pub fn holds(&self, request: &dyn Attributes) -> bool {
        match self {
            Self::Path(value) => entry::path(request).is_some_and(|path| value.matches(&path)),
            Self::Method(methods) => request
                .header(":method")
                .is_some_and(|method| methods.iter().any(|known| known.as_bytes() == method.as_slice())),
            Self::Header { name, value } => request.header(name).is_some_and(|header| value.matches(&header)),
            Self::HeaderPresent { name } => request.header(name).is_some(),
            Self::Not(other) => !other.holds(request),
        }
    }
}

/// A statement about a string, as Envoy's `StringMatcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// It is this.
    Exact(String),
    /// It starts with this.
    Prefix(String),
    /// It ends with this.
    Suffix(String),
}

impl StringMatch {
    /// Whether this is true of `text`.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::*;

    fn get(path: &str) -> Request {
        Request::default().header(":method", "GET").header(":path", path)
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.to_owned())
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.to_owned())
    }

    #[test]
    fn a_path_is_matched_without_its_query_string() {
        let users = Predicate::Path(exact("/users"));
        assert!(users.holds(&get("/users?page=2")));
        assert!(users.holds(&get("/users#top")));
        assert!(!users.holds(&get("/users/7")));
        let images = Predicate::Path(StringMatch::Suffix(".png".to_owned()));
        assert!(images.holds(&get("/logo.png?v=3")));
        assert!(!images.holds(&get("/logo?file=.png")));
        assert!(Predicate::Path(prefix("/users/")).holds(&get("/users/7")));
    }

    #[test]
    fn a_method_is_one_of_several() {
        let reading = Predicate::Method(vec!["GET".to_owned(), "HEAD".to_owned()]);
        assert!(reading.holds(&get("/")));
        assert!(!reading.holds(&Request::default().header(":method", "POST")));
        assert!(!reading.holds(&Request::default().header(":method", "get")));
    }

    #[test]
    fn a_header_may_hold_any_bytes() {
        let binary = Request::default().header("x-key", b"\xff\x00tail");
        let ends = Predicate::Header { name: "x-key".to_owned(), value: StringMatch::Suffix("tail".to_owned()) };
        assert!(ends.holds(&binary));
        assert!(Predicate::HeaderPresent { name: "x-key".to_owned() }.holds(&binary));
    }

    #[test]
    fn what_is_absent_matches_nothing_and_its_opposite_holds() {
        let gold = Predicate::Header { name: "x-plan".to_owned(), value: exact("gold") };
        assert!(!gold.holds(&get("/")));
        assert!(!Predicate::HeaderPresent { name: "x-plan".to_owned() }.holds(&get("/")));
        assert!(Predicate::Not(Box::new(gold)).holds(&get("/")));
        assert!(!Predicate::Path(prefix("")).holds(&Request::default()));
    }
}

//! Which requests a limit concerns.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::cidr::Cidr;
use super::client_address::TrustedProxies;
use super::source::Source;
use super::string_match::StringMatch;

/// A statement about a request. Values are compared byte by byte, case included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// The source has a value that matches.
    Matches {
        /// Where the value comes from.
        source: Source,
        /// What it must be.
        value: StringMatch,
    },
    /// The source has a value, whichever.
    Present(Source),
    /// The method is one of these.
    Method(Vec<String>),
    /// The client's address is known, and in one of these ranges.
    RemoteAddress {
        /// Who is believed about it.
        trusted: TrustedProxies,
        /// The ranges.
        cidrs: Vec<Cidr>,
    },
    /// Each of these holds.
    All(Vec<Predicate>),
    /// At least one of these holds.
    Any(Vec<Predicate>),
    /// The other does not hold: an absent header does not match, so its `Not` holds.
    Not(Box<Predicate>),
}

impl Predicate {
    /// Whether this is true of `request`.
    #[must_use]
    pub fn holds(&self, request: &dyn Attributes) -> bool {
        match self {
            Self::Matches { source, value } => source.value(request).is_some_and(|text| value.matches(&text)),
            Self::Present(source) => source.value(request).is_some(),
            Self::Method(methods) => request
                .header(":method")
                .is_some_and(|method| methods.iter().any(|known| known.as_bytes() == method.as_slice())),
            Self::RemoteAddress { trusted, cidrs } => {
                trusted.client(request).is_some_and(|client| cidrs.iter().any(|cidr| cidr.contains(client)))
            }
            Self::All(all) => all.iter().all(|predicate| predicate.holds(request)),
            Self::Any(any) => any.iter().any(|predicate| predicate.holds(request)),
            Self::Not(other) => !other.holds(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::super::path::PathPattern;
    use super::*;

    fn get(path: &str) -> Request {
        Request::default().header(":method", "GET").header(":path", path)
    }

    fn path(value: StringMatch) -> Predicate {
        Predicate::Matches { source: Source::Path(PathPattern::Any), value }
    }

    fn header(name: &str) -> Source {
        Source::RequestHeader { name: name.to_owned() }
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.to_owned())
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.to_owned())
    }

    #[test]
    fn a_path_is_matched_without_its_query_string() {
        let users = path(exact("/users"));
        assert!(users.holds(&get("/users?page=2")));
        assert!(users.holds(&get("/users#top")));
        assert!(!users.holds(&get("/users/7")));
        let images = path(StringMatch::Suffix(".png".to_owned()));
        assert!(images.holds(&get("/logo.png?v=3")));
        assert!(!images.holds(&get("/logo?file=.png")));
        assert!(path(prefix("/users/")).holds(&get("/users/7")));
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
        let ends = Predicate::Matches { source: header("x-key"), value: StringMatch::Suffix("tail".to_owned()) };
        assert!(ends.holds(&binary));
        assert!(Predicate::Present(header("x-key")).holds(&binary));
    }

    #[test]
    fn what_is_absent_matches_nothing_and_its_opposite_holds() {
        let gold = Predicate::Matches { source: header("x-plan"), value: exact("gold") };
        assert!(!gold.holds(&get("/")));
        assert!(!Predicate::Present(header("x-plan")).holds(&get("/")));
        assert!(Predicate::Not(Box::new(gold)).holds(&get("/")));
        assert!(!path(prefix("")).holds(&Request::default()));
    }

    #[test]
    fn a_client_is_known_by_its_range() {
        let cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap(), Cidr::parse("2001:db8::/32").unwrap()];
        let office = Predicate::RemoteAddress { trusted: TrustedProxies::Hops(0), cidrs };
        assert!(office.holds(&Request::default().source("10.1.2.3:80")));
        assert!(office.holds(&Request::default().source("[2001:db8::7]:80")));
        assert!(!office.holds(&Request::default().source("203.0.113.9:80")));
        assert!(!office.holds(&Request::default().source("/run/envoy.sock")));
        let pretender = Request::default().header("x-forwarded-for", "10.1.2.3").source("203.0.113.9:80");
        assert!(!office.holds(&pretender));
    }

    #[test]
    fn statements_are_combined() {
        let (api, gold) = (path(prefix("/api")), Predicate::Present(header("x-gold")));
        let both = Predicate::All(vec![api.clone(), gold.clone()]);
        let either = Predicate::Any(vec![api, gold]);
        let golden = |path: &str| get(path).header("x-gold", "1");
        assert!(both.holds(&golden("/api")) && !both.holds(&get("/api")) && !both.holds(&golden("/")));
        assert!(either.holds(&golden("/")) && either.holds(&get("/api")) && !either.holds(&get("/")));
    }
}

//! Predicates: select the requests that a limit applies to.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::budget::Purpose;
use super::cidr::Cidr;
use super::source::Source;
use super::string_match::StringMatch;
use super::trusted_proxies::TrustedProxies;
use crate::pairs;

/// Predicate on a request. Values are compared byte by byte, case-sensitively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// The source has a value that matches.
    Matches {
        /// Source of the value.
        source: Source,
        /// Match on the value.
        value: StringMatch,
    },
    /// The source has any value.
    Present(Source),
    /// The method is one of these.
    Method(Vec<String>),
    /// The client's address is known, and in one of these ranges.
    RemoteAddress {
        /// Proxies that are trusted to forward the address.
        trusted: TrustedProxies,
        /// Ranges of addresses.
        cidrs: Vec<Cidr>,
    },
    /// All of these hold.
    All(Vec<Predicate>),
    /// At least one of these holds.
    Any(Vec<Predicate>),
    /// The inner predicate does not hold. An absent header does not match, so `Not` of its match holds.
    Not(Box<Predicate>),
}

/// Work of any predicate.
const WORK: usize = 100;
/// Work of comparing the name of a header.
const HEADER: usize = 12;
/// Work of comparing an address with a range.
const RANGE: usize = 24;

impl Predicate {
    /// Whether the predicate certainly holds for `request`.
    #[must_use]
    pub fn holds(&self, request: &dyn Attributes) -> bool {
        self.decide(request) == Some(true)
    }

    /// Whether the predicate may hold for `request`: it holds, or the work left does not suffice to decide it.
    #[must_use]
    pub fn may_hold(&self, request: &dyn Attributes) -> bool {
        self.decide(request) != Some(false)
    }

    /// Decides whether the predicate holds for `request`. `None` if the work left does not suffice.
    fn decide(&self, request: &dyn Attributes) -> Option<bool> {
        let charge = |work| request.memo().charge(Purpose::Predicate, work).ok();
        let headers = || pairs::count(request.headers()).saturating_mul(HEADER);
        match self {
            Self::Matches { source, value } => {
                charge(headers().saturating_add(WORK))?;
                let Some(text) = source.read(request, Purpose::Predicate).ok()? else { return Some(false) };
                let before = request.memo().left(Purpose::Predicate);
                let mut left = before;
                let matches = value.matches(&text, &mut left);
                charge(if matches.is_some() { before.saturating_sub(left) } else { before })?;
                matches
            }
            Self::Present(source) => {
                charge(headers().saturating_add(WORK))?;
                source.read(request, Purpose::Predicate).ok().map(|value| value.is_some())
            }
            Self::Method(methods) => {
                charge(headers().saturating_add(WORK))?;
                let method = request.header(":method");
                Some(method.is_some_and(|method| methods.iter().any(|known| known.as_bytes() == &*method)))
            }
            Self::RemoteAddress { trusted, cidrs } => {
                charge(cidrs.len().saturating_mul(RANGE).saturating_add(WORK))?;
                let client = trusted.read(request, Purpose::Predicate).ok()?;
                Some(client.is_some_and(|client| cidrs.iter().any(|cidr| cidr.contains(client))))
            }
            Self::All(all) => combined(all, false, request),
            Self::Any(any) => combined(any, true, request),
            Self::Not(other) => other.decide(request).map(|holds| !holds),
        }
    }
}

/// Returns `answer` if any predicate has that answer, the opposite if all have the opposite, and `None` if undecided.
fn combined(predicates: &[Predicate], answer: bool, request: &dyn Attributes) -> Option<bool> {
    let mut all = Some(!answer);
    for predicate in predicates {
        match predicate.decide(request) {
            Some(one) if one == answer => return Some(answer),
            Some(_) => {}
            None => all = None,
        }
        if request.memo().left(Purpose::Predicate) == 0 {
            return None;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::super::path::PathPattern;
    use super::super::regex::Regex;
    use super::*;

    fn get(path: &str) -> Request {
        Request::default().header(":method", "GET").header(":path", path)
    }

    fn path(value: StringMatch) -> Predicate {
        Predicate::Matches { source: Source::Path(PathPattern::Any), value }
    }

    fn header(name: &str) -> Source {
        Source::request_header(name)
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
    fn an_absent_value_matches_nothing_and_its_negation_holds() {
        let gold = Predicate::Matches { source: header("x-plan"), value: exact("gold") };
        assert!(!gold.holds(&get("/")));
        assert!(!Predicate::Present(header("x-plan")).holds(&get("/")));
        assert!(Predicate::Not(Box::new(gold)).holds(&get("/")));
        assert!(!path(prefix("")).holds(&Request::default()));
    }

    #[test]
    fn a_client_is_matched_by_its_address_range() {
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
    fn predicates_are_combined() {
        let (api, gold) = (path(prefix("/api")), Predicate::Present(header("x-gold")));
        let both = Predicate::All(vec![api.clone(), gold.clone()]);
        let either = Predicate::Any(vec![api, gold]);
        let golden = |path: &str| get(path).header("x-gold", "1");
        assert!(both.holds(&golden("/api")) && !both.holds(&get("/api")) && !both.holds(&golden("/")));
        assert!(either.holds(&golden("/")) && either.holds(&get("/api")) && !either.holds(&get("/")));
    }

    /// Predicates that exceed the work of a request are undecided, also as part of others.
    #[test]
    fn a_predicate_that_takes_too_much_work_is_undecided() {
        let slow = |name: &str| {
            let regex = Regex::new("(a|b)*a(a|b){20}").unwrap();
            Predicate::Matches { source: Source::request_header(name), value: StringMatch::Regex(Box::new(regex)) }
        };
        let request = || get("/").header("x-long", "ab".repeat(20_000));
        let undecided = |predicate: &Predicate| {
            let request = request();
            predicate.may_hold(&request) && !predicate.holds(&request)
        };
        assert!(undecided(&slow("x-long")));
        assert!(undecided(&Predicate::Not(Box::new(slow("x-long")))));
        assert!(undecided(&Predicate::All(vec![slow("x-long"), Predicate::Present(header("x-long"))])));
        assert!(undecided(&Predicate::Any(vec![slow("x-long"), Predicate::Present(header("x-other"))])));
        // Another predicate decides the whole.
        assert!(!Predicate::All(vec![Predicate::Present(header("x-other")), slow("x-long")]).may_hold(&request()));
        assert!(Predicate::Any(vec![Predicate::Present(header("x-long")), slow("x-long")]).holds(&request()));
        // No further predicate is decided for this request, but its keys are still computed.
        let spent = request();
        assert!(!slow("x-long").holds(&spent));
        assert!(!Predicate::Present(header("x-long")).holds(&spent));
        assert!(header("x-long").value(&spent).is_some());
        assert!(!slow("x-other").may_hold(&request()));
    }
}

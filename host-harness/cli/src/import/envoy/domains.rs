//! Domains of virtual hosts as conditions: the most specific domain has the request, as in Envoy.

use crate::import::condition::{Condition, Test};
use crate::import::source::Source;

/// Rank of a domain: exact ones first, then suffixes and prefixes, the longest first, then `*`.
fn rank(domain: &str) -> (u8, usize) {
    match domain {
        "*" => (0, 0),
        domain if domain.ends_with('*') => (1, domain.len()),
        domain if domain.starts_with('*') => (2, domain.len()),
        domain => (3, domain.len()),
    }
}

/// The condition that the host has a domain, without regard to others.
pub(super) fn alone(domain: &str) -> Condition {
    let domain = domain.to_ascii_lowercase();
    let has_port = domain.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|it| it.is_ascii_digit()));
    let source = if has_port { Source::Header(":authority".to_owned()) } else { Source::Host };
    let test = match domain.as_str() {
        "*" => return Condition::Always,
        domain if domain.ends_with('*') => Test::Prefix(domain.trim_end_matches('*').to_owned()),
        domain if domain.starts_with('*') => Test::Suffix(domain.trim_start_matches('*').to_owned()),
        domain => Test::Exact(domain.to_owned()),
    };
    Condition::Value(source, test)
}

/// The condition of one virtual host's domains, among all domains of the route configuration.
pub(super) fn of_host(own: &[String], all: &[String]) -> Condition {
    Condition::any(own.iter().map(|domain| {
        let others = all.iter().filter(|other| !own.contains(other) && rank(other) > rank(domain));
        let others = others.filter(|other| overlaps(domain, other)).map(|other| Condition::not(alone(other)));
        Condition::all([alone(domain)].into_iter().chain(others))
    }))
}

/// Whether a host can have both domains. Two with wildcards are taken for such.
fn overlaps(domain: &str, other: &str) -> bool {
    let is_exact = !other.contains('*');
    !is_exact || crate::import::source::fits(domain, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_domain_has_the_request() {
        let all = ["*", "*.example", "api.example", "www.test"].map(str::to_owned);
        let not = |domain: &str| Condition::not(alone(domain));
        assert_eq!(of_host(&all[2..3], &all), alone("api.example"));
        assert_eq!(of_host(&all[1..2], &all), Condition::all([alone("*.example"), not("api.example")]));
        let rest = Condition::all([not("*.example"), not("api.example"), not("www.test")]);
        assert_eq!(of_host(&all[..1], &all), rest);
        assert_eq!(of_host(&all[..1], &all[..1]), Condition::Always);
    }
}

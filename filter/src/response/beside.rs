//! Merge of rate-limit headers with those that a response already has, from another limiter or from the upstream.
//!
//! A client gets the headers of the limiter that denies its request, else of the strictest one, and no header twice.

use alloc::string::String;
use alloc::vec::Vec;

use super::headers::Header;

const REMAINING: &str = "x-ratelimit-remaining";
const STATES: &str = "ratelimit";
const POLICIES: &str = "ratelimit-policy";
/// The state's form before draft-ietf-httpapi-ratelimit-headers-07: `limit=10, remaining=3, reset=5`.
const FORMER_REMAINING: &[u8] = b"remaining=";

/// Returns the headers to set on the response to an admitted request: `own`, except where the response has stricter
/// ones.
///
/// `existing` looks up a header of the response. A response that `is_headers_only` may be gRPC's trailers. Of two
/// `x-ratelimit` triples, the one with less remaining stays; if equal, the existing one. Lists of the IETF draft are
/// joined; of two states with one name, the one with less remaining stays. Headers that only Weir has, the last ones,
/// stay.
#[must_use]
#[inline(never)]
pub fn beside(
    mut own: Vec<Header>,
    is_headers_only: bool,
    existing: &dyn Fn(&'static str) -> Option<Vec<u8>>,
) -> Vec<Header> {
    if is_denial(is_headers_only, existing) {
        return Vec::new();
    }
    let mut only_own = Vec::new();
    while let Some(header) = own.pop_if(|(name, _)| name.starts_with("x-weir-")) {
        only_own.push(header);
    }
    let mut headers = merged(own, existing);
    headers.append(&mut only_own);
    headers
}

fn merged(mut own: Vec<Header>, existing: &dyn Fn(&'static str) -> Option<Vec<u8>>) -> Vec<Header> {
    let is_less = |other: Vec<u8>, own: &str| {
        let other = number(&other);
        other.is_some() && other <= number(own.as_bytes())
    };
    // The existing value is looked up first: most responses have none, and comparing the names of `own` costs more.
    let keeps_existing_triple =
        existing(REMAINING).is_some_and(|other| value(&own, REMAINING).is_some_and(|own| is_less(other, own)));
    if own.get(1).is_some_and(|(name, _)| name.len() > REMAINING.len()) {
        keep_stricter(&mut own, existing, &is_less);
    }
    let has_states = own.last().is_some_and(|(name, _)| *name == STATES);
    let existing_states = if has_states { text(existing(STATES)) } else { None };
    if !keeps_existing_triple && existing_states.is_none() {
        return own;
    }
    let joined = existing_states.as_ref().map(|states| {
        let policies = text(existing(POLICIES)).unwrap_or_default();
        let of = |name| value(&own, name).unwrap_or_default();
        join(of(STATES), of(POLICIES), states, &policies)
    });
    own.retain(|(name, _)| if name.starts_with(STATES) { joined.is_none() } else { !keeps_existing_triple });
    if let Some((states, policies)) = joined.flatten() {
        own.push((POLICIES, policies));
        own.push((STATES, states));
    }
    own
}

/// Removes the triples of an API where the existing ones are as strict: providers tell what their accounts have left.
#[inline(never)]
fn keep_stricter(
    own: &mut Vec<Header>,
    existing: &dyn Fn(&'static str) -> Option<Vec<u8>>,
    is_less: &dyn Fn(Vec<u8>, &str) -> bool,
) {
    let mut at = 0_usize;
    while let Some((name, remaining)) = own.get(at.saturating_add(1))
        && contains(name, b"-remaining")
    {
        let end = at.saturating_add(3);
        if existing(name).is_some_and(|other| is_less(other, remaining)) {
            own.drain(at..end.min(own.len()));
        } else {
            at = end;
        }
    }
}

/// Whether `name` contains `part`. `str::contains` would add 12 KB to the wasm: a search in linear time, its panics.
fn contains(name: &str, part: &[u8]) -> bool {
    name.as_bytes().windows(part.len()).any(|window| window == part)
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.and_then(|value| String::from_utf8(value).ok())
}

/// Whether the response is a denial by another limiter. Its headers then stay unchanged.
#[inline(never)]
fn is_denial(is_headers_only: bool, existing: &dyn Fn(&'static str) -> Option<Vec<u8>>) -> bool {
    match existing(":status").as_deref() {
        Some(b"429") => true,
        // gRPC's status is `RESOURCE_EXHAUSTED`.
        Some(b"200") => is_headers_only && existing("grpc-status").as_deref() == Some(b"8"),
        // Some limiters deny with another status.
        Some([b'4' | b'5', ..]) => {
            existing("retry-after").is_some() && (existing(REMAINING).is_some() || existing(STATES).is_some())
        }
        _ => false,
    }
}

fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// Parses the leading digits of a value. `None` if there are none.
#[inline(never)]
fn number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit & 0x0f));
    value.first().filter(|first| first.is_ascii_digit()).map(|_| digits.fold(0, add))
}

/// Joins the lists of states and of policies. `None` if the existing headers stay unchanged.
#[inline(never)]
fn join(own: &str, own_policies: &str, existing: &str, existing_policies: &str) -> Option<(String, String)> {
    let (ours, others) = (parts(own, b','), parts(existing, b','));
    let former = existing.as_bytes().windows(FORMER_REMAINING.len()).position(|window| window == FORMER_REMAINING);
    if let Some(at) = former {
        let remaining = existing.as_bytes().get(at.saturating_add(FORMER_REMAINING.len())..).and_then(number);
        let least = ours.iter().filter_map(|member| remaining_of(member)).min();
        let stays = remaining.is_some() && remaining <= least;
        return (!stays).then(|| (own.into(), own_policies.into()));
    }
    let mut replaced = Vec::new();
    for member in ours {
        let name = name_of(member);
        let of_same_name = others.iter().find(|other| name_of(other) == name);
        if of_same_name.is_none_or(|other| remaining_of(member) < remaining_of(other)) {
            replaced.push(name);
        }
    }
    (!replaced.is_empty()).then(|| (list(own, existing, &replaced), list(own_policies, existing_policies, &replaced)))
}

/// List of the existing members with other names, then of the own members with these names.
#[inline(never)]
fn list(own: &str, existing: &str, names: &[&str]) -> String {
    let mut list = String::new();
    for (members, is_own) in [(existing, false), (own, true)] {
        for member in parts(members, b',') {
            if names.contains(&name_of(member)) == is_own {
                list.push_str(if list.is_empty() { "" } else { ", " });
                list.push_str(member);
            }
        }
    }
    list
}

#[inline(never)]
fn name_of(member: &str) -> &str {
    parts(member, b';').first().copied().unwrap_or_default()
}

/// Value of a member's parameter `r`.
#[inline(never)]
fn remaining_of(member: &str) -> Option<u64> {
    parts(member, b';').iter().skip(1).find_map(|parameter| number(parameter.as_bytes().strip_prefix(b"r=")?))
}

/// Splits a list, or a member of a list (RFC 9651), at separators outside of strings.
#[inline(never)]
fn parts(text: &str, separator: u8) -> Vec<&str> {
    let (mut is_in_string, mut is_escaped, mut start) = (false, false, 0);
    let mut parts = Vec::new();
    let mut push = |part| {
        parts.extend(Option::map(part, str::trim_ascii).filter(|part| !part.is_empty()));
    };
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = !core::mem::take(&mut is_escaped);
        match byte {
            b'\\' if is_in_string && is_plain => is_escaped = true,
            b'"' if is_plain => is_in_string = !is_in_string,
            _ if byte == separator && !is_in_string => {
                push(text.get(start..at));
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    push(text.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use proptest::prelude::*;

    use super::*;

    fn headers(limit: u64, remaining: u64) -> Vec<Header> {
        vec![
            ("x-ratelimit-limit", limit.to_string()),
            (REMAINING, remaining.to_string()),
            ("x-ratelimit-reset", "1".to_owned()),
        ]
    }

    fn ietf(name: &str, remaining: u64) -> Vec<Header> {
        vec![(POLICIES, format!("\"{name}\";q=20;w=12")), (STATES, format!("\"{name}\";r={remaining};t=1"))]
    }

    /// Headers that are set on a response with these headers.
    fn set(own: Vec<Header>, existing: &[(&str, &str)]) -> Vec<String> {
        let look =
            |name: &str| existing.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes().to_vec());
        beside(own, true, &look).iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    const OK: (&str, &str) = (":status", "200");
    const TRIPLE: [&str; 3] = ["x-ratelimit-limit: 100", "x-ratelimit-remaining: 94", "x-ratelimit-reset: 1"];

    #[test]
    fn the_triple_with_less_remaining_stays_and_if_equal_the_existing_one() {
        let beside = |existing: &str| set(headers(100, 94), &[OK, (REMAINING, existing)]);
        assert_eq!(set(headers(100, 94), &[OK]), TRIPLE);
        for less in ["0", "5", "94", " 5", "5, 5;w=60"] {
            assert!(beside(less).is_empty(), "{less}");
        }
        for more in ["95", "99999999999999999999999", "", "unlimited", "-1"] {
            assert_eq!(beside(more), TRIPLE, "{more}");
        }
        assert_eq!(set(headers(100, 94), &[OK, ("x-ratelimit-limit", "5")]), TRIPLE, "an incomplete triple is ignored");
    }

    #[test]
    fn of_the_triples_of_an_api_the_stricter_ones_stay() {
        let triple = |kind: [&'static str; 3], remaining: u64| {
            let [limit, of_remaining, reset] = kind;
            [(limit, "100".to_owned()), (of_remaining, remaining.to_string()), (reset, "1s".to_owned())]
        };
        let tokens = triple(["limit-tokens", "x-ratelimit-remaining-tokens", "reset-tokens"], 50);
        let requests = triple(["limit-requests", "x-ratelimit-remaining-requests", "reset-requests"], 9);
        let own = || [tokens.clone(), requests.clone()].concat();
        let names = |existing: &[(&str, &str)]| set([own(), ietf("a", 9)].concat(), existing).len();
        assert_eq!(set(own(), &[OK]).len(), 6);
        let less = [OK, ("x-ratelimit-remaining-tokens", "49")];
        assert_eq!(
            set(own(), &less),
            ["limit-requests: 100", "x-ratelimit-remaining-requests: 9", "reset-requests: 1s"]
        );
        assert_eq!(names(&less), 5);
        let of_requests = [OK, ("x-ratelimit-remaining-requests", "8"), ("x-ratelimit-remaining-tokens", "-1")];
        assert_eq!(set(own(), &of_requests)[0], "limit-tokens: 100");
        assert_eq!(names(&of_requests), 5);
        let all = [OK, ("x-ratelimit-remaining-requests", "9"), ("x-ratelimit-remaining-tokens", "50")];
        assert!(set(own(), &all).is_empty());
        assert_eq!(names(&all), 2);
    }

    #[test]
    fn headers_that_only_weir_has_stay_beside_stricter_ones() {
        let soft = || [headers(100, 94), ietf("a", 9), vec![("x-weir-soft-limit", "a;used=0.83".to_owned())]].concat();
        let existing = [OK, (REMAINING, "3"), (STATES, "\"in\";r=3;t=9")];
        assert_eq!(
            set(soft(), &existing),
            [
                "ratelimit-policy: \"a\";q=20;w=12",
                "ratelimit: \"in\";r=3;t=9, \"a\";r=9;t=1",
                "x-weir-soft-limit: a;used=0.83"
            ]
        );
        assert_eq!(set(soft(), &[OK]).len(), 6);
        assert!(set(soft(), &[(":status", "429")]).is_empty());
    }

    #[test]
    fn the_headers_of_another_limiters_denial_stay() {
        for denial in [
            &[(":status", "429"), (REMAINING, "3")][..],
            &[(":status", "429"), ("retry-after", "9")],
            &[(":status", "429")],
            &[OK, ("grpc-status", "8"), (REMAINING, "3")],
            &[OK, ("grpc-status", "8")],
            &[(":status", "403"), ("retry-after", "9"), (REMAINING, "3")],
            &[(":status", "503"), ("retry-after", "9"), (STATES, "\"in\";r=3")],
        ] {
            let own = [headers(2, 1), ietf("out", 1)].concat();
            assert!(set(own, denial).is_empty(), "{denial:?}");
        }
        for no_denial in [
            &[(":status", "404"), (REMAINING, "95")][..],
            &[(":status", "503"), ("retry-after", "9")],
            &[OK, ("grpc-status", "5")],
            &[(":status", "500")],
        ] {
            assert_eq!(set(headers(100, 94), no_denial), TRIPLE, "{no_denial:?}");
        }
    }

    #[test]
    fn lists_of_the_ietf_draft_are_joined() {
        let existing = [OK, (POLICIES, "\"in\";q=5;w=60"), (STATES, "\"in\";r=3;t=9")];
        assert_eq!(
            set(ietf("out", 19), &existing),
            ["ratelimit-policy: \"in\";q=5;w=60, \"out\";q=20;w=12", "ratelimit: \"in\";r=3;t=9, \"out\";r=19;t=1"]
        );
        assert_eq!(
            set(ietf("out", 19), &[OK, (STATES, "\"a,\\\"b;r=1\";r=3")]),
            ["ratelimit-policy: \"out\";q=20;w=12", "ratelimit: \"a,\\\"b;r=1\";r=3, \"out\";r=19;t=1"]
        );
    }

    #[test]
    fn the_stricter_of_two_states_with_one_name_stays() {
        let existing = |remaining: &'static str| [OK, (POLICIES, "\"a\";q=1, \"b\";q=2"), (STATES, remaining)];
        assert!(set(ietf("a", 19), &existing("\"b\";r=9, \"a\";r=19;t=5")).is_empty());
        assert_eq!(
            set(ietf("a", 19), &existing("\"b\";r=9, \"a\";t=5;r=20")),
            ["ratelimit-policy: \"b\";q=2, \"a\";q=20;w=12", "ratelimit: \"b\";r=9, \"a\";r=19;t=1"]
        );
    }

    #[test]
    fn a_state_of_the_former_draft_is_not_joined() {
        let existing = |states: &'static str| [OK, (STATES, states)];
        assert!(set(ietf("a", 19), &existing("limit=20, remaining=19, reset=1")).is_empty());
        assert_eq!(set(ietf("a", 19), &existing("limit=30, remaining=20, reset=1")).len(), 2);
    }

    proptest! {
        #[test]
        fn any_existing_headers_are_read_without_panic(
            status: String, remaining: String, states: String, policies: String, retry_after: Option<String>
        ) {
            let mut existing =
                vec![(":status", &*status), (REMAINING, &*remaining), (STATES, &*states), (POLICIES, &*policies)];
            existing.extend(retry_after.as_deref().map(|after| ("retry-after", after)));
            let set = set([headers(20, 19), ietf("a", 19)].concat(), &existing);
            prop_assert!(set.len() <= 5);
        }
    }
}

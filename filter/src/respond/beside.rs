//! Rate-limit headers of a response that has some already: of another limiter behind this one, or of the upstream.
//!
//! A client reads the headers of the limiter that denies its request, else of the strictest, and no header twice.

use alloc::string::String;
use alloc::vec::Vec;

use super::Header;

const LEGACY: &str = "x-ratelimit-";
const REMAINING: &str = "x-ratelimit-remaining";
const STATES: &str = "ratelimit";
const POLICIES: &str = "ratelimit-policy";
/// The state's form before draft-ietf-httpapi-ratelimit-headers-07: `limit=10, remaining=3, reset=5`.
const FORMER_REMAINING: &str = "remaining=";

/// The headers to set on a response to an admitted request: `own`, but for what the response says more strictly.
///
/// `theirs` looks a header of the response up; a response that `is_headers_only` may be gRPC's trailers. Of the legacy
/// triple, the one with less remaining stays, and at a tie theirs. Lists of the IETF draft are joined; of two states of
/// one name the one with less remaining stays.
#[must_use]
pub fn beside(
    mut own: Vec<Header>,
    is_headers_only: bool,
    theirs: &dyn Fn(&'static str) -> Option<Vec<u8>>,
) -> Vec<Header> {
    if is_denial(is_headers_only, theirs) {
        return Vec::new();
    }
    if let Some(value) = value(&own, REMAINING)
        && let Some(other) = theirs(REMAINING)
        && number(&other).is_some_and(|other| Some(other) <= number(value.as_bytes()))
    {
        own.retain(|(name, _)| !name.starts_with(LEGACY));
    }
    if let Some(states) = value(&own, STATES)
        && let Some(other) = theirs(STATES).and_then(|other| String::from_utf8(other).ok())
    {
        let policies = theirs(POLICIES).and_then(|policies| String::from_utf8(policies).ok()).unwrap_or_default();
        let joined = join(states, value(&own, POLICIES).unwrap_or_default(), &other, &policies);
        own.retain(|(name, _)| *name != STATES && *name != POLICIES);
        if let Some((states, policies)) = joined {
            own.push((POLICIES, policies));
            own.push((STATES, states));
        }
    }
    own
}

/// Whether the response is another limiter's denial, whose headers stay as they are.
fn is_denial(is_headers_only: bool, theirs: &dyn Fn(&'static str) -> Option<Vec<u8>>) -> bool {
    match theirs(":status").as_deref() {
        Some(b"429") => true,
        // gRPC's status is `RESOURCE_EXHAUSTED`.
        Some(b"200") => is_headers_only && theirs("grpc-status").as_deref() == Some(b"8"),
        // Some limiters have another status.
        Some([b'4' | b'5', ..]) => {
            theirs("retry-after").is_some() && (theirs(REMAINING).is_some() || theirs(STATES).is_some())
        }
        _ => false,
    }
}

fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// The digits that a value begins with. `None` where there are none.
fn number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit & 0x0f));
    value.first().filter(|first| first.is_ascii_digit()).map(|_| digits.fold(0, add))
}

/// Both lists of states and of policies. `None` where theirs are to stay as they are.
fn join(own: &str, own_policies: &str, theirs: &str, their_policies: &str) -> Option<(String, String)> {
    if let Some((_, remaining)) = theirs.split_once(FORMER_REMAINING) {
        let least = members(own).filter_map(remaining_of).min();
        let stays = number(remaining.as_bytes()).is_some_and(|remaining| Some(remaining) <= least);
        return (!stays).then(|| (own.into(), own_policies.into()));
    }
    let is_stricter = |one: &str, other: &str| {
        let of_same_name = members(other).find(|member| name_of(member) == name_of(one));
        of_same_name.is_none_or(|other| remaining_of(one) < remaining_of(other))
    };
    let ours: Vec<&str> = members(own).filter(|member| is_stricter(member, theirs)).collect();
    let speaks_for = |member: &str| ours.iter().any(|own| name_of(own) == name_of(member));
    let list = |own: &str, theirs: &str| {
        let mut list = String::new();
        let their_members = members(theirs).filter(|member| !speaks_for(member));
        for member in their_members.chain(members(own).filter(|member| speaks_for(member))) {
            list.push_str(if list.is_empty() { "" } else { ", " });
            list.push_str(member);
        }
        list
    };
    (!ours.is_empty()).then(|| (list(own, theirs), list(own_policies, their_policies)))
}

/// The members of a list of structured fields (RFC 9651).
fn members(list: &str) -> impl Iterator<Item = &str> {
    split(list, b',').map(str::trim_ascii).filter(|member| !member.is_empty())
}

fn name_of(member: &str) -> &str {
    split(member, b';').next().unwrap_or_default().trim_ascii()
}

/// The parameter `r`.
fn remaining_of(member: &str) -> Option<u64> {
    let parameters = split(member, b';').skip(1);
    parameters.filter_map(|parameter| number(parameter.trim_ascii().strip_prefix("r=")?.as_bytes())).next()
}

/// The parts of a text between separators that stand in no string.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut is_in_string, mut is_escaped) = (false, false);
    text.split(move |char: char| {
        let is_plain = !core::mem::take(&mut is_escaped);
        match char {
            '\\' if is_in_string && is_plain => is_escaped = true,
            '"' if is_plain => is_in_string = !is_in_string,
            _ => {}
        }
        char == char::from(separator) && !is_in_string
    })
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

    /// What is set beside these headers of a response.
    fn set(own: Vec<Header>, theirs: &[(&str, &str)]) -> Vec<String> {
        let look =
            |name: &str| theirs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes().to_vec());
        beside(own, true, &look).iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    const OK: (&str, &str) = (":status", "200");
    const TRIPLE: [&str; 3] = ["x-ratelimit-limit: 100", "x-ratelimit-remaining: 94", "x-ratelimit-reset: 1"];

    #[test]
    fn the_limit_with_less_remaining_speaks_and_at_a_tie_the_other() {
        let beside = |theirs: &str| set(headers(100, 94), &[OK, (REMAINING, theirs)]);
        assert_eq!(set(headers(100, 94), &[OK]), TRIPLE);
        for less in ["0", "5", "94", " 5", "5, 5;w=60"] {
            assert!(beside(less).is_empty(), "{less}");
        }
        for more in ["95", "99999999999999999999999", "", "unlimited", "-1"] {
            assert_eq!(beside(more), TRIPLE, "{more}");
        }
        assert_eq!(set(headers(100, 94), &[OK, ("x-ratelimit-limit", "5")]), TRIPLE, "half a triple is none");
    }

    #[test]
    fn the_limit_that_denies_speaks() {
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
    fn lists_of_the_draft_are_joined() {
        let theirs = [OK, (POLICIES, "\"in\";q=5;w=60"), (STATES, "\"in\";r=3;t=9")];
        assert_eq!(
            set(ietf("out", 19), &theirs),
            ["ratelimit-policy: \"in\";q=5;w=60, \"out\";q=20;w=12", "ratelimit: \"in\";r=3;t=9, \"out\";r=19;t=1"]
        );
        assert_eq!(
            set(ietf("out", 19), &[OK, (STATES, "\"a,\\\"b;r=1\";r=3")]),
            ["ratelimit-policy: \"out\";q=20;w=12", "ratelimit: \"a,\\\"b;r=1\";r=3, \"out\";r=19;t=1"]
        );
    }

    #[test]
    fn of_two_states_of_one_name_the_stricter_stays() {
        let theirs = |remaining: &'static str| [OK, (POLICIES, "\"a\";q=1, \"b\";q=2"), (STATES, remaining)];
        assert!(set(ietf("a", 19), &theirs("\"b\";r=9, \"a\";r=19;t=5")).is_empty());
        assert_eq!(
            set(ietf("a", 19), &theirs("\"b\";r=9, \"a\";t=5;r=20")),
            ["ratelimit-policy: \"b\";q=2, \"a\";q=20;w=12", "ratelimit: \"b\";r=9, \"a\";r=19;t=1"]
        );
    }

    #[test]
    fn a_state_of_the_former_draft_is_not_joined() {
        let theirs = |states: &'static str| [OK, (STATES, states)];
        assert!(set(ietf("a", 19), &theirs("limit=20, remaining=19, reset=1")).is_empty());
        assert_eq!(set(ietf("a", 19), &theirs("limit=30, remaining=20, reset=1")).len(), 2);
    }

    proptest! {
        #[test]
        fn any_headers_of_others_are_read_without_harm(
            status: String, remaining: String, states: String, policies: String, retry_after: Option<String>
        ) {
            let mut theirs =
                vec![(":status", &*status), (REMAINING, &*remaining), (STATES, &*states), (POLICIES, &*policies)];
            theirs.extend(retry_after.as_deref().map(|after| ("retry-after", after)));
            let set = set([headers(20, 19), ietf("a", 19)].concat(), &theirs);
            prop_assert!(set.len() <= 5);
        }
    }
}

//! Bucket checks of a request: the limits that apply, their keys and costs, and the overrides in force.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::config::{Config, Limit, OnUnreadable};
use crate::descriptor::{Attributes, BadRequest};
use crate::limit::{Algorithms, BucketCheck, Outcome};
use crate::overrides::{Override, Overrides, Ruling};
use crate::units::Micros;

/// Checks of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestChecks {
    /// The buckets that Redis is to check, possibly none, and the denials of limits in shadow mode that deny every
    /// request, which need no check by Redis.
    Buckets(Vec<BucketCheck>, Vec<LocalDenial>),
    /// The request is denied without Redis: an override blocks it, or a limit of zero.
    Blocked(Box<LocalDenial>),
}

/// Denial that does not depend on Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalDenial {
    pub(super) check: BucketCheck,
    pub(super) outcome: Outcome,
}

/// Returns the bucket checks of the limits that apply to a request.
///
/// # Errors
/// If a value that a limit reads is missing, malformed or repeated, and the configuration rejects those requests; or if
/// an enforced limit would have to read more than the maximum.
pub(super) fn checks_of(
    config: &Config,
    overrides: Option<&Overrides>,
    now: Micros,
    request: &dyn Attributes,
) -> Result<RequestChecks, BadRequest> {
    let (mut buckets, mut shadows) = (Vec::new(), Vec::new());
    let unreadable = request.body().is_unreadable().then_some(config.body.on_unreadable);
    for (index, limit) in config.concerning(request) {
        if unreadable == Some(OnUnreadable::Skip) && limit.cannot_read(request.body(), false) {
            continue;
        }
        let Some(key) = limit.descriptor.bucket_key(request) else {
            accept(request, !limit.shadow_mode)?;
            continue;
        };
        let overridden = overrides.and_then(|overrides| overrides.of(now, &limit.name, &key));
        let Some((windows, enforced)) = in_force(limit, overridden.as_ref()) else {
            accept(request, false)?;
            continue;
        };
        if unreadable == Some(OnUnreadable::Reject) && enforced && limit.cannot_read(request.body(), true) {
            return Err(BadRequest::Body);
        }
        let cost = limit.cost(request, enforced)?;
        accept(request, enforced)?;
        let mut check = windows.checks(index, key, cost, enforced);
        if let Some((window, wait)) = blocking(limit, &windows, overridden.as_ref(), now)
            && let Some(check) = check.nth(window)
        {
            let denial = LocalDenial { outcome: check.blocked(wait), check };
            if enforced {
                return Ok(RequestChecks::Blocked(Box::new(denial)));
            }
            shadows.push(denial);
            continue;
        }
        buckets.extend(check);
    }
    Ok(RequestChecks::Buckets(buckets, shadows))
}

/// Takes the rejection that reading the request recorded, if any. It is an error only where the limit is enforced.
fn accept(request: &dyn Attributes, is_enforced: bool) -> Result<(), BadRequest> {
    request.memo().take_rejection().filter(|_| is_enforced).map_or(Ok(()), Err)
}

/// Returns the limit's algorithms with overrides applied, and whether the limit is enforced. `None` if an override
/// switches the limit off.
fn in_force<'a>(limit: &'a Limit, overridden: Option<&Override>) -> Option<(Cow<'a, Algorithms>, bool)> {
    let configured = Cow::Borrowed(&limit.windows);
    match overridden.map(|overridden| &overridden.ruling) {
        None | Some(Ruling::Blocked) => Some((configured, !limit.shadow_mode)),
        Some(Ruling::Unlimited | Ruling::Off) => None,
        Some(Ruling::Shadow) => Some((configured, false)),
        Some(Ruling::Algorithms(windows)) => Some((Cow::Owned(limit.windows.overridden(windows)), !limit.shadow_mode)),
    }
}

/// Returns the index of the window that denies every request, if any, and for how long if that is known.
fn blocking(
    limit: &Limit,
    windows: &Algorithms,
    overridden: Option<&Override>,
    now: Micros,
) -> Option<(usize, Option<Micros>)> {
    let index = windows.blocking();
    let Some(Override { ruling, until }) = overridden else { return index.map(|index| (index, None)) };
    let is_blocked = index.is_some() || *ruling == Ruling::Blocked;
    // A limit of zero in the configuration still blocks after the override has expired.
    let wait = until.map(|until| until.minus(now)).filter(|_| limit.windows.blocking().is_none());
    is_blocked.then(|| (index.unwrap_or(0), wait))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::descriptor::{Request, RequestBody};

    /// Keys and costs of four limits: keyed by `/user`, keyed by `/user` with a default, with `/n` as the hits addend,
    /// and one that reads no body.
    fn check(on_unreadable: &str, of_limits: &str, request: &Request) -> Result<Vec<(String, u64)>, BadRequest> {
        let limit = |name: &str, fields: &str| {
            let bucket = r#""token_bucket": {"max_tokens": 9, "fill_interval": "1s"}"#;
            format!(r#"{{"name": "{name}", {of_limits} {fields}, {bucket}}}"#)
        };
        let limits = [
            limit("user", r#""descriptor": [{"request_body": {"json_pointer": "/user"}}]"#),
            limit("known", r#""descriptor": [{"request_body": {"json_pointer": "/user", "default": "nobody"}}]"#),
            limit(
                "cost",
                r#""descriptor": [], "hits_addend": {"request_body": {"json_pointer": "/n", "on_invalid": "max", "max": 7}}"#,
            ),
            limit("plain", r#""descriptor": []"#),
        ];
        let json = format!(
            r#"{{"redis": {{"cluster": "redis", "key_prefix": ""}}, "request_body": {{"on_unreadable": "{on_unreadable}"}},
                "limits": [{}]}}"#,
            limits.join(",")
        );
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        match checks_of(&config, None, Micros(1), request)? {
            RequestChecks::Buckets(check, _) => {
                Ok(check.into_iter().map(|check| (String::from_utf8(check.key).unwrap(), check.cost.0)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn keys(check: &[(String, u64)]) -> Vec<&str> {
        check.iter().map(|(key, _)| key.as_str()).collect()
    }

    fn unreadable() -> Request {
        Request::default().body(RequestBody::Unreadable)
    }

    #[test]
    fn clients_with_unreadable_bodies_share_a_bucket_by_default() {
        let check = check("default", "", &unreadable()).unwrap();
        assert_eq!(keys(&check), ["user:unreadable", "known:nobody", "cost:", "plain:"]);
        assert_eq!(check.iter().map(|(_, cost)| *cost).collect::<Vec<_>>(), [1, 1, 7, 1]);
    }

    #[test]
    fn limits_that_cannot_read_their_keys_may_be_skipped() {
        assert_eq!(keys(&check("skip", "", &unreadable()).unwrap()), ["cost:", "plain:"]);
    }

    #[test]
    fn unreadable_bodies_may_be_rejected_but_for_limits_in_shadow_mode() {
        assert_eq!(check("reject", "", &unreadable()), Err(BadRequest::Body));
        let shadow = check("reject", r#""shadow_mode": true,"#, &unreadable()).unwrap();
        assert_eq!(keys(&shadow), ["user:unreadable", "known:nobody", "cost:", "plain:"]);
        let elsewhere = check("reject", r#""when": [{"method": "PUT"}],"#, &unreadable()).unwrap();
        assert!(elsewhere.is_empty(), "no limit that applies reads the body");
    }

    #[test]
    fn a_readable_body_without_a_value_has_the_entrys_default_or_no_limit_whatever_becomes_of_others() {
        for on_unreadable in ["skip", "default", "reject"] {
            for request in [Request::default(), Request::default().json("/user", r#"{"n": 5}"#)] {
                assert_eq!(keys(&check(on_unreadable, "", &request).unwrap()), ["known:nobody", "cost:", "plain:"]);
            }
        }
    }

    /// Request of a browser with a session, behind three proxies.
    fn ordinary(bytes_of_cookies: usize, others: usize) -> Request {
        let cookies: Vec<_> =
            (0..bytes_of_cookies / 32).map(|nth| format!("preference_{nth:0>3}=0123456789abcde")).collect();
        let headers = [
            (":method", "GET"),
            (":path", "/search?q=token+bucket&lang=en&page=3&sort=newest&utm_source=letter&utm_medium=email"),
            (":authority", "shop.example"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("x-forwarded-for", "203.0.113.195, 150.172.238.178, 151.101.128.250"),
            ("x-user-id", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
            ("x-plan", "gold"),
        ];
        let request =
            headers.into_iter().fold(Request::default(), |request, (name, value)| request.header(name, value));
        let more = (0..others).fold(request, |request, nth| request.header(&format!("x-other-{nth}"), "value"));
        more.header("cookie", format!("session=0123456789abcdef; {}", cookies.join("; "))).source("151.101.1.1:80")
    }

    #[test]
    fn an_ordinary_request_has_its_keys_whatever_the_configuration() {
        let ranges: Vec<_> = (0..256).map(|nth| format!(r#""151.{nth}.0.0/16""#)).collect();
        let ranges = ranges.join(",");
        let entries = [
            format!(r#"{{"remote_address": {{"trusted_cidrs": [{ranges}]}}}}"#),
            r#"{"query_parameter": {"name": "lang"}}"#.to_owned(),
            r#"{"query_parameter": {"name": "page"}}"#.to_owned(),
            r#"{"cookie": {"name": "session"}}"#.to_owned(),
            r#"{"cookie": {"name": "preference_003"}}"#.to_owned(),
            r#"{"request_header": {"name": "x-user-id"}}"#.to_owned(),
            r#"{"request_header": {"name": "x-plan", "repeated": "first"}}"#.to_owned(),
            r#"{"path": {}}"#.to_owned(),
            r#"{"host": {}}"#.to_owned(),
        ];
        let limits: Vec<_> = (0..32)
            .map(|nth| {
                let when = r#"{"query_parameter": {"name": "sort", "exact": "newest"}}, {"cookie": {"name": "session", "present": true}}"#;
                let masked = format!(r#""v4_prefix_mask_len": {nth}, "trusted_cidrs": [{ranges}]"#);
                format!(
                    r#"{{"name": "limit_{nth}", "when": [{when}],
                        "descriptor": [{}, {{"masked_remote_address": {{{masked}}}}}],
                        "token_bucket": {{"max_tokens": 9, "fill_interval": "1s"}}}}"#,
                    entries.join(",")
                )
            })
            .collect();
        let json = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{}]}}"#, limits.join(","));
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        for (bytes, others) in [(128, 0), (256, 2), (512, 10), (2_000, 20), (4_000, 20)] {
            let request = ordinary(bytes, others);
            let asked = checks_of(&config, None, Micros(1), &request);
            assert!(
                matches!(&asked, Ok(RequestChecks::Buckets(checks, _)) if checks.len() == 32),
                "{} bytes: {:?}",
                request.headers().len(),
                asked.map(drop)
            );
        }
    }
}

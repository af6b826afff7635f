mod carried;

use super::*;
use crate::config;
use crate::descriptor::{JsonPointer, JsonScanner, Request, RequestBody};

const NO_OVERRIDES: KnownOverrides<'static> = KnownOverrides { of_limits: None, of_keys: None, probes: false };

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
    match checks_of(&config, NO_OVERRIDES, Micros(1), request, &mut Vec::new(), &mut Estimates::default())? {
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

/// Keys of a limit with two entries in bodies, whose `on_invalid` are given.
fn with_own(on_unreadable: &str, own: [&str; 2], of_limit: &str, request: &Request) -> Result<Vec<String>, BadRequest> {
    let entry = |pointer: &str, own: &str| {
        let own = if own.is_empty() { String::new() } else { format!(r#", "on_invalid": "{own}""#) };
        format!(r#"{{"request_body": {{"json_pointer": "{pointer}", "default": "none"{own}}}}}"#)
    };
    let json = format!(
        r#"{{"redis": {{"cluster": "redis", "key_prefix": ""}}, "request_body": {{"on_unreadable": "{on_unreadable}"}},
            "limits": [{{"name": "own", {of_limit} "descriptor": [{}, {}],
                "token_bucket": {{"max_tokens": 9, "fill_interval": "1s"}}}}]}}"#,
        entry("/a", own[0]),
        entry("/b", own[1]),
    );
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    match checks_of(&config, NO_OVERRIDES, Micros(1), request, &mut Vec::new(), &mut Estimates::default())? {
        RequestChecks::Buckets(check, _) => {
            Ok(check.into_iter().map(|check| String::from_utf8(check.key).unwrap()).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entrys_own_treatment_of_unreadable_bodies_comes_first_and_the_strongest_applies() {
    let (limited, skipped) = (Ok(vec!["own:none:none".to_owned()]), Ok(vec![]));
    for (whole, own, expected) in [
        ("default", ["", ""], &limited),
        ("default", ["", "skip"], &skipped),
        ("default", ["reject", "skip"], &Err(BadRequest::Body)),
        ("default", ["", "reject"], &Err(BadRequest::Body)),
        ("reject", ["default", "default"], &limited),
        ("reject", ["default", "skip"], &skipped),
        ("reject", ["default", ""], &Err(BadRequest::Body)),
        ("skip", ["default", "default"], &limited),
        ("skip", ["reject", ""], &Err(BadRequest::Body)),
    ] {
        assert_eq!(&with_own(whole, own, "", &unreadable()), expected, "{whole}, {own:?}");
    }
    let shadow = with_own("default", ["reject", "skip"], r#""shadow_mode": true,"#, &unreadable());
    assert_eq!(shadow, limited, "a limit in shadow mode rejects nothing");
}

#[test]
fn only_entries_that_cannot_be_read_count() {
    let pointers = ["/a", "/b"].map(|text| JsonPointer::parse(text).unwrap());
    let mut start = JsonScanner::new(&Vec::from(pointers).into(), 0b11);
    start.push(br#"{"a": 1, "x": "too lar"#);
    let request = Request::default().body(start.into_values_so_far().into());
    assert_eq!(with_own("reject", ["reject", "default"], "", &request).unwrap(), ["own:1:none"]);
    assert_eq!(with_own("default", ["default", "reject"], "", &request), Err(BadRequest::Body));
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
    let request = headers.into_iter().fold(Request::default(), |request, (name, value)| request.header(name, value));
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
        let asked = checks_of(&config, NO_OVERRIDES, Micros(1), &request, &mut Vec::new(), &mut Estimates::default());
        assert!(
            matches!(&asked, Ok(RequestChecks::Buckets(checks, _)) if checks.len() == 32),
            "{} bytes: {:?}",
            request.headers().len(),
            asked.map(drop)
        );
    }
}

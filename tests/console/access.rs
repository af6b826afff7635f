//! Access to the console: tokens, sessions, names, and other pages.

use hyper::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, configuration, headers, parts};

/// A Redis that is not there.
const NO_REDIS: [&str; 2] = ["--redis", "redis://127.0.0.1:1"];

async fn desk(more: &[&str]) -> Desk {
    Desk::of(&configuration("weir:"), &[&NO_REDIS[..], more].concat()).await
}

#[tokio::test]
async fn without_the_token_there_is_an_empty_page_and_nothing_else() {
    let desk = desk(&["--allow-changes"]).await;
    let host = desk.console.addr().to_string();
    let nobody = headers(&[("host", &host), ("x-weir-console", "1"), ("content-type", "application/json")]);
    let page = desk.sends(Method::GET, "/", &nobody, "").await;
    assert_eq!(page.status, 200);
    assert!(page.headers.get("set-cookie").is_none());
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains("Weir console") && !text.contains("per_user") && !text.contains(desk.console.token()));
    let calls = ["/api/state", "/api/bucket?limit=per_user", "/api/find", "/api/preview", "/api/change", "/api/login"];
    for path in calls {
        for method in [Method::GET, Method::POST] {
            let (status, answer) = parts(&desk.sends(method, path, &nobody, "{}").await);
            assert_eq!((status, answer["limits"].is_null()), (401, true), "{path}: {answer}");
        }
    }
    let mut guess = nobody.clone();
    for token in [&"0".repeat(64), "", &desk.console.token()[..63], &desk.console.token().to_uppercase()] {
        guess.insert("authorization", format!("Bearer {token}").parse().unwrap());
        assert_eq!(desk.sends(Method::GET, "/api/state", &guess, "").await.status, 401, "{token}");
    }
    assert_eq!(desk.get("/api/state").await.0, 200);
}

#[tokio::test]
async fn a_login_gives_a_session_that_scripts_and_other_sites_do_not_get() {
    let desk = desk(&[]).await;
    let login = desk.sends(Method::POST, "/api/login", &desk.headers(), "{}").await;
    assert_eq!(login.status, 200);
    let cookie = login.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(desk.console.token()));
    let cookie = cookie.split(';').next().unwrap();
    let host = desk.console.addr().to_string();
    let of_page = headers(&[("host", &host), ("cookie", cookie)]);
    assert_eq!(desk.sends(Method::GET, "/api/state", &of_page, "").await.status, 200);
    // A form of another page could send the cookie, but not these headers.
    assert_eq!(desk.sends(Method::POST, "/api/find", &of_page, "{}").await.status, 403);
    let of_form =
        headers(&[("host", &host), ("cookie", cookie), ("content-type", "text/plain"), ("x-weir-console", "1")]);
    assert_eq!(desk.sends(Method::POST, "/api/find", &of_form, "{}").await.status, 403);
}

#[tokio::test]
async fn other_names_and_other_pages_are_refused() {
    let desk = desk(&["--host-name", "ops.example"]).await;
    let port = desk.console.addr().port();
    for (host, expected) in [
        ("evil.example".to_owned(), 403),
        (format!("evil.example:{port}"), 403),
        (format!("localhost:{port}"), 200),
        ("ops.example".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
    ] {
        let mut asks = desk.headers();
        asks.insert("host", host.parse().unwrap());
        for path in ["/", "/api/state"] {
            assert_eq!(desk.sends(Method::GET, path, &asks, "").await.status, expected, "{host} {path}");
        }
    }
    let own = format!("http://{}", desk.console.addr());
    for (origin, expected) in [("http://127.0.0.1:1", 403), ("https://evil.example", 403), ("null", 403), (&own, 200)] {
        let mut asks = desk.headers();
        asks.insert("origin", origin.parse().unwrap());
        let status = desk.sends(Method::GET, "/api/state", &asks, "").await.status;
        assert_eq!(status, expected, "{origin}");
    }
}

#[tokio::test]
async fn every_answer_has_a_policy_and_is_not_stored() {
    let desk = desk(&[]).await;
    let page = desk.sends(Method::GET, "/", &desk.headers(), "").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert_eq!(text.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "one style and one script");
    let again = desk.sends(Method::GET, "/", &desk.headers(), "").await;
    assert_ne!(again.headers["content-security-policy"], policy.as_str(), "a nonce is used once");
    let api = desk.sends(Method::GET, "/api/state", &desk.headers(), "").await;
    for response in [page, api] {
        assert_eq!(response.headers["cache-control"], "no-store");
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        assert_eq!(response.headers["x-frame-options"], "DENY");
        assert!(response.headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    }
}

#[tokio::test]
async fn requests_that_are_none_of_the_page_get_an_error() {
    let desk = desk(&["--allow-changes"]).await;
    assert_eq!(desk.get("/api/nothing").await.0, 404);
    assert_eq!(desk.get("/api/find").await.0, 405);
    assert_eq!(desk.post("/api/state", &json!({})).await.0, 405);
    assert_eq!(desk.get("/api/bucket?limit=nobody&key=a").await.0, 404);
    assert_eq!(desk.get("/api/bucket?key_prefix=weir:&limit=per_user&key=%FF%20").await.0, 404);
    assert_eq!(desk.post("/api/find", &json!([])).await.0, 400);
    assert_eq!(desk.post("/api/change", &json!({ "action": "drop" })).await.0, 400);
    let long = json!({ "limit": "per_user", "values": ["x".repeat(20_000)] });
    assert_eq!(desk.post("/api/find", &long).await.0, 413);
    let (status, found) = desk.post("/api/find", &json!({ "limit": "per_user", "values": ["a b"] })).await;
    assert_eq!((status, &found["key"]), (200, &json!("a%20b")));
    let (status, error) = desk.post("/api/find", &json!({ "limit": "per_user", "values": [] })).await;
    assert_eq!(status, 422);
    assert!(error["error"].as_str().unwrap().contains("expected a key of as many values"), "{error}");
}

#[tokio::test]
async fn other_machines_are_let_in_only_if_told() {
    let starts = async |more: &[&str]| -> Result<(), String> {
        Desk::start(&configuration("weir:"), &[&NO_REDIS[..], more].concat()).await.map(drop)
    };
    let why = starts(&["--listen", "0.0.0.0:0"]).await.unwrap_err();
    assert!(why.starts_with("--listen 0.0.0.0:0: other machines reach this address; expected a loopback"), "{why}");
    assert_eq!(starts(&["--listen", "[::]:0"]).await.map_err(|why| why.contains("--allow-remote")), Err(true));
    assert_eq!(starts(&["--listen", "0.0.0.0:0", "--allow-remote"]).await, Ok(()));
    assert_eq!(starts(&["--listen", "127.0.0.2:0"]).await, Ok(()));
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_served() {
    let starts = async |configuration: &Value, more: &[&str]| -> String {
        let Err(why) = Desk::start(configuration, more).await else { panic!("{configuration} {more:?} start") };
        why
    };
    let mut wrong = configuration("weir:");
    wrong["limits"][0]["token_bucket"]["max_tokens"] = "many".into();
    let why = starts(&wrong, &NO_REDIS).await;
    assert!(why.contains("limits[0].token_bucket.max_tokens"), "{why}");
    let why = starts(&configuration("weir:"), &["--redis", "redis://user:pass@h:99999"]).await;
    assert!(why.starts_with("--redis: ") && !why.contains("pass"), "{why}");
    let why = starts(&configuration("weir:"), &[&NO_REDIS[..], &["--metrics", "https://a"]].concat()).await;
    assert!(why.contains("expected a URL that begins with http://"), "{why}");
    if std::env::var_os("REDIS_URL").is_none() {
        let why = starts(&configuration("weir:"), &[]).await;
        assert!(why.contains("expected --redis URL with the address of Redis"), "{why}");
    }
}

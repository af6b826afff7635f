//! Plans from verified tokens (`envoy/jwt-plans.yaml`), on both hosts.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use weir::{Answer, HostKind, Mesh};
use weir_host::jws::{self, Algorithm, EncodingKey, TRIAL_KEY};

weir::on_both_hosts! {
    the_plan_of_a_user_comes_from_the_token
    an_invalid_token_gets_401_and_spends_nothing
    every_token_gets_the_same_response_on_both_hosts
    the_trial_tokens_of_the_scenario_are_valid
    claims_of_any_scalar_type_are_read_as_text
}

const SCENARIO: &str = "envoy/jwt-plans.yaml";

async fn the_plan_of_a_user_comes_from_the_token(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    for left in (0..10).rev() {
        ask(&mesh, &of("alice", "free")).await.admitted().remaining(left);
    }
    ask(&mesh, &of("alice", "free")).await.denied().remaining(0);
    // Another user on the same plan, a user on another plan, and the first user with a token of another plan.
    ask(&mesh, &of("bob", "free")).await.admitted().remaining(9);
    for _ in 0..50 {
        ask(&mesh, &of("carol", "pro")).await.admitted();
    }
    assert_eq!(ask(&mesh, &of("carol", "pro")).await.header("x-ratelimit-limit"), Some("100"));
    ask(&mesh, &of("alice", "pro")).await.admitted().remaining(99);
    // An unknown plan gets the limit of the plan `free`.
    assert_eq!(ask(&mesh, &of("dave", "platinum")).await.header("x-ratelimit-limit"), Some("10"));
}

async fn an_invalid_token_gets_401_and_spends_nothing(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    let good = of("alice", "free");
    let forged = |claims: &Value| {
        let (_, signature) = good.rsplit_once('.').unwrap();
        format!("{}.{signature}", unsigned(&json!({"alg": "ES256", "kid": "try-out"}), claims))
    };
    for token in [forged(&claims("alice", "pro")), forged(&claims("bob", "free"))] {
        let answer = ask(&mesh, &token).await.status(401).without("x-ratelimit-limit");
        assert_eq!(answer.body, "Jwt verification fails");
    }
    mesh.ask("/").user("alice").header("plan", "pro").send().await.status(401);
    for user in ["alice", "bob"] {
        ask(&mesh, &of(user, "free")).await.admitted().remaining(9);
    }
}

/// The expected statuses, bodies and challenges are Envoy's.
async fn every_token_gets_the_same_response_on_both_hosts(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    let good = claims("alice", "pro");
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        signed(&claims)
    };
    let under = |header: Value| signed_under(&header, &good);
    let now = now();
    let invalid = |what: &str| format!("Jwt {what}");
    let told: [(String, u16, String); 19] = [
        (with("exp", (now - 10).into()), 200, "hello\n".to_owned()),
        (with("exp", (now - 70).into()), 401, invalid("is expired")),
        (with("nbf", (now + 50).into()), 200, "hello\n".to_owned()),
        (with("nbf", (now + 600).into()), 401, invalid("not yet valid")),
        (with("iss", "https://other.example".into()), 401, invalid("issuer is not configured")),
        (with("aud", json!(["other", "https://weir/"])), 200, "hello\n".to_owned()),
        (with("aud", "other".into()), 403, "Audiences in Jwt are not allowed".to_owned()),
        (with("exp", "soon".into()), 401, invalid("payload [exp] field is not an integer")),
        (with("exp", (-1).into()), 401, invalid("payload [exp] field is not a positive 64 bit integer")),
        (with("sub", 1.into()), 401, invalid("payload [sub] field is not a string")),
        (with("aud", 1.into()), 401, invalid("payload [aud] field is not a string or string list")),
        (under(json!({"alg": "ES256"})), 200, "hello\n".to_owned()),
        (under(json!({"alg": "none"})), 401, invalid("header [alg] is not supported")),
        (under(json!({})), 401, invalid("header [alg] field is required and must be a string")),
        (under(json!({"alg": "RS256"})), 401, "Jwks doesn't have key to match kid or alg from Jwt".to_owned()),
        (
            under(json!({"alg": "ES256", "kid": "other"})),
            401,
            "Jwks doesn't have key to match kid or alg from Jwt".to_owned(),
        ),
        (format!("{}=", signed(&good)), 401, invalid("signature is an invalid Base64url encoded")),
        ("a.b.c".to_owned(), 401, invalid("header is an invalid Base64url encoded")),
        ("abc".to_owned(), 401, invalid("is not in the form of Header.Payload.Signature with two dots and 3 sections")),
    ];
    for (token, status, body) in told {
        let answer = ask(&mesh, &token).await;
        assert_eq!((answer.status, &answer.body), (status, &body), "{token} on {host:?}");
    }
    let missing = mesh.ask("/x?y=1").header("host", "shop.test").send().await.status(401);
    assert_eq!(missing.body, "Jwt is missing");
    assert_eq!(missing.header("www-authenticate"), Some(r#"Bearer realm="http://shop.test/x?y=1""#));
    let wrong = mesh.ask("/").header("host", "shop.test").header("authorization", "Bearer x").send().await;
    let challenge = r#"Bearer realm="http://shop.test/", error="invalid_token""#;
    assert_eq!(wrong.header("www-authenticate"), Some(challenge));
    let in_query = format!("/?access_token={}", signed(&good));
    mesh.ask(&in_query).send().await.admitted();
    mesh.ask(&in_query).header("authorization", "Bearer x.y.z").send().await.status(401);
}

async fn the_trial_tokens_of_the_scenario_are_valid(host: HostKind) {
    let file = weir_provision::checkout::root().unwrap().join(SCENARIO);
    let text = std::fs::read_to_string(file).unwrap();
    let tokens: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(": ")?.1.trim().into()).collect();
    let tokens: Vec<&str> = tokens.into_iter().filter(|token| token.starts_with("ey")).collect();
    assert_eq!(tokens.len(), 2, "{text}");
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    for (token, left) in tokens.into_iter().zip([9, 99]) {
        ask(&mesh, token).await.admitted().remaining(left);
    }
}

async fn claims_of_any_scalar_type_are_read_as_text(host: HostKind) {
    let key = |claim: &str| json!({"key": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": claim}]});
    let mesh = Mesh::on(host, SCENARIO).patient().workers(1).configure(|filter| {
        let is = |claim: &str, text: &str| json!({"dynamic_metadata": {"metadata_key": key(claim), "exact": text}});
        let limit = |name: &str, when: Value, descriptor: Value| {
            json!({"name": name, "when": when, "descriptor": descriptor,
                "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}})
        };
        filter["limits"] = json!([
            limit("by_id", json!([]), json!([{"dynamic_metadata": {"metadata_key": key("id")}}])),
            limit("third", json!([is("tier", "3")]), json!([])),
            limit("admins", json!([is("admin", "true")]), json!([])),
        ]);
    });
    let Some(mesh) = mesh.start().await else { return };
    let nothing = || vec![];
    let id = |text: &str| vec![format!("by_id:{text}")];
    let told: [(&str, Value, Vec<String>); 20] = [
        ("id", 42.into(), id("42")),
        ("id", (-1).into(), id("-1")),
        ("id", json!(3.5), id("3.5")),
        ("id", json!(-0.0), id("0")),
        ("id", json!(9_007_199_254_740_991_u64), id("9007199254740991")),
        ("id", json!(1e300), id(&format!("0x{:016x}", 1e300_f64.to_bits()))),
        ("id", json!(1.0 / 3.0), id(&format!("0x{:016x}", (1.0_f64 / 3.0).to_bits()))),
        ("id", true.into(), id("true")),
        ("id", false.into(), id("false")),
        // Strings of 1 and of 8 bytes, the lengths of a boolean and of a double.
        ("id", "x".into(), id("x")),
        ("id", "alice123".into(), id("alice123")),
        ("id", "a\u{0}b".into(), id("a%00b")),
        ("id", "42".into(), id("42")),
        ("id", json!(["alice"]), nothing()),
        ("id", json!({"name": "alice"}), nothing()),
        ("id", Value::Null, nothing()),
        ("tier", 3.into(), vec!["third:".to_owned()]),
        ("tier", json!(["3"]), nothing()),
        ("admin", true.into(), vec!["admins:".to_owned()]),
        ("admin", 1.into(), nothing()),
    ];
    for (claim, value, expected) in told {
        mesh.reset_all();
        let mut claims = claims("alice", "free");
        claims[claim] = value.clone();
        ask(&mesh, &signed(&claims)).await.admitted();
        assert_eq!(mesh.keys(), expected, "{claim}: {value}");
    }
}

async fn ask(mesh: &Mesh, token: &str) -> Answer {
    mesh.ask("/").header("authorization", format!("Bearer {token}")).send().await
}

fn of(user: &str, plan: &str) -> String {
    signed(&claims(user, plan))
}

fn claims(user: &str, plan: &str) -> Value {
    json!({"iss": "https://issuer.example", "aud": "weir", "sub": user, "plan": plan, "exp": now() + 600})
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed(claims: &Value) -> String {
    signed_under(&json!({"alg": "ES256", "kid": "try-out"}), claims)
}

fn signed_under(header: &Value, claims: &Value) -> String {
    let key = EncodingKey::from_ec_der(&URL_SAFE_NO_PAD.decode(TRIAL_KEY).unwrap());
    let message = unsigned(header, claims);
    let signature = jws::sign(&message, &key, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let section = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", section(header), section(claims))
}

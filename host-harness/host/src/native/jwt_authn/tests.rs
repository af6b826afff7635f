use super::*;
use crate::jws::{self, Algorithm, EncodingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NOW: u64 = 1_795_000_000;
const SECRET: &[u8] = b"for trying out, and for nothing else";
const ISSUER: &str = "https://issuer.example";

fn provider() -> Provider {
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    Provider {
        issuer: Some(ISSUER.to_owned()),
        audiences: vec!["shop".to_owned()],
        keys: Jwks::parse(&format!(r#"{{"keys": [{{"kty": "oct", "alg": "HS256", "kid": "a", "k": "{secret}"}}]}}"#))
            .unwrap(),
        payload_in_metadata: Some("claims".to_owned()),
        forward: false,
    }
}

fn needed(provider: Provider, bypass: Bypass) -> JwtAuthn {
    let requirement = Requirement { providers: vec![Arc::new(provider)], bypass };
    JwtAuthn { rules: vec![Rule { path: PathMatch::Prefix("/".to_owned()), requirement: Some(requirement) }] }
}

fn claims() -> Value {
    serde_json::json!({"iss": ISSUER, "aud": "shop", "sub": "alice", "plan": "pro", "exp": NOW + 100})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn signed(header: &Value, claims: &Value) -> String {
    let section = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", section(header), section(claims));
    let key = EncodingKey::from_secret(SECRET).unwrap();
    let signature = jws::sign(&message, &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn token(claims: &Value) -> String {
    signed(&serde_json::json!({"alg": "HS256", "kid": "a"}), claims)
}

fn found_in_header(text: String) -> Vec<Found> {
    vec![Found { place: Place::Header, text }]
}

fn told(text: String) -> String {
    let filter = needed(provider(), Bypass::Never);
    let requirement = filter.rules[0].requirement.as_ref().unwrap();
    match requirement.check(&found_in_header(text), NOW) {
        Ok(_) => "accepted".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_valid_token_is_accepted_and_others_are_refused_with_a_reason() {
    assert_eq!(told(token(&claims())), "accepted");
    let forged = token(&claims()).rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    assert_eq!(told(forged), "Jwt verification fails");
    assert_eq!(told(token(&with("iss", "other".into()))), "Jwt issuer is not configured");
    assert_eq!(told(token(&with("aud", "other".into()))), "Audiences in Jwt are not allowed");
    assert_eq!(told(signed(&serde_json::json!({"alg": "none"}), &claims())), "Jwt header [alg] is not supported");
    let other_key = signed(&serde_json::json!({"alg": "HS256", "kid": "b"}), &claims());
    assert_eq!(told(other_key), "Jwks doesn't have key to match kid or alg from Jwt");
    assert_eq!(told(token(&with("exp", "soon".into()))), "Jwt payload [exp] field is not an integer");
    assert_eq!(told(token(&with("nbf", (-1).into()))), "Jwt payload [nbf] field is not a positive 64 bit integer");
    assert!(told("a.b".to_owned()).starts_with("Jwt is not in the form"));
}

#[test]
fn clocks_may_differ_by_a_minute() {
    assert_eq!(told(token(&with("exp", (NOW - 60).into()))), "accepted");
    assert_eq!(told(token(&with("exp", (NOW - 61).into()))), "Jwt is expired");
    assert_eq!(told(token(&with("nbf", (NOW + 60).into()))), "accepted");
    assert_eq!(told(token(&with("nbf", (NOW + 61).into()))), "Jwt not yet valid");
}

#[test]
fn an_audience_is_compared_without_its_scheme() {
    assert_eq!(told(token(&with("aud", serde_json::json!(["x", "https://shop/"])))), "accepted");
    assert_eq!(told(token(&with("aud", serde_json::json!(["shop.example"])))), "Audiences in Jwt are not allowed");
}

/// Runs the filter for a request with these headers; returns the status of its local reply, and the stream.
fn passing(filter: &JwtAuthn, headers: &[(&str, &str)]) -> (Option<u16>, Stream) {
    let stream = Stream::default();
    stream.request_headers.replace(headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect());
    (filter.on_request_headers(&stream).map(|reply| reply.status), stream)
}

fn lasting() -> String {
    token(&with("exp", 32_503_680_000_u64.into()))
}

#[test]
fn an_accepted_token_becomes_metadata_and_is_taken_out() {
    let bearer = format!("Bearer {}", lasting());
    let headers = [(":path", "/x"), ("authorization", bearer.as_str())];
    let (status, stream) = passing(&needed(provider(), Bypass::Never), &headers);
    assert_eq!(status, None);
    assert_eq!(stream.dynamic_metadata.borrow()[NAMESPACE]["claims"]["plan"], "pro");
    assert_eq!(stream.request_headers.borrow().text("authorization"), None);
    let forwarding = Provider { forward: true, ..provider() };
    let (_, stream) = passing(&needed(forwarding, Bypass::Never), &headers);
    assert_eq!(stream.request_headers.borrow().text("authorization"), Some(bearer.as_str()));
}

#[test]
fn a_token_in_the_query_counts_and_every_token_must_be_valid() {
    let path = format!("/x?a=1&access_token={}&b=2", lasting());
    let (status, stream) = passing(&needed(provider(), Bypass::Never), &[(":path", &path)]);
    assert_eq!((status, stream.request_headers.borrow().text(":path")), (None, Some("/x?a=1&b=2")));
    let both = [(":path", path.as_str()), ("authorization", "Bearer a.b.c")];
    assert_eq!(passing(&needed(provider(), Bypass::Never), &both).0, Some(401));
    assert_eq!(passing(&needed(provider(), Bypass::Missing), &both).0, Some(401));
}

#[test]
fn a_request_that_passes_without_a_valid_token_has_no_claims() {
    let (none, bad) = ([(":path", "/x")], [(":path", "/x"), ("authorization", "Bearer a.b.c")]);
    let status = |bypass, headers: &[(&str, &str)]| {
        let (status, stream) = passing(&needed(provider(), bypass), headers);
        assert!(stream.dynamic_metadata.borrow().is_empty());
        status
    };
    assert_eq!([status(Bypass::Never, &none), status(Bypass::Never, &bad)], [Some(401), Some(401)]);
    assert_eq!([status(Bypass::Missing, &none), status(Bypass::Missing, &bad)], [None, Some(401)]);
    assert_eq!([status(Bypass::MissingOrFailed, &none), status(Bypass::MissingOrFailed, &bad)], [None, None]);
    assert_eq!(passing(&needed(provider(), Bypass::Never), &[(":path", "x")]).0, None, "no rule matches");
}

#[test]
fn a_refusal_names_the_requested_url() {
    let stream = Stream::default();
    let headers = [(":scheme", "http"), (":authority", "shop"), (":path", "/x?y=1")];
    stream.request_headers.replace(headers.into_iter().collect());
    let reply = needed(provider(), Bypass::Never).on_request_headers(&stream).unwrap();
    assert_eq!(reply.headers.text("www-authenticate"), Some(r#"Bearer realm="http://shop/x?y=1""#));
    assert_eq!(
        (reply.details.as_str(), reply.body.as_ref()),
        ("jwt_authn_access_denied{Jwt_is_missing}", &b"Jwt is missing"[..])
    );
}

#[test]
fn an_unusable_key_set_is_refused_with_the_index_of_the_key() {
    let refused = |keys: &str| Jwks::parse(&format!(r#"{{"keys": [{keys}]}}"#)).unwrap_err().to_string();
    assert_eq!(refused(""), "expected at least one key in `keys`");
    assert!(
        refused(r#"{"kty": "EC", "crv": "P-521"}"#).starts_with("keys[0]: kty `EC` with crv `P-521` is not honoured")
    );
    assert_eq!(
        refused(r#"{"kty": "EC", "crv": "P-256", "x": "AAAA"}"#),
        "keys[0].x: expected a coordinate of 32 bytes, Base64url without padding"
    );
    assert!(Jwks::parse("{}").unwrap_err().to_string().starts_with("expected a JSON object with a list `keys`: "));
}

/// Keys, and a token of every algorithm, signed by OpenSSL.
fn signed_by_openssl() -> Value {
    serde_json::from_str(include_str!("signed.json")).unwrap()
}

fn set_of(key: &Value) -> Jwks {
    Jwks::parse(&serde_json::json!({"keys": [key]}).to_string()).unwrap()
}

#[test]
fn a_token_of_any_algorithm_is_verified_by_its_own_key_alone() {
    let signed = signed_by_openssl();
    let tokens = signed["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 12);
    for (name, key) in signed["keys"].as_object().unwrap() {
        let keys = set_of(key);
        for token in tokens {
            let text = token["token"].as_str().unwrap();
            let expected = if token["key"] == *name { Ok(()) } else { Err(Refusal::Verification) };
            assert_eq!(keys.verify(&Token::parse(text).unwrap()), expected, "{} by {name}", token["alg"]);
            let sections: Vec<&str> = text.split('.').collect();
            let other = format!("{}.{}.{}", sections[0], URL_SAFE_NO_PAD.encode(r#"{"sub":"mallory"}"#), sections[2]);
            assert_eq!(keys.verify(&Token::parse(&other).unwrap()), Err(Refusal::Verification), "{}", token["alg"]);
        }
    }
}

#[test]
fn an_rsa_key_with_numbers_that_are_not_in_canonical_form_verifies_nothing() {
    let signed = signed_by_openssl();
    let token = signed["tokens"].as_array().unwrap().iter().find(|token| token["alg"] == "RS256").unwrap();
    let token = Token::parse(token["token"].as_str().unwrap()).unwrap();
    let mut key = signed["keys"]["rsa2048"].clone();
    assert_eq!(set_of(&key).verify(&token), Ok(()));
    for member in ["n", "e"] {
        let canonical = key[member].take();
        let bytes = URL_SAFE_NO_PAD.decode(canonical.as_str().unwrap()).unwrap();
        key[member] = URL_SAFE_NO_PAD.encode([&[0][..], &bytes].concat()).into();
        assert_eq!(set_of(&key).verify(&token), Err(Refusal::Verification), "{member}");
        key[member] = canonical;
    }
}

#[test]
fn claims_are_checked_before_the_signature() {
    let forged = |claims: Value| token(&claims).rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    assert_eq!(told(forged(with("exp", (NOW - 61).into()))), "Jwt is expired");
    assert_eq!(told(forged(with("iss", "other".into()))), "Jwt issuer is not configured");
    assert_eq!(told(forged(with("aud", "other".into()))), "Audiences in Jwt are not allowed");
    assert_eq!(told(forged(claims()) + "="), "Jwt signature is an invalid Base64url encoded");
}

#[test]
fn fields_of_the_header_that_envoy_ignores_are_ignored() {
    let header = serde_json::json!({"alg": "HS256", "kid": "a", "typ": 1, "crit": ["x"], "x5c": "y"});
    assert_eq!(told(signed(&header, &claims())), "accepted");
    let es512 = serde_json::json!({"alg": "ES512"});
    assert_eq!(told(signed(&es512, &claims())), "Jwks doesn't have key to match kid or alg from Jwt");
}

#[test]
fn a_token_without_exp_does_not_expire_and_one_with_a_list_of_issuers_is_refused() {
    let mut lasting = claims();
    lasting.as_object_mut().unwrap().remove("exp");
    assert_eq!(told(token(&lasting)), "accepted");
    assert_eq!(told(token(&with("iss", serde_json::json!([ISSUER])))), "Jwt payload [iss] field is not a string");
    assert_eq!(told(token(&with("exp", serde_json::json!(NOW as f64 - 60.0 + 0.9)))), "accepted");
    assert_eq!(
        told(token(&with("exp", serde_json::json!(NOW as f64 - 61.0 + 0.9)))),
        "Jwt is expired",
        "no rounding up"
    );
}

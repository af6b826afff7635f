//! Tokens of tests: the runner signs them with a key of its own, which providers accept while tests run.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use weir_host::jws::{self, Algorithm, EncodingKey, TRIAL_KEY};

use super::file::Claims;

/// Public half of [`TRIAL_KEY`], which providers accept while tests run.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "weir-test",
    "x": "pofop50X5nI3Eo38kbYjiJL1kYA8ccXFUiU3-Zy_hps", "y": "dkH1ZLn5mf3uCbK_5AwMNSGQe6XMbTSxNLe2-Sxwanw"}]}"#;
/// Expiry of tokens: the year 2100.
const EXPIRES: u64 = 4_102_444_800;

/// Provider of tokens, as far as tokens depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    issuer: Option<String>,
    audience: Option<String>,
}

/// Makes the providers of every `jwt_authn` filter in a document accept the key of tests, and returns them.
pub(super) fn take_over(document: &mut Value) -> Vec<Provider> {
    match document {
        Value::Object(fields) => {
            let of = |fields: &mut Map<String, Value>| {
                let providers = fields.get_mut("providers").and_then(Value::as_object_mut).into_iter().flatten();
                providers.filter_map(|(_, provider)| Provider::take_over(provider)).collect::<Vec<_>>()
            };
            let own = if is_jwt_authn(fields) { of(fields) } else { Vec::new() };
            own.into_iter().chain(fields.values_mut().flat_map(take_over)).collect()
        }
        Value::Array(items) => items.iter_mut().flat_map(take_over).collect(),
        _ => Vec::new(),
    }
}

fn is_jwt_authn(fields: &Map<String, Value>) -> bool {
    fields.get("@type").and_then(Value::as_str).is_some_and(|name| name.ends_with(".JwtAuthentication"))
}

impl Provider {
    fn take_over(provider: &mut Value) -> Option<Self> {
        let fields = provider.as_object_mut()?;
        ["remote_jwks", "remoteJwks", "localJwks"].iter().for_each(|name| _ = fields.remove(*name));
        fields.insert("local_jwks".to_owned(), json!({ "inline_string": KEYS }));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let issuer = text(fields.get("issuer"));
        let audiences = fields.get("audiences");
        let audience = text(audiences.map(|audiences| audiences.get(0).unwrap_or(audiences)));
        Some(Self { issuer, audience })
    }
}

/// Returns a token with these claims. Those that they lack (`iss`, `aud`, `exp`) are the first provider's. `None` where
/// the configuration has no provider.
pub(super) fn token(Claims(claims): &Claims, providers: &[Provider]) -> Option<String> {
    let provider = providers.first()?;
    let mut claims = claims.clone();
    let given = [("iss", &provider.issuer), ("aud", &provider.audience)];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))) {
        claims.entry(name).or_insert(value.into());
    }
    claims.entry("exp").or_insert(EXPIRES.into());
    let section = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"alg": "ES256", "kid": "weir-test"});
    let message = format!("{}.{}", section(&header), section(&Value::Object(claims)));
    let key = EncodingKey::from_ec_der(&URL_SAFE_NO_PAD.decode(TRIAL_KEY).ok()?);
    let signature = jws::sign(&message, &key, Algorithm::ES256).ok()?;
    Some(format!("{message}.{signature}"))
}

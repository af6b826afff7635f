//! Parser of tokens: three sections, not yet verified. (RFC 7515, RFC 7519.)
//!
//! `jsonwebtoken` parses tokens too, but checks the signature before the claims, reads the clock itself, and does not say
//! which field is wrong. Envoy's local replies say that, and its checks have another order.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Algorithms that Envoy accepts; the key decides whether it can verify an algorithm.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
];

/// Well-formed token. Its claims must not be trusted before the signature is verified.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// Signed bytes: header and payload, as received.
    pub(super) message: &'a str,
    /// Base64url, as received.
    pub(super) signature: &'a str,
}

impl<'a> Token<'a> {
    /// Parses a token, and checks the types of its registered claims.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let sections: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = sections.as_slice() else { return Err(Refusal::Form) };
        if sections.iter().any(|section| section.is_empty()) {
            return Err(Refusal::Form);
        }
        let message = text.get(..header.len() + 1 + payload.len()).ok_or(Refusal::Form)?;
        let header = object("header", header)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::NoAlgorithm)?.to_owned();
        if !ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(Refusal::UnknownAlgorithm);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Refusal::KeyId),
        };
        let claims = object("payload", payload)?;
        for name in ["iss", "sub", "jti"] {
            if claims.get(name).is_some_and(|claim| !claim.is_string()) {
                return Err(Refusal::NoString(name));
            }
        }
        for name in ["iat", "nbf", "exp"] {
            seconds(&claims, name)?;
        }
        let audience_is_sound = match claims.get("aud") {
            None | Some(Value::String(_)) => true,
            Some(Value::Array(items)) => items.iter().all(Value::is_string),
            Some(_) => false,
        };
        if !audience_is_sound {
            return Err(Refusal::NoAudience);
        }
        decoded("signature", signature)?;
        Ok(Self { algorithm, key_id, claims, message, signature })
    }

    pub(super) fn issuer(&self) -> Option<&String> {
        match self.claims.get("iss") {
            Some(Value::String(issuer)) => Some(issuer),
            _ => None,
        }
    }

    pub(super) fn audiences(&self) -> impl Iterator<Item = &str> {
        let audience = self.claims.get("aud");
        let several = audience.and_then(Value::as_array).into_iter().flatten();
        several.chain(audience.filter(|audience| audience.is_string())).filter_map(Value::as_str)
    }

    /// Checks the claims `nbf` and `exp`; `now` is in seconds since 1970, `skew` in seconds.
    pub(super) fn check_time(&self, now: u64, skew: u64) -> Result<(), Refusal> {
        if seconds(&self.claims, "nbf")?.is_some_and(|from| now.saturating_add(skew) < from) {
            return Err(Refusal::NotYetValid);
        }
        if seconds(&self.claims, "exp")?.is_some_and(|until| now > until.saturating_add(skew)) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let seconds = claim.as_f64().ok_or(Refusal::NoInteger(name))?;
    if !(0.0..18_446_744_073_709_551_615.0).contains(&seconds) {
        return Err(Refusal::NotPositive(name));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range, fractions aside")]
    Ok(Some(seconds as u64))
}

fn object(section: &'static str, text: &str) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(&decoded(section, text)?).map_err(|_| Refusal::Json(section))
}

fn decoded(section: &'static str, text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Base64(section))
}

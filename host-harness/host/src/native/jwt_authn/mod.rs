//! Subset of Envoy's `jwt_authn`: verifies JSON Web Tokens and stores their claims as dynamic metadata.
//!
//! Keys are from the bootstrap (`local_jwks`). Tokens are read from `authorization: Bearer …` and, as in Envoy, from
//! the query parameter `access_token`. The local replies to refused requests were compared with Envoy 1.40.

mod jwks;
mod refusal;
mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::bootstrap::PathMatch;
use crate::http::{Headers, LocalReply, Stream};

pub use jwks::{Jwks, JwksError};
use refusal::Refusal;
use token::Token;

const NAMESPACE: &str = "envoy.filters.http.jwt_authn";
const BEARER: &str = "Bearer ";
const PARAMETER: &str = "access_token=";
/// Accepted clock skew in seconds; Envoy's default.
const CLOCK_SKEW: u64 = 60;
/// Maximum length of the path in `www-authenticate`, in characters, as in Envoy.
const MAX_REALM_PATH: usize = 256;

/// Configuration of `jwt_authn`.
#[derive(Debug, Clone)]
pub struct JwtAuthn {
    /// Rules in order: the first rule with a matching path applies. A request without a matching rule needs no token.
    pub rules: Vec<Rule>,
}

/// Requirement for requests with a matching path.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Matched paths.
    pub path: PathMatch,
    /// Required tokens; `None`: no token is needed.
    pub requirement: Option<Requirement>,
}

/// Requirement of a token from any of some providers.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// Accepted providers, at least one.
    pub providers: Vec<Arc<Provider>>,
    /// Requests that pass without a valid token.
    pub bypass: Bypass,
}

/// Requests that pass without a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// No request.
    Never,
    /// Requests without a token: `allow_missing`.
    Missing,
    /// Requests without a token or with an invalid token: `allow_missing_or_failed`.
    MissingOrFailed,
}

/// Issuer of tokens, and the checks of its tokens.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Required claim `iss`; `None`: any issuer.
    pub issuer: Option<String>,
    /// Accepted audiences, at least one of which the claim `aud` must name; empty: any audience.
    pub audiences: Vec<String>,
    /// Keys that verify the signatures.
    pub keys: Jwks,
    /// Key of the claims in the filter's metadata; `None`: claims are not stored.
    pub payload_in_metadata: Option<String>,
    /// Whether the token stays in the request.
    pub forward: bool,
}

/// Token in a request.
struct Found {
    place: Place,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Query,
}

type Accepted<'a> = (Place, &'a Provider, Map<String, Value>);

impl JwtAuthn {
    pub(super) fn on_request_headers(&self, stream: &Stream) -> Option<LocalReply> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let checked = {
            let headers = stream.request_headers.borrow();
            let path = headers.text(":path").unwrap_or("");
            let rule = self.rules.iter().find(|rule| rule.path.matches(path))?;
            rule.requirement.as_ref()?.check(&found(&headers), now).map_err(|refusal| refusal.reply(&realm(&headers)))
        };
        match checked {
            Ok(accepted) => {
                accepted.into_iter().for_each(|accepted| accept(accepted, stream));
                None
            }
            Err(reply) => Some(reply),
        }
    }
}

impl Requirement {
    /// Returns the accepted tokens.
    ///
    /// One provider has to accept all tokens of the request; with [`Bypass::MissingOrFailed`], every token that some
    /// provider accepts is returned instead of an error.
    fn check(&self, tokens: &[Found], now: u64) -> Result<Vec<Accepted<'_>>, Refusal> {
        let mut worst = Refusal::Missing;
        for provider in &self.providers {
            let accepted = tokens.iter().map(|found| provider.accept(found, now));
            match accepted.collect::<Result<Vec<_>, _>>() {
                Ok(accepted) if !accepted.is_empty() => return Ok(accepted),
                Ok(_) => {}
                Err(refusal) if refusal.says_more_than(&worst) => worst = refusal,
                Err(_) => {}
            }
        }
        match self.bypass {
            Bypass::Missing if tokens.is_empty() => Ok(Vec::new()),
            Bypass::MissingOrFailed => Ok(tokens
                .iter()
                .filter_map(|found| self.providers.iter().find_map(|provider| provider.accept(found, now).ok()))
                .collect()),
            Bypass::Never | Bypass::Missing => Err(worst),
        }
    }
}

impl Provider {
    fn accept(&self, found: &Found, now: u64) -> Result<Accepted<'_>, Refusal> {
        let token = Token::parse(&found.text)?;
        if self.issuer.as_ref().is_some_and(|issuer| token.issuer() != Some(issuer)) {
            return Err(Refusal::UnknownIssuer);
        }
        token.check_time(now, CLOCK_SKEW)?;
        let is_for = |audience: &str| token.audiences().any(|known| trimmed(known) == trimmed(audience));
        if !self.audiences.is_empty() && !self.audiences.iter().any(|audience| is_for(audience)) {
            return Err(Refusal::Audience);
        }
        self.keys.verify(&token)?;
        Ok((found.place, self, token.claims))
    }
}

/// Returns an audience without its scheme and without a slash at the end: Envoy compares audiences in this form.
fn trimmed(audience: &str) -> &str {
    let audience = audience.strip_prefix("https://").or(audience.strip_prefix("http://")).unwrap_or(audience);
    audience.strip_suffix('/').unwrap_or(audience)
}

/// Returns every token of a request: from the query, then from the headers in reverse order, as in Envoy.
fn found(headers: &Headers) -> Vec<Found> {
    let query = headers.text(":path").and_then(|path| path.split_once('?')).map_or("", |(_, query)| query);
    let in_query = query.split('&').find_map(|pair| pair.strip_prefix(PARAMETER)).map(str::to_owned);
    let authorizations = headers.iter().filter(|(name, _)| name.as_ref() == b"authorization");
    let in_headers = authorizations.filter_map(|(_, value)| {
        let (_, after) = std::str::from_utf8(value).ok()?.split_once(BEARER)?;
        let is_of_token = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        Some(after.trim_start_matches(|character| !is_of_token(character)).to_owned())
    });
    let mut found: Vec<Found> = in_headers.map(|text| Found { place: Place::Header, text }).collect();
    found.extend(in_query.map(|text| Found { place: Place::Query, text }));
    found.reverse();
    found
}

fn accept((place, provider, claims): Accepted<'_>, stream: &Stream) {
    if !provider.forward {
        remove(place, &mut stream.request_headers.borrow_mut());
    }
    if let Some(key) = &provider.payload_in_metadata {
        let mut metadata = stream.dynamic_metadata.borrow_mut();
        let ours = metadata.entry(NAMESPACE.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(ours) = ours {
            ours.insert(key.clone(), Value::Object(claims));
        }
    }
}

fn remove(place: Place, headers: &mut Headers) {
    match place {
        Place::Header => headers.remove(b"authorization"),
        Place::Query => {
            let Some((path, query)) = headers.text(":path").and_then(|path| path.split_once('?')) else { return };
            let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(PARAMETER)).collect();
            let path = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
            headers.set(":path", path);
        }
    }
}

/// Returns the realm for `www-authenticate`: the requested URL.
fn realm(headers: &Headers) -> String {
    let part = |name: &str| headers.text(name).unwrap_or("");
    let path: String = part(":path").chars().take(MAX_REALM_PATH).collect();
    format!("{}://{}{path}", part(":scheme"), part(":authority"))
}

impl Refusal {
    fn reply(&self, realm: &str) -> LocalReply {
        let text = self.to_string();
        let more = if matches!(self, Self::Missing) { "" } else { ", error=\"invalid_token\"" };
        let challenge = format!("Bearer realm=\"{realm}\"{more}");
        LocalReply {
            status: if matches!(self, Self::Audience) { 403 } else { 401 },
            headers: [("www-authenticate", challenge)].into_iter().collect(),
            details: format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")),
            body: Bytes::from(text),
            grpc_status: None,
            changes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

//! Verified JSON Web Tokens, whose claims become dynamic metadata: Envoy's `jwt_authn`, in the small.
//!
//! Keys are those of the file (`local_jwks`); tokens come in `authorization: Bearer …` or, as in Envoy, in the query
//! parameter `access_token`. What a refused request is told was compared with Envoy 1.40.

mod jwks;
mod refusal;
mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::abi::headers::Headers;
use crate::abi::stream::{LocalReply, Stream};
use crate::bootstrap::PathMatch;

pub use jwks::{Jwks, JwksError};
use refusal::Refusal;
use token::Token;

const NAMESPACE: &str = "envoy.filters.http.jwt_authn";
const BEARER: &str = "Bearer ";
const PARAMETER: &str = "access_token=";
/// What clocks may differ by, in seconds; Envoy's default.
const CLOCK_SKEW: u64 = 60;
/// Envoy's bound on the path that `www-authenticate` repeats.
const MAX_REALM_PATH: usize = 256;

/// Which requests need which tokens.
#[derive(Debug, Clone)]
pub struct JwtAuthn {
    /// The first whose path matches counts; where none does, nothing is needed.
    pub rules: Vec<Rule>,
}

/// What requests to some paths need.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Those paths.
    pub path: PathMatch,
    /// `None`: nothing.
    pub requirement: Option<Requirement>,
}

/// A token of any of these providers.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// At least one.
    pub providers: Vec<Arc<Provider>>,
    /// What is let through without.
    pub bypass: Bypass,
}

/// Which requests pass without a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// None.
    Never,
    /// Those without any token: `allow_missing`.
    Missing,
    /// Those with a wrong one, too: `allow_missing_or_failed`.
    MissingOrFailed,
}

/// Who issues tokens, and how they are told from others.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The claim `iss`; `None`: any.
    pub issuer: Option<String>,
    /// One of which the claim `aud` must name; empty: any.
    pub audiences: Vec<String>,
    /// What they are signed with.
    pub keys: Jwks,
    /// The key that the claims are under in the filter's metadata; `None`: they are not kept.
    pub payload_in_metadata: Option<String>,
    /// Whether the token stays in the request.
    pub forward: bool,
}

/// A token as it was found in a request.
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
    /// The tokens that are accepted: all there are, or with [`Bypass::MissingOrFailed`] those that can be.
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

/// As Envoy compares audiences: without a scheme, and without a slash at the end.
fn trimmed(audience: &str) -> &str {
    let audience = audience.strip_prefix("https://").or(audience.strip_prefix("http://")).unwrap_or(audience);
    audience.strip_suffix('/').unwrap_or(audience)
}

/// Every token of a request, that of the query first, as Envoy takes them.
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

/// What `www-authenticate` names: what was asked for.
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
        }
    }
}

#[cfg(test)]
mod tests;

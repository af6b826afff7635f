//! JSON Web Key Set. (RFC 7517, RFC 7518.)
//!
//! `jsonwebtoken` verifies the signatures. It has a parser of key sets too, but that parser takes keys that verify
//! nothing, and does not say which member of a key is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::refusal::Refusal;
use super::token::Token;
use crate::jws;

/// Keys of a provider, at least one.
#[derive(Debug, Clone)]
pub struct Jwks {
    keys: Vec<Key>,
}

/// Error of a key set that the harness cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The text is not a JSON Web Key Set.
    #[error("expected a JSON object with a list `keys`: {reason}")]
    Syntax {
        /// The cause, from the JSON parser.
        reason: String,
    },
    /// The set has no keys.
    #[error("expected at least one key in `keys`")]
    Empty,
    /// A key has a type or curve that the harness does not support.
    #[error(
        "keys[{index}]: kty `{kty}` with crv `{crv}` is not honoured by the harness; expected RSA, oct, EC with P-256 or P-384, or OKP with Ed25519"
    )]
    Kind {
        /// Index of the key, from 0.
        index: usize,
        /// Key type.
        kty: String,
        /// Curve; empty: none.
        crv: String,
    },
    /// A member of a key is missing or wrong.
    #[error("keys[{index}].{member}: expected {expected}, Base64url without padding")]
    Member {
        /// Index of the key, from 0.
        index: usize,
        /// Name of the member.
        member: &'static str,
        /// Expected value.
        expected: &'static str,
    },
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    /// `None`: numbers of an RSA key that RFC 7518 does not allow; the key verifies nothing.
    material: Option<DecodingKey>,
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<WireKey>,
}

/// JSON Web Key; unknown members are ignored (RFC 7517).
#[derive(Deserialize)]
struct WireKey {
    kty: String,
    #[serde(default)]
    crv: String,
    kid: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwks {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    /// See [`JwksError`].
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        let set: WireSet =
            serde_json::from_str(text).map_err(|error| JwksError::Syntax { reason: error.to_string() })?;
        if set.keys.is_empty() {
            return Err(JwksError::Empty);
        }
        let keys = set.keys.into_iter().enumerate().map(|(index, key)| key.read(index)).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        let differ = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
        let name = Some(token.algorithm.clone());
        let algorithm = token.algorithm.parse::<Algorithm>().ok();
        let mut refusal = Refusal::NoKey;
        for key in &self.keys {
            if differ(&key.id, &token.key_id) || differ(&key.algorithm, &name) {
                continue;
            }
            let with = key.material.as_ref().zip(algorithm);
            if with.is_some_and(|(key, algorithm)| jws::is_signed(token.message, token.signature, key, algorithm)) {
                return Ok(());
            }
            refusal = Refusal::Verification;
        }
        Err(refusal)
    }
}

impl WireKey {
    fn read(self, index: usize) -> Result<Key, JwksError> {
        let bytes = |member, value: &Option<String>, expected, is_sound: &dyn Fn(usize) -> bool| {
            let bytes = value.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            bytes.filter(|bytes| is_sound(bytes.len())).ok_or(JwksError::Member { index, member, expected })
        };
        // Uncompressed point: the byte 4, then both coordinates.
        let point = |size: usize, expected| {
            let x = bytes("x", &self.x, expected, &|length| length == size)?;
            let y = bytes("y", &self.y, expected, &|length| length == size)?;
            Ok([&[4][..], &x, &y].concat())
        };
        let material = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => {
                let n =
                    bytes("n", &self.n, "a modulus of 2048 to 8192 bits", &|length| (256..=1024).contains(&length))?;
                let e = bytes("e", &self.e, "an exponent", &|length| (1..=5).contains(&length))?;
                let is_sound =
                    n.first() != Some(&0) && e.first() != Some(&0) && e.last().is_some_and(|last| last % 2 == 1);
                is_sound.then(|| DecodingKey::from_rsa_raw_components(&n, &e))
            }
            ("EC", "P-256") => Some(DecodingKey::from_ec_der(&point(32, "a coordinate of 32 bytes")?)),
            ("EC", "P-384") => Some(DecodingKey::from_ec_der(&point(48, "a coordinate of 48 bytes")?)),
            ("OKP", "Ed25519") => {
                let x = bytes("x", &self.x, "a key of 32 bytes", &|length| length == 32)?;
                Some(DecodingKey::from_ed_der(&x))
            }
            ("oct", _) => DecodingKey::from_secret(&bytes("k", &self.k, "a secret", &|length| length > 0)?).ok(),
            _ => return Err(JwksError::Kind { index, kty: self.kty, crv: self.crv }),
        };
        Ok(Key { id: self.kid, algorithm: self.alg, material })
    }
}

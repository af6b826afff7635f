//! JSON Web Key Set, and verification of token signatures. (RFC 7517, RFC 7518.)

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::Deserialize;

use super::refusal::Refusal;
use super::token::Token;

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
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed point: the byte 4, then both coordinates.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
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
        let algorithm = Some(token.algorithm.clone());
        let mut refusal = Refusal::NoKey;
        for key in &self.keys {
            if differ(&key.id, &token.key_id) || differ(&key.algorithm, &algorithm) {
                continue;
            }
            if key.material.signed(token) {
                return Ok(());
            }
            refusal = Refusal::Verification;
        }
        Err(refusal)
    }
}

impl Material {
    fn signed(&self, token: &Token<'_>) -> bool {
        let (message, signature) = (token.message.as_bytes(), token.signature.as_slice());
        let by_key = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (self, token.algorithm.as_str()) {
            (Self::Rsa { n, e }, name) => rsa(name).is_some_and(|algorithm| {
                signature::RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature).is_ok()
            }),
            (Self::P256(point), "ES256") => by_key(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), "ES384") => by_key(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Self::Ed25519(key), "EdDSA") => by_key(&signature::ED25519, key),
            (Self::Secret(secret), name) => mac(name)
                .is_some_and(|algorithm| hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()),
            (Self::P256(_) | Self::P384(_) | Self::Ed25519(_), _) => false,
        }
    }
}

impl WireKey {
    fn read(self, index: usize) -> Result<Key, JwksError> {
        let bytes = |member, value: &Option<String>, expected, is_sound: &dyn Fn(usize) -> bool| {
            let bytes = value.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            bytes.filter(|bytes| is_sound(bytes.len())).ok_or(JwksError::Member { index, member, expected })
        };
        let point = |size: usize, expected| {
            let x = bytes("x", &self.x, expected, &|length| length == size)?;
            let y = bytes("y", &self.y, expected, &|length| length == size)?;
            Ok([&[4][..], &x, &y].concat())
        };
        let material = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Material::Rsa {
                n: bytes("n", &self.n, "a modulus of 2048 to 8192 bits", &|length| (256..=1024).contains(&length))?,
                e: bytes("e", &self.e, "an exponent", &|length| (1..=5).contains(&length))?,
            },
            ("EC", "P-256") => Material::P256(point(32, "a coordinate of 32 bytes")?),
            ("EC", "P-384") => Material::P384(point(48, "a coordinate of 48 bytes")?),
            ("OKP", "Ed25519") => Material::Ed25519(bytes("x", &self.x, "a key of 32 bytes", &|length| length == 32)?),
            ("oct", _) => Material::Secret(bytes("k", &self.k, "a secret", &|length| length > 0)?),
            _ => return Err(JwksError::Kind { index, kty: self.kty, crv: self.crv }),
        };
        Ok(Key { id: self.kid, algorithm: self.alg, material })
    }
}

fn rsa(name: &str) -> Option<&'static signature::RsaParameters> {
    Some(match name {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn mac(name: &str) -> Option<hmac::Algorithm> {
    Some(match name {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

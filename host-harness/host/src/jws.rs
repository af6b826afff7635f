//! Signatures of JSON Web Tokens: `jsonwebtoken` with ring as its cryptography.
//!
//! The TLS of the harness uses ring already. The providers that `jsonwebtoken` brings along would add some forty crates
//! to the first build.

use std::sync::Once;

use jsonwebtoken::crypto::{self, CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaKeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use ring::{error::Unspecified, hmac};

pub use jsonwebtoken::{Algorithm, EncodingKey};

/// Private key of the tokens in `envoy/` and of `weir test`, in PKCS #8 and Base64url. It is public: for trying out only,
/// never to be trusted.
pub const TRIAL_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRRGSDMvAiw341-3jtsdKDiF98XXCxw9Hz0XE1B7Q2DSh\
    RANCAASmh-innRfmcjcSjfyRtiOIkvWRgDxxxcVSJTf5nL-Gm3ZB9WS5-Zn97gmyv-QMDDUhkHulzG00sTS3tvkscGp8";

/// Signs `message` and returns the signature in Base64url, as in the third part of a token (RFC 7515 §3.1).
///
/// # Errors
/// If the algorithm is neither ES256 nor of HMAC, or the key is not one of it. A key of ES256 is in PKCS #8, with its
/// public half.
pub fn sign(message: &str, key: &EncodingKey, algorithm: Algorithm) -> Result<String, Error> {
    install();
    crypto::sign(message.as_bytes(), key, algorithm)
}

/// Whether `signature`, in Base64url, is one of `message`. A key that does not fit the algorithm verifies nothing.
pub(crate) fn is_signed(message: &str, signature: &str, key: &DecodingKey, algorithm: Algorithm) -> bool {
    install();
    crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
}

fn install() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| Ok(Box::new(signing(*algorithm, key)?) as Box<dyn JwtSigner>),
        verifier_factory: |algorithm, key| Ok(Box::new(verifying(*algorithm, key)?) as Box<dyn JwtVerifier>),
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    // A program around this crate may have installed a provider of its own, which serves as well.
    ONCE.call_once(|| {
        let _ = RING.install_default();
    });
}

/// Key for signatures by one algorithm.
struct Signing {
    algorithm: Algorithm,
    key: SigningKey,
}

enum SigningKey {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
}

fn signing(algorithm: Algorithm, key: &EncodingKey) -> Result<Signing, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = match (algorithm, hmac_of(algorithm)) {
        (_, Some(hash)) => SigningKey::Hmac(hmac::Key::new(hash, key.as_bytes())),
        (Algorithm::ES256, None) => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &SystemRandom::new());
            SigningKey::Ecdsa(pair.map_err(|_| ErrorKind::InvalidEcdsaKey)?)
        }
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Signing { algorithm, key })
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        match &self.key {
            SigningKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            SigningKey::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(unspecified)?.as_ref().to_vec())
            }
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Key that verifies signatures of one algorithm.
struct Verifying {
    algorithm: Algorithm,
    key: VerifyingKey,
}

enum VerifyingKey {
    Hmac(hmac::Key),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Curve(UnparsedPublicKey<Vec<u8>>),
}

fn verifying(algorithm: Algorithm, key: &DecodingKey) -> Result<Verifying, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let on_curve = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
        VerifyingKey::Curve(UnparsedPublicKey::new(algorithm, point.to_vec()))
    };
    let key = match (algorithm, key.kind()) {
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => on_curve(&ECDSA_P256_SHA256_FIXED, point),
        (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => on_curve(&ECDSA_P384_SHA384_FIXED, point),
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => on_curve(&ED25519, point),
        (_, DecodingKeyKind::SecretOrDer(secret)) => {
            let hash = hmac_of(algorithm).ok_or(ErrorKind::InvalidKeyFormat)?;
            VerifyingKey::Hmac(hmac::Key::new(hash, secret))
        }
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let parameters = rsa_of(algorithm).ok_or(ErrorKind::InvalidKeyFormat)?;
            VerifyingKey::Rsa(parameters, RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
        }
    };
    Ok(Verifying { algorithm, key })
}

impl Verifier<Vec<u8>> for Verifying {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified: Result<(), Unspecified> = match &self.key {
            VerifyingKey::Hmac(key) => hmac::verify(key, message, signature),
            VerifyingKey::Rsa(parameters, key) => key.verify(parameters, message, signature),
            VerifyingKey::Curve(key) => key.verify(message, signature),
        };
        verified.map_err(unspecified)
    }
}

impl JwtVerifier for Verifying {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn unspecified(_: Unspecified) -> signature::Error {
    signature::Error::new()
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_of(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

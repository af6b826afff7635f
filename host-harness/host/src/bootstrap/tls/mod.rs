//! Parser of TLS contexts of downstreams and upstreams, as configurations of rustls.
//!
//! As in Envoy, an upstream's certificate is verified only with a `trusted_ca`, and its name only with
//! `match_typed_subject_alt_names`.

use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::document::{Fields, Node};
use super::support;
use secrets::{Kind, secret};
use verifier::Verifier;

mod secrets;
mod verifier;

/// TLS of a cluster's connections.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// Configuration of the handshake.
    pub config: Arc<ClientConfig>,
    /// Server name that is sent; with an IP address, none is sent.
    pub server_name: ServerName<'static>,
}

/// Raw connections, as without a transport socket.
const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// Fields of `CommonTlsContext`.
struct Common {
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: Vec<Vec<u8>>,
    trusted: Option<Arc<RootCertStore>>,
    names: Vec<String>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

/// Returns the fields of a TLS context; `None` for a raw connection.
fn context<'a>(node: &Node<'a>, message: &'static support::Message) -> Option<Option<Fields<'a>>> {
    let mut fields = node.message(&support::TRANSPORT_SOCKET)?;
    let _name = fields.require("name").and_then(|node| node.string());
    let typed = fields.require("typed_config");
    fields.finish();
    let typed = typed?;
    if typed.fields()?.message_type()? == RAW {
        return Some(None);
    }
    typed.typed(message).map(Some)
}

/// Parses a filter chain's transport socket; `None` for a raw connection.
pub(super) fn downstream_tls(node: &Node<'_>) -> Option<Option<Arc<ServerConfig>>> {
    let Some(mut fields) = context(node, &support::DOWNSTREAM_TLS)? else { return Some(None) };
    let common = fields.require("common_tls_context").map(|node| (common(&node), node));
    let requires = fields.take("require_client_certificate").map_or(Some(false), |node| node.boolean());
    fields.finish();
    let (common, place) = common?;
    let (common, requires) = (common?, requires?);
    if !common.names.is_empty() {
        let names = place.child("validation_context").child("match_typed_subject_alt_names");
        names.unsupported("not honoured by the harness for downstreams");
        return None;
    }
    let Some((chain, key)) = common.identity else {
        return place.expected("a certificate and its key in `tls_certificates`");
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let build = || -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&common.versions)
            .map_err(|error| error.to_string())?;
        let builder = match common.trusted {
            None => builder.with_no_client_auth(),
            Some(trusted) => {
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(trusted, provider.clone());
                let verifier = if requires { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let key = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A certificate of X.509 version 1, which rustls cannot inspect.
            Ok(()) | Err(rustls::Error::InvalidCertificate(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
    };
    match build() {
        Ok(mut config) => {
            config.alpn_protocols = common.alpn;
            Some(Some(Arc::new(config)))
        }
        Err(why) => {
            place.refuse(&format!("not usable for TLS: {why}"));
            None
        }
    }
}

/// Parses a cluster's transport socket; `None` for raw connections.
pub(super) fn upstream_tls(node: &Node<'_>, is_http2: bool) -> Option<Option<UpstreamTls>> {
    let Some(mut fields) = context(node, &support::UPSTREAM_TLS)? else { return Some(None) };
    let sni = fields.take("sni").map(|node| (node.string(), node));
    let common = fields.take("common_tls_context").map(|node| (common(&node), node));
    fields.finish();
    let server_name = match &sni {
        None => None,
        Some((name, place)) => match ServerName::try_from(name.clone()?) {
            Ok(name) => Some(name),
            Err(_) => return place.expected("a DNS name"),
        },
    };
    let common = match common {
        Some((common, _)) => common?,
        None => Common {
            identity: None,
            alpn: Vec::new(),
            trusted: None,
            names: Vec::new(),
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
        },
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Verifier::new(provider.clone(), common.trusted, common.names));
    let build = || -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&common.versions)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        match common.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key),
        }
    };
    let mut config = match build() {
        Ok(config) => config,
        Err(error) => {
            node.refuse(&format!("not usable for TLS: {error}"));
            return None;
        }
    };
    config.enable_sni = server_name.is_some();
    config.alpn_protocols = common.alpn;
    if config.alpn_protocols.is_empty() && is_http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let nameless = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    Some(Some(UpstreamTls { config: Arc::new(config), server_name: server_name.unwrap_or(nameless) }))
}

fn common(node: &Node<'_>) -> Option<Common> {
    let mut fields = node.message(&support::COMMON_TLS)?;
    let certificates = fields.take("tls_certificates").map(|node| (node.each(identity), node));
    let alpn = fields.take("alpn_protocols").map(|node| node.each(Node::string)).unwrap_or_default();
    let secrets = fields.take("tls_certificate_sds_secret_configs");
    let secrets = secrets.map(|node| (node.each(|node| secret(node, Kind::Certificate, identity)), node));
    let plain = fields.take("validation_context").map(|node| validation(&node));
    let from_secret = fields.take("validation_context_sds_secret_config");
    let from_secret = from_secret.map(|node| secret(&node, Kind::Validation, validation));
    let combined = fields.take("combined_validation_context").map(|node| combined(&node));
    let validation = plain.or(from_secret).or(combined).unwrap_or(Some((None, Vec::new())));
    let versions = fields.take("tls_params").map_or(Some(rustls::DEFAULT_VERSIONS.to_vec()), |node| versions(&node));
    fields.finish();
    let identity = match certificates.or(secrets) {
        None => None,
        Some((identities, place)) => {
            let mut identities = identities.into_iter().collect::<Option<Vec<_>>>()?;
            if identities.len() > 1 {
                place.unsupported("expected one certificate, found several");
                return None;
            }
            identities.pop()
        }
    };
    let (trusted, names) = validation?;
    let alpn = alpn.into_iter().map(|name| name.map(String::into_bytes)).collect::<Option<_>>()?;
    Some(Common { identity, alpn, trusted, names, versions: versions? })
}

fn identity(node: &Node<'_>) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let mut fields = node.message(&support::TLS_CERTIFICATE)?;
    let chain = fields.require("certificate_chain").and_then(|node| certificates(&node));
    let key = fields.require("private_key").map(Node::secret).and_then(|node| {
        match PrivateKeyDer::from_pem_slice(&pem(&node)?) {
            Ok(key) => Some(key),
            Err(_) => {
                node.refuse("expected a private key in PEM, without a passphrase");
                None
            }
        }
    });
    fields.finish();
    Some((chain?, key?))
}

fn certificates(node: &Node<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let pem = pem(node)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            node.refuse("expected certificates in PEM");
            None
        }
    }
}

type Validation = (Option<Arc<RootCertStore>>, Vec<String>);

fn validation(node: &Node<'_>) -> Option<Validation> {
    let mut fields = node.message(&support::VALIDATION)?;
    let trusted = fields.take("trusted_ca").map(|node| {
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates(&node)?);
        if added == 0 { node.expected("certificates of authorities") } else { Some(Arc::new(store)) }
    });
    let names = fields.take("match_typed_subject_alt_names").map(|node| node.each(subject_name)).unwrap_or_default();
    fields.finish();
    let names = names.into_iter().collect::<Option<Vec<String>>>()?;
    Some((trusted.map_or(Some(None), |trusted| trusted.map(Some))?, names))
}

/// Parses a `CombinedCertificateValidationContext`: the secret's authorities go before the file's, and names of both
/// are accepted.
fn combined(node: &Node<'_>) -> Option<Validation> {
    let mut fields = node.message(&support::COMBINED_VALIDATION)?;
    let own = fields.require("default_validation_context").and_then(|node| validation(&node));
    let from_secret = fields.require("validation_context_sds_secret_config");
    let from_secret = from_secret.and_then(|node| secret(&node, Kind::Validation, validation));
    fields.finish();
    let ((trusted, mut names), (secret_trusted, secret_names)) = (own?, from_secret?);
    names.extend(secret_names);
    Some((secret_trusted.or(trusted), names))
}

fn subject_name(node: &Node<'_>) -> Option<String> {
    let mut fields = node.message(&support::SAN_MATCHER)?;
    let kind = fields.require("san_type").and_then(|node| node.one_of(&[("DNS", ())]));
    let matcher = fields.require("matcher");
    fields.finish();
    let mut fields = matcher?.message(&support::EXACT_MATCHER)?;
    let name = fields.require("exact").and_then(|node| node.string());
    fields.finish();
    kind?;
    name
}

fn versions(node: &Node<'_>) -> Option<Vec<&'static SupportedProtocolVersion>> {
    const NAMES: [(&str, u8); 5] = [("TLS_AUTO", 0), ("TLSv1_0", 1), ("TLSv1_1", 1), ("TLSv1_2", 2), ("TLSv1_3", 3)];
    let mut fields = node.message(&support::TLS_PARAMETERS)?;
    let mut version = |name: &str| fields.take(name).map_or(Some(0), |node| node.one_of(&NAMES));
    let (least, most) = (version("tls_minimum_protocol_version"), version("tls_maximum_protocol_version"));
    fields.finish();
    let (least, most) = (least?, most?);
    let mut versions = Vec::new();
    if least <= 2 && (most == 0 || most >= 2) {
        versions.push(&rustls::version::TLS12);
    }
    if most == 0 || most == 3 {
        versions.push(&rustls::version::TLS13);
    }
    if versions.is_empty() { node.expected("TLSv1_2 or TLSv1_3 between minimum and maximum") } else { Some(versions) }
}

/// Bytes of a `DataSource`. Files are read once; their paths are relative to the current directory.
fn pem(node: &Node<'_>) -> Option<Vec<u8>> {
    let mut fields = node.message(&support::PEM_SOURCE)?;
    let file = fields.take("filename");
    let text = fields.take("inline_string");
    let bytes = fields.take("inline_bytes");
    let variable = fields.take("environment_variable");
    fields.finish();
    match (file, text, bytes, variable) {
        (Some(file), None, None, None) => match crate::documents::read_regular(file.string()?.as_ref()) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                file.refuse(&format!("cannot be read: {error}"));
                None
            }
        },
        (None, Some(text), None, None) => text.string().map(String::into_bytes),
        (None, None, Some(bytes), None) => {
            match base64::engine::general_purpose::STANDARD.decode(bytes.clone().secret().string()?) {
                Ok(bytes) => Some(bytes),
                Err(_) => bytes.secret().expected("Base64"),
            }
        }
        (None, None, None, Some(variable)) => match std::env::var(variable.string()?) {
            Ok(text) => Some(text.into_bytes()),
            Err(_) => {
                variable.refuse("expected an environment variable that is set");
                None
            }
        },
        _ => node.expected("one of `filename`, `inline_string`, `inline_bytes` and `environment_variable`"),
    }
}

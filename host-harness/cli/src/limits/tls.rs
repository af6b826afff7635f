//! Connection to Redis over TLS.
//!
//! The Redis client's own TLS has one name for the address, SNI and the certificate's check. Proxies have several, so
//! rustls is used here, and the client's parser of replies.

use std::io::{self, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionLike, Parser, RedisError, RedisResult, Value};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::reason::reason_of_io;

/// Certificates or a key as PEM.
#[derive(Clone, PartialEq)]
pub(super) enum Pem {
    /// File, with the place of its name if a configuration has it.
    File { file: PathBuf, place: Option<String> },
    /// Text of a configuration, with its place.
    Inline { text: Vec<u8>, place: String },
}

/// Verification of the server, and the client's certificate.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tls {
    /// Authorities of the server's certificate; `None`: those of the system.
    pub(super) ca: Option<Pem>,
    /// Certificate chain of the client.
    pub(super) certificate: Option<Pem>,
    /// Private key of the client.
    pub(super) key: Option<Pem>,
    /// Name in the server's certificate, also sent as SNI; `None`: the host.
    pub(super) name: Option<String>,
}

/// Reasons why a TLS connection is not possible.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{place}: {source}")]
    Read {
        /// The file, after the place of its name if a configuration has it.
        place: String,
        /// The cause.
        source: io::Error,
    },
    /// A file or text has no certificate or no key.
    #[error("{place}: expected {expected} in PEM form")]
    Pem {
        /// The file, or the text's place.
        place: String,
        /// The kind of PEM section.
        expected: &'static str,
    },
    /// A certificate without a key, or a key without a certificate.
    #[error("expected the client's certificate and its key, found one of them")]
    Half,
    /// The name of the server is malformed.
    #[error("expected a host name or an IP address as the server's name, found {found:?}")]
    Name {
        /// The name.
        found: String,
    },
    /// The system has no certificates of authorities.
    #[error("no authorities of certificates on this system; --tls-ca gives them")]
    NoRoots,
    /// The client's certificate and key do not fit, or an authority's certificate is malformed.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// The handshake failed.
    #[error("handshake: {}", reason_of_io(.0))]
    Handshake(#[from] io::Error),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

impl Pem {
    fn place(&self) -> String {
        match self {
            Self::File { file, place: None } => file.display().to_string(),
            Self::File { file, place: Some(place) } => format!("{place}: {}", file.display()),
            Self::Inline { place, .. } => format!("{place}: inline PEM"),
        }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::File { file, .. } => {
                std::fs::read(file).map_err(|source| TlsError::Read { place: self.place(), source })
            }
            Self::Inline { text, .. } => Ok(text.clone()),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read()?).collect();
        let none = || TlsError::Pem { place: self.place(), expected: "a certificate" };
        found.ok().filter(|found| !found.is_empty()).ok_or_else(none)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let none = |_| TlsError::Pem { place: self.place(), expected: "a private key" };
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(none)
    }
}

impl Tls {
    fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(self.roots()?);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(chain), Some(key)) => Ok(builder.with_client_auth_cert(chain.certificates()?, key.key()?)?),
            _ => Err(TlsError::Half),
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => ca.certificates()?.into_iter().try_for_each(|certificate| roots.add(certificate))?,
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
    }
}

/// A connection over TLS.
pub(super) struct Secured {
    stream: StreamOwned<ClientConnection, TcpStream>,
    parser: Parser,
    is_open: bool,
}

impl Secured {
    /// Runs the handshake of TLS over a connection to `host`.
    pub(super) fn over(mut stream: TcpStream, host: &str, tls: &Tls) -> Result<Self, TlsError> {
        let name = tls.name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { found: name.to_owned() })?;
        let mut session = ClientConnection::new(Arc::new(tls.config()?), server)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let stream = StreamOwned::new(session, stream);
        Ok(Self { stream, parser: Parser::new(), is_open: true })
    }

    /// Sets the time limit of a read or a write.
    pub(super) fn set_timeout(&self, within: Duration) -> RedisResult<()> {
        self.stream.sock.set_read_timeout(Some(within))?;
        Ok(self.stream.sock.set_write_timeout(Some(within))?)
    }

    fn send(&mut self, commands: &[u8]) -> RedisResult<()> {
        Ok(self.stream.write_all(commands).and_then(|()| self.stream.flush())?)
    }

    fn receive(&mut self) -> RedisResult<Value> {
        let reply = self.parser.parse_value(&mut self.stream);
        self.is_open &= reply.is_ok();
        reply
    }
}

impl ConnectionLike for Secured {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.send(command)?;
        match self.receive()? {
            Value::ServerError(error) => Err(RedisError::from(error)),
            reply => Ok(reply),
        }
    }

    fn req_packed_commands(&mut self, commands: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        self.send(commands)?;
        for _ in 0..offset {
            self.receive()?;
        }
        (0..count).map(|_| self.receive()).collect()
    }

    /// The database of a new connection: the client library asks only to connect again, which this one never does.
    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").query::<()>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.is_open
    }
}

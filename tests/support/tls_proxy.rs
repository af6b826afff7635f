//! TLS in front of Redis, which the Redis of the tests is built without; and an authority for certificates.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedKey, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer, server::WebPkiClientVerifier},
};

/// Authority that signs the certificates of a test.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A certificate of the server.
    Server,
    /// A certificate of a client.
    Client,
}

/// Clients that a proxy admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admits {
    /// Clients with a certificate of the authority.
    Certified,
    /// Any client.
    Everybody,
}

/// Certificate with its key.
pub type Identity = CertifiedKey<KeyPair>;

/// Proxy that ends TLS. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct TlsProxy {
    addr: SocketAddr,
    identity: watch::Sender<Arc<ServerConfig>>,
    authority: Arc<Authority>,
    admits: Admits,
    cut: watch::Sender<()>,
    log: Arc<Log>,
    listening: JoinHandle<()>,
}

/// What the proxy has seen of its clients.
#[derive(Debug, Default)]
struct Log {
    accepted: AtomicU64,
    refused: AtomicU64,
    last: Mutex<Option<Peer>>,
}

/// Client of the latest connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Server name that the client asked for.
    pub server_name: Option<String>,
    /// Certificate of the client, in DER.
    pub certificate: Vec<u8>,
}

impl Authority {
    /// Creates an authority.
    pub fn new() -> Arc<Self> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Arc::new(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Signs a certificate for this name. `change` may change it, such as its times.
    pub fn sign(&self, side: Side, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let signing_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = match side {
            Side::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Side::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        change(&mut params);
        let cert = params.signed_by(&signing_key, &self.issuer).expect("a certificate");
        Identity { cert, signing_key }
    }

    /// Signs a certificate that expired years ago.
    pub fn sign_expired(&self, side: Side, name: &str) -> Identity {
        self.sign(side, name, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    /// Puts `tls.crt`, `tls.key` and `ca.crt` into `folder`, as a Kubernetes secret is put there: all are links through
    /// the link `..data`, which is replaced in one step.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn install(&self, folder: &Path, client: &Identity) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let version = format!("..{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let place = folder.join(&version);
        fs::create_dir_all(&place)?;
        fs::write(place.join("tls.crt"), client.cert.pem())?;
        fs::write(place.join("tls.key"), client.signing_key.serialize_pem())?;
        fs::write(place.join("ca.crt"), self.certificate.pem())?;
        std::os::unix::fs::symlink(&version, folder.join("..next"))?;
        fs::rename(folder.join("..next"), folder.join("..data"))?;
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let link = folder.join(name);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(Path::new("..data").join(name), link)?;
            }
        }
        Ok(())
    }

    fn server_config(&self, server: &Identity, admits: Admits) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate of an authority");
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let verifier = if admits == Admits::Everybody { verifier.allow_unauthenticated() } else { verifier };
        let config = config.expect("versions").with_client_cert_verifier(verifier.build().expect("roots"));
        let key = PrivateKeyDer::Pkcs8(server.signing_key.serialize_der().into());
        Arc::new(config.with_single_cert(vec![server.cert.der().clone()], key).expect("a key for the certificate"))
    }
}

impl TlsProxy {
    /// Starts a proxy to `target` on a free port, for clients with a certificate. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub async fn start(target: SocketAddr, authority: &Arc<Authority>, server: &Identity) -> io::Result<Self> {
        Self::start_for(Admits::Certified, target, authority, server).await
    }

    /// Starts a proxy to `target` on a free port, for these clients. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub async fn start_for(
        admits: Admits,
        target: SocketAddr,
        authority: &Arc<Authority>,
        server: &Identity,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (identity, served) = watch::channel(authority.server_config(server, admits));
        let (cut, cuts) = watch::channel(());
        let log = Arc::new(Log::default());
        let listening = tokio::spawn(listen(listener, target, served, cuts, log.clone()));
        Ok(Self { addr, identity, authority: authority.clone(), admits, cut, log, listening })
    }

    /// The address that the proxy listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Uses this certificate for connections from now on.
    pub fn serve(&self, server: &Identity) {
        self.identity.send_replace(self.authority.server_config(server, self.admits));
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Numbers of handshakes that were completed and that failed.
    pub fn handshakes(&self) -> (u64, u64) {
        (self.log.accepted.load(Ordering::Relaxed), self.log.refused.load(Ordering::Relaxed))
    }

    /// The client of the latest completed handshake.
    pub fn last(&self) -> Option<Peer> {
        self.log.last.lock().expect("no panic").clone()
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    listener: TcpListener,
    target: SocketAddr,
    served: watch::Receiver<Arc<ServerConfig>>,
    cuts: watch::Receiver<()>,
    log: Arc<Log>,
) {
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let acceptor = TlsAcceptor::from(served.borrow().clone());
                let (mut cuts, log) = (cuts.clone(), log.clone());
                cuts.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        _ = carry(client, target, acceptor, &log) => {}
                    }
                });
            }
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, acceptor: TlsAcceptor, log: &Log) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut secured = match acceptor.accept(client).await {
        Ok(secured) => secured,
        Err(why) => {
            log.refused.fetch_add(1, Ordering::Relaxed);
            return Err(why);
        }
    };
    let session = secured.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|it| it.to_vec());
    let server_name = session.server_name().map(str::to_owned);
    *log.last.lock().expect("no panic") = Some(Peer { server_name, certificate: certificate.unwrap_or_default() });
    log.accepted.fetch_add(1, Ordering::Relaxed);
    let mut redis = TcpStream::connect(target).await?;
    redis.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut secured, &mut redis).await.map(drop)
}

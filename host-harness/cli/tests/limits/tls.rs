//! `weir limits` over TLS, to a real Redis behind a proxy that ends TLS: the Redis of the tests is built without TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use weir_provision::redis::RedisServer;

use crate::{Folder, bootstrap, cluster, limiter, redis};

const NAME: &str = "redis.example";
const PASSWORD: &str = "s3cret";

/// A Redis that is reached over TLS alone, by clients with a certificate.
struct Secured {
    redis: RedisServer,
    addr: SocketAddr,
    folder: Folder,
    _runtime: Runtime,
}

impl Secured {
    fn start() -> Option<Self> {
        let redis = redis(Some(PASSWORD))?;
        let folder = Folder::new();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let signed = |name: &str, purpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = signed(NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = signed("operator", ExtendedKeyUsagePurpose::ClientAuth);
        folder.write("ca.pem", ca_certificate.pem());
        folder.write("client.pem", client.pem());
        folder.write("client.key", client_key.serialize_pem());
        let stranger = KeyPair::generate().unwrap();
        let stranger_ca = CertificateParams::new(Vec::new()).unwrap().self_signed(&stranger).unwrap();
        folder.write("stranger.pem", stranger_ca.pem());

        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_client_cert_verifier(verifier.build().unwrap());
        let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
        let config = config.with_single_cert(vec![server.der().clone()], key).unwrap();

        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(forward(listener, TlsAcceptor::from(Arc::new(config)), redis.addr()));
        Some(Self { redis, addr, folder, _runtime: runtime })
    }

    fn url(&self) -> String {
        format!("rediss://:{PASSWORD}@{}", self.addr)
    }

    fn limits(&self, words: &[&str]) -> Result<String, String> {
        self.folder.limits(words, &[])
    }

    fn has_override(&self, database: u32) -> bool {
        let url = format!("{}/{database}", self.redis.url());
        let mut plain = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::Commands::del::<_, u32>(&mut plain, "test:per_user:alice#override").unwrap() == 1
    }
}

async fn forward(listener: TcpListener, acceptor: TlsAcceptor, redis: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut secured = acceptor.accept(stream).await.ok()?;
            let mut plain = TcpStream::connect(redis).await.ok()?;
            tokio::io::copy_bidirectional(&mut secured, &mut plain).await.ok()
        });
    }
}

const OPTIONS: [&str; 8] =
    ["--tls-ca", "ca.pem", "--tls-cert", "client.pem", "--tls-key", "client.key", "--tls-server-name", NAME];
const SET: [&str; 4] = ["set", "per_user", "alice", "blocked"];

#[test]
fn a_url_and_options_reach_redis_over_tls() {
    let Some(secured) = Secured::start() else { return };
    let url = format!("{}/3", secured.url());
    let place = ["--redis", &url, "--key-prefix", "test:"];
    let set = secured.limits(&[&SET[..], &place, &OPTIONS].concat());
    assert_eq!(set.as_deref(), Ok("per_user alice: blocked\n"));
    let listed = secured.limits(&[&["list"][..], &place, &OPTIONS].concat()).unwrap();
    assert!(listed.contains("alice") && listed.contains("blocked"), "{listed}");
    assert!(secured.has_override(3));
}

#[test]
fn a_bootstraps_context_has_authorities_name_and_certificate() {
    let Some(secured) = Secured::start() else { return };
    let tls = |validation: &str, sni: &str| {
        let certificate =
            r#"{"certificate_chain": {"filename": "client.pem"}, "private_key": {"filename": "client.key"}}"#;
        let context = format!(
            r#"{{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"{sni},
                "common_tls_context": {{"tls_certificates": [{certificate}],
                "validation_context": {{"trusted_ca": {{"filename": "ca.pem"}}{validation}}}}}}}"#
        );
        let socket =
            format!(r#", "transport_socket": {{"name": "envoy.transport_sockets.tls", "typed_config": {context}}}"#);
        let limiter = limiter(r#", "database": 1, "password": {"inline": "s3cret"}"#);
        secured
            .folder
            .write("bootstrap.yaml", bootstrap(&limiter, &cluster(secured.addr.port(), &socket).replace('\n', " ")));
        secured.limits(&[&SET[..], &["--config", "bootstrap.yaml"]].concat())
    };
    assert_eq!(tls("", &format!(r#", "sni": "{NAME}""#)).as_deref(), Ok("per_user alice: blocked\n"));
    assert!(secured.has_override(1));
    let names =
        format!(r#", "match_typed_subject_alt_names": [{{"san_type": "DNS", "matcher": {{"exact": "{NAME}"}}}}]"#);
    assert_eq!(tls(&names, "").as_deref(), Ok("per_user alice: blocked\n"));
    assert!(secured.has_override(1));
    let wrong = tls("", r#", "sni": "other.example""#).unwrap_err();
    assert!(wrong.contains("TLS: handshake: ") && wrong.contains("not valid for name"), "{wrong}");
    let of_host = tls("", "").unwrap_err();
    assert!(of_host.contains("TLS: handshake: ") && of_host.contains("not valid for name"), "{of_host}");
    assert!(!secured.has_override(1));
    let replaced = secured.limits(&[&SET[..], &["--config", "bootstrap.yaml", "--tls-server-name", NAME]].concat());
    assert_eq!(replaced.as_deref(), Ok("per_user alice: blocked\n"), "an option goes before the file");
}

#[test]
fn an_error_of_tls_names_its_cause_and_no_password() {
    let Some(secured) = Secured::start() else { return };
    let url = secured.url();
    let plain = format!("redis://:{PASSWORD}@{}", secured.addr);
    let told = |words: &[&str]| {
        let error = secured.limits(&[&["list"], words].concat()).unwrap_err();
        assert!(!error.contains(PASSWORD), "{error}");
        error.replace(&secured.addr.to_string(), "ADDR").trim_end().to_owned()
    };
    let with = |changes: &[(&str, &str)]| -> Vec<String> {
        let change = |word: &str| changes.iter().find(|(from, _)| *from == word).map_or(word, |(_, to)| *to).to_owned();
        ["--redis", &url].into_iter().chain(OPTIONS).map(change).collect()
    };
    let told_with = |changes: &[(&str, &str)]| told(&with(changes).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        told_with(&[(NAME, "other.example")]).starts_with("redis at ADDR: TLS: handshake: invalid peer certificate")
    );
    assert!(
        told_with(&[("ca.pem", "stranger.pem")]).starts_with("redis at ADDR: TLS: handshake: invalid peer certificate")
    );
    assert_eq!(
        told_with(&[("ca.pem", "client.key")]),
        "redis at ADDR: TLS: client.key: expected a certificate in PEM form"
    );
    assert_eq!(
        told_with(&[("client.key", "ca.pem")]),
        "redis at ADDR: TLS: ca.pem: expected a private key in PEM form"
    );
    assert!(told_with(&[("ca.pem", "missing.pem")]).starts_with("redis at ADDR: TLS: missing.pem: "));
    let name = "redis at ADDR: TLS: expected a host name or an IP address as the server's name, found \"a b\"";
    assert_eq!(told_with(&[(NAME, "a b")]), name);
    let half = told(&["--redis", &url, "--tls-ca", "ca.pem", "--tls-cert", "client.pem"]);
    assert_eq!(half, "redis at ADDR: TLS: expected the client's certificate and its key, found one of them");
    let without = told(&["--redis", &url, "--tls-ca", "ca.pem", "--tls-server-name", NAME]);
    assert!(without.starts_with("redis at ADDR: "), "a client without a certificate is refused: {without}");
    let no_tls = told(&["--redis", &plain, "--tls-ca", "ca.pem"]);
    assert_eq!(no_tls, "expected --tls options with a rediss:// URL or a cluster with TLS, found neither");
    let wrong = url.replace(PASSWORD, "wr0ng");
    let words = with(&[(url.as_str(), wrong.as_str())]);
    let refused = told(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        refused.starts_with("redis at ADDR: ") && refused.contains("WRONGPASS") && !refused.contains("wr0ng"),
        "{refused}"
    );
}

#[test]
fn certificates_of_a_control_plane_need_an_option() {
    let folder = Folder::new();
    let socket = ", \"transport_socket\": {\"typed_config\": {\"@type\": \
                  \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\", \
                  \"common_tls_context\": {\"validation_context_sds_secret_config\": {\"name\": \"ca\"}}}}";
    folder.write("bootstrap.yaml", bootstrap(&limiter(""), &cluster(1, socket)));
    let told = folder.limits(&["list", "--config", "bootstrap.yaml"], &[]).unwrap_err();
    assert_eq!(
        told,
        "bootstrap.yaml:10:388: cluster \"redis\" gets its certificates from a control plane; expected --tls-ca FILE\n"
    );
}

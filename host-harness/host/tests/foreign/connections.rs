//! Properties of connections: TLS, the listener and its filter chain.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::hosts::{guest, log_of, turn};
use super::support::{Kind, Proxy, Scenario, becomes_true, envoys, filter};

/// Properties that the guest reads.
const READ: &str = "request_headers: property connection.requested_server_name; property connection.mtls; \
    property connection.tls_version; property xds.listener_direction; property listener_direction; \
    property xds.filter_chain_name; property xds.node.id; property node.id; property route_name; property cluster_name; \
    property request.scheme";
/// Inspector of TLS, without which no connection has a server name.
const INSPECTOR: &str = "listener_filters: [{name: inspector, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]";

/// Certificates of an authority, of a server and of a client, in files of a folder.
struct Certificates {
    folder: TempDir,
    roots: RootCertStore,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let params = |name: &str, names: Vec<String>| {
            let mut params = CertificateParams::new(names).expect("a certificate");
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut authority = params("authority", Vec::new());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = authority.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(authority, key);
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("written");
        write("ca.pem", own.pem());
        for (name, names) in [("server", vec!["A.example".to_owned(), "127.0.0.1".to_owned()]), ("client", Vec::new())]
        {
            let key = KeyPair::generate().expect("a key");
            write(&format!("{name}.pem"), params(name, names).signed_by(&key, &issuer).expect("a certificate").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("an authority");
        Self { folder, roots }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A filter chain's TLS: a certificate of its own, and `more`.
    fn transport_socket(&self, more: &str) -> String {
        format!(
            "transport_socket: {{name: tls, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
             {{tls_certificates: {{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}{more}}}}}}}",
            self.path("server.pem"),
            self.path("server.key")
        )
    }

    fn client(&self, presents: bool) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(self.roots.clone());
        if !presents {
            return builder.with_no_client_auth();
        }
        let chain = CertificateDer::pem_file_iter(self.path("client.pem")).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a key");
        builder.with_client_auth_cert(chain, key).expect("a certificate with its key")
    }
}

/// Sends a request over TLS to a server of this name, or over plain TCP for `None`; returns the guest's lines about it.
fn lines(proxy: &Proxy, client: Option<(&str, ClientConfig)>) -> Vec<String> {
    let seen = log_of(proxy).len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.address()).await.expect("a connection");
        let request = Request::get("/").header("host", "test").header("x-script", READ).body(Empty::<Bytes>::new());
        let request = request.expect("a request");
        match client {
            None => exchange(TokioIo::new(stream), request).await,
            Some((name, config)) => {
                let name = ServerName::try_from(name.to_owned()).expect("a name");
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                exchange(TokioIo::new(connector.connect(name, stream).await.expect("a handshake")), request).await
            }
        }
    });
    assert_eq!(status, 200);
    let ended = becomes_true(|| log_of(proxy).iter().skip(seen).any(|line| line.ends_with(": delete")));
    assert!(ended, "the stream ends");
    let lines = log_of(proxy).into_iter().skip(seen);
    lines.filter_map(|line| line.split_once("request_headers: property ").map(|(_, line)| line.to_owned())).collect()
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> u16
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    sender.send_request(request).await.expect("a response").status().as_u16()
}

/// Asserts that the properties are the same on all hosts; returns those of the embedded host.
fn same_on_all_hosts(
    listener: &str,
    chain: &str,
    client: impl Fn() -> Option<(&'static str, ClientConfig)>,
) -> Vec<String> {
    let observe = |kind: &Kind| {
        let _turn = turn();
        let module = Some(std::fs::read(guest()).expect("the guest"));
        let scenario = Scenario { module, filters: filter("script", ""), listener, chain, ..Scenario::default() };
        lines(&scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}")), client())
    };
    let embedded = observe(&Kind::Embedded);
    for (version, kind) in envoys() {
        assert_eq!(embedded, observe(&kind), "embedded, then Envoy {version}: {listener} {chain}");
    }
    embedded
}

#[test]
fn properties_of_a_connection_are_those_of_envoy() {
    let certificates = Certificates::new();
    let plain = same_on_all_hosts("", "", || None);
    assert!(plain.contains(&r"connection.mtls: 0 \x00".to_owned()), "{plain:?}");
    let named = same_on_all_hosts("traffic_direction: INBOUND", "name: main", || None);
    assert_ne!(plain, named);

    let tls = format!("name: secured\n{}", certificates.transport_socket(""));
    let outbound = format!("traffic_direction: OUTBOUND\n{INSPECTOR}");
    let with_name = same_on_all_hosts(&outbound, &tls, || Some(("A.example", certificates.client(false))));
    let nameless = same_on_all_hosts(&outbound, &tls, || Some(("127.0.0.1", certificates.client(false))));
    let not_inspected = same_on_all_hosts("", &tls, || Some(("A.example", certificates.client(false))));
    assert!(with_name[0].contains("a.example"), "{with_name:?}");
    assert!(!nameless[0].contains("example") && !not_inspected[0].contains("example"), "{nameless:?}");

    let trusted = format!(", validation_context: {{trusted_ca: {{filename: {}}}}}", certificates.path("ca.pem"));
    let mutual = certificates.transport_socket(&trusted);
    let without = same_on_all_hosts(INSPECTOR, &mutual, || Some(("A.example", certificates.client(false))));
    let with = same_on_all_hosts(INSPECTOR, &mutual, || Some(("A.example", certificates.client(true))));
    assert_eq!((with[1] == without[1], with[0] == without[0]), (false, true), "{with:?} {without:?}");
}

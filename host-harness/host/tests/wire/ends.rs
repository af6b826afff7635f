//! Ends of connections: no response is lost, whatever bytes the client has sent after its request.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::support::{Kind, Scenario, envoys};
use super::{Case, answers_to, assert_answers, case, connect};

const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Returns a request with headers, each with its line end.
fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}

fn get(path: &str, headers: &str) -> String {
    request(&format!("GET {path}"), headers)
}

fn cases() -> Vec<Case> {
    let close = "connection: close\r\n";
    let mut cases = Vec::new();
    for path in ["/", "/up"] {
        let answered = if path == "/" { "200 hello close" } else { "200 close" };
        // A line end, garbage, the start of a request, and a whole one.
        for after in ["", "\r\n", "garbage and more", "GET /nex", LAST] {
            cases.push(case(get(path, close) + after, answered));
        }
        let answers = if path == "/" { "200 hello, 200 hello close" } else { "200, 200 hello close" };
        cases.push(case(get(path, "") + LAST, answers));
    }
    let sized = |path: &str, length: usize| request(&format!("POST {path}"), &format!("content-length: {length}\r\n"));
    // Bodies that are longer or shorter than announced.
    cases.push(case(request("POST /up", "connection: close\r\ncontent-length: 3\r\n") + "abcdef", "200 abc close"));
    cases.push(case(sized("/up", 3) + "abc" + LAST, "200 abc, 200 hello close"));
    cases.push(case(sized("/", 5) + "abc", "200 hello close"));
    cases.push(case(sized("/", 3_000_000) + &"x".repeat(3_000_000), "200 hello close"));
    cases.push(case(sized("/", 3_000_000) + &"x".repeat(100_000), "200 hello close"));
    cases
}

#[test]
fn the_response_before_the_end_of_a_connection_arrives_on_all_hosts() {
    assert_answers(&cases());
}

#[test]
fn the_response_before_the_end_of_a_tls_connection_arrives_on_all_hosts() {
    let files = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["a".to_owned()]).expect("a certificate");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (chain_file, key_file) = (files.path().join("a.pem"), files.path().join("a.key"));
    std::fs::write(&chain_file, certificate.pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = Arc::new(client.expect("versions").with_root_certificates(roots).with_no_client_auth());
    let chain = format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {{tls_certificates: {{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}}}}}}}",
        chain_file.display(),
        key_file.display()
    );
    for (host, kind) in [("the harness", Kind::Embedded)].into_iter().chain(envoys()) {
        let scenario = Scenario { filters: String::new(), chain: &chain, ..Scenario::default() };
        let proxy = scenario.start_on(&kind).unwrap_or_else(|error| panic!("{error:?}"));
        let is_direct = |case: &Case| !case.sent.windows(3).any(|it| it == b"/up");
        for Case { sent, answers } in cases().into_iter().filter(is_direct) {
            let name = ServerName::try_from("a").expect("a name");
            let session = ClientConnection::new(client.clone(), name).expect("a session");
            let received = answers_to(StreamOwned::new(session, connect(&proxy)), &sent);
            assert_eq!(received, answers, "{host}: {}", sent.get(..200).unwrap_or(&sent).escape_ascii());
        }
    }
}

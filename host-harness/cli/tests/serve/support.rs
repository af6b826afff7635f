//! Files, peers and requests of the tests of `weir serve`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Returns a bootstrap with a listener `ingress` and these routes, ending in an open list of clusters.
pub(crate) fn http_file(routes: &str, host: &str, table: &str) -> String {
    format!(
        r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
{table}
            virtual_hosts:
            - name: all
              domains: ["*"]
{host}
              routes:
{routes}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
"#,
        table = indent(table, 12),
        host = indent(host, 14),
        routes = indent(routes.trim_start_matches('\n'), 14),
    )
}

/// Returns a line of the connection manager, to put after `stat_prefix: ingress`.
pub(crate) fn manager_line(line: &str) -> String {
    format!("stat_prefix: ingress\n          {line}")
}

/// Returns a file with one more line in its connection manager.
pub(crate) fn with_line(yaml: &str, line: &str) -> String {
    yaml.replacen("stat_prefix: ingress", line, 1)
}

/// Returns a cluster as an item of the list of clusters.
pub(crate) fn cluster(name: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "  - {{name: {name}, type: STATIC, load_assignment: {{cluster_name: {name}, \
         endpoints: {{lb_endpoints: {{endpoint: \
         {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}}}}}}}\n"
    )
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// Sends a request and returns the status, the compared headers and the body. Text after a zero is sent once the
/// response has begun. The client leaves within the response to a request that ends with [`LEAVES`].
pub(crate) fn exchange(address: SocketAddr, request: &str) -> String {
    exchange_over(TcpStream::connect(address).expect("a connection"), request)
}

/// End of a request whose client leaves.
pub(crate) const LEAVES: &str = "\u{1}";

/// Sends a request over a connection; see [`exchange`].
pub(crate) fn exchange_over(mut stream: TcpStream, request: &str) -> String {
    if let Some(request) = request.strip_suffix(LEAVES) {
        stream.write_all(request.as_bytes()).expect("the request");
        std::thread::sleep(Duration::from_millis(300));
        return "left".to_owned();
    }
    let (head, after) = request.split_once('\0').unwrap_or((request, ""));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let close = if head.contains("upgrade") { "" } else { "connection: close\r\n" };
    stream.write_all(format!("{head}{close}\r\n").as_bytes()).expect("the request");
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("none").to_owned();
    let length = lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    if status == "101" {
        stream.write_all(after.as_bytes()).expect("bytes after the upgrade");
        body.resize(after.len(), 0);
        reader.read_exact(&mut body).expect("bytes of the tunnel");
    } else if let Some(length) = length {
        let _ = reader.take(length).read_to_end(&mut body);
        if u64::try_from(body.len()).is_ok_and(|read| read < length) {
            body.extend(b" (cut off)");
        }
    } else {
        let _ = reader.read_to_end(&mut body);
    }
    let compared = |line: &&String| {
        let line = line.to_ascii_lowercase();
        let is_own = line.starts_with("x-") && !line.starts_with("x-envoy") && !line.starts_with("x-request-id");
        is_own || ["location", "upgrade", "connection: upgrade"].iter().any(|name| line.starts_with(name))
    };
    let mut headers: Vec<String> = lines.iter().skip(1).filter(compared).cloned().collect();
    headers.sort();
    format!("{status} {}\n{}", headers.join(" | "), String::from_utf8_lossy(&body))
}

/// Starts an HTTP server that answers with the request that it got; an upgraded connection gets its bytes in capitals.
pub(crate) fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || reflect(stream));
        }
    });
    address
}

/// Time until a slow response: longer than a host with timeouts of less than a second stalls.
const SLOW: Duration = Duration::from_secs(4);

/// Answers wrongly, if the path of the request asks for it; whether it did.
fn misbehave(stream: &mut TcpStream, request: &str) -> Option<bool> {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let bytes: &[u8] = match path.rsplit('/').next().unwrap_or_default() {
        "closes" => b"",
        "garbage" => b"SSH-2.0-no-http\r\n\r\n",
        "cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart",
        "stalls" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart",
        "waits" => {
            std::thread::sleep(SLOW);
            return Some(false);
        }
        _ => return Some(false),
    };
    stream.write_all(bytes).ok()?;
    std::thread::sleep(if path.ends_with("stalls") { SLOW } else { Duration::from_millis(100) });
    Some(true)
}

fn reflect(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        if lines.iter().any(|line| line.eq_ignore_ascii_case("upgrade: websocket")) {
            stream.write_all(b"HTTP/1.1 101 Switching\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").ok()?;
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                stream.write_all(&bytes[..count].to_ascii_uppercase()).ok()?;
            }
            return None;
        }
        let first = lines.first().cloned().unwrap_or_default();
        if misbehave(&mut stream, &first)? {
            return None;
        }
        let shown = |line: &&String| ["x-", "host"].iter().any(|name| line.starts_with(name));
        let hidden = |line: &&String| line.starts_with("x-request-id");
        let mut rest: Vec<String> = lines.iter().skip(1).filter(shown).filter(|line| !hidden(line)).cloned().collect();
        rest.sort();
        let body = format!("{first} {}", rest.join(" | "));
        let head = format!("HTTP/1.1 200 OK\r\nx-mirror: yes\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).ok()?;
    }
}

/// Returns a file whose plain listener sends requests over TLS to a second listener, with chains by server name.
pub(crate) fn tls_file() -> String {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Certificates with one name for subject and issuer count as signed by themselves.
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let ca = params.self_signed(&ca_key).expect("an authority");
    let issuer = Issuer::from_params(&params, &ca_key);
    let pair = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    };
    let text = |pem: &str| serde_json::to_string(pem).expect("a text");
    let identity = |(chain, key): (String, String)| {
        format!(
            "tls_certificates: {{certificate_chain: {{inline_string: {}}}, private_key: {{inline_string: {}}}}}",
            text(&chain),
            text(&key)
        )
    };
    let authority = format!("trusted_ca: {{inline_string: {}}}", text(&ca.pem()));
    let secure = free_port();
    let through = free_port();
    let answer = |body: &str, more: &str, matches: &str| {
        format!(
            r#"    - filter_chain_match: {{server_names: {matches}}}
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
{more}
      filters:
        name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: secure
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/", headers: {{name: x-forwarded-proto, string_match: {{exact: https}}}}}}
                direct_response: {{status: 200, body: {{inline_string: "{body}"}}}}
          http_filters:
            name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
        )
    };
    let chains = [
        answer("a over https", &format!("          common_tls_context: {{{}}}", identity(pair("a.test"))), "[a.test]"),
        answer(
            "b over https",
            &format!("          common_tls_context: {{{}}}", identity(pair("b.test"))),
            "['*.test']",
        ),
        answer(
            "a client",
            &format!(
                "          require_client_certificate: true\n          \
                 common_tls_context: {{{}, validation_context: {{{authority}}}}}",
                identity(pair("client.test"))
            ),
            "[client.test]",
        ),
    ]
    .concat();
    let upstream = |name: &str, port: u16, sni: &str, common: &str| {
        cluster(name, SocketAddr::from(([127, 0, 0, 1], port)))
            .trim_end()
            .strip_suffix('}')
            .expect("a closing brace")
            .to_owned()
            + &format!(
                ", transport_socket: {{name: tls, typed_config: {{\"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: {sni}, \
                 common_tls_context: {{{common}}}}}}}}}\n"
            )
    };
    let named = |name: &str| {
        format!(
            "validation_context: {{{authority}, match_typed_subject_alt_names: {{san_type: dns, \
             matcher: {{exact: {name}}}}}}}"
        )
    };
    let routes = ["a", "b", "wrong-name", "unverified", "client", "through"]
        .map(|name| {
            format!(
                "- {{match: {{path: /{name}}}, route: {{cluster: {name}}}, \
                     request_headers_to_remove: [x-forwarded-proto]}}\n"
            )
        })
        .concat();
    let clusters = [
        upstream("a", secure, "a.test", &named("a.test")),
        upstream("b", secure, "b.test", &named("b.test")),
        upstream("wrong-name", secure, "a.test", &named("b.test")),
        upstream("unverified", secure, "a.test", ""),
        upstream("client", secure, "client.test", &identity(pair("me.test"))),
        upstream("through", through, "a.test", &named("a.test")),
        cluster("raw", SocketAddr::from(([127, 0, 0, 1], secure))),
    ]
    .concat();
    let listeners = format!(
        r#"  - name: secure
    address: {{socket_address: {{address: 127.0.0.1, port_value: {secure}}}}}
    listener_filters:
      name: inspector
      typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}
    filter_chains:
{chains}
  - name: through
    address: {{socket_address: {{address: 127.0.0.1, port_value: {through}}}}}
    filter_chains:
      filters:
        name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: raw
          cluster: raw
  clusters:
"#
    );
    http_file(&routes, "", "").replacen("  clusters:\n", &listeners, 1) + &clusters
}

/// Returns a port that no connection of another test gets before it is bound.
pub(crate) fn free_port() -> u16 {
    weir_provision::port::free_port().expect("a port").release().port()
}

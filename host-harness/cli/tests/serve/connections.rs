//! Filter chains that are chosen by a connection's addresses, on both hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use weir_harness::serving::HostKind;

use crate::hosts::{has_envoy, serving};
use crate::support::{exchange_over, free_port};

/// Returns a filter chain that answers with its name.
fn chain(name: &str, matches: &str) -> String {
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "envoy.extensions.filters.http.router.v3.Router";
    let types = "type.googleapis.com";
    format!(
        r#"    - filter_chain_match: {{{matches}}}
      filters:
      - name: manager
        typed_config:
          "@type": {types}/{manager}
          stat_prefix: chain
          route_config:
            virtual_hosts:
              name: all
              domains: ["*"]
              routes: {{match: {{prefix: "/"}}, direct_response: {{status: 200, body: {{inline_string: "{name}"}}}}}}
          http_filters: {{name: router, typed_config: {{"@type": {types}/{router}}}}}
"#
    )
}

/// Connects from an address.
fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(from).expect("the client's address");
        socket.connect(to).await.expect("a connection").into_std().expect("a socket")
    });
    stream.set_nonblocking(false).expect("a blocking socket");
    stream
}

/// Returns the chains of connections from an address alone, from another, and from a port.
fn chosen(host: HostKind, chains: &dyn Fn(u16, u16) -> String) -> Vec<String> {
    let (port, source_port) = (free_port(), free_port());
    let yaml = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\nstatic_resources:\n  \
         listeners:\n  \
         - name: ingress\n    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n    \
         filter_chains:\n{}",
        chains(port, source_port)
    );
    let from = |last: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port);
    serving(host, &yaml, |serving| {
        let to = serving.listener("ingress").expect("the listener");
        let clients = [from(1, 0), from(2, 0), from(1, source_port), from(77, 0)];
        let answer = |client| exchange_over(connect(client, to), "GET / HTTP/1.1\r\nhost: a\r\n");
        clients.map(answer).iter().map(|answer| answer.rsplit('\n').next().unwrap_or_default().to_owned()).collect()
    })
}

#[test]
fn chains_are_chosen_by_ports_and_by_the_clients_address() {
    if !has_envoy() {
        return;
    }
    let by_source = |_: u16, source_port: u16| {
        [
            chain("loopback", "source_prefix_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]"),
            chain("second", "source_prefix_ranges: [{address_prefix: 127.0.0.2, prefix_len: 32}]"),
            chain("wide", "source_prefix_ranges: [{address_prefix: 127.0.0.64, prefix_len: 26}]"),
            chain(
                "port",
                &format!(
                    "source_prefix_ranges: [{{address_prefix: 127.0.0.0, prefix_len: 8}}], \
                     source_ports: [{source_port}]"
                ),
            ),
        ]
        .concat()
    };
    let by_destination = |port: u16, _: u16| {
        [
            chain("other", "destination_port: 1, source_prefix_ranges: [{address_prefix: 127.0.0.2, prefix_len: 32}]"),
            chain("any", ""),
            chain("this", &format!("destination_port: {port}")),
        ]
        .concat()
    };
    let expected = [
        (["loopback", "second", "port", "wide"], &by_source as &dyn Fn(u16, u16) -> String),
        (["this"; 4], &by_destination),
    ];
    for (expected, chains) in expected {
        for host in [HostKind::Embedded, HostKind::Envoy] {
            assert_eq!(chosen(host, chains), expected, "{host:?}");
        }
    }
}

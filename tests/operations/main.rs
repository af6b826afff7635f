//! Features for operators, on both hosts: access logs, paths, passwords, and several limiters in one filter chain.

mod details;
mod headers;
mod passwords;
mod paths;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const QUICKSTART: &str = "envoy/quickstart.yaml";

/// Returns the HTTP connection manager of a bootstrap.
fn manager(bootstrap: &mut Value) -> &mut Value {
    bootstrap.pointer_mut(MANAGER).expect("the scenario has a connection manager")
}

/// Returns a limit keyed by a request header, with a token bucket that refills one token an hour.
fn limit(name: &str, header: &str, max_tokens: u64) -> Value {
    json!({
        "name": name, "descriptor": [{"request_header": {"name": header}}],
        "token_bucket": {"max_tokens": max_tokens, "fill_interval": "3600s"},
    })
}

/// Routes all requests to this upstream.
fn route_to(upstream: SocketAddr, bootstrap: &mut Value) {
    manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"] =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]);
    let address = json!({"address": "127.0.0.1", "port_value": upstream.port()});
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("a list");
    clusters.push(json!({
        "name": "upstream", "type": "STATIC",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": address}}}]}]},
    }));
}

/// Starts an upstream that answers one request per connection with the response that `answer` returns for its target.
async fn serve(answer: fn(&str) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = head(&mut connection).await;
                let target = head.split(' ').nth(1).unwrap_or_default();
                let _ = connection.write_all(answer(target).as_bytes()).await;
            });
        }
    });
    address
}

/// Reads from a connection up to the first empty line.
async fn head(connection: &mut TcpStream) -> String {
    let (mut head, mut buffer) = (Vec::new(), [0; 4_096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut buffer).await {
            Ok(size) if size > 0 => head.extend_from_slice(&buffer[..size]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

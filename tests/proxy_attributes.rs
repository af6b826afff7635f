//! Limits keyed by attributes that the proxy sets on a request: route, cluster, filter state and dynamic metadata.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir::{HostKind, Mesh};

weir::on_both_hosts! {
    each_route_name_and_each_cluster_name_has_its_own_bucket
    each_value_of_filter_state_has_its_own_bucket
    missing_metadata_takes_its_default_or_skips_the_limit
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

async fn each_route_name_and_each_cluster_name_has_its_own_bucket(host: HostKind) {
    let upstream = serve_hello().await;
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1);
    let mesh = mesh.configure(|filter| {
        filter["limits"] = json!([
            limit("by_route", json!({"route_name": {}}), "/r/"),
            limit("by_cluster", json!({"cluster_name": {}}), "/c/"),
        ]);
    });
    let mesh = mesh.edit(|bootstrap| {
        let hello = json!({"status": 200, "body": {"inline_string": "hello\n"}});
        let routes = json!([
            {"name": "checkout", "match": {"prefix": "/r/checkout"}, "direct_response": hello},
            {"name": "search", "match": {"prefix": "/r/search"}, "direct_response": hello},
            {"match": {"prefix": "/c/shop"}, "route": {"cluster": "shop"}},
            {"match": {"prefix": "/c/stock"}, "route": {"cluster": "stock"}},
            {"match": {"prefix": "/"}, "direct_response": hello},
        ]);
        *bootstrap.pointer_mut(&format!("{MANAGER}/route_config/virtual_hosts/0/routes")).unwrap() = routes;
        let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut).unwrap();
        clusters.extend(["shop", "stock"].map(|name| cluster(name, upstream)));
    });
    let Some(mesh) = mesh.start().await else { return };
    let get = async |path| mesh.ask(path).send().await;

    get("/r/checkout").await.admitted();
    get("/r/checkout/2").await.denied();
    get("/r/search").await.admitted();
    get("/r/search").await.denied();
    assert_eq!(get("/c/shop").await.admitted().body, "from upstream\n");
    get("/c/shop/cart").await.denied();
    get("/c/stock").await.admitted();
    get("/c/stock").await.denied();
    // A route without a name or a cluster has no value, and the limit is skipped.
    for path in ["/r/else", "/r/else", "/c/else", "/c/else"] {
        get(path).await.admitted().without("x-ratelimit-limit");
    }
}

async fn each_value_of_filter_state_has_its_own_bucket(host: HostKind) {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1);
    let mesh = mesh.configure(|filter| {
        filter["limits"] = json!([
            limit("by_tenant", json!({"filter_state": {"key": "tenant"}}), "/t/"),
            limit("by_edition", json!({"filter_state": {"key": "edition", "default": "none"}}), "/e/"),
        ]);
    });
    let mesh = mesh.edit(|bootstrap| {
        let state = |key: &str, format: &str| {
            json!({"object_key": key, "factory_key": "envoy.string", "skip_if_empty": true,
                "format_string": {"omit_empty_values": true, "text_format_source": {"inline_string": format}}})
        };
        let filter = json!({
            "name": "envoy.filters.http.set_filter_state",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
                "on_request_headers": [state("tenant", "%REQ(x-tenant?x-team)%"), state("edition", "%REQ(x-edition)%")],
            },
        });
        let filters = bootstrap.pointer_mut(&format!("{MANAGER}/http_filters")).and_then(Value::as_array_mut).unwrap();
        filters.insert(0, filter);
    });
    let Some(mesh) = mesh.start().await else { return };

    mesh.ask("/t/").header("x-tenant", "acme").send().await.admitted();
    mesh.ask("/t/").header("x-tenant", "acme").send().await.denied();
    mesh.ask("/t/").header("x-team", "acme").send().await.denied();
    mesh.ask("/t/").header("x-tenant", "other").send().await.admitted();
    mesh.ask("/t/").send().await.admitted().without("x-ratelimit-limit");
    mesh.ask("/e/").send().await.admitted();
    mesh.ask("/e/").send().await.denied();
    mesh.ask("/e/").header("x-edition", "none").send().await.denied();
    mesh.ask("/e/").header("x-edition", "first").send().await.admitted();
}

async fn missing_metadata_takes_its_default_or_skips_the_limit(host: HostKind) {
    let claim = |default: Value| {
        let mut entry = json!({"metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": [{"key": "sub"}]}});
        if default.is_string() {
            entry["default"] = default;
        }
        json!({"dynamic_metadata": entry})
    };
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1).configure(|filter| {
        filter["limits"] =
            json!([limit("verified", claim(Value::Null), "/v/"), limit("anybody", claim("nobody".into()), "/a/"),]);
    });
    let Some(mesh) = mesh.start().await else { return };
    for _ in 0..2 {
        mesh.ask("/v/").send().await.admitted().without("x-ratelimit-limit");
    }
    mesh.ask("/a/").send().await.admitted();
    mesh.ask("/a/").send().await.denied();
}

/// Returns a limit of one request an hour per value of `entry`, for paths with this prefix.
fn limit(name: &str, entry: Value, prefix: &str) -> Value {
    json!({"name": name, "when": [{"path": {"prefix": prefix}}], "descriptor": [entry],
        "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}})
}

fn cluster(name: &str, at: SocketAddr) -> Value {
    let address = json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}})
}

/// Starts an upstream that answers the first request of each connection and closes the connection.
async fn serve_hello() -> SocketAddr {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0)
                {
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\nconnection: close\r\n\r\nfrom upstream\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

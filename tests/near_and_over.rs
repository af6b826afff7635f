//! Requests near a limit and beyond it, on both hosts: counters, and the header that marks requests to the upstream.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir::{HostKind, Mesh, MeshBuilder};

weir::on_both_hosts! {
    requests_that_leave_little_of_a_limit_are_counted
    a_request_beyond_a_limit_is_passed_on_with_a_header
    a_held_request_with_a_body_is_marked_too
    no_client_marks_its_own_requests
    no_client_marks_its_own_requests_in_shadow_mode_either
    another_limit_still_denies
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const MARK: &str = "x-over-limit";

async fn requests_that_leave_little_of_a_limit_are_counted(host: HostKind) {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().bucket(10, 1, "3600s");
    let Some(mesh) = mesh.configure(|filter| filter["limits"][0]["near_limit"] = json!(0.8)).start().await else {
        return;
    };
    for _ in 0..10 {
        mesh.get("alice").await.admitted();
    }
    mesh.get("alice").await.denied();
    mesh.get("bob").await.admitted();
    mesh.counts("weir_limit_per_user_admitted", 11).await;
    mesh.counts("weir_limit_per_user_near", 2).await;
}

async fn a_request_beyond_a_limit_is_passed_on_with_a_header(host: HostKind) {
    let Some(mesh) = marking(host, |_| {}).await.start().await else { return };
    for _ in 0..2 {
        assert_eq!(mesh.get("alice").await.admitted().without("x-ratelimit-limit").body, "unmarked");
    }
    for _ in 0..3 {
        assert_eq!(mesh.get("alice").await.admitted().without("retry-after").body, "per user");
    }
    assert_eq!(mesh.get("bob").await.admitted().body, "unmarked");
    mesh.counts("weir_limit_per_user_marked", 3).await;
    mesh.counts("weir_requests_admitted", 6).await;
}

async fn a_held_request_with_a_body_is_marked_too(host: HostKind) {
    let by_body = |filter: &mut Value| {
        filter["limits"][0]["descriptor"] = json!([{"request_body": {"json_pointer": "/user"}}]);
    };
    let Some(mesh) = marking(host, by_body).await.start().await else { return };
    for expected in ["unmarked", "unmarked", "per user", "per user"] {
        let answer = mesh.ask("/").method(Method::POST).body(r#"{"user": "alice"}"#).header(MARK, "mine").send().await;
        assert_eq!(answer.admitted().body, expected);
    }
}

async fn no_client_marks_its_own_requests(host: HostKind) {
    let Some(mesh) =
        marking(host, |filter| filter["exempt"] = json!([{"path": {"exact": "/health"}}])).await.start().await
    else {
        return;
    };
    for path in ["/", "/health"] {
        let asked = mesh.ask(path).user("alice").header(MARK, "mine").header("X-Over-Limit", "mine, too").send().await;
        assert_eq!(asked.admitted().body, "unmarked", "{path}");
    }
    mesh.get("alice").await.admitted();
    assert_eq!(mesh.ask("/").user("alice").header(MARK, "mine").send().await.admitted().body, "per user");
}

async fn no_client_marks_its_own_requests_in_shadow_mode_either(host: HostKind) {
    for of_limit in [true, false] {
        let in_shadow_mode = move |filter: &mut Value| match of_limit {
            true => filter["limits"][0]["shadow_mode"] = json!(true),
            false => filter["shadow_mode"] = json!(true),
        };
        let Some(mesh) = marking(host, in_shadow_mode).await.start().await else { return };
        for _ in 0..3 {
            let asked = mesh.ask("/").user("alice").header(MARK, "mine").send().await;
            assert_eq!(asked.admitted().body, "unmarked", "of the limit: {of_limit}");
        }
        mesh.counts("weir_limit_per_user_shadow_denied", 1).await;
    }
}

async fn another_limit_still_denies(host: HostKind) {
    let add = |filter: &mut Value| {
        let bucket = json!({"max_tokens": 4, "tokens_per_fill": 1, "fill_interval": "3600s"});
        let all = json!({"name": "all", "descriptor": [], "token_bucket": bucket});
        filter["limits"].as_array_mut().unwrap().push(all);
    };
    let Some(mesh) = marking(host, add).await.start().await else { return };
    for expected in ["unmarked", "unmarked", "per user", "per user"] {
        assert_eq!(mesh.get("alice").await.admitted().body, expected);
    }
    mesh.get("alice").await.denied();
    mesh.get("bob").await.denied();
}

/// Two requests per user, then marked ones. The upstream answers with the values of the mark.
async fn marking(host: HostKind, configure: impl Fn(&mut Value)) -> MeshBuilder {
    let upstream = telling_upstream().await;
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().bucket(2, 1, "3600s");
    mesh.edit(move |bootstrap| {
        let manager = bootstrap.pointer_mut(MANAGER).unwrap();
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}});
        manager["route_config"]["virtual_hosts"][0]["routes"] = json!([route]);
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}});
        bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
            "name": "upstream", "type": "STATIC", "load_assignment": {"cluster_name": "upstream",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
        }));
    })
    .configure(move |filter| {
        filter["limits"][0]["on_exceed"] = json!({"mark": {"name": "X-Over-Limit", "value": "per user"}});
        configure(filter);
    })
    .that_sees_bodies()
}

async fn telling_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let tell = |request: Request<Incoming>| async move {
                let marks: Vec<&[u8]> = request.headers().get_all(MARK).iter().map(|value| value.as_bytes()).collect();
                let told = if marks.is_empty() { b"unmarked".to_vec() } else { marks.join(&b"|"[..]) };
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(told))))
            };
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(connection), service_fn(tell)));
        }
    });
    address
}

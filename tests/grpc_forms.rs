//! Replies to clients of gRPC, gRPC-Web and Connect, on both hosts: denials, rejections and failures in their form.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use serde_json::json;
use weir::ask::Ask;
use weir::{Answer, HostKind, Mesh};
use weir_provision::redis::RedisOptions;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

weir::on_both_hosts! {
    a_grpc_client_is_pushed_back_for_the_time_of_retry_after
    a_grpc_web_client_gets_trailers_in_the_body
    a_unary_connect_client_gets_the_status_and_json
    a_streaming_connect_client_gets_the_end_of_the_stream
    a_limit_of_zero_tells_grpc_clients_not_to_retry
    rejections_and_failures_have_the_form_of_the_client
}

/// Starts a mesh whose only token of the user `alice` is spent.
async fn spent(host: HostKind) -> Option<Mesh> {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).bucket(1, 1, "60s").start().await?;
    mesh.get("alice").await.admitted();
    Some(mesh)
}

/// Returns a request by `alice` with this content type.
fn call<'a>(mesh: &'a Mesh, content_type: &str) -> Ask<'a> {
    mesh.ask("/pkg.Service/Call").method(Method::POST).user("alice").header("content-type", content_type)
}

/// Asserts that the pushback is as long as `retry-after`, which is rounded up to seconds.
#[track_caller]
fn pushed_back(answer: &Answer) {
    let (pushback, wait): (u64, u64) =
        (answer.number("grpc-retry-pushback-ms").unwrap(), answer.number("retry-after").unwrap());
    assert!((50_000..=60_000).contains(&pushback) && pushback.div_ceil(1_000) == wait, "{answer:#?}");
}

async fn a_grpc_client_is_pushed_back_for_the_time_of_retry_after(host: HostKind) {
    let Some(mesh) = spent(host).await else { return };
    let denied = call(&mesh, "application/grpc+proto").send().await.status(200);
    assert_eq!((denied.header("grpc-status"), denied.header("grpc-message")), (Some("8"), Some("rate limited")));
    pushed_back(&denied);
    mesh.get("alice").await.denied().without("grpc-retry-pushback-ms");
}

/// Asserts a denial in the form of gRPC-Web.
#[track_caller]
fn denied_in_web(denied: &Answer, content_type: &str) {
    assert_eq!(denied.header("content-type"), Some(content_type), "{denied:#?}");
    pushed_back(denied);
    let body = match content_type.contains("text") {
        true => String::from_utf8_lossy(&BASE64_STANDARD.decode(&denied.body).unwrap()).into_owned(),
        false => denied.body.clone(),
    };
    let pushback = denied.header("grpc-retry-pushback-ms").unwrap();
    let trailers = format!("grpc-status:8\r\ngrpc-message:rate limited\r\ngrpc-retry-pushback-ms:{pushback}\r\n");
    // A frame of trailers, whose flag is no UTF-8.
    let frame = format!("\u{fffd}\0\0\0{}{trailers}", char::from(u8::try_from(trailers.len()).unwrap()));
    assert_eq!(body, frame);
}

async fn a_grpc_web_client_gets_trailers_in_the_body(host: HostKind) {
    let Some(mesh) = spent(host).await else { return };
    for content_type in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
    ] {
        // The second denial is from memory, where the reply to clients of one other protocol is kept.
        for _ in 0..2 {
            denied_in_web(&call(&mesh, content_type).send().await.status(200), content_type);
        }
    }
}

/// Weir has its place in front of Envoy's filter, which makes gRPC of gRPC-Web. The embedded host lacks that filter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_web_client_gets_the_same_in_front_of_envoys_filter() {
    let mesh = Mesh::on(HostKind::Envoy, QUICKSTART).patient().workers(1).bucket(1, 1, "60s").edit(|bootstrap| {
        let filter = "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
        let filters = bootstrap.pointer_mut(MANAGER).unwrap()["http_filters"].as_array_mut().unwrap();
        filters.insert(1, json!({"name": "grpc_web", "typed_config": {"@type": filter}}));
    });
    let Some(mesh) = mesh.start().await else { return };
    mesh.get("alice").await.admitted();
    for content_type in ["application/grpc-web+proto", "application/grpc-web-text+proto"] {
        denied_in_web(&call(&mesh, content_type).send().await.status(200), content_type);
    }
}

async fn a_unary_connect_client_gets_the_status_and_json(host: HostKind) {
    let Some(mesh) = spent(host).await else { return };
    let version = |content_type| call(&mesh, content_type).header("connect-protocol-version", "1");
    let get = mesh.ask("/pkg.Service/Call?encoding=json&message=%7B%7D&connect=v1").user("alice");
    for ask in [version("application/json"), version("application/proto"), get] {
        let denied = ask.send().await.denied().without("grpc-status").without("grpc-retry-pushback-ms");
        assert_eq!(denied.header("content-type"), Some("application/json"), "{denied:#?}");
        assert_eq!(denied.body, r#"{"code":"resource_exhausted","message":"rate limited"}"#);
        assert!(denied.number::<u64>("retry-after").is_some());
    }
    // JSON without the version of Connect is plain HTTP.
    let denied = call(&mesh, "application/json").send().await.denied();
    assert_eq!((denied.header("content-type"), &*denied.body), (Some("text/plain"), "rate limited\n"));
}

async fn a_streaming_connect_client_gets_the_end_of_the_stream(host: HostKind) {
    let Some(mesh) = spent(host).await else { return };
    for content_type in ["application/connect+proto", "application/connect+json"] {
        let denied = call(&mesh, content_type).header("connect-protocol-version", "1").send().await.status(200);
        assert_eq!(denied.header("content-type"), Some(content_type), "{denied:#?}");
        let json = r#"{"error":{"code":"resource_exhausted","message":"rate limited"}}"#;
        assert_eq!(json.len(), 0x40);
        assert_eq!(denied.body, ["\x02\0\0\0\x40", json].concat());
        assert!(denied.number::<u64>("retry-after").is_some());
    }
}

async fn a_limit_of_zero_tells_grpc_clients_not_to_retry(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).bucket(0, 1, "60s");
    let Some(mesh) = mesh.start().await else { return };
    for content_type in ["application/grpc", "application/grpc-web"] {
        let denied = call(&mesh, content_type).send().await.status(200).without("retry-after");
        assert_eq!(denied.header("grpc-retry-pushback-ms"), Some("-1"));
    }
}

async fn rejections_and_failures_have_the_form_of_the_client(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).configure(|filter| {
        filter["limits"][0]["hits_addend"] = json!({"request_header": {"name": "x-cost", "on_invalid": "reject"}});
    });
    let Some(mesh) = mesh.start().await else { return };
    let reason = "expected a whole number of hits up to 1000000";
    let rejected = |content_type| call(&mesh, content_type).header("connect-protocol-version", "1").send();
    let web = rejected("application/grpc-web+proto").await.status(200);
    assert!(web.body.ends_with(&format!("grpc-status:3\r\ngrpc-message:{reason}\r\n")), "{web:#?}");
    let unary = rejected("application/json").await.status(400);
    assert_eq!(unary.body, format!(r#"{{"code":"invalid_argument","message":"{reason}"}}"#));
    let stream = rejected("application/connect+json").await.status(200);
    assert!(stream.body.ends_with(&format!(r#"{{"error":{{"code":"invalid_argument","message":"{reason}"}}}}"#)));

    // Redis refuses clients without a password.
    let with_password = RedisOptions { password: Some("correct horse".into()), ..RedisOptions::default() };
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).redis(with_password);
    let Some(mesh) = mesh.start().await else { return };
    let failed = |content_type| call(&mesh, content_type).header("connect-protocol-version", "1").send();
    let reason = "rate limiting is unavailable";
    let web = failed("application/grpc-web").await.status(200);
    assert!(web.body.ends_with(&format!("grpc-status:14\r\ngrpc-message:{reason}\r\n")), "{web:#?}");
    let unary = failed("application/proto").await.status(503);
    assert_eq!(unary.body, format!(r#"{{"code":"unavailable","message":"{reason}"}}"#));
}

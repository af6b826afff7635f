//! Rate-limit headers of several limiters: the client gets those of the limiter that denies, or else of the strictest.

use hyper::Method;
use serde_json::{Value, json};
use weir::{Answer, HostKind, Mesh, MeshBuilder};

use super::{QUICKSTART, limit, manager, route_to, serve};

weir::on_both_hosts! {
    headers_are_those_of_the_limiter_that_denies_or_else_of_the_stricter
    ietf_lists_of_two_limiters_are_joined_without_duplicate_policies
    headers_of_the_upstream_stay_where_they_are_stricter
}

const LEGACY: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Builds a mesh with two limiters in one filter chain, `outer` before `inner`.
fn two(host: HostKind, outer: &Value, inner: &Value) -> MeshBuilder {
    let (outer, inner) = (outer.clone(), inner.clone());
    Mesh::on(host, QUICKSTART).patient().workers(1).edit(move |bootstrap| {
        let filters = manager(bootstrap)["http_filters"].as_array_mut().expect("a list");
        let mut second = filters[0].clone();
        let place = "/typed_config/config/configuration/value/limits";
        *filters[0].pointer_mut(place).expect("limits") = json!([outer]);
        *second.pointer_mut(place).expect("limits") = json!([inner]);
        second["name"] = "inner".into();
        second["typed_config"]["config"]["name"] = "inner".into();
        filters.insert(1, second);
    })
}

/// Returns `x-ratelimit-limit` and `x-ratelimit-remaining`. Asserts that each of the three headers occurs once.
#[track_caller]
fn legacy(answer: &Answer) -> (u64, u64) {
    for name in LEGACY {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{answer:#?}");
    }
    (answer.number(LEGACY[0]).unwrap(), answer.number(LEGACY[1]).unwrap())
}

async fn headers_are_those_of_the_limiter_that_denies_or_else_of_the_stricter(host: HostKind) {
    let (wide, narrow) = (limit("wide", "x-user-id", 100), limit("narrow", "x-user-id", 5));
    let Some(mesh) = two(host, &wide, &narrow).start().await else { return };
    for left in (0..5).rev() {
        assert_eq!(legacy(&mesh.get("alice").await.admitted()), (5, left));
    }
    let denied = mesh.get("alice").await.denied();
    assert_eq!((legacy(&denied), denied.headers.get_all("retry-after").iter().count()), ((5, 0), 1));
    let grpc = mesh.ask("/").method(Method::POST).header("content-type", "application/grpc").user("alice");
    let grpc = grpc.send().await.status(200);
    assert_eq!((legacy(&grpc), grpc.header("grpc-status")), ((5, 0), Some("8")));

    let Some(mesh) = two(host, &narrow, &wide).start().await else { return };
    for left in (0..5).rev() {
        assert_eq!(legacy(&mesh.get("alice").await.admitted()), (5, left));
    }
    assert_eq!(legacy(&mesh.get("alice").await.denied()), (5, 0));

    // A limit in shadow mode sets no headers, whether it is the outer or the inner one.
    let mut shadow = narrow.clone();
    shadow["shadow_mode"] = true.into();
    for (outer, inner) in [(&wide, &shadow), (&shadow, &wide)] {
        let Some(mesh) = two(host, outer, inner).start().await else { return };
        for left in (90..100).rev() {
            assert_eq!(legacy(&mesh.get("alice").await.admitted()), (100, left));
        }
    }
    // The headers are those of an inner denial, although the outer limit has less remaining.
    let (mut costly, few) = (limit("costly", "x-user-id", 5), limit("few", "x-user-id", 3));
    costly["hits_addend"] = 3.into();
    let Some(mesh) = two(host, &few, &costly).start().await else { return };
    assert_eq!(legacy(&mesh.get("alice").await.admitted()), (5, 2), "both limits have 2 tokens remaining");
    assert_eq!(legacy(&mesh.get("alice").await.denied()), (5, 2));
}

async fn ietf_lists_of_two_limiters_are_joined_without_duplicate_policies(host: HostKind) {
    let ietf = |name: &str, tokens: u64| {
        let mut limit = limit(name, "x-user-id", tokens);
        limit["response"] = json!({"headers": ["ratelimit", "retry-after"]});
        limit
    };
    let both = |answer: &Answer| {
        for name in ["ratelimit", "ratelimit-policy"] {
            assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{answer:#?}");
        }
        let without_times = |list: &str| -> Vec<String> {
            list.split(", ").map(|member| member.split(";t=").next().unwrap_or_default().to_owned()).collect()
        };
        let policies = answer.header("ratelimit-policy").unwrap().split(", ").count();
        (without_times(answer.header("ratelimit").unwrap()), policies)
    };
    let with_ietf = |limits: (Value, Value)| {
        // The `response` of a limit replaces that of the filter.
        two(host, &limits.0, &limits.1).configure(|filter| filter["response"] = json!({"headers": ["ratelimit"]}))
    };
    let Some(mesh) = with_ietf((ietf("wide", 100), ietf("narrow", 1))).start().await else { return };
    let joined = both(&mesh.get("alice").await.admitted());
    assert_eq!(joined, (vec!["\"narrow\";r=0".to_owned(), "\"wide\";r=99".to_owned()], 2));
    let denied = mesh.get("alice").await.denied();
    assert_eq!(both(&denied), (vec!["\"narrow\";r=0".to_owned()], 1), "the limiter that denies");

    // Both limiters have the same limit and so the same bucket: the outer limiter spends first.
    let Some(mesh) = with_ietf((ietf("same", 10), ietf("same", 10))).start().await else { return };
    assert_eq!(both(&mesh.get("alice").await.admitted()), (vec!["\"same\";r=8".to_owned()], 1));
}

async fn headers_of_the_upstream_stay_where_they_are_stricter(host: HostKind) {
    fn answer(target: &str) -> String {
        let (status, headers) = match target {
            "/strict" => ("200 OK", "x-ratelimit-limit: 5\r\nx-ratelimit-remaining: 2\r\nx-ratelimit-reset: 9\r\n"),
            "/lax" => ("200 OK", "x-ratelimit-limit: 900\r\nx-ratelimit-remaining: 800\r\nx-ratelimit-reset: 9\r\n"),
            "/doubled" => (
                "200 OK",
                "x-ratelimit-limit: 900\r\nx-ratelimit-limit: 900\r\nx-ratelimit-remaining: 800\r\n\
                 x-ratelimit-remaining: 800\r\n",
            ),
            "/denied" => ("429 Too Many Requests", "retry-after: 7\r\n"),
            _ => ("200 OK", ""),
        };
        format!("HTTP/1.1 {status}\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\nhi")
    }
    let upstream = serve(answer).await;
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(20, 1, "3600s").edit(|it| route_to(upstream, it));
    let Some(mesh) = mesh.start().await else { return };
    let get = async |path: &'static str| mesh.ask(path).user("alice").send().await;
    assert_eq!(legacy(&get("/none").await.admitted()), (20, 19));
    assert_eq!(legacy(&get("/strict").await.admitted()), (5, 2));
    assert_eq!(legacy(&get("/lax").await.admitted()), (20, 17));
    assert_eq!(legacy(&get("/doubled").await.admitted()), (20, 16));
    let denied = get("/denied").await.denied();
    assert_eq!(denied.header("retry-after"), Some("7"));
    denied.without("x-ratelimit-limit").without("x-ratelimit-remaining").without("x-ratelimit-reset");
}

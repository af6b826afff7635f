//! Descriptor entries, predicates and hits addends on both hosts: a table of limits and requests, with all limits in
//! one configuration. Also uploads that are larger than the proxy's buffer.

use hyper::Method;
use serde_json::{Value, json};
use weir::{HostKind, Mesh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_is_enforced_on_the_embedded_host() {
    every_limit_is_enforced(HostKind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_is_enforced_on_envoy() {
    every_limit_is_enforced(HostKind::Envoy).await;
}

weir::on_both_hosts! {
    a_held_upload_passes_whether_or_not_a_limit_reads_its_body
}

/// A limit (one request an hour by default), and the statuses of requests that are sent one after the other.
struct Case {
    name: &'static str,
    limit: Value,
    talk: Vec<(Ask, u16)>,
}

struct Ask {
    method: Method,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
}

fn get(path: &'static str) -> Ask {
    Ask { method: Method::GET, path, headers: Vec::new(), body: "" }
}

fn post(path: &'static str, body: &'static str) -> Ask {
    Ask { method: Method::POST, body, ..get(path) }
}

impl Ask {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

fn case(name: &'static str, limit: Value, talk: impl IntoIterator<Item = (Ask, u16)>) -> Case {
    Case { name, limit, talk: talk.into_iter().collect() }
}

fn keys() -> Vec<Case> {
    let by = |entry: Value| json!({"descriptor": [entry]});
    vec![
        case(
            "query-parameter",
            by(json!({"query_parameter": {"name": "key"}})),
            [
                (get("/?key=a"), 200),
                (get("/?x=1&key=a"), 429),
                (get("/?key=%61"), 429),
                (get("/?key=b"), 200),
                (get("/"), 200),
                (get("/"), 200),
            ],
        ),
        case(
            "cookie",
            by(json!({"cookie": {"name": "session"}})),
            [
                (get("/").with("cookie", "theme=dark; session=x"), 200),
                (get("/").with("cookie", "session=x"), 429),
                (get("/").with("cookie", "theme=dark").with("cookie", "session=x"), 429),
                (get("/").with("cookie", "session=y"), 200),
            ],
        ),
        case(
            "repeated-header",
            by(json!({"request_header": {"name": "x-key"}})),
            [
                (get("/").with("x-key", "a, b"), 200),
                (get("/").with("x-key", "a"), 200),
                (get("/").with("x-key", "a"), 429),
            ],
        ),
        case(
            "path",
            by(json!({"path": {}})),
            [(get("/one"), 200), (get("/one?page=2"), 429), (get("/One"), 200), (get("/two"), 200)],
        ),
        case(
            "template",
            by(json!({"path": {"template": "/users/{id}/posts"}})),
            [
                (get("/users/1/posts"), 200),
                (get("/users/1/posts?x"), 429),
                (get("/users/2/posts"), 200),
                (get("/users/1"), 200),
                (get("/users/1"), 200),
            ],
        ),
        case("method", by(json!({"method": {}})), [(get("/"), 200), (get("/"), 429), (post("/", ""), 200)]),
        case(
            "host",
            by(json!({"host": {}})),
            [
                (get("/").with("host", "a.test"), 200),
                (get("/").with("host", "A.test:80"), 429),
                (get("/").with("host", "b.test"), 200),
            ],
        ),
        case("scheme", by(json!({"scheme": {}})), [(get("/"), 200), (get("/"), 429)]),
        case(
            "masked-address",
            by(
                json!({"masked_remote_address": {"v4_prefix_mask_len": 24, "v6_prefix_mask_len": 64, "trusted_hops": 1}}),
            ),
            [
                (get("/").with("x-forwarded-for", "203.0.113.9, 10.0.0.1"), 200),
                (get("/").with("x-forwarded-for", "203.0.113.77, 10.0.0.1"), 429),
                (get("/").with("x-forwarded-for", "203.0.114.9, 10.0.0.1"), 200),
                (get("/").with("x-forwarded-for", "2001:db8::1, 10.0.0.1"), 200),
                (get("/").with("x-forwarded-for", "2001:db8::2, 10.0.0.1"), 429),
            ],
        ),
        case(
            "trusted-cidrs",
            by(json!({"remote_address": {"trusted_cidrs": ["10.0.0.0/8", "127.0.0.0/8"]}})),
            [
                (get("/").with("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.2, 10.0.0.1"), 200),
                (get("/").with("x-forwarded-for", "7.7.7.7, 203.0.113.9, 10.1.1.1"), 429),
                (get("/").with("x-forwarded-for", "203.0.113.10, 10.1.1.1"), 200),
            ],
        ),
        case(
            "default",
            by(json!({"request_header": {"name": "x-key", "default": "nobody"}})),
            [
                (get("/"), 200),
                (get("/"), 429),
                (get("/").with("x-key", "nobody"), 429),
                (get("/").with("x-key", "somebody"), 200),
            ],
        ),
        case("no-route-name", by(json!({"route_name": {"default": "unnamed"}})), [(get("/"), 200), (get("/"), 429)]),
        case(
            "json-body",
            by(json!({"request_body": {"json_pointer": "/user/id"}})),
            [
                (post("/", r#"{"user": {"id": "alice"}}"#), 200),
                (post("/", r#"{"user": {"id": "alice"}, "x": 1}"#), 429),
                (post("/", r#"{"user": {"id": 7}}"#), 200),
                (post("/", "no json"), 200),
                (get("/"), 200),
            ],
        ),
        case(
            "two-entries",
            json!({"descriptor": [{"method": {}}, {"request_header": {"name": "x-key"}}]}),
            [
                (get("/").with("x-key", "a"), 200),
                (get("/").with("x-key", "a"), 429),
                (post("/", "").with("x-key", "a"), 200),
            ],
        ),
    ]
}

fn conditions() -> Vec<Case> {
    let when = |predicates: Value| json!({"descriptor": [], "when": predicates});
    let exempt = |predicates: Value| json!({"descriptor": [], "exempt": predicates});
    vec![
        case(
            "when-all",
            when(json!([{"path": {"prefix": "/api/"}}, {"method": ["GET", "HEAD"]}])),
            [(get("/api/x"), 200), (get("/api/y"), 429), (post("/api/x", ""), 200), (get("/apiary"), 200)],
        ),
        case(
            "when-any-not",
            when(
                json!([{"any": [{"header": {"name": "x-a", "present": true}}, {"not": {"path": {"exact": "/free"}}}]}]),
            ),
            [(get("/paid"), 200), (get("/paid"), 429), (get("/free"), 200), (get("/free").with("x-a", "1"), 429)],
        ),
        case(
            "when-regex",
            when(json!([{"path": {"regex": "/v[0-9]+/items/.*"}}])),
            [(get("/v1/items/7"), 200), (get("/v22/items/"), 429), (get("/vx/items/7"), 200)],
        ),
        case(
            "when-query",
            when(json!([{"query_parameter": {"name": "debug", "exact": "1"}}])),
            [(get("/?debug=1"), 200), (get("/?debug=1"), 429), (get("/?debug=0"), 200)],
        ),
        case(
            "when-address",
            when(json!([{"remote_address": {"cidrs": ["127.0.0.0/8"]}}])),
            [(get("/"), 200), (get("/"), 429)],
        ),
        case(
            "exempt-address",
            exempt(json!([{"remote_address": {"cidrs": ["127.0.0.0/8", "::1/128"]}}])),
            [(get("/"), 200), (get("/"), 200)],
        ),
        case(
            "exempt-header",
            exempt(json!([{"header": {"name": "x-internal", "exact": "yes"}}])),
            [(get("/"), 200), (get("/"), 429), (get("/").with("x-internal", "yes"), 200)],
        ),
        case(
            "exempt-value",
            json!({"descriptor": [{"request_header": {"name": "x-key"}}], "exempt": [{"descriptor_value": "root"}]}),
            [
                (get("/").with("x-key", "root"), 200),
                (get("/").with("x-key", "root"), 200),
                (get("/").with("x-key", "user"), 200),
                (get("/").with("x-key", "user"), 429),
            ],
        ),
    ]
}

fn costs_and_answers() -> Vec<Case> {
    let ten = json!({"max_tokens": 10, "fill_interval": "3600s"});
    vec![
        case(
            "cost-query",
            json!({"descriptor": [], "token_bucket": ten, "hits_addend": {"query_parameter": {"name": "n"}}}),
            [(get("/?n=7"), 200), (get("/?n=4"), 429), (get("/?n=3"), 200)],
        ),
        case(
            "cost-length",
            json!({"descriptor": [], "token_bucket": ten, "hits_addend": {"content_length": {}}}),
            [(post("/", "12345678"), 200), (post("/", "123"), 429), (post("/", "12"), 200)],
        ),
        case(
            "cost-body",
            json!({"descriptor": [], "token_bucket": ten, "hits_addend": {"request_body": {"json_pointer": "/n"}}}),
            [(post("/", r#"{"n": 8}"#), 200), (post("/", r#"{"n": 3}"#), 429)],
        ),
        case(
            "cost-rejected",
            json!({"descriptor": [], "token_bucket": ten,
                "hits_addend": {"request_header": {"name": "x-cost", "on_invalid": "reject"}}}),
            [
                (get("/").with("x-cost", "many"), 400),
                (get("/"), 400),
                (get("/").with("x-cost", "10"), 200),
                (get("/").with("x-cost", "1"), 429),
            ],
        ),
        case("own-answer", json!({"descriptor": [], "response": {"status": 403}}), [(get("/"), 200), (get("/"), 403)]),
    ]
}

async fn every_limit_is_enforced(host: HostKind) {
    let cases: Vec<Case> = [keys(), conditions(), costs_and_answers()].into_iter().flatten().collect();
    assert!(cases.len() <= 32, "expected at most the 32 limits of a filter, found {}", cases.len());
    let limits: Vec<Value> = cases.iter().map(limit_of).collect();
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1).configure(|filter| {
        filter["limits"] = Value::Array(limits.clone());
    });
    let Some(mesh) = mesh.that_sees_bodies().start().await else { return };
    for case in &cases {
        for (turn, (ask, status)) in case.talk.iter().enumerate() {
            let mut request = mesh.ask(ask.path).method(ask.method.clone()).body(ask.body).header("x-case", case.name);
            for (name, value) in &ask.headers {
                request = request.header(name, value);
            }
            let answer = request.send().await;
            assert_eq!(answer.status, *status, "{}, request {turn} on {host:?}: {answer:#?}", case.name);
        }
    }
}

/// Returns the limit of a case, restricted to the requests of the case.
fn limit_of(case: &Case) -> Value {
    let mut limit = json!({"name": case.name, "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}, "when": []});
    for (field, value) in case.limit.as_object().expect("a limit is an object") {
        limit[field] = value.clone();
    }
    let only_here = json!({"header": {"name": "x-case", "exact": case.name}});
    limit["when"].as_array_mut().expect("a list of predicates").push(only_here);
    limit
}

/// Each upload is held for about 4 s, while more of its body arrives than the proxy buffers (1 MiB).
async fn a_held_upload_passes_whether_or_not_a_limit_reads_its_body(host: HostKind) {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1).configure(|filter| {
        // Long enough for a stalled machine to send the next request before its token exists.
        let one_in_four_seconds = json!({"max_tokens": 1, "fill_interval": "4s"});
        let plenty = json!({"max_tokens": 100, "fill_interval": "1s"});
        filter["limits"] = json!([
            {"name": "shaped", "descriptor": [], "token_bucket": one_in_four_seconds, "max_delay": "20s"},
            {"name": "read", "descriptor": [{"request_body": {"json_pointer": "/user"}}], "token_bucket": plenty,
                "when": [{"path": {"prefix": "/read"}}]},
        ]);
    });
    let Some(mesh) = mesh.that_sees_bodies().start().await else { return };
    mesh.get("alice").await.admitted();
    let body = "x".repeat(8 << 20);
    for path in ["/unread", "/read"] {
        let answer = mesh.ask(path).method(Method::POST).body(&body).send().await;
        assert_eq!(answer.status, 200, "{path} on {host:?}: {answer:#?}");
    }
    mesh.counts("weir_requests_delayed", 2).await;
}

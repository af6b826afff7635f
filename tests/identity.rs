//! Identity of clients on both hosts: host names, cookies, and repeated headers, query parameters and cookies.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::{Answer, HostKind, Mesh};

const ANSWER_WITHIN: Duration = Duration::from_secs(60);

weir::on_both_hosts! {
    all_spellings_of_a_host_share_a_bucket
    cookies_are_separated_by_semicolons_alone
    repeated_values_count_as_configured
    repeated_values_are_rejected_where_so_configured
    predicates_and_hits_addends_read_repeated_values_as_configured
}

async fn all_spellings_of_a_host_share_a_bucket(host: HostKind) {
    let limits = [
        limit("by_host", json!([{"host": {}}]), "/h/"),
        json!({"name": "shop", "when": [{"path": {"prefix": "/s/"}}, {"host": {"exact": "shop.example"}}],
            "descriptor": [], "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}}),
        json!({"name": "raw", "when": [{"path": {"prefix": "/r/"}}, {"header": {"name": "HOST", "prefix": "raw."}}],
            "descriptor": [{"request_header": {"name": "Host"}}],
            "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}}),
        json!({"name": "costly", "when": [{"path": {"prefix": "/c/"}}], "descriptor": [],
            "hits_addend": {"request_header": {"name": "hOst"}},
            "token_bucket": {"max_tokens": 100, "fill_interval": "3600s"}}),
    ];
    for is_http2 in [false, true] {
        let Some(mesh) = start(host, &limits).await else { return };
        let ask = async |path: &str, host: &str| get(&mesh, is_http2, path, &[("host", host)]).await;
        for path in ["/h/", "/s/"] {
            ask(path, "shop.example").await.admitted();
            for spelling in
                ["SHOP.example", "shop.example.", "SHOP.example.:443", "shop.example:80", "shop.example.:8443"]
            {
                ask(path, spelling).await.denied();
            }
        }
        ask("/h/", "shop.example.com").await.admitted();
        ask("/h/", "[2001:db8::1]").await.admitted();
        ask("/h/", "[2001:DB8:0::1]:443").await.denied();
        ask("/s/", "other.example").await.admitted().without("x-ratelimit-limit");
        // The header `host` is read as the client sent it.
        ask("/r/", "raw.example").await.admitted();
        ask("/r/", "raw.example").await.denied();
        ask("/r/", "raw.example.").await.admitted();
        ask("/c/", "60").await.admitted().remaining(40);
        if is_http2 {
            // A request may have a header `host` in place of `:authority`.
            mesh.reset_all();
            ask_raw(&mesh, true, "/h/", [("host", "Other.Example.")].into_iter()).await;
            assert_eq!(mesh.keys(), ["by_host:other.example"]);
        }
    }
}

async fn cookies_are_separated_by_semicolons_alone(host: HostKind) {
    let limits = [limit("uid", json!([{"cookie": {"name": "uid"}}]), "/")];
    let Some(mesh) = start(host, &limits).await else { return };
    let expected = [
        (&["uid=acme,1"][..], "acme%2C1"),
        (&["uid=acme,2"], "acme%2C2"),
        (&["theme=a,uid=mallory; uid=alice"], "alice"),
        (&["uid=\"bob\""], "bob"),
        (&["theme=a ; uid = carol ;x"], "carol"),
        (&["uid=dave; uid=mallory"], "dave"),
        // Several cookie headers are read as one (RFC 9113, §8.2.3).
        (&["theme=a", "uid=erin", "uid=mallory"], "erin"),
        (&["theme=a,", "uid=frank,b"], "frank%2Cb"),
        (&["uid=", "uid=mallory"], "%"),
    ];
    for (cookies, key) in expected {
        for is_http2 in [false, true] {
            mesh.reset_all();
            ask_raw(&mesh, is_http2, "/", cookies.iter().map(|cookie| ("cookie", *cookie))).await;
            assert_eq!(mesh.keys(), [format!("uid:{key}")], "{cookies:?}, HTTP/2: {is_http2}");
        }
    }
    for (cookies, is_http2) in [(["theme=a,uid=mallory"], false), (["theme=a,uid=mallory"], true), (["UID=x"], false)] {
        mesh.reset_all();
        ask_raw(&mesh, is_http2, "/", cookies.iter().map(|cookie| ("cookie", *cookie))).await;
        assert_eq!(mesh.keys(), [""; 0], "{cookies:?}");
    }
}

async fn repeated_values_count_as_configured(host: HostKind) {
    let kinds = [("header", "request_header"), ("query", "query_parameter"), ("cookie", "cookie")];
    let limits = ["usual", "first", "last", "joined"].map(|repeated| {
        kinds.map(|(name, kind)| {
            let mut entry = json!({kind: {"name": "key"}});
            if repeated != "usual" {
                entry[kind]["repeated"] = repeated.into();
            }
            limit(&format!("{name}.{repeated}"), json!([entry]), "/")
        })
    });
    let Some(mesh) = start(host, &limits.concat()).await else { return };
    let [first, last, joined] = ["a", "b%2Cc", "a:b%2Cc"];
    for is_http2 in [false, true] {
        mesh.reset_all();
        let headers = [("key", "a"), ("key", "b,c"), ("cookie", "key=a; x=1"), ("cookie", "key=b,c")];
        ask_raw(&mesh, is_http2, "/?key=a&x=key&k%65y=b%2Cc", headers.into_iter()).await;
        let joined = joined.replace(':', "%2C");
        let mut expected: Vec<String> = [("header", &*joined), ("query", first), ("cookie", first)]
            .into_iter()
            .flat_map(|(name, usual)| {
                [("usual", usual), ("first", first), ("last", last), ("joined", &*joined)]
                    .map(|(repeated, key)| format!("{name}.{repeated}:{key}"))
            })
            .collect();
        expected.sort();
        assert_eq!(mesh.keys(), expected, "HTTP/2: {is_http2}");
    }
}

async fn repeated_values_are_rejected_where_so_configured(host: HostKind) {
    let entry = |kind: &str| json!([{kind: {"name": "key", "repeated": "reject"}}]);
    let mut shadow = limit("shadow", entry("query_parameter"), "/shadow/");
    shadow["shadow_mode"] = true.into();
    let limits = [
        limit("header", entry("request_header"), "/header/"),
        limit("query", entry("query_parameter"), "/query/"),
        limit("cookie", entry("cookie"), "/cookie/"),
        shadow,
    ];
    let told = "expected one value of what identifies the client, found several\n";
    for is_http2 in [false, true] {
        let Some(mesh) = start(host, &limits).await else { return };
        let ask = async |path: &str, headers: &[(&str, &str)]| get(&mesh, is_http2, path, headers).await;
        ask("/header/", &[("key", "a")]).await.admitted();
        assert_eq!(ask("/header/", &[("key", "a"), ("key", "a")]).await.status(400).body, told);
        ask("/header/", &[]).await.admitted().without("x-ratelimit-limit");
        ask("/query/?key=a", &[]).await.admitted();
        assert_eq!(ask("/query/?key=a&x&key=b", &[]).await.status(400).body, told);
        ask("/query/?key=b&ke%79=c", &[]).await.status(400);
        ask("/cookie/", &[("cookie", "key=a; x=key")]).await.admitted();
        ask("/cookie/", &[("cookie", "key=a; key=b")]).await.status(400);
        ask("/cookie/", &[("cookie", "key=c"), ("cookie", "key=d")]).await.status(400);
        let grpc = ask("/query/?key=a&key=b", &[("content-type", "application/grpc")]).await;
        assert_eq!(grpc.header("grpc-status"), Some("3"));
        // A limit in shadow mode reads the first value.
        mesh.reset_all();
        ask("/shadow/?key=a&key=b", &[]).await.admitted();
        assert_eq!(mesh.keys(), ["shadow:a"]);
    }
}

async fn predicates_and_hits_addends_read_repeated_values_as_configured(host: HostKind) {
    let gold = |repeated: Option<&str>, prefix: &str| {
        let mut header = json!({"name": "plan", "exact": "gold"});
        if let Some(repeated) = repeated {
            header["repeated"] = repeated.into();
        }
        json!([{"path": {"prefix": prefix}}, {"header": header}])
    };
    let mut limits =
        [limit("usual", json!([]), "/usual/"), limit("last", json!([]), "/last/"), limit("cost", json!([]), "/cost/")];
    limits[0]["when"] = gold(None, "/usual/");
    limits[1]["when"] = gold(Some("last"), "/last/");
    limits[2]["token_bucket"] = json!({"max_tokens": 100, "fill_interval": "3600s"});
    limits[2]["hits_addend"] = json!({"query_parameter": {"name": "cost", "repeated": "last"}});
    for is_http2 in [false, true] {
        let Some(mesh) = start(host, &limits).await else { return };
        let plans = [("plan", "free"), ("plan", "gold")];
        let ask = async |path: &str| get(&mesh, is_http2, path, &plans).await;
        ask("/usual/").await.admitted().without("x-ratelimit-limit");
        ask("/last/").await.admitted().remaining(0);
        ask("/last/").await.denied();
        ask("/cost/?cost=1&cost=60").await.admitted().remaining(40);
    }
}

async fn start(host: HostKind, limits: &[Value]) -> Option<Mesh> {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1);
    mesh.configure(|filter| filter["limits"] = limits.into()).start().await
}

/// Returns a limit of one request an hour per key, for paths with this prefix.
fn limit(name: &str, descriptor: Value, prefix: &str) -> Value {
    json!({"name": name, "when": [{"path": {"prefix": prefix}}], "descriptor": descriptor,
        "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}})
}

/// Sends a GET with these headers. Over HTTP/2, `host` is the authority.
async fn get(mesh: &Mesh, is_http2: bool, path: &str, headers: &[(&str, &str)]) -> Answer {
    if !is_http2 {
        let ask = mesh.ask(path);
        return headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await;
    }
    let io = TokioIo::new(TcpStream::connect(mesh.ingress()[0]).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let authority = headers.iter().find(|(name, _)| *name == "host").map_or("shop.test", |(_, host)| host);
    let request = Request::get(format!("http://{authority}{path}"));
    let fields = headers.iter().filter(|(name, _)| *name != "host");
    let request = fields.fold(request, |request, (name, value)| request.header(*name, *value));
    let sent = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
    let (head, body) = timeout(ANSWER_WITHIN, sent).await.expect("a response within a minute").unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Sends a GET with exactly these headers, and reads the whole response. Over HTTP/2, a header `host` takes the place of
/// `:authority`.
async fn ask_raw<'a>(mesh: &Mesh, is_http2: bool, path: &'a str, headers: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut stream = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    if !is_http2 {
        let headers: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        assert!(response.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&response));
        return;
    }
    let headers: Vec<_> = headers.collect();
    let has_host = headers.iter().any(|(name, _)| *name == "host");
    let authority = Some((":authority", "shop.test")).filter(|_| !has_host);
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path)].into_iter().chain(authority);
    let block: Vec<u8> = pseudo.chain(headers).flat_map(|(name, value)| literal(name, value)).collect();
    let settings = frame(4, 0, 0, &[]);
    let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice(), &frame(1, 0x5, 1, &block)].concat();
    stream.write_all(&request).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, _, _, _, id] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await.unwrap();
        assert!(!matches!(kind, 3 | 7), "reset: {payload:?}");
        if id == 1 && matches!(kind, 0 | 1) && flags & 1 == 1 {
            return;
        }
    }
}

/// Encodes an HTTP/2 frame (RFC 9113, §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream][..], payload].concat()
}

/// Encodes a header field without indexing (RFC 7541, §6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

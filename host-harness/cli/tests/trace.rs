//! Output of `weir trace`: an admitted and a denied request with a real Redis, secrets, and modules that are not
//! Weir's.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_host::scenario::Scenario;
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_provision::{checkout, filter_wasm, or_skip};

/// A bootstrap in a folder of its own, with a Redis that it reaches.
struct Fixture {
    folder: TempDir,
    _redis: Option<RedisServer>,
}

impl Fixture {
    /// A limit of one request a minute. `None` if a component is missing.
    fn one_a_minute() -> Option<Self> {
        let redis = or_skip(RedisServer::start(RedisOptions::default()))?;
        let mut scenario = quickstart()?;
        scenario.endpoint("redis", redis.addr()).unwrap();
        Some(Self::of(&scenario, Some(redis)))
    }

    fn of(scenario: &Scenario, redis: Option<RedisServer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("envoy.yaml"), scenario.to_yaml()).unwrap();
        Self { folder, _redis: redis }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `weir trace`, and returns what it writes to standard output.
    fn trace(&self, words: &[&str]) -> String {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.arg("trace").arg(self.path("envoy.yaml")).args(words).env_remove("REDIS_URL");
        let done = weir.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// The quickstart with a limit of one request a minute, and the filter's module.
fn quickstart() -> Option<Scenario> {
    let wasm = or_skip(filter_wasm::find_or_build())?;
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    scenario.wasm(&wasm).unwrap();
    let bucket = json!({"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "60s"});
    scenario
        .filter_configuration(|filter| {
            filter["limits"][0]["token_bucket"] = bucket.clone();
            filter["redis"]["timeout"] = "5s".into();
            filter["failure_mode"] = "deny".into();
        })
        .unwrap();
    Some(scenario)
}

/// The failure mode decides if Redis refuses connections.
#[test]
fn a_fault_before_redis_shows_in_the_decision() {
    let Some(fixture) = Fixture::one_a_minute() else { return };
    let trace = |words: &[&str]| -> Value {
        let all = [&["-H", "x-user-id: alice", "--format", "json"], words].concat();
        serde_json::from_str(&fixture.trace(&all)).unwrap()
    };
    let status = |trace: &Value| trace["requests"][0]["status"].clone();
    assert_eq!(status(&trace(&["--fault", "redis: refuse"])), 503);
    assert_eq!(status(&trace(&[])), 200);
}

/// Replaces numbers before `µs` by `#`.
fn masked(text: &str) -> Vec<String> {
    let mask = |line: &str| {
        let parts: Vec<&str> = line.split(" µs").collect();
        let last = parts.len() - 1;
        let masked = parts.iter().enumerate().map(|(index, part)| match index == last {
            true => (*part).to_owned(),
            false => format!("{}# µs", part.trim_end_matches(|it: char| it.is_ascii_digit()).trim_end_matches(' ')),
        });
        masked.collect::<String>()
    };
    text.lines().map(mask).collect()
}

/// Asserts that lines with these starts follow each other, possibly with others in between.
fn has_in_order(text: &str, expected: &[&str]) {
    let lines = masked(text);
    let mut rest = lines.iter();
    for start in expected {
        assert!(rest.any(|line| line.starts_with(start)), "no `{start}` in its place in:\n{}", lines.join("\n"));
    }
}

#[test]
fn an_admitted_and_a_denied_request_have_a_timeline_and_a_reason() {
    let Some(fixture) = Fixture::one_a_minute() else { return };
    let text = fixture.trace(&["--request", "GET /x", "-H", "x-user-id: alice", "--times", "2"]);
    assert!(text.lines().next().unwrap().contains("is the file's Redis at 127.0.0.1:"), "{text}");
    has_in_order(
        &text,
        &[
            "# µs  → GET /x  x-user-id: alice",
            "# µs  ┌ weir/limiter on_request_headers(context: ",
            "# µs  │ get_header_map_pairs(map: HttpRequestHeaders) = {:authority: \"weir.test\", :path: \"/x\", ",
            "# µs  └ StopIteration (# µs)",
            "# µs  │ grpc_stream(target: \"redis\", service: \"weir.Redis\", ",
            "# µs  redis ═ connected to 127.0.0.1:",
            "# µs  redis ◀ EVALSHA token_buckets 1 weir:per_user:alice 1 1 ",
            "# µs  redis ▶ error: NOSCRIPT",
            "# µs  redis ◀ EVAL token_buckets (",
            "# µs  redis ▶ [",
            "# µs  │ continue_stream(stream: HttpRequest)",
            "# µs  │ replace_header_map_value(map: HttpResponseHeaders, key: \"x-ratelimit-remaining\", value: \"0\")",
            "# µs  ← 200  ",
            "admitted: limit `per_user` has tokens: 0 of 1 remain",
            "# µs  → GET /x  x-user-id: alice",
            "# µs  redis ◀ EVALSHA token_buckets 1 weir:per_user:alice 1 1 ",
            "# µs  redis ▶ [-",
            "# µs  │ send_local_response(status: 429, details: \"weir_denied{per_user}\", ",
            "# µs  ← 429  ",
            "denied: limit `per_user` has no tokens left, says Redis; retry after ",
        ],
    );
    assert!(!text.contains('\x1b'), "no colour without a terminal");
    let sha1 = |word: &str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!text.split([' ', '‹', '"']).any(sha1), "scripts have names:\n{text}");
}

#[test]
fn a_denial_from_memory_says_so() {
    let Some(fixture) = Fixture::one_a_minute() else { return };
    let text = fixture.trace(&["-H", "x-user-id: alice", "--times", "6"]);
    // A denial is repeated for a second, which may end on a stalled machine.
    let is_from_memory =
        |line: &str| line.starts_with("denied: limit `per_user` has no tokens left, says the deny cache");
    assert!(text.lines().any(is_from_memory), "{text}");
}

#[test]
fn json_has_the_documented_fields() {
    let Some(fixture) = Fixture::one_a_minute() else { return };
    let text = fixture.trace(&["-H", "x-user-id: alice", "--times", "2", "--format", "json"]);
    let trace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(trace["version"], 1);
    let [first, second] = &trace["requests"].as_array().unwrap()[..] else { panic!("{text}") };
    assert_eq!((&first["status"], &second["status"]), (&json!(200), &json!(429)));
    assert_eq!(first["request"], "GET /");
    assert_eq!(first["request_headers"], json!([["x-user-id", "alice"]]));
    let why = "limit `per_user` has tokens: 0 of 1 remain";
    let admitted =
        json!({"outcome": "admitted", "limits": ["per_user"], "remaining": 0, "retry_after_s": null, "why": why});
    assert_eq!(first["decision"], admitted);
    assert_eq!(
        (&second["decision"]["outcome"], &second["decision"]["limits"]),
        (&json!("denied"), &json!(["per_user"]))
    );
    assert!((1..=60).contains(&second["decision"]["retry_after_s"].as_u64().unwrap()));
    let fields = |event: &Value| -> &[&str] {
        match event["event"].as_str().unwrap() {
            "callback" => &["plugin", "name", "arguments"],
            "return" => &["name", "result", "took_us"],
            "call" => &["name", "arguments", "results", "status", "took_us"],
            "connected" => &["cluster", "address"],
            "sent" => &["cluster", "text"],
            "received" => &["cluster", "text", "took_us"],
            other => panic!("an event {other} without a fault"),
        }
    };
    for event in [first, second].iter().flat_map(|it| it["events"].as_array().unwrap()) {
        let expected = fields(event).iter().chain(&["event", "at_us", "depth"]);
        let mut expected: Vec<&str> = expected.copied().collect();
        expected.sort_unstable();
        assert_eq!(event.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), expected, "{event}");
    }
}

#[test]
fn the_page_is_well_formed_and_needs_no_other_file() {
    let Some(fixture) = Fixture::one_a_minute() else { return };
    let file = fixture.path("trace.html");
    fixture.trace(&["-H", "x-user-id: <alice> & \"co\"", "--times", "2", "--html", file.to_str().unwrap()]);
    let page = std::fs::read_to_string(file).unwrap();
    for outside in ["src=", "href=", "<script", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let addresses = page.split("http://").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(addresses.into_iter().all(|address| address == "www.w3.org/2000/svg") && !page.contains("https://"));
    assert!(page.contains("&lt;alice&gt; &amp; &quot;co&quot;") && page.contains("prefers-color-scheme: dark"));
    assert_eq!(page.matches("<svg ").count(), 2);
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "</{name}>"),
            None if tag.starts_with('!') || tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn secrets_are_in_no_output() {
    let Some(mut scenario) = quickstart() else { return };
    // No Redis answers there: a private one starts, with the password.
    scenario.endpoint("redis", "127.0.0.1:1".parse().unwrap()).unwrap();
    scenario
        .filter_configuration(|filter| {
            filter["redis"]["password"] = json!({"inline": "password-of-redis"});
            filter["hash_key"] = json!({"inline": "sixteen bytes and more"});
            let hashed = json!({"request_header": {"name": "x-tenant", "hash": true}});
            filter["limits"][0]["descriptor"] = json!([hashed]);
        })
        .unwrap();
    let fixture = Fixture::of(&scenario, None);
    let file = fixture.path("trace.html");
    let mut words = vec!["-H", "x-tenant: tenant-of-alice", "-H", "authorization: Bearer token-of-alice"];
    words.extend(["-H", "cookie: session=cookie-of-alice", "--html", file.to_str().unwrap()]);
    words.extend(["--request", "GET /?copy=token-of-alice&api_key=key-of-alice", "-H", "x-copy: tenant-of-alice"]);
    words.extend(["-H", "x-vault-token: vault-of-alice", "-H", "referer: /?token=referer-of-alice"]);
    let text = fixture.trace(&words);
    has_in_order(
        &text,
        &[
            "# µs  → GET /?copy=‹hidden›&api_key=‹hidden›",
            "# µs  redis ◀ AUTH ‹hidden›",
            "# µs  ← 200  ",
            "admitted: limit `per_user`",
        ],
    );
    assert!(text.contains("is a private Redis at 127.0.0.1:"), "{text}");
    let json = fixture.trace(&[&words[..], &["--format", "json"]].concat());
    let page = std::fs::read_to_string(file).unwrap();
    for output in [text, json, page] {
        let of_alice = ["key-of-alice", "vault-of-alice", "referer-of-alice"];
        for secret in of_alice {
            assert!(!output.contains(secret), "{secret} in:\n{output}");
        }
        for secret in ["password-of-redis", "tenant-of-alice", "token-of-alice", "cookie-of-alice", "sixteen bytes"] {
            assert!(!output.contains(secret), "{secret} in:\n{output}");
        }
    }
}

#[test]
fn a_request_that_failed_has_its_cause() {
    // Replies to each command, and the causes; `None` closes the connection.
    let servers: [(Option<&[u8]>, &str); 5] = [
        (Some(b""), "timeout (no reply within redis.timeout)"),
        (Some(b"HTTP/1.1 400\r\n\r\n"), "protocol (the reply is malformed)"),
        (Some(b"-LOADING Redis is loading\r\n"), "not_ready (this Redis cannot serve now)"),
        (Some(b"-NOAUTH Authentication required.\r\n"), "auth (Redis refuses the credentials or the permission)"),
        (None, "unavailable (no connection to Redis)"),
    ];
    for (reply, cause) in servers {
        for (mode, outcome) in [("allow", "failed open"), ("deny", "failed closed")] {
            let Some(mut scenario) = quickstart() else { return };
            scenario.endpoint("redis", server(reply)).unwrap();
            let configure = |filter: &mut Value| {
                filter["failure_mode"] = mode.into();
                // On a stalled machine, only the server that says nothing is to look like one.
                filter["redis"]["timeout"] = if cause.starts_with("timeout") { "0.2s" } else { "5s" }.into();
            };
            scenario.filter_configuration(configure).unwrap();
            let text = Fixture::of(&scenario, None).trace(&["-H", "x-user-id: alice"]);
            assert_eq!(text.lines().last().unwrap(), format!("{outcome}: {cause}"), "{text}");
        }
    }
}

/// Starts a server that answers whatever it reads with a reply, or closes the connection.
fn server(reply: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                    let Some(reply) = reply else { return };
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_limit_of_zero_says_so() {
    let Some(mut scenario) = quickstart() else { return };
    let none = json!({"max_tokens": 0, "tokens_per_fill": 1, "fill_interval": "60s"});
    scenario.filter_configuration(|filter| filter["limits"][0]["token_bucket"] = none.clone()).unwrap();
    scenario.endpoint("redis", server(Some(b""))).unwrap();
    let text = Fixture::of(&scenario, None).trace(&["-H", "x-user-id: alice"]);
    let expected = "denied: limit `per_user` is zero, and denies every request without a command to Redis";
    assert_eq!(text.lines().last().unwrap(), expected, "{text}");
}

#[test]
fn an_answer_of_another_filter_is_no_admission() {
    let Some(wasm) = or_skip(filter_wasm::find_or_build()) else { return };
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/jwt-plans.yaml")).unwrap();
    scenario.wasm(&wasm).unwrap();
    scenario.endpoint("redis", server(Some(b""))).unwrap();
    let fixture = Fixture::of(&scenario, None);
    let text = fixture.trace(&[]);
    let expected = "answered: another filter has answered with status 401, and the limiter has not seen the request";
    assert_eq!(text.lines().last().unwrap(), expected, "{text}");
    let json: Value = serde_json::from_str(&fixture.trace(&["--format", "json"])).unwrap();
    assert_eq!(json["requests"][0]["decision"]["outcome"], "answered");
}

#[test]
fn a_request_that_the_host_refuses_itself_is_no_answer_of_a_filter() {
    let Some(mut scenario) = quickstart() else { return };
    scenario.endpoint("redis", server(Some(b""))).unwrap();
    for request in ["get /", "GET /ü"] {
        let text = Fixture::of(&scenario, None).trace(&["--request", request]);
        assert!(text.contains("\nrejected: the host itself refuses the request with status 400"), "{text}");
    }
}

/// The quickstart with a module that logs a text in the place of the filter's, and the folder of the module.
fn logging(logged: &str) -> (Scenario, TempDir) {
    let module = wat::parse_str(format!(
        r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "{logged}")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $log (i32.const 2) (i32.const 16) (i32.const {length}))))"#,
        length = logged.len(),
    ));
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.wasm");
    std::fs::write(&file, module.unwrap()).unwrap();
    scenario.wasm(Path::new(&file)).unwrap();
    (Scenario::parse(&scenario.to_yaml().replace("\"limiter\"", "\"other\""), "other").unwrap(), folder)
}

#[test]
fn what_a_module_logs_of_a_credential_is_hidden_in_the_log_too() {
    let (scenario, _module) = logging("token-of-alice is good");
    let fixture = Fixture::of(&scenario, None);
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.arg("trace").arg(fixture.path("envoy.yaml")).args(["-H", "authorization: Bearer token-of-alice"]);
    let done = weir.output().unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && log.contains(": ‹hidden› is good"), "{log}");
    assert!(!log.contains("token-of-alice"), "{log}");
}

#[test]
fn a_module_that_is_not_weirs_has_a_timeline() {
    let (scenario, _module) = logging("hello");
    let text = Fixture::of(&scenario, None).trace(&[]);
    assert!(text.lines().next().unwrap().ends_with(": no limiter asks a Redis"), "{text}");
    has_in_order(
        &text,
        &[
            "# µs  ┌ weir/other on_request_headers(context: ",
            "# µs  │ log(level: Info, message: \"hello\")",
            "# µs  └ Continue (# µs)",
            "# µs  ← 200  ",
            "passed: the response has status 200, and no filter has answered the request",
        ],
    );
}

#[test]
fn a_wrong_request_is_refused_with_what_was_expected() {
    let errors = |words: &[&str]| {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        let done = weir.arg("trace").arg("envoy.yaml").args(words).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let error = errors(&["--request", "GET"]);
    assert!(error.contains("expected a method and a path such as `GET /search?q=x`, found `GET`"), "{error}");
    let error = errors(&["-H", "x-user-id"]);
    assert!(error.contains("expected `NAME: VALUE`, found no `:`"), "{error}");
    let error = errors(&["--times", "0"]);
    assert!(error.contains("1..=1000"), "{error}");
}

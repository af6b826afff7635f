//! Work of one request of up to 55 kB: at most [`BOUND`] instructions for each configuration in these files, and
//! [`BOUND_OF_MOST_BUCKETS`] with 256 buckets. They are the most costly that searches have found for each part of a
//! configuration, alone and together; other configurations are not proven to be cheaper.
//!
//! Work is counted in instructions, as in `tests/fuel.rs`. In measurements, Envoy's V8 took 1 ms for about five million
//! instructions of searches in strings, and for about eight million of the arithmetic of many buckets.

mod named;
mod spellings;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::{
    Method,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use weir_harness::serving::compiled_modules;
use weir_host::{Bootstrap, Host, HostOptions, Running, scenario::Scenario};
use weir_provision::{
    checkout,
    client::Client,
    filter_wasm, or_skip,
    redis::{RedisOptions, RedisServer},
};

/// Instructions that a request may take at most.
const BOUND: u64 = 4_800_000;
/// The same, where a request has as many buckets as a configuration can give it.
const BOUND_OF_MOST_BUCKETS: u64 = 7_000_000;
/// Bytes of headers: all that Envoy takes, and fewer, of which more is read before the bounds on work are reached.
const LENGTHS: [usize; 4] = [LONG, 34_000, 20_000, 8_000];
const LONG: usize = 55_000;
const LIMITS: usize = 32;
/// Algorithms of a limit, at most.
const WINDOWS: usize = 8;

/// The limiter's plugin, in the scenario.
const LIMITER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";

/// A request: its path and its headers.
type Sent = (String, Vec<(String, String)>);

#[tokio::test]
async fn no_configuration_makes_a_long_request_costly() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut too_costly = Vec::new();
    let by_length: Vec<_> = LENGTHS.map(cases).into_iter().collect();
    for (nth, (name, limits, _)) in cases(LONG).into_iter().enumerate() {
        let proxy = proxy(redis.addr(), name, limits);
        for (length, cases) in LENGTHS.iter().zip(&by_length) {
            let (status, cost) = cost(&proxy, &cases[nth].2).await;
            println!("{name}, {length} bytes: {cost} instructions, {status}");
            assert!(matches!(status, 200 | 429 | 431), "{name}: {status}");
            if cost > BOUND {
                too_costly.push(format!("{name}, {length} bytes: {cost}"));
            }
        }
    }
    assert!(too_costly.is_empty(), "more than {BOUND} instructions: {too_costly:#?}");
}

#[tokio::test]
async fn the_most_buckets_of_a_request_are_not_costly() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let minutes = |nth: usize| json!({"max_tokens": 1_000_000, "fill_interval": format!("{}s", 60 * (nth + 1))});
    let windows: Vec<Value> = (0..WINDOWS).map(|nth| json!({"token_bucket": minutes(nth)})).collect();
    let by = json!([{"request_header": {"name": "x-long"}}]);
    let limits = (0..LIMITS).map(|nth| json!({"name": format!("limit_{nth}"), "descriptor": by, "windows": windows}));
    let proxy = proxy(redis.addr(), "most buckets", limits.collect());
    for length in LENGTHS {
        let (status, cost) = cost(&proxy, &("/".to_owned(), vec![("x-long".to_owned(), "a".repeat(length))])).await;
        println!("{} buckets, {length} bytes: {cost} instructions, {status}", LIMITS * WINDOWS);
        assert!(matches!(status, 200 | 431), "{length} bytes: {status}");
        assert!(cost <= BOUND_OF_MOST_BUCKETS, "{length} bytes: {cost} instructions");
    }
}

#[tokio::test]
async fn no_body_of_json_is_costly() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let mut too_costly = Vec::new();
    for (name, pointers, body) in bodies() {
        let by = |pointer: &String| json!({"descriptor": [{"request_body": {"json_pointer": pointer, "default": ""}}]});
        let proxy = proxy(redis.addr(), name, named(pointers.iter().map(by).collect()));
        let (status, cost) = cost_of(&proxy, &Method::POST, "/", &json, &body).await;
        println!("{name}: {cost} instructions, {status}");
        if cost > BOUND {
            too_costly.push(format!("{name}: {cost}"));
        }
    }
    assert!(too_costly.is_empty(), "more than {BOUND} instructions: {too_costly:#?}");
}

/// Returns bodies of [`LONG`] bytes, with as many pointers into them as are accepted.
fn bodies() -> Vec<(&'static str, Vec<String>, String)> {
    let pointers = |pointer: &dyn Fn(usize) -> String| (0..16).map(pointer).collect::<Vec<_>>();
    let keys = || pointers(&|nth| format!("/a{nth}"));
    let many = |part: &str| part.repeat(LONG / part.len());
    let object = |part: &str| format!(r#"{{{}"b": 0}}"#, many(part));
    let text = |part: &str| format!(r#"{{"a1": "{}"}}"#, many(part));
    vec![
        ("items", pointers(&|nth| format!("/{}", 100_000_000 + nth)), format!("[{}0]", many("0,"))),
        ("items of one list", vec!["/messages/0/role".to_owned()], format!(r#"{{"messages": [{}0]}}"#, many("0,"))),
        ("lists in a list", pointers(&|nth| format!("/0/0/{nth}")), format!("[[{}0]]", many("[],"))),
        ("deep lists", pointers(&|nth| format!("{}/{nth}", "/0".repeat(100))), many("[[[[[[[[0,")),
        ("members", keys(), object(r#""c":0,"#)),
        (
            "members without a name",
            pointers(&|nth| if nth == 0 { "/".into() } else { format!("/a{nth}") }),
            object(r#""":0,"#),
        ),
        ("members of as long names", pointers(&|nth| format!("/aaaaaaaa{nth:02}")), object(r#""aaaaaaaabb":0,"#)),
        ("members of one name", pointers(&|nth| format!("/a/{nth}")), object(r#""a":0,"#)),
        ("objects of one name", pointers(&|nth| format!("/a/{nth}")), object(r#""a":{},"#)),
        (
            "values of one name",
            pointers(&|nth| if nth == 0 { "/a".into() } else { format!("/b/{nth}") }),
            object(r#""a":0,"#),
        ),
        ("escapes in a key", keys(), format!(r#"{{"{}": 0}}"#, many(r"\ud83d\ude00"))),
        ("escapes in a value", keys(), text(r"\\")),
        ("characters of a value", keys(), text(r"\u00ff")),
        ("a long value", keys(), text("abc")),
        ("a long value that is no UTF-8", keys(), text("\u{fffd}")),
        ("digits", keys(), format!(r#"{{"a1": {}}}"#, many("123"))),
        ("zeros", keys(), format!(r#"{{"a1": 1{}}}"#, many("0"))),
        ("blanks", keys(), object(" ")),
        ("escapes between characters", keys(), text(r"a\n")),
        ("texts that are skipped", keys(), format!(r#"{{"b": [{}0]}}"#, many(r#""","#))),
        ("texts of a byte that are skipped", keys(), format!(r#"{{"b": [{}0]}}"#, many(r#""a","#))),
        ("escapes that are skipped", keys(), format!(r#"{{"b": ["{}"]}}"#, many(r"a\n"))),
        ("line feeds in a value", keys(), text("\n")),
        ("line feeds between characters", keys(), text("a\n")),
        ("line feeds that are skipped", keys(), format!(r#"{{"b": ["{}"]}}"#, many("a\n"))),
    ]
}

fn cases(length: usize) -> Vec<(&'static str, Vec<Value>, Sent)> {
    let header = |value: String| ("/".to_owned(), vec![("x-long".to_owned(), value)]);
    let long = |text: &str| text.chars().cycle().take(length).collect::<String>();
    let mut seed = 1_u64;
    let mut noise = || -> String {
        let mut bit = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed & 1 == 0 { 'a' } else { 'b' }
        };
        (0..length).map(|_| bit()).collect()
    };
    let regex = |pattern: &dyn Fn(usize) -> String| -> Vec<Value> {
        each(|nth| json!({"when": [{"header": {"name": "x-long", "regex": pattern(nth)}}], "descriptor": []}))
    };
    let by = |entry: Value| json!({"descriptor": [entry]});
    let by_header: Vec<Value> = (0..8).map(|_| by(json!({"request_header": {"name": "x-long"}}))).collect();
    let pairs = |separator: &str| long(&format!("a{separator}"));
    let trusted: Vec<String> = (0..256).map(|nth| format!("10.{nth}.0.0/16")).collect();
    let many: Vec<(String, String)> =
        (0..90).map(|nth| (format!("x-{nth}"), format!("{nth}{}", " ,".repeat(length / 200)))).collect();
    let entries = |nth: usize| -> Vec<Value> {
        (0..16).map(|at| json!({"request_header": {"name": format!("x-{}", (nth * 7 + at * 5) % 90)}})).collect()
    };
    let exempt: Vec<Value> =
        (0..256).map(|nth| json!({"header": {"name": "x-long", "exact": format!("{nth:0>100}")}})).collect();
    vec![
        ("eight keys", named(by_header), header(long(" ,"))),
        (
            "no regex at all matches",
            each(|nth| {
                let matches = json!({"header": {"name": "x-long", "regex": format!("v{nth}[0-9]+")}});
                json!({"when": [{"not": matches}], "descriptor": []})
            }),
            header(long("a")),
        ),
        ("(.*a){20}", regex(&|nth| format!("(.*a){{{}}}", 5 + nth / 2)), header(long("a"))),
        ("(.*a){20} one", regex(&|_| "(.*a){20}".to_owned()), header(long("ab"))),
        (".* by 85", regex(&|_| ".*".repeat(85)), header(long("a"))),
        ("exploding", regex(&|nth| format!("(a|b)*a(a|b){{{}}}", 8 + nth)), header(noise())),
        ("optional", regex(&|nth| format!("((a?b?){{{}}}c?)*.*b.{{9}}", 20 + nth / 4)), header(noise())),
        (
            "contains",
            each(|nth| {
                let part = "a".repeat(90 + nth) + "b";
                json!({"exempt": [{"header": {"name": "x-long", "contains": part}}], "descriptor": []})
            }),
            header(long("a")),
        ),
        (
            "parameters",
            each(|nth| by(json!({"query_parameter": {"name": format!("a{nth}"), "repeated": "last", "default": ""}}))),
            (format!("/?{}", pairs("&")), vec![]),
        ),
        (
            "one parameter, joined",
            each(|_| by(json!({"query_parameter": {"name": "a", "repeated": "joined"}}))),
            (format!("/?{}", pairs("&")), vec![]),
        ),
        (
            "cookies",
            each(|nth| by(json!({"cookie": {"name": format!("a{nth}"), "repeated": "last", "default": ""}}))),
            ("/".to_owned(), vec![("cookie".to_owned(), pairs(";"))]),
        ),
        (
            "templates",
            each(|nth| by(json!({"path": {"template": format!("{}/{{a}}/**", "/*".repeat(nth)), "default": ""}}))),
            (long("/a"), vec![]),
        ),
        (
            "paths",
            each(|nth| by(if nth % 2 == 0 { json!({"path": {}}) } else { json!({"host": {}}) })),
            (format!("/{}", long("a%2c")), vec![]),
        ),
        ("many headers", each(|nth| json!({"descriptor": entries(nth)})), ("/".to_owned(), many.clone())),
        ("many hashed headers", each(|nth| json!({"descriptor": hashed(entries(nth))})), ("/".to_owned(), many)),
        (
            "hashed cookies",
            each(|nth| json!({"descriptor": hashed(vec![json!({"cookie": {"name": format!("a{}", nth % 3)}})])})),
            ("/".to_owned(), vec![("cookie".to_owned(), format!("a0={}; a1=A; a2=", long("A")))]),
        ),
        (
            "a regex, parameters and eight keys",
            each(|nth| {
                let regex = json!({"header": {"name": "x-long", "regex": format!("(a|b)*a(a|b){{{}}}", 8 + nth)}});
                let parameter =
                    json!({"query_parameter": {"name": format!("a{nth}"), "repeated": "last", "default": ""}});
                json!({"when": [{"not": regex}], "descriptor": [parameter, {"request_header": {"name": "x-long"}}]})
            }),
            (format!("/?{}", &pairs("&")[..length / 2]), vec![("x-long".to_owned(), noise()[..length / 2].to_owned())]),
        ),
        (
            "a regex and cookies",
            each(|nth| {
                let regex = json!({"header": {"name": "x-long", "regex": "(.*a){20}"}});
                json!({"exempt": [regex], "descriptor": [{"cookie": {"name": format!("a{nth}"), "default": ""}}]})
            }),
            (
                "/".to_owned(),
                vec![
                    ("cookie".to_owned(), pairs(";")[..length / 2].to_owned()),
                    ("x-long".to_owned(), long("b")[..length / 2].to_owned()),
                ],
            ),
        ),
        ("many exemptions", each(|_| json!({"exempt": exempt, "descriptor": []})), header(long("0"))),
        (
            "addresses",
            each(|nth| by(json!({"masked_remote_address": {"v4_prefix_mask_len": nth, "trusted_cidrs": trusted}}))),
            ("/".to_owned(), vec![("x-forwarded-for".to_owned(), long("10.1.2.3,"))]),
        ),
        (
            "addresses in many headers",
            each(|nth| by(json!({"masked_remote_address": {"v4_prefix_mask_len": nth, "trusted_hops": 9}}))),
            ("/".to_owned(), vec![("x-forwarded-for".to_owned(), "10.1.2.3, ".repeat(length / 800)); 80]),
        ),
        (
            "commas",
            each(|nth| by(json!({"masked_remote_address": {"v4_prefix_mask_len": nth, "trusted_hops": 9}}))),
            ("/".to_owned(), vec![("x-forwarded-for".to_owned(), long(", "))]),
        ),
    ]
}

/// Entries whose values are hashed in lower case.
fn hashed(mut entries: Vec<Value>) -> Vec<Value> {
    for fields in entries.iter_mut().filter_map(Value::as_object_mut).flat_map(|entry| entry.values_mut()) {
        fields["lowercase"] = true.into();
        fields["hash"] = true.into();
    }
    entries
}

/// Returns [`LIMITS`] limits, each with the fields that `part` returns for its number.
fn each(part: impl Fn(usize) -> Value) -> Vec<Value> {
    named((0..LIMITS).map(part).collect())
}

fn named(mut limits: Vec<Value>) -> Vec<Value> {
    for (nth, limit) in limits.iter_mut().enumerate() {
        limit["name"] = format!("limit_{nth}").into();
        limit["token_bucket"] = json!({"max_tokens": 1_000_000, "fill_interval": "3600s"});
    }
    limits
}

/// Starts the embedded host with fuel counting.
fn proxy(redis: SocketAddr, prefix: &str, limits: Vec<Value>) -> Running {
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    scenario.listener("ingress", anywhere).unwrap().admin(anywhere).unwrap().endpoint("redis", redis).unwrap();
    scenario.wasm(&filter_wasm::find_or_build().unwrap()).unwrap();
    let configured = scenario.filter_configuration(|filter| {
        filter["redis"]["key_prefix"] = format!("{}:", prefix.len()).into();
        filter["redis"]["timeout"] = "5s".into();
        filter["hash_key"] = json!({"inline": "0123456789abcdef"});
        filter["overrides"] = json!({"enabled": false});
        filter["limits"] = limits.clone().into();
    });
    configured.unwrap();
    scenario.edit(|bootstrap| bootstrap.pointer_mut(LIMITER).unwrap()["allow_on_headers_stop_iteration"] = true.into());
    let bootstrap = Bootstrap::parse(&scenario.to_yaml(), "quickstart").unwrap();
    Host::start(
        bootstrap,
        HostOptions { counts_fuel: true, compiled_modules: compiled_modules(), ..HostOptions::default() },
    )
    .unwrap()
}

/// Returns the status of a request and the instructions of its callbacks, once Redis is connected.
async fn cost(proxy: &Running, (path, headers): &Sent) -> (u16, u64) {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    cost_of(proxy, &Method::GET, path, &headers, "").await
}

/// The same, of a request with a body.
async fn cost_of(proxy: &Running, method: &Method, path: &str, headers: &HeaderMap, body: &str) -> (u16, u64) {
    let mut client = Client::new(proxy.listener("ingress").unwrap(), Duration::from_secs(60));
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let before = fuel(proxy);
        let answer = client.send(method, path, headers, Bytes::copy_from_slice(body.as_bytes())).await.unwrap();
        let cost = fuel(proxy) - before;
        // Until Redis is connected, the failure mode admits requests.
        if answer.status != 200 || answer.headers.contains_key("x-ratelimit-remaining") {
            return (answer.status, cost);
        }
        assert!(Instant::now() < until, "no limit applies within a minute");
    }
}

/// Returns the instructions of all callbacks so far, without ticks.
fn fuel(proxy: &Running) -> u64 {
    let stats = proxy.stats();
    let of_callbacks = stats
        .values
        .iter()
        .filter(|(name, _)| name.strip_prefix("wasm.fuel.proxy_").is_some_and(|name| name != "on_tick"));
    of_callbacks.map(|(_, fuel)| *fuel).sum()
}

//! Names and values that clients spell in many ways: percent-encoded, quoted, in capitals, with blanks.

use serde_json::{Value, json};
use weir_provision::{or_skip, redis::RedisServer};

use super::{BOUND, LENGTHS, RedisOptions, Sent, cost, each, hashed, proxy};

/// Bytes of a name at most.
const NAME: usize = 128;

#[tokio::test]
async fn no_spelling_makes_a_long_request_costly() {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut too_costly = Vec::new();
    let cases = |length| queries(length).into_iter().chain(others(length)).collect::<Vec<_>>();
    let by_length: Vec<_> = LENGTHS.map(cases).into_iter().collect();
    for (nth, (name, limits, _)) in cases(LENGTHS[0]).into_iter().enumerate() {
        let proxy = proxy(redis.addr(), name, limits);
        for (length, cases) in LENGTHS.iter().zip(&by_length) {
            let (status, cost) = cost(&proxy, &cases[nth].2).await;
            println!("{name}, {length} bytes: {cost} instructions, {status}");
            assert!(matches!(status, 200 | 400 | 429 | 431), "{name}: {status}");
            if cost > BOUND {
                too_costly.push(format!("{name}, {length} bytes: {cost}"));
            }
        }
    }
    assert!(too_costly.is_empty(), "more than {BOUND} instructions: {too_costly:#?}");
}

type Case = (&'static str, Vec<Value>, Sent);

fn by(entry: Value) -> Value {
    json!({"descriptor": [entry]})
}

/// Returns limits by one of ten parameters.
fn by_parameters(repeated: &str) -> Vec<Value> {
    let name = |nth: usize| format!("a{}", nth % 10);
    each(|nth| by(json!({"query_parameter": {"name": name(nth), "repeated": repeated, "default": ""}})))
}

/// Returns limits by names of [`NAME`] bytes that differ in the last two.
fn by_long_names(kind: &str) -> Vec<Value> {
    each(|nth| by(json!({kind: {"name": format!("{}{nth:02}", "a".repeat(NAME - 2)), "default": ""}})))
}

/// Returns limits by one parameter, with each selection among its values, as it is, in lower case and hashed.
fn by_one_parameter() -> Vec<Value> {
    let repeated = ["first", "last", "joined", "reject"];
    each(|nth| {
        let entry = json!({"query_parameter": {"name": "a1", "repeated": repeated[nth % 4]}});
        by(if nth / 4 % 2 == 0 { entry } else { hashed(vec![entry]).remove(0) })
    })
}

fn queries(length: usize) -> Vec<Case> {
    let of = |text: &str| (format!("/?{}", text.repeat(length / text.len())), vec![]);
    let digits: String = (0..10).map(|nth| format!("a%3{nth}=%41&")).collect();
    let long_name = format!("{}=%41&", "%61".repeat(NAME));
    let one = |value: &str| of(&format!("a1={}", value.repeat((length - 3) / value.len())));
    vec![
        ("escaped names, joined", by_parameters("joined"), of(&digits)),
        ("escaped names, last", by_parameters("last"), of(&digits)),
        ("names of two spellings", by_parameters("joined"), of("a0=A&a%31=%41&")),
        ("one name of two spellings", by_one_parameter(), of("a1=A&a%31=%41&")),
        ("escaped names and no values", by_parameters("joined"), of("%61%31&")),
        ("long escaped names", by_long_names("query_parameter"), of(&long_name)),
        ("long names", by_long_names("query_parameter"), of(&format!("{}=&", "a".repeat(NAME)))),
        ("long names, half escaped", by_long_names("query_parameter"), of(&format!("{}%61=&", "a".repeat(NAME - 1)))),
        ("an escaped value", by_one_parameter(), one("%41")),
        ("a value of blanks", by_one_parameter(), one("+")),
        ("a value of per cent signs", by_one_parameter(), one("%")),
        (
            "escaped names in conditions",
            each(|nth| {
                let matches = json!({"query_parameter": {"name": format!("a{}", nth % 10), "exact": "A"}});
                json!({"when": [{"not": matches}], "descriptor": []})
            }),
            of(&digits),
        ),
        (
            "long escaped names in conditions",
            each(|nth| {
                let name = format!("{}{nth:02}", "a".repeat(NAME - 2));
                json!({"when": [{"not": {"query_parameter": {"name": name, "exact": "A"}}}], "descriptor": []})
            }),
            of(&long_name),
        ),
    ]
}

fn others(length: usize) -> Vec<Case> {
    let header = |name: &str, text: &str| {
        ("/".to_owned(), vec![(name.to_owned(), text.repeat(length / text.len()).trim().to_owned())])
    };
    let path = |text: &str| (text.repeat(length / text.len()), vec![]);
    let by_cookies =
        each(|nth| by(json!({"cookie": {"name": format!("a{}", nth % 10), "repeated": "joined", "default": ""}})));
    let by_host = each(|nth| by(if nth % 2 == 0 { json!({"host": {}}) } else { json!({"host": {"hash": true}}) }));
    let by_segments =
        each(|nth| by(json!({"path": {"template": format!("{}/**", "/{a}".repeat(nth + 1)), "default": ""}})));
    vec![
        ("quoted cookies, joined", by_cookies.clone(), header("cookie", r#"a0="A";a1="A"; "#)),
        ("cookies in blanks", by_cookies.clone(), header("cookie", "   a1 = A   ; ")),
        ("blank cookies", by_cookies, header("cookie", "a1        ;")),
        ("cookies of long names", by_long_names("cookie"), header("cookie", &format!("{}=;", "a".repeat(NAME)))),
        ("a host in capitals", by_host.clone(), header("host", "A")),
        ("a host of dots", by_host.clone(), header("host", "a.")),
        ("a host of digits", by_host.clone(), header("host", "1")),
        ("a host of colons", by_host, header("host", "[1:1:")),
        ("segments", by_segments.clone(), path("/a")),
        ("escaped segments", by_segments.clone(), path("/%61")),
        ("empty segments", by_segments, path("//")),
    ]
}

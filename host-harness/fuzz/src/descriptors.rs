//! Target `descriptors`: the keys and costs of a request, with its body in any pieces.
//!
//! Input: two bytes for the lengths of the body's pieces; then a request, in lines: its path, its headers as
//! `name: value`, an empty line, and its body.

use serde_json::Value;
use weir_filter::config::{self, Config};
use weir_filter::descriptor::{Attributes, Memo, bucket_key};
use weir_filter::native::encode_pairs;
use weir_filter::units::Micros;
use weir_virtual::{Answer, Exchange};

use crate::choices::Choices;
use crate::proxy::{Proxy, exchange};

const CONFIGURATION: &str = include_str!("descriptors.json");
/// Most bytes of a key behind `{prefix}{limit}:`.
const MAX_DESCRIPTOR: usize = 128;
/// `request_body.max_bytes` of the configuration.
const MAX_BODY: usize = 2_000;
/// Longest wait for a body, and for a decision.
const LONGEST: Micros = Micros::from_secs(3);

thread_local! {
    static CONFIG: Config = match config::parse(CONFIGURATION.as_bytes(), &|_| None) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    };
}

/// Runs the target.
///
/// # Panics
/// If the pieces of the body change a key, a cost or the answer; if the memo changes a key; if a key is longer than
/// promised; or if a value of the body differs from what `serde_json` reads.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let lengths = [choices.below(64) + 1, choices.below(4) + 1];
    let request = Request::parse(choices.rest());
    check_keys(&request);
    let (answer, sent) = served(request.exchange(), &[usize::MAX]);
    for lengths in [&lengths[..], &[1]] {
        let (in_pieces, sent_in_pieces) = served(request.exchange(), lengths);
        assert_eq!((in_pieces.status, in_pieces.body), (answer.status, answer.body.clone()), "pieces of {lengths:?}");
        assert_eq!(sent_in_pieces, sent, "pieces of {lengths:?}");
    }
    if answer.status == 200 {
        check_body(&request, &sent);
    }
}

/// Serves a request. Returns the answer, and all words sent to Redis.
fn served(exchange: Exchange, lengths: &[usize]) -> (Answer, Vec<Vec<u8>>) {
    let proxy = match Proxy::start(CONFIGURATION.as_bytes()) {
        Ok(proxy) => proxy,
        Err(lines) => panic!("the configuration is refused: {lines:?}"),
    };
    proxy.worker.begin_in_pieces(exchange, lengths);
    assert!(proxy.run_until_answered(LONGEST, true), "a request without an answer");
    let Some(answer) = proxy.take_answers().pop() else { panic!("no answer") };
    assert!([200, 400, 431].contains(&answer.status), "status {}", answer.status);
    (answer, proxy.sent().concat())
}

/// Computes each key alone, and after all others.
fn check_keys(request: &Request) {
    CONFIG.with(|config| {
        let together = Read::of(request);
        for limit in &config.limits {
            let alone = Read::of(request);
            let key = limit.descriptor.bucket_key(&alone);
            let after_others = limit.descriptor.bucket_key(&together);
            let rejections = (alone.memo.take_rejection(), together.memo.take_rejection());
            if rejections == (None, None) {
                assert_eq!(key, after_others, "the key of {} depends on other limits", limit.name);
                assert_eq!(limit.concerns(&alone), limit.concerns(&together), "{}", limit.name);
            }
            let stem = format!("weir:{}:", limit.name);
            if let Some(key) = key {
                assert!(key.starts_with(stem.as_bytes()) && key.len() <= stem.len() + MAX_DESCRIPTOR);
                assert!(key.iter().all(u8::is_ascii_graphic), "{}", key.escape_ascii());
            }
        }
    });
}

/// Compares the value at `/user/id` with that of another parser.
fn check_body(request: &Request, sent: &[Vec<u8>]) {
    let is_plain = |(name, _): &(String, Vec<u8>)| !["content-type", "content-encoding", "upgrade"].contains(&&**name);
    let is_read = request.body.len() <= MAX_BODY && request.headers.iter().all(is_plain) && !request.is_connect();
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return };
    if is_read && let Some(Value::String(id)) = body.pointer("/user/id") {
        let key = bucket_key("weir:", "body", &[id]);
        assert!(sent.contains(&key), "{} is not among the keys", key.escape_ascii());
    }
}

struct Request {
    path: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    fn parse(text: &[u8]) -> Self {
        let mut rest = text;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let line = rest.split_off(..end).unwrap_or_default();
            rest.split_off_first();
            line
        };
        let path = line().to_vec();
        let mut headers = Vec::new();
        loop {
            let line = line();
            if line.is_empty() {
                break;
            }
            let colon = line.iter().skip(1).position(|byte| *byte == b':').map_or(line.len(), |at| at + 1);
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b":").unwrap_or(value);
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            headers.push((name, value.strip_prefix(b" ").unwrap_or(value).to_vec()));
        }
        Self { path, headers, body: rest.to_vec() }
    }

    fn is_connect(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == ":method" && value == b"CONNECT")
    }

    fn pairs(&self) -> Vec<(&str, &[u8])> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        [(":path", self.path.as_slice())].into_iter().chain(headers).collect()
    }

    fn exchange(&self) -> Exchange {
        exchange(&self.pairs(), Some(&self.body))
    }
}

/// A request without a body, and the memo of one reading.
struct Read {
    headers: Vec<u8>,
    memo: Memo,
}

impl Read {
    fn of(request: &Request) -> Self {
        let pairs = request.pairs();
        let headers = encode_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), *value)));
        Self { headers, memo: Memo::default() }
    }
}

impl Attributes for Read {
    fn headers(&self) -> &[u8] {
        &self.headers
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        (path == ["source", "address"]).then(|| b"203.0.113.9:4711".to_vec())
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

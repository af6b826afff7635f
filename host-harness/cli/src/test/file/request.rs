//! Requests of a step: what is sent, how often and how fast.

use std::net::IpAddr;

use serde_json::{Map, Value as Json};
use weir_filter::units::Micros;

use super::upstream::{Upstream, upstream};
use crate::documents::{Entry, Value};
use crate::reader::{Fields, Reader};

/// Fields of a step with requests, beside `request` and `expect`.
pub(super) const REQUEST_FIELDS: [&str; 7] = ["count", "at_once", "rate", "over", "takes", "upstream", "disconnect"];
/// Most requests of a test.
pub(super) const MAX_REQUESTS: u64 = 1_000_000;
/// Most requests that begin in one instant: all of them are in memory.
const MAX_AT_ONCE: u64 = 100_000;
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Claims of a token that a test may leave to the provider's configuration.
const CLAIMS: &str = "a map of claims such as {sub: alice}";

/// Requests of a step, all alike.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) request: Request,
    /// Number, at least 1.
    pub(crate) count: u64,
    pub(crate) pace: Pace,
    /// Time that the upstream takes for its response.
    pub(crate) takes: Micros,
    /// Response of the upstream. `None`: as the route says.
    pub(crate) upstream: Option<Upstream>,
}

/// Pace of several requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each begins when the one before has its response.
    InTurn,
    /// All begin in the same instant.
    AtOnce,
    /// Time within which the requests begin, at equal distances, whatever becomes of the others.
    Within(Micros),
}

/// Request of a client.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Headers in their order, without `host`.
    pub(crate) headers: Vec<(String, String)>,
    /// Value of `host`.
    pub(crate) host: String,
    /// Address of the connection's other end; `None`: 127.0.0.1.
    pub(crate) client: Option<IpAddr>,
    pub(crate) body: Option<String>,
    /// Dynamic metadata: an object for each namespace.
    pub(crate) metadata: Vec<(String, Json)>,
    /// Filter state.
    pub(crate) filter_state: Vec<(String, String)>,
    /// Claims of a token, which the runner signs.
    pub(crate) jwt: Option<Claims>,
}

/// Claims of a JSON Web Token.
#[derive(Debug, Clone)]
pub(crate) struct Claims(pub(crate) Map<String, Json>);

pub(super) fn requests(fields: &Fields<'_>) -> Option<Requests> {
    let request = fields.take("request").and_then(request);
    let number = |node: Reader<'_>| node.number("a number of requests", 1..=MAX_REQUESTS);
    let count = fields.take("count").map(number);
    let at_once = fields.take("at_once").map_or(Some(false), Reader::flag);
    let rate = fields.take("rate").map(rate);
    let over = fields.take("over").map(Reader::duration);
    let takes = fields.take("takes").map_or(Some(Micros::ZERO), Reader::duration);
    let upstream = upstream(fields, request.as_ref());

    let given = [("rate", rate.is_some()), ("over", over.is_some())].into_iter().find(|(_, is_given)| *is_given);
    if let (Some(true), Some((name, _))) = (at_once, given) {
        return fields.take(name)?.refuse(format!("`{name}` and `at_once` exclude each other"));
    }
    let (count, rate, over) = (flat(count)?, flat(rate)?, flat(over)?);
    let (count, pace) = match (count, rate, over) {
        (Some(_), Some(_), Some(_)) => {
            return fields.take("rate")?.refuse("expected two of `count`, `rate` and `over`, found all three");
        }
        (None, Some(_), None) => {
            return fields
                .take("rate")?
                .refuse("expected `count` or `over` beside `rate`: how many requests, or for how long");
        }
        (None, None, Some(_)) => {
            return fields
                .take("over")?
                .refuse("expected `count` or `rate` beside `over`: how many requests, or how fast");
        }
        (None, Some((number, span)), Some(over)) => {
            let count = u128::from(number).saturating_mul(over.0.into()).checked_div(span.0.into()).unwrap_or(0);
            match u64::try_from(count).ok().filter(|count| (1..=MAX_REQUESTS).contains(count)) {
                Some(count) => (count, Pace::Within(over)),
                None => {
                    return fields.take("rate")?.refuse(format!(
                        "expected 1 to {MAX_REQUESTS} requests, found {count} at this rate over this time"
                    ));
                }
            }
        }
        (Some(count), Some((number, span)), None) => {
            let within = u128::from(count).saturating_mul(span.0.into()).checked_div(number.into()).unwrap_or(0);
            (count, Pace::Within(Micros(u64::try_from(within).unwrap_or(u64::MAX))))
        }
        (Some(count), None, Some(over)) => (count, Pace::Within(over)),
        (Some(count), None, None) if count > MAX_AT_ONCE && at_once == Some(true) => {
            return fields
                .take("count")?
                .refuse(format!("expected at most {MAX_AT_ONCE} requests at once, found {count}"));
        }
        (count, None, None) => (count.unwrap_or(1), if at_once? { Pace::AtOnce } else { Pace::InTurn }),
    };
    Some(Requests { request: request?, count, pace, takes: takes?, upstream: upstream? })
}

/// Turns an optional field inside out. `None` where the field has a mistake.
fn flat<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

/// A rate such as `10/s` or `100/60s`: requests, and their time.
fn rate(node: Reader<'_>) -> Option<(u64, Micros)> {
    let parsed = node.exact_text().and_then(|text| {
        let (number, span) = text.split_once('/')?;
        let span = if span.starts_with(|c: char| c.is_ascii_digit()) { span.to_owned() } else { format!("1{span}") };
        let number = number.trim().parse().ok().filter(|number| (1..=MAX_REQUESTS).contains(number))?;
        Some((number, Micros::parse(span.trim()).ok().filter(|span| *span > Micros::ZERO)?))
    });
    match parsed {
        Some(rate) => Some(rate),
        None => node.expected("a rate such as 10/s or 100/60s"),
    }
}

fn request(node: Reader<'_>) -> Option<Request> {
    if let Some(line) = node.exact_text() {
        return match line.split_once(' ') {
            Some((method, path)) if is_method(method) && is_path(path) => Some(Request::of(method, path)),
            _ => node.expected("a method and a path such as `GET /`, or a map"),
        };
    }
    let known = ["method", "path", "host", "headers", "client", "body", "metadata", "filter_state", "jwt"];
    let fields = node.fields(&known)?;
    let text = |name: &str, default: &str| match fields.take(name) {
        Some(node) => node.text("a text"),
        None => Some(default.to_owned()),
    };
    let (method, path, host) = (text("method", "GET"), text("path", "/"), text("host", "weir.test"));
    let headers = fields.take("headers").map_or(Some(Vec::new()), headers);
    let client = fields.take("client").map(|node| match node.text("an IP address")?.parse() {
        Ok(address) => Some(address),
        Err(_) => node.expected("an IP address such as 203.0.113.7"),
    });
    let body = fields.take("body").map(|node| match node.text("a text")? {
        text if text.len() > MAX_BODY => node.expected(&format!("a body of at most {MAX_BODY} bytes")),
        text => Some(text),
    });
    let metadata = fields.take("metadata").map_or(Some(Vec::new()), metadata);
    let filter_state = fields.take("filter_state").map_or(Some(Vec::new()), |node| {
        node.entries()?
            .iter()
            .map(|Entry { key, value, .. }| Some((key.clone(), node.of(value).text("a text")?)))
            .collect()
    });
    let jwt = fields.take("jwt").map(|node| match node.node.to_json() {
        Json::Object(claims) => Some(Claims(claims)),
        _ => node.expected(CLAIMS),
    });
    if let (Some(path), Some(node)) = (&path, fields.take("path"))
        && !is_path(path)
    {
        return node.expected("a path that begins with `/`, as an HTTP request has it");
    }
    if let (Some(method), Some(node)) = (&method, fields.take("method"))
        && !is_method(method)
    {
        return node.expected("a method such as POST");
    }
    if let (Some(host), Some(node)) = (&host, fields.take("host"))
        && hyper::header::HeaderValue::try_from(host).is_err()
    {
        return node.expected("a host such as api.example");
    }
    Some(Request {
        method: method?,
        path: path?,
        headers: headers?,
        host: host?,
        client: flat(client)?,
        body: flat(body)?,
        metadata: metadata?,
        filter_state: filter_state?,
        jwt: flat(jwt)?,
    })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.parse::<hyper::Uri>().is_ok()
}

fn is_method(method: &str) -> bool {
    method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') && method.parse::<hyper::Method>().is_ok()
}

impl Request {
    fn of(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            host: "weir.test".to_owned(),
            client: None,
            body: None,
            metadata: Vec::new(),
            filter_state: Vec::new(),
            jwt: None,
        }
    }
}

/// Headers: each name with a value, or with a list of values.
pub(super) fn headers(node: Reader<'_>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for Entry { key, position, value } in node.entries()? {
        let is_name = hyper::header::HeaderName::try_from(key).is_ok();
        if !is_name || key.eq_ignore_ascii_case("host") {
            let meant = if is_name { "`host` beside `headers`" } else { "a header's name" };
            node.mistakes.add(*position, format!("expected {meant}, found {key:?}"));
            return None;
        }
        let values = match &value.value {
            Value::List(values) => values.iter().collect(),
            _ => vec![value],
        };
        for value in values {
            let node = node.of(value);
            let text = node.text("a header's value")?;
            if hyper::header::HeaderValue::try_from(&text).is_err() {
                return node.expected("a header's value");
            }
            headers.push((key.to_ascii_lowercase(), text));
        }
    }
    Some(headers)
}

fn metadata(node: Reader<'_>) -> Option<Vec<(String, Json)>> {
    let namespace = |Entry { key, value, .. }: &Entry| match value.value {
        Value::Map(_) => Some((key.clone(), value.to_json())),
        _ => node.of(value).expected("a map: the metadata of a namespace"),
    };
    node.entries()?.iter().map(namespace).collect()
}

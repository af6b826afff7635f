//! Response of the upstream in a test, and the client that leaves before its end.

use serde_json::Value as Json;
use weir_demo::provider::{Answer, Api, Usage};
use weir_filter::units::Micros;

use super::request::{Request, headers};
use crate::documents::Value;
use crate::reader::{Fields, Reader};

/// Fields of an upstream of which it has one at most.
const BODIES: [&str; 4] = ["body", "json", "sse", "usage"];
/// Longest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Most tokens of each kind.
const MAX_TOKENS: u64 = 4_294_967_295;
/// Text of an answer whose test gives only its usage.
const TEXT: &str = "It is an answer of a language model that has been made up for a test.";

/// Response of the upstream.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Pieces of the body, each with the time since the piece before.
    pub(crate) pieces: Vec<(Micros, Vec<u8>)>,
    pub(crate) end: End,
}

/// End of an exchange with the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The response is whole.
    Whole,
    /// The upstream resets the connection.
    Reset(Moment),
    /// The client leaves.
    Left(Moment),
}

/// Moment at which an exchange is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeHeaders,
    /// Behind half of the body's pieces, or half of its only piece.
    MidStream,
    /// Behind the whole body, before the end of the stream.
    AfterDone,
}

/// Reads `upstream` and `disconnect` of a step with this request.
pub(super) fn upstream(fields: &Fields<'_>, request: Option<&Request>) -> Option<Option<Upstream>> {
    let left = fields.take("disconnect").map(|node| {
        let moments = [Moment::BeforeHeaders, Moment::MidStream, Moment::AfterDone];
        moment(node, &moments, "before_headers, mid_stream or after_done")
    });
    let Some(node) = fields.take("upstream") else {
        return match fields.take("disconnect") {
            Some(node) => node.refuse("expected `upstream` beside `disconnect`: the response that the client leaves"),
            None => Some(None),
        };
    };
    let known = ["status", "headers", "body", "json", "sse", "usage", "after", "reset"];
    let fields = node.fields(&known)?;
    let reset = fields
        .take("reset")
        .map(|node| moment(node, &[Moment::BeforeHeaders, Moment::MidStream], "before_headers or mid_stream"));
    let given: Vec<&str> = BODIES.into_iter().filter(|name| fields.key(name).is_some()).collect();
    if let [_, second, ..] = given.as_slice() {
        return fields.take(second)?.refuse(format!(
            "expected one of {}, found {}",
            BODIES.join(", "),
            given.join(" and ")
        ));
    }
    let status = fields.take("status").map_or(Some(200), |node| {
        let status = node.whole_number().and_then(|status| u16::try_from(status).ok());
        status.filter(|status| (200..600).contains(status)).or_else(|| node.expected("a status from 200 to 599"))
    });
    let given_headers = fields.take("headers").map_or(Some(Vec::new()), headers);
    let body = body(&fields, given.first().copied(), request);
    let after = fields.take("after").map_or(Some(Micros::ZERO), Reader::duration);
    let end = match (left, reset) {
        (Some(_), Some(_)) => {
            return fields
                .take("reset")?
                .refuse("`reset` and `disconnect` exclude each other: one of both ends the response");
        }
        (Some(left), None) => End::Left(left?),
        (None, Some(reset)) => End::Reset(reset?),
        (None, None) => End::Whole,
    };
    let Body { content_type, mut pieces } = body?;
    let after = after?;
    pieces.iter_mut().skip(1).for_each(|(wait, _)| *wait = wait.plus(after));
    if matches!(end, End::Left(Moment::MidStream) | End::Reset(Moment::MidStream)) {
        pieces = half(pieces);
    }
    let mut headers = given_headers?;
    if let Some(content_type) = content_type.filter(|_| !headers.iter().any(|(name, _)| name == "content-type")) {
        headers.push(("content-type".to_owned(), content_type.to_owned()));
    }
    Some(Some(Upstream { status: status?, headers, pieces, end }))
}

fn moment(node: Reader<'_>, known: &[Moment], words: &str) -> Option<Moment> {
    let found = match node.exact_text() {
        Some("before_headers") => Some(Moment::BeforeHeaders),
        Some("mid_stream") => Some(Moment::MidStream),
        Some("after_done") => Some(Moment::AfterDone),
        _ => None,
    };
    found.filter(|moment| known.contains(moment)).or_else(|| node.expected(words))
}

/// The first half of the pieces, or of the only piece.
fn half(mut pieces: Vec<(Micros, Vec<u8>)>) -> Vec<(Micros, Vec<u8>)> {
    match pieces.as_mut_slice() {
        [(_, only)] => only.truncate(only.len().div_ceil(2)),
        several => {
            let count = several.len().div_ceil(2);
            pieces.truncate(count);
        }
    }
    pieces
}

/// Body of a response, and the type that it has by default.
struct Body {
    content_type: Option<&'static str>,
    pieces: Vec<(Micros, Vec<u8>)>,
}

impl Body {
    fn of(content_type: Option<&'static str>, text: String) -> Self {
        Self { content_type, pieces: vec![(Micros::ZERO, text.into_bytes())] }
    }
}

fn body(fields: &Fields<'_>, kind: Option<&str>, request: Option<&Request>) -> Option<Body> {
    let Some(kind) = kind else { return Some(Body { content_type: None, pieces: Vec::new() }) };
    let node = fields.take(kind)?;
    let body = match kind {
        "body" => Body::of(None, node.text("a text")?),
        "json" => Body::of(Some("application/json"), node.node.to_json().to_string()),
        "sse" => {
            let events = node.list()?.map(event).collect::<Option<_>>()?;
            Body { content_type: Some("text/event-stream"), pieces: events }
        }
        _ => told(node, request)?,
    };
    let size: usize = body.pieces.iter().map(|(_, piece)| piece.len()).sum();
    if size > MAX_BODY {
        return node.refuse(format!("expected a body of at most {MAX_BODY} bytes, found {size}"));
    }
    Some(body)
}

/// Server-sent event: its data, or a map of `event`, `data` and `after`.
fn event(node: Reader<'_>) -> Option<(Micros, Vec<u8>)> {
    if !node.is_map() {
        return Some((
            Micros::ZERO,
            written(None, &node.text("an event's data, or a map of `event`, `data` and `after`")?),
        ));
    }
    let fields = node.fields(&["event", "data", "after"])?;
    let name = fields.take("event").map(|node| node.text("an event's name"));
    let data = match fields.take("data") {
        Some(data) => match &data.node.value {
            Value::Map(_) | Value::List(_) => data.node.to_json().to_string(),
            _ => data.text("a text or JSON")?,
        },
        None => return node.refuse("expected `data`, a text or JSON"),
    };
    let after = fields.take("after").map_or(Some(Micros::ZERO), Reader::duration)?;
    let name = match name {
        Some(name) => Some(name?),
        None => None,
    };
    Some((after, written(name.as_deref(), &data)))
}

fn written(name: Option<&str>, data: &str) -> Vec<u8> {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    let lines: Vec<String> = data.lines().map(|line| format!("data: {line}\n")).collect();
    format!("{name}{}\n", lines.concat()).into_bytes()
}

/// Answer of an API that tells this usage: of the API that the request's path names, of the model that its body names,
/// and a stream if it asks for one.
fn told(node: Reader<'_>, request: Option<&Request>) -> Option<Body> {
    let fields = node.fields(&["input", "output", "cache_read", "cache_write", "model", "api"])?;
    let number =
        |name: &str| fields.take(name).map_or(Some(0), |node| node.number("a number of tokens", 0..=MAX_TOKENS));
    let (input, output) = (number("input"), number("output"));
    let (cache_read, cache_write) = (number("cache_read"), number("cache_write"));
    let model = fields.take("model").map(|node| node.text("a model's name"));
    let api = fields.take("api").map(|node| {
        let known = Api::NAMES.iter().find(|(name, _)| node.exact_text() == Some(name));
        known.map(|(_, api)| *api).or_else(|| node.expected("openai, anthropic, gemini or bedrock"))
    });
    let request = request?;
    let api = api.unwrap_or_else(|| Some(Api::of_path(&request.path)))?;
    let usage = Usage { input: input?, output: output?, cache_read: cache_read?, cache_write: cache_write? };
    if usage.cache_write > 0 && !api.tells_cache_writes() {
        return fields.take("cache_write")?.refuse("expected no `cache_write`: only anthropic and bedrock tell it");
    }
    let asked: Json = request.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let model = match model {
        Some(model) => model?,
        None => asked.get("model").and_then(Json::as_str).unwrap_or("a-model").to_owned(),
    };
    let answer = Answer { api, model: &model, text: TEXT, usage };
    let wants_stream =
        asked.get("stream") == Some(&Json::Bool(true)) || request.path.contains(":streamGenerateContent");
    if !wants_stream {
        return Some(Body::of(Some("application/json"), answer.document().to_string()));
    }
    match answer.events(true) {
        Some(events) => {
            let pieces = events.into_iter().map(|event| (Micros::ZERO, event.into_bytes())).collect();
            Some(Body { content_type: Some("text/event-stream"), pieces })
        }
        None => node.refuse("expected a request without `stream: true`: streams of bedrock are no server-sent events"),
    }
}

impl Upstream {
    /// Response with status 200 and nothing else.
    pub(crate) fn empty() -> Self {
        Self { status: 200, headers: Vec::new(), pieces: Vec::new(), end: End::Whole }
    }

    /// Time from the head to the last piece.
    pub(crate) fn lasts(&self) -> Micros {
        self.pieces.iter().fold(Micros::ZERO, |sum, (wait, _)| sum.plus(*wait))
    }

    /// Number of the body's bytes.
    pub(crate) fn size(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }
}

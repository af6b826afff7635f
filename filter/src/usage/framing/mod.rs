//! Framings: how a body is split into documents of JSON.

mod base64;
mod documents;
mod event_stream;
mod server_sent;

use self::documents::Documents;
use self::event_stream::EventStream;
use self::server_sent::ServerSent;
use super::amounts::Readings;
use super::paths::Paths;

/// Format of a body that consists of documents of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// JSON: one document, a list of documents, or one on each line (NDJSON).
    Json,
    /// Server-sent events, each with a document as its data.
    ServerSentEvents,
    /// Event stream of AWS, with a document in each message, or in base64 in its member `bytes`.
    AwsEventStream,
}

impl Framing {
    /// Returns the framing that a `content-type` names, or `None` for bodies that are not read.
    #[must_use]
    pub fn of_content_type(content_type: &[u8]) -> Option<Self> {
        let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
        let media_type = content_type.get(..end)?.trim_ascii().to_ascii_lowercase();
        match media_type.as_slice() {
            b"text/event-stream" => Some(Self::ServerSentEvents),
            b"application/vnd.amazon.eventstream" => Some(Self::AwsEventStream),
            b"application/json" | b"text/json" | b"application/x-ndjson" | b"application/ndjson" => Some(Self::Json),
            b"application/jsonl" | b"application/x-jsonlines" | b"application/json-lines" => Some(Self::Json),
            other if other.starts_with(b"application/") && other.ends_with(b"+json") => Some(Self::Json),
            _ => None,
        }
    }
}

/// State of a body that is being split.
#[derive(Debug)]
pub(super) enum Frames {
    Json(Documents),
    ServerSentEvents(ServerSent),
    AwsEventStream(EventStream),
}

impl Frames {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Json => Self::Json(Documents::new()),
            Framing::ServerSentEvents => Self::ServerSentEvents(ServerSent::new()),
            Framing::AwsEventStream => Self::AwsEventStream(EventStream::new()),
        }
    }

    pub(super) fn text_bytes(&self) -> u64 {
        match self {
            Self::Json(documents) => documents.text_bytes(),
            Self::ServerSentEvents(events) => events.text_bytes(),
            Self::AwsEventStream(messages) => messages.text_bytes(),
        }
    }

    pub(super) fn push(&mut self, paths: &Paths, bytes: &[u8], readings: &mut Readings) {
        match self {
            Self::Json(documents) => documents.push(paths, bytes, readings),
            Self::ServerSentEvents(events) => events.push(paths, bytes, readings),
            Self::AwsEventStream(messages) => messages.push(paths, bytes, readings),
        }
    }
}

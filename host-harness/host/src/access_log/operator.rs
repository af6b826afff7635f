//! Command operators, and their values for an HTTP stream.

use serde_json::Value;
use time::OffsetDateTime;

use super::format::FormatError;
use crate::http::{Headers, Stream};

/// Command operator of Envoy that the harness supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// Start of the request in UTC, to the millisecond.
    StartTime,
    /// Request header, or a fallback header.
    RequestHeader(Header),
    /// Response header, or a fallback header.
    ResponseHeader(Header),
    /// Response status; 0 without a response.
    ResponseCode,
    /// Origin of the status: `via_upstream`, `direct_response`, or the details of a local reply.
    ResponseCodeDetails,
    /// Reasons of a response that is not the upstream's, such as `UF,NR`.
    ResponseFlags,
    /// Long names of the same, such as `NoRouteFound`.
    ResponseFlagsLong,
    /// Protocol of the downstream: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// Milliseconds from the request's start to the end of its response.
    Duration,
    /// Bytes of the response body.
    BytesSent,
    /// Bytes of the request body that were read until the end of the stream.
    BytesReceived,
    /// Address and port of the upstream endpoint.
    UpstreamHost,
    /// IP address of the downstream.
    DownstreamRemoteAddressWithoutPort,
    /// Name of the route.
    RouteName,
    /// Filter state with this key, as text; keys set by wasm filters begin with `wasm.`.
    FilterState(String),
    /// Value of dynamic metadata.
    DynamicMetadata {
        /// Namespace, usually the name of a filter.
        namespace: String,
        /// Path of the value; empty: the whole namespace.
        path: Vec<String>,
    },
}

/// Header name with an optional fallback, both in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    name: String,
    alternative: Option<String>,
}

impl Operator {
    pub(super) const NAMES: [&str; 16] = [
        "START_TIME",
        "REQ",
        "RESP",
        "RESPONSE_CODE",
        "RESPONSE_CODE_DETAILS",
        "RESPONSE_FLAGS",
        "RESPONSE_FLAGS_LONG",
        "PROTOCOL",
        "DURATION",
        "BYTES_SENT",
        "BYTES_RECEIVED",
        "UPSTREAM_HOST",
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        "ROUTE_NAME",
        "FILTER_STATE",
        "DYNAMIC_METADATA",
    ];

    /// Returns the operator with a name and an argument; `found` is the operator as written, for errors.
    pub(super) fn named(name: &str, argument: Option<&str>, found: &str) -> Result<Self, FormatError> {
        let wrong = |expected| FormatError::Argument { found: found.to_owned(), expected };
        let header = || {
            let header = argument.and_then(Header::parse);
            header.ok_or_else(|| wrong("a header in parentheses, and perhaps a second: `REQ(x?y)`"))
        };
        let simple = match name {
            "REQ" => return header().map(Self::RequestHeader),
            "RESP" => return header().map(Self::ResponseHeader),
            "FILTER_STATE" => {
                let key = argument.and_then(|argument| argument.strip_suffix(":PLAIN")).filter(|key| !key.is_empty());
                let key = key.ok_or_else(|| wrong("a key and `:PLAIN` in parentheses"))?;
                return Ok(Self::FilterState(key.to_owned()));
            }
            "DYNAMIC_METADATA" => {
                let mut parts = argument.unwrap_or("").split(':').map(str::to_owned);
                let namespace = parts.next().filter(|namespace| !namespace.is_empty());
                let namespace =
                    namespace.ok_or_else(|| wrong("a namespace in parentheses, and perhaps a path: `a:b:c`"))?;
                return Ok(Self::DynamicMetadata { namespace, path: parts.collect() });
            }
            "START_TIME" => Self::StartTime,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_CODE_DETAILS" => Self::ResponseCodeDetails,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_FLAGS_LONG" => Self::ResponseFlagsLong,
            "PROTOCOL" => Self::Protocol,
            "DURATION" => Self::Duration,
            "BYTES_SENT" => Self::BytesSent,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "UPSTREAM_HOST" => Self::UpstreamHost,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamRemoteAddressWithoutPort,
            "ROUTE_NAME" => Self::RouteName,
            _ => return Err(FormatError::Unknown { name: name.to_owned() }),
        };
        if argument.is_some() { Err(wrong("no argument")) } else { Ok(simple) }
    }

    /// Whether the operator takes a length.
    pub(super) fn can_be_cut(&self) -> bool {
        matches!(
            self,
            Self::RequestHeader(_) | Self::ResponseHeader(_) | Self::FilterState(_) | Self::DynamicMetadata { .. }
        )
    }

    /// Returns the operator's value for a stream; `None` if the stream does not have the value (yet).
    pub(super) fn value(&self, stream: &Stream) -> Option<Value> {
        let info = &stream.info;
        match self {
            Self::StartTime => Some(iso_8601(info.started.into()).into()),
            Self::RequestHeader(header) => header.value(&stream.request_headers.borrow()),
            Self::ResponseHeader(header) => header.value(stream.response_headers.borrow().as_ref()?),
            Self::ResponseCode => {
                let headers = stream.response_headers.borrow();
                let status = headers.as_ref().and_then(|headers| headers.text(":status")?.parse::<u16>().ok());
                Some(status.unwrap_or(0).into())
            }
            Self::ResponseCodeDetails => text(info.response_details.borrow().clone()),
            // As in Envoy, a stream without flags has a dash, also where empty values are omitted.
            Self::ResponseFlags => Some(info.response_flags.get().short().into()),
            Self::ResponseFlagsLong => Some(info.response_flags.get().long().into()),
            Self::Protocol => Some(info.protocol.into()),
            Self::Duration if !info.ended.get() => None,
            Self::Duration => {
                let duration = info.started.elapsed().unwrap_or_default();
                Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into())
            }
            Self::BytesSent => Some(info.response_bytes.get().into()),
            Self::BytesReceived => Some(info.request_bytes.get().into()),
            Self::UpstreamHost => info.upstream.get().map(|address| address.to_string().into()),
            Self::DownstreamRemoteAddressWithoutPort => info.source.map(|address| address.ip().to_string().into()),
            Self::RouteName => text(stream.with_route(|_, route| route.name.clone())?),
            Self::FilterState(key) => {
                let state = stream.filter_state.borrow();
                state.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into())
            }
            Self::DynamicMetadata { namespace, path } => {
                let metadata = stream.dynamic_metadata.borrow();
                let found = path.iter().try_fold(metadata.get(namespace)?, |value, key| value.get(key))?;
                Some(shown(found))
            }
        }
    }
}

impl Header {
    fn parse(argument: &str) -> Option<Self> {
        let (name, alternative) = match argument.split_once('?') {
            Some((name, alternative)) => (name, Some(alternative)),
            None => (argument, None),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains(['?', ' ']);
        (is_name(name) && alternative.is_none_or(is_name))
            .then(|| Self { name: name.to_ascii_lowercase(), alternative: alternative.map(str::to_ascii_lowercase) })
    }

    fn value(&self, headers: &Headers) -> Option<Value> {
        let first = |name: &str| headers.first(name.as_bytes());
        let value = first(&self.name).or_else(|| first(self.alternative.as_deref()?))?;
        Some(String::from_utf8_lossy(value).into())
    }
}

fn text(text: String) -> Option<Value> {
    (!text.is_empty()).then_some(Value::String(text))
}

/// Returns a metadata value with whole numbers as integers: all numbers in metadata are doubles.
fn shown(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Whole doubles within ±2⁵³ are exact integers.
            #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2⁵³")]
            Some(double) if double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0 => (double as i64).into(),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(shown).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shown(value))).collect(),
        other => other.clone(),
    }
}

fn iso_8601(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second, millisecond) = (time.hour(), time.minute(), time.second(), time.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::http::StreamInfo;

    #[test]
    fn a_time_is_utc_to_the_millisecond() {
        let started = UNIX_EPOCH + Duration::new(1_795_254_635, 36_999_999);
        let stream = Stream { info: StreamInfo { started, ..StreamInfo::default() }, ..Stream::default() };
        assert_eq!(Operator::StartTime.value(&stream), Some("2026-11-21T09:50:35.036Z".into()));
    }

    #[test]
    fn a_stream_without_a_response_has_code_0_and_a_duration_once_it_has_ended() {
        let stream = Stream::default();
        assert_eq!(Operator::ResponseCode.value(&stream), Some(0.into()));
        assert_eq!(Operator::Duration.value(&stream), None);
        stream.info.ended.set(true);
        assert!(Operator::Duration.value(&stream).unwrap().is_u64());
    }
}

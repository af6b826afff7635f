//! Section `response`: the local reply to denied requests, and response headers.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::error::Problem;
use super::reader::{Node, refuse_duplicates};
use super::report::Read;
use super::shown::quoted;
use super::spelling;
use crate::response::{Api, ErrorStatus, Format, GrpcStatus, ResponseConfig, ResponseHeaders, Template};

const FIELDS: &[&str] = &["status", "body", "content_type", "headers", "grpc_status", "grpc_message", "format"];
const GRPC_STATUS: &str = "a gRPC status such as RESOURCE_EXHAUSTED, or its number from 1 to 16";
const MAX_GRPC_MESSAGE: usize = 256;
const MAX_BODY: usize = 4_096;
const HEADERS: &[(&str, Header)] =
    &[("x-ratelimit", Header::XRateLimit), ("ratelimit", Header::RateLimit), ("retry-after", Header::RetryAfter)];

const FORMATS: &[(&str, Format)] = &[
    ("plain", Format::Plain),
    ("auto", Format::Auto),
    ("openai", Format::Of(Api::OpenAi)),
    ("anthropic", Format::Of(Api::Anthropic)),
    ("gemini", Format::Of(Api::Gemini)),
    ("bedrock", Format::Of(Api::Bedrock)),
];

/// Reads the section. Absent fields are as in `base`.
pub(super) fn read(node: &Node<'_>, base: &ResponseConfig) -> Read<ResponseConfig> {
    let fields = node.object(FIELDS)?;
    let status = fields.or("status", base.status, status);
    let body = fields.optional("body", |node| node.text(0..=MAX_BODY).and_then(|text| template(node, text)));
    let content_type = fields.optional("content_type", |node| {
        node.text_matching("a media type such as \"application/json\"", |text| {
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        })
    });
    let headers = fields.or("headers", base.headers, headers);
    let grpc_status = fields.or("grpc_status", base.grpc_status, grpc_status);
    let grpc_message = fields.optional("grpc_message", |node| {
        let text = node.text_matching("a line of 1 to 256 bytes", |text| {
            (1..=MAX_GRPC_MESSAGE).contains(&text.len()) && !text.chars().any(char::is_control)
        });
        text.and_then(|text| template(node, text))
    });
    let format = fields.or("format", base.format, |node| node.one_of(FORMATS));
    Ok(ResponseConfig {
        status: status?,
        body: body?.unwrap_or_else(|| base.body.clone()),
        content_type: content_type?.map(str::to_owned).or_else(|| base.content_type.clone()),
        headers: headers?,
        grpc_status: grpc_status?,
        grpc_message: grpc_message?.or_else(|| base.grpc_message.clone()),
        format: format?,
    })
}

fn template(node: &Node<'_>, text: &str) -> Read<Template> {
    Template::parse(text, |unknown| {
        let meant = nearest_placeholder(&unknown.to_ascii_lowercase());
        node.fail(Problem::UnknownPlaceholder { found: quoted(unknown), meant })
    })
}

/// Returns the placeholder that an unknown one resembles, or begins with: `{retry_after_seconds}`.
fn nearest_placeholder(unknown: &str) -> Option<&'static str> {
    let begins =
        |known: &&&str| known.as_bytes().split_last().is_some_and(|(_, word)| unknown.as_bytes().starts_with(word));
    let meant = spelling::nearest(unknown, Template::PLACEHOLDERS);
    meant.or_else(|| Template::PLACEHOLDERS.iter().find(begins).copied())
}

/// Reads a gRPC status: a name or a number.
fn grpc_status(node: &Node<'_>) -> Read<GrpcStatus> {
    if node.is_text() {
        return node.parsed(GRPC_STATUS, 64, GrpcStatus::from_name);
    }
    node.integer_as(1..=16, GrpcStatus::from_code)
}

/// Reads the status of a denial or an error.
pub(super) fn status(node: &Node<'_>) -> Read<ErrorStatus> {
    let [min, max] = [ErrorStatus::MIN, ErrorStatus::MAX].map(|status| status.code().into());
    node.integer_as(min..=max, ErrorStatus::from_code)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    XRateLimit,
    RateLimit,
    RetryAfter,
}

fn headers(node: &Node<'_>) -> Read<ResponseHeaders> {
    let nodes = node.list(0..=16)?;
    let named: Vec<Read<Header>> = nodes.iter().map(|node| node.one_of(HEADERS)).collect();
    let keys: Vec<(Header, &Node<'_>)> =
        named.iter().zip(nodes).filter_map(|(header, node)| Some(((*header).ok()?, node))).collect();
    refuse_duplicates(&keys)?;
    named.into_iter().try_fold(ResponseHeaders::NONE, |headers, header| {
        Ok(match header? {
            Header::XRateLimit => ResponseHeaders { x_ratelimit: true, ..headers },
            Header::RateLimit => ResponseHeaders { ratelimit: true, ..headers },
            Header::RetryAfter => ResponseHeaders { retry_after: true, ..headers },
        })
    })
}

//! Local replies and response headers: status, headers and body, from the verdict and the settings.
//!
//! Waits are rounded up and remaining tokens are rounded down: a client that follows the headers is never early.
//! Limits in shadow mode do not appear.

mod api;
mod beside;
mod client_protocol;
mod grpc_status;
mod headers;
mod local_reply;
mod settings;
mod status;
mod template;
#[cfg(test)]
mod tests;

use alloc::borrow::{Cow, ToOwned};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use self::api::{Api, Format};
use self::api::{ApiError, Cause};
pub use self::beside::beside;
pub use self::client_protocol::{ClientProtocol, RpcType};
pub use self::grpc_status::GrpcStatus;
pub use self::headers::Header;
use self::headers::limit_headers;
pub(crate) use self::headers::soft_limits;
pub use self::local_reply::LocalReply;
use self::local_reply::PUSHBACK;
pub(crate) use self::local_reply::base64;
pub use self::settings::{ResponseConfig, ResponseHeaders, Responses};
pub use self::status::ErrorStatus;
pub use self::template::{Facts, Template};
use crate::descriptor::BadRequest;
use crate::limit::{Limit, Verdict};
use crate::redis::Failure;
use crate::units::{Micros, Tokens};

/// Maximum of `grpc-retry-pushback-ms`, a signed 32-bit integer.
const MAX_PUSHBACK: u64 = 0x7fff_ffff;
const FAILED_BODY: &str = "rate limiting is unavailable\n";

/// Local reply to a denied request, as configured for the strictest limit, or else for the filter.
#[must_use]
pub fn denied(verdict: &Verdict, limits: &[Limit], responses: &Responses, protocol: ClientProtocol) -> LocalReply {
    let response = responses.of(verdict);
    let facts = facts(verdict, limits);
    let name = verdict.strictest().map_or(Cow::Borrowed(""), |outcome| Limit::name_of(limits, outcome));
    let api = response.format.api(protocol);
    let mut headers = limit_headers(verdict, limits, response.headers, api);
    if response.headers.retry_after {
        if let Some(wait) = facts.retry_after {
            headers.push(("retry-after", wait.to_secs_ceil().max(1).to_string()));
        }
        if protocol.has_pushback() {
            headers.push((PUSHBACK, pushback(facts.retry_after)));
        }
    }
    let api = api.map(|api| {
        let cause =
            verdict.strictest().map_or(Cause::Requests, |outcome| Cause::of(outcome, limits.get(outcome.limit)));
        ApiError { api, cause, retry_after: facts.retry_after }
    });
    if let Some(api) = &api {
        api.push_retry_headers(response.headers.retry_after, &mut headers);
    }
    let own_message = response.grpc_message.as_ref().filter(|_| protocol.is_rpc());
    if !protocol.is_rpc() && api.is_none() {
        headers.extend(response.content_type.clone().map(|content_type| ("content-type", content_type)));
    }
    let message = own_message.unwrap_or(&response.body).fill(&facts);
    let error = (response.status, response.grpc_status);
    LocalReply::new(protocol, api.as_ref(), error, headers, message.into()).with_details(details("weir_denied{", &name))
}

/// Value of `grpc-retry-pushback-ms` (gRFC A6): milliseconds, rounded up. Clients do not retry after `-1`: waiting
/// cannot help, or takes longer than the 24 days that clients can read.
#[inline(never)]
fn pushback(retry_after: Option<Micros>) -> String {
    let millis = retry_after.map(|wait| wait.to_millis_ceil().max(1));
    millis.filter(|millis| *millis <= MAX_PUSHBACK).map_or_else(|| "-1".to_owned(), |millis| millis.to_string())
}

/// Headers to add to the response to an admitted request.
#[must_use]
pub fn admitted_headers(
    verdict: &Verdict,
    limits: &[Limit],
    responses: &Responses,
    protocol: ClientProtocol,
) -> Vec<Header> {
    let response = responses.of(verdict);
    limit_headers(verdict, limits, response.headers, response.format.api(protocol))
}

/// Local reply to a request that Redis did not decide, with failure mode `deny`: `UNAVAILABLE` for clients of RPC.
#[must_use]
pub fn failed(responses: &Responses, cause: Failure, protocol: ClientProtocol) -> LocalReply {
    let error = (responses.status_on_error, GrpcStatus::UNAVAILABLE);
    let api = api_error(responses, Cause::Failure, protocol);
    LocalReply::new(protocol, api.as_ref(), error, Vec::new(), FAILED_BODY.into())
        .with_details(details("weir_failed{", cause.name()))
}

/// Local reply to a request in which a value that a limit reads is missing, malformed or repeated: 400, 411 for a
/// missing content-length, 431 for headers that are too long to be read; `INVALID_ARGUMENT` for clients of RPC.
#[must_use]
pub fn bad_request(responses: &Responses, bad: BadRequest, protocol: ClientProtocol) -> LocalReply {
    let (status, reason) = match bad {
        BadRequest::Length => (ErrorStatus::LENGTH_REQUIRED, "weir_rejected{content_length}"),
        BadRequest::Hits { .. } => (ErrorStatus::BAD_REQUEST, "weir_rejected{hits_addend}"),
        BadRequest::Body => (ErrorStatus::BAD_REQUEST, "weir_rejected{request_body}"),
        BadRequest::Repeated => (ErrorStatus::BAD_REQUEST, "weir_rejected{repeated}"),
        BadRequest::Models => (ErrorStatus::BAD_REQUEST, "weir_rejected{models}"),
        BadRequest::UnknownModel => (ErrorStatus::BAD_REQUEST, "weir_rejected{unknown_model}"),
        BadRequest::IncludeUsage => (ErrorStatus::BAD_REQUEST, "weir_rejected{include_usage}"),
        BadRequest::TooLarge => (ErrorStatus::HEADERS_TOO_LARGE, "weir_rejected{headers}"),
    };
    let error = (status, GrpcStatus::INVALID_ARGUMENT);
    let api = api_error(responses, Cause::BadRequest, protocol);
    LocalReply::new(protocol, api.as_ref(), error, Vec::new(), format!("{bad}\n").into()).with_details(reason)
}

/// Error of the API in whose form the filter answers, if any.
fn api_error(responses: &Responses, cause: Cause, protocol: ClientProtocol) -> Option<ApiError> {
    responses.filter.format.api(protocol).map(|api| ApiError { api, cause, retry_after: None })
}

/// Response code details, for the access log: `weir_denied{LIMIT}`.
#[inline(never)]
fn details(kind: &str, name: &str) -> String {
    [kind, name, "}"].concat()
}

fn facts<'a>(verdict: &Verdict, limits: &'a [Limit]) -> Facts<'a> {
    let strictest = verdict.strictest();
    Facts {
        limit: strictest.and_then(|outcome| limits.get(outcome.limit)).map_or("", |limit| &limit.name),
        retry_after: strictest.and_then(|outcome| outcome.retry_after),
        remaining: strictest.map_or(Tokens(0), |outcome| outcome.remaining),
    }
}

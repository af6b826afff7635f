//! Responses in hyper's form.

use hyper::ext::ReasonPhrase;
use hyper::{Response, StatusCode};

use super::body::ResponseBody;
use super::worker::ManagerHandle;
use crate::http::local_reply::render;
use crate::http::{Headers, LocalReply, Stream};

/// Renders a local reply that no filter sees.
pub(super) fn answer(listener: &ManagerHandle, stream: &Stream, mut reply: LocalReply) -> Response<ResponseBody> {
    stream.info.response_details.replace(reply.details.clone());
    reply.changes = stream.local_reply_changes();
    let (headers, body) = render(reply, &stream.request_headers.borrow());
    let mut response = head(listener, Some(&headers));
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
    stream.info.response_bytes.set(body.len() as u64);
    *response.body_mut() = ResponseBody::Whole((!body.is_empty()).then_some(body));
    stream.response_headers.replace(Some(headers));
    stream.info.ended.set(true);
    listener.access_logs.iter().for_each(|log| log.write(stream));
    response
}

/// Closes an HTTP/1 connection after the response: the request is not complete, and what follows is no request.
pub(super) fn close_after(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("close"));
    response
}

/// Returns hyper's response with these headers and an empty body.
pub(super) fn head(listener: &ManagerHandle, headers: Option<&Headers>) -> Response<ResponseBody> {
    let status = headers.and_then(|headers| headers.text(":status")).and_then(|status| status.parse::<u16>().ok());
    // An informational status cannot end a stream, but for the switch to another protocol.
    let status =
        status.filter(|status| *status >= 200 || *status == 101).and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    listener.stats.answered(status.as_u16());
    let mut response = Response::new(ResponseBody::Whole(None));
    *response.status_mut() = status;
    if let Some(reason) = reason(status) {
        response.extensions_mut().insert(reason);
    }
    *response.headers_mut() = headers.map(Headers::to_http).unwrap_or_default();
    // Filters see the upstream's headers of its connection, and the client gets none of them.
    let hops = ["keep-alive", "proxy-connection", "transfer-encoding", "connection", "upgrade"];
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    for name in hops.iter().take(if is_switch { 3 } else { hops.len() }) {
        response.headers_mut().remove(*name);
    }
    response
}

/// Returns Envoy's reason phrase of a status; `None` if hyper has the same.
fn reason(status: StatusCode) -> Option<ReasonPhrase> {
    Some(ReasonPhrase::from_static(match status.as_u16() {
        203 => b"Non-Authoritative Information",
        418 | 451 => b"Unknown",
        599 => b"Last Unassigned Server Error Code",
        _ if status.canonical_reason().is_none() => b"Unknown",
        _ => return None,
    }))
}

//! Requests to HTTP/1 and HTTP/2 endpoints.

use std::future::pending;

use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};

use super::{Cluster, Failure, UpstreamRequest};
use crate::bootstrap::Protocol;
use crate::http::{Direction, Headers, LocalReply, joined};
use crate::log_lines::printable;
use crate::server::body::{BodySender, ChannelBody, channel};
use crate::vm::chain::Output;

pub(super) async fn run(request: &UpstreamRequest, cluster: &Cluster) {
    let chain = &request.chain;
    let end = loop {
        if chain.is_replied() || chain.is_reset() {
            return;
        }
        match chain.take(Direction::Request) {
            Some(Output::Headers(end)) => break end,
            Some(_) => {}
            None => chain.changed().await,
        }
    };
    let is_upgrade = chain.stream.request_headers.borrow().first(b"upgrade").is_some();
    let (sender, body) = channel(end || is_upgrade);
    let protocol = cluster.config.protocol;
    let framing = Framing { is_empty: end, is_upgrade };
    let Some(message) = message(&chain.stream.request_headers.borrow(), body, protocol, framing) else {
        let body = "the request cannot be sent upstream".into();
        return chain.reply(LocalReply { status: 400, body, ..LocalReply::default() });
    };
    let exchange = exchange(request, cluster, message);
    let sending = async {
        // The bytes of an upgrade are not a body.
        if !is_upgrade {
            send_body(request, sender, protocol).await;
        }
        pending::<()>().await;
    };
    // Passes on response output that filters release, and local replies, while the request is running.
    let watching = async {
        while request.is_wanted() && !chain.is_replied() && !chain.is_reset() {
            chain.changed_in(Direction::Response).await;
            request.flush();
        }
    };
    tokio::select! {
        () = exchange => {}
        () = sending => {}
        () = watching => {}
    }
    while request.is_wanted() && chain.holds_response() && !chain.is_reset() && !chain.is_replied() {
        request.flush();
        chain.changed_in(Direction::Response).await;
    }
}

async fn exchange(request: &UpstreamRequest, cluster: &Cluster, mut message: Request<ChannelBody>) {
    let Some((_, endpoint)) = cluster.endpoint() else {
        return request.fail(&Failure::NoEndpoint);
    };
    let mut fresh = false;
    let (mut connection, address, response) = loop {
        let (mut connection, address) = match cluster.connection(endpoint, fresh).await {
            Ok(connected) => connected,
            Err(failed) => return request.unreachable(&failed),
        };
        request.note_endpoint(Some(address));
        match connection.send(message).await {
            Ok(response) => break (connection, address, response),
            // The endpoint has closed an idle connection and nothing was sent: one retry on a new connection.
            Err(unanswered) if !fresh && unanswered.request.is_some() => {
                let Some(unsent) = unanswered.request else { return };
                message = unsent;
                fresh = true;
            }
            Err(unanswered) => {
                let name = printable(cluster.name());
                log::debug!(target: "upstream", "cluster `{name}`: no response: {}", unanswered.error);
                return request.fail(&Failure::of_exchange(&unanswered.error, cluster.config.protocol));
            }
        }
    };
    if response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS {
        return switch(request, response).await;
    }
    if receive(request, response, cluster.config.protocol).await
        && let super::pool::Connection::Http1(sender) = &mut connection
    {
        // The connection is ready for another request once the codec has seen the end of the response.
        if sender.ready().await.is_ok() {
            cluster.give_back(endpoint, connection, address);
        }
    }
}

/// Passes a switch to another protocol into the upstream filters, and the bytes after it.
async fn switch(request: &UpstreamRequest, mut response: Response<Incoming>) {
    let upgrade = hyper::upgrade::on(&mut response);
    let mut headers: Headers = [(":status", "101")].into_iter().collect();
    headers.extend_from(response.headers());
    request.chain.response_headers(headers, false);
    request.flush();
    match upgrade.await {
        Ok(upgraded) => super::tunnel::run(request, upgraded).await,
        Err(_) => request.fail(&Failure::Terminated),
    }
}

/// Passes a response into the upstream filters; returns whether it was complete.
async fn receive(request: &UpstreamRequest, response: Response<Incoming>, protocol: Protocol) -> bool {
    let chain = &request.chain;
    let (parts, mut body) = response.into_parts();
    if protocol == Protocol::Http1 && !has_one_framing(&parts.headers) {
        request.fail(&Failure::NotHttp);
        return false;
    }
    let mut headers: Headers = [(":status", parts.status.as_str().to_owned())].into_iter().collect();
    headers.extend_from(&parts.headers);
    headers.join(joined::OF_RESPONSES);
    let mut ended = hyper::body::Body::is_end_stream(&body);
    chain.response_headers(headers, ended);
    request.flush();
    while !ended {
        while let Some(backlog) = request.backlog() {
            backlog.has_drained(Direction::Response).await;
        }
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    // As over HTTP/1 from a client, an empty part ends the body.
                    ended = protocol != Protocol::Http1 && hyper::body::Body::is_end_stream(&body);
                    chain.response_data(data, ended);
                }
                Err(_) if protocol == Protocol::Http1 => {
                    ended = true;
                    chain.response_data(bytes::Bytes::new(), true);
                }
                Err(frame) => {
                    let mut trailers = Headers::new();
                    if let Ok(map) = frame.into_trailers() {
                        trailers.extend_from(&map);
                    }
                    ended = true;
                    chain.response_trailers(trailers);
                }
            },
            Some(Err(error)) => {
                log::debug!(target: "upstream", "an upstream response ended early: {error}");
                request.flush();
                request.fail(&Failure::of_body(&error, protocol));
                return false;
            }
            None => {
                ended = true;
                chain.response_data(bytes::Bytes::new(), true);
            }
        }
        request.flush();
        if !request.count(0) {
            request.fail(&Failure::Filter);
            return false;
        }
    }
    true
}

/// Whether at most one header says how long a response over HTTP/1 is, in a way that Envoy accepts.
fn has_one_framing(headers: &HeaderMap) -> bool {
    let values = |name| headers.get_all(name).iter();
    let count = values(header::TRANSFER_ENCODING).count() + values(header::CONTENT_LENGTH).count();
    count <= 1 && values(header::TRANSFER_ENCODING).all(|it| it.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

async fn send_body(request: &UpstreamRequest, sender: BodySender, protocol: Protocol) {
    let chain = &request.chain;
    loop {
        while let Some(output) = chain.take(Direction::Request) {
            let (frame, end) = match output {
                Output::Headers(_) => continue,
                Output::Data(data, end) => (Frame::data(request.counted(data)), end),
                // Envoy's default for HTTP/1 (`enable_trailers`): trailers are dropped.
                Output::Trailers if protocol == Protocol::Http1 => return,
                Output::Trailers => {
                    let trailers = chain.stream.request_trailers.borrow().clone().unwrap_or_default();
                    (Frame::trailers(trailers.to_http()), true)
                }
            };
            request.count(0);
            if sender.send(frame).await.is_err() || end {
                return;
            }
        }
        chain.changed_in(Direction::Request).await;
    }
}

/// Body of a request.
#[derive(Debug, Clone, Copy)]
struct Framing {
    is_empty: bool,
    is_upgrade: bool,
}

/// Returns the hyper request; `None` if the headers are not a valid HTTP request.
fn message(headers: &Headers, body: ChannelBody, protocol: Protocol, framing: Framing) -> Option<Request<ChannelBody>> {
    let method = Method::from_bytes(headers.first(b":method")?).ok()?;
    let path = headers.text(":path")?;
    let authority = headers.text(":authority").unwrap_or("");
    let mut map = headers.to_http();
    let uri = match protocol {
        Protocol::Http2 => Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()?,
        Protocol::Http1 | Protocol::Tcp => {
            map.insert(header::HOST, authority.parse().ok()?);
            if !framing.is_upgrade && !map.contains_key(header::CONTENT_LENGTH) {
                frame(&mut map, &method, framing.is_empty);
            }
            path.parse().ok()?
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = map;
    Some(request)
}

/// Adds the header of a body without a length: hyper would send no body of a GET request, and no length of an empty
/// body.
fn frame(headers: &mut HeaderMap, method: &Method, is_empty: bool) {
    let has_no_body = [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT, Method::TRACE].contains(method);
    if !is_empty {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if !has_no_body {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

//! HTTP stream of a downstream connection: through the filter chain to the route's cluster, and back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::body::{AbortOnDrop, Interrupted, ResponseBody, response_channel};
use super::forwarded::receive;
use super::worker::{ListenerHandle, Worker};
use crate::bootstrap::Action;
use crate::http::local_reply::render;
use crate::http::{Direction, Headers, LocalReply, Stream, StreamControl, StreamInfo};
use crate::upstream::{Broken, ResponseSink, UpstreamRequest};
use crate::vm::chain::{Chain, Output};

/// Error of a stream that ends without a response: its connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset")]
pub(crate) struct Reset;

/// Id and addresses of a downstream connection.
#[derive(Clone, Copy)]
pub(crate) struct Peers {
    pub(crate) id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<ListenerHandle>,
    peers: Peers,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Reset> {
    listener.stats.requests.add(1);
    let (parts, body) = request.into_parts();
    let Some(received) = receive(&parts, &listener.config, peers.remote) else {
        let mut response = Response::new(ResponseBody::Whole(None));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        listener.stats.answered(400);
        return Ok(response);
    };
    let info = StreamInfo {
        source: Some(received.client),
        destination: Some(peers.local),
        connection_id: peers.id,
        protocol: received.protocol,
        routes: Some(listener.routes.clone()),
        ..StreamInfo::default()
    };
    let head = parts.method == hyper::Method::HEAD;
    let stream = Stream { request_headers: RefCell::new(received.headers), info, ..Stream::default() };
    if let Some(location) = received.answered {
        return Ok(answer_path(&listener, &stream, location));
    }
    let chain = Chain::new(&listener.filters, stream, listener.config.buffer_limit);
    let whole = body.is_end_stream();
    let mut exchange = Exchange {
        worker,
        listener,
        chain,
        body: (!whole).then_some(body),
        upstream: None,
        request_ended: whole,
        timeout: None,
        deadline: None,
    };
    exchange.chain.request_headers(whole);
    let headers_only = match exchange.next().await? {
        Output::Headers(end) => end,
        Output::Data(..) | Output::Trailers => return Err(Reset),
    };
    exchange.respond(headers_only, head)
}

/// Returns the response to a request stopped by path normalization: a redirect to `location`, or 400. No filter runs.
fn answer_path(listener: &ListenerHandle, stream: &Stream, location: Option<String>) -> Response<ResponseBody> {
    let status = if location.is_some() { 307 } else { 400 };
    let details = "path_normalization_failed".to_owned();
    let mut reply = LocalReply { status, details: details.clone(), ..LocalReply::default() };
    if let Some(location) = location {
        reply.headers.add("location", location);
    }
    let (headers, _) = render(reply, &stream.request_headers.borrow());
    let response = head(listener, Some(&headers));
    stream.info.response_details.replace(details);
    stream.response_headers.replace(Some(headers));
    stream.info.ended.set(true);
    listener.access_logs.iter().for_each(|log| log.write(stream));
    response
}

/// HTTP stream. It is dropped when its response is complete or the downstream disconnects; its contexts end then.
struct Exchange {
    worker: Rc<Worker>,
    listener: Rc<ListenerHandle>,
    chain: Rc<Chain>,
    /// Unread part of the request body.
    body: Option<Incoming>,
    upstream: Option<Rc<UpstreamRequest>>,
    request_ended: bool,
    /// Timeout of the route, counted from the end of the request.
    timeout: Option<Duration>,
    deadline: Option<Instant>,
}

impl Exchange {
    /// Returns the next response output; until then, reads the request body and routes the request output.
    async fn next(&mut self) -> Result<Output, Reset> {
        loop {
            while let Some(output) = self.chain.take(Direction::Request) {
                self.route(output);
            }
            if let Some(output) = self.chain.take(Direction::Response) {
                return Ok(output);
            }
            if self.chain.is_reset() {
                return Err(Reset);
            }
            let wants_body = self.body.is_some() && !self.chain.holds_request() && !self.chain.is_replied();
            tokio::select! {
                () = self.chain.changed() => {}
                frame = read(&mut self.body), if wants_body => self.read(frame),
                () = at(self.deadline), if self.deadline.is_some() => {
                    self.deadline = None;
                    self.give_up_upstream(504, "upstream request timeout", "upstream_response_timeout");
                }
            }
        }
    }

    fn read(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let end = self.body.as_ref().is_none_or(Body::is_end_stream);
                    if end {
                        self.body = None;
                    }
                    self.chain.request_data(data, end);
                }
                Err(frame) => {
                    self.body = None;
                    let mut trailers = Headers::new();
                    if let Ok(map) = frame.into_trailers() {
                        trailers.extend_from(&map);
                    }
                    self.chain.request_trailers(trailers);
                }
            },
            Some(Err(_)) => {
                self.body = None;
                self.chain.reset();
            }
            None => {
                self.body = None;
                self.chain.request_data(Bytes::new(), true);
            }
        }
    }

    /// Router: sends the request output of the filters to the route's cluster.
    fn route(&mut self, output: Output) {
        match output {
            Output::Headers(end) => {
                self.begin(end);
                self.note_end(end);
            }
            Output::Data(data, end) => {
                if let Some(upstream) = &self.upstream {
                    upstream.data(data, end);
                }
                self.note_end(end);
            }
            Output::Trailers => {
                let trailers = self.chain.stream.request_trailers.borrow().clone().unwrap_or_default();
                if let Some(upstream) = &self.upstream {
                    upstream.trailers(trailers);
                }
                self.note_end(true);
            }
        }
    }

    fn begin(&mut self, end: bool) {
        let mut headers = self.chain.stream.request_headers.borrow().clone();
        let path = headers.text(":path").unwrap_or("/").to_owned();
        let routes = self.listener.routes.clone();
        let Some((_, route)) = routes.find(headers.text(":authority").unwrap_or(""), &path) else {
            return self.chain.reply(reply(404, "", "route_not_found"));
        };
        match &route.action {
            Action::Direct(direct) => self.chain.reply(reply(direct.status, &direct.body, "direct_response")),
            Action::Cluster { cluster, timeout, prefix_rewrite } => {
                let Some(cluster) = self.worker.cluster(cluster) else {
                    return self.chain.reply(reply(503, "", "cluster_not_found"));
                };
                if let Some(prefix) = prefix_rewrite {
                    let rest = path.get(route.path.matched_len()..).unwrap_or("");
                    headers.add("x-envoy-original-path", path.clone());
                    headers.set(":path", format!("{prefix}{rest}"));
                }
                self.timeout = (!timeout.is_zero()).then_some(*timeout);
                let sink = Rc::new(ToDownstream { chain: Rc::downgrade(&self.chain), asked: Instant::now() });
                let stream = self.chain.stream.clone();
                self.upstream = Some(UpstreamRequest::start(&cluster, headers, end, sink, Some(stream)));
            }
        }
    }

    fn note_end(&mut self, end: bool) {
        self.request_ended |= end;
        if end && self.deadline.is_none() {
            self.deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        }
    }

    fn give_up_upstream(&mut self, status: u16, body: &str, details: &str) {
        if let Some(upstream) = self.upstream.take() {
            upstream.cancel();
        }
        self.chain.reply(reply(status, body, details));
    }

    /// Returns hyper's response; an incomplete body is streamed by a task.
    fn respond(mut self, headers_only: bool, head: bool) -> Result<Response<ResponseBody>, Reset> {
        let mut response = self.head();
        if headers_only {
            if !head {
                response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
            }
            return Ok(response);
        }
        match self.chain.take(Direction::Response) {
            Some(Output::Data(data, true)) => {
                response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
                *response.body_mut() = ResponseBody::Whole((!data.is_empty()).then_some(data));
            }
            first => {
                let (sender, frames) = response_channel();
                let task = tokio::task::spawn_local(async move {
                    let mut next = first;
                    loop {
                        let output = match next.take() {
                            Some(output) => Ok(output),
                            None => self.next().await,
                        };
                        let (frame, end) = match output {
                            Ok(Output::Headers(_)) => continue,
                            Ok(Output::Data(data, end)) => (Ok(Frame::data(data)), end),
                            Ok(Output::Trailers) => {
                                let trailers = self.chain.stream.response_trailers.borrow().clone();
                                (Ok(Frame::trailers(trailers.unwrap_or_default().to_http())), true)
                            }
                            Err(Reset) => (Err(Interrupted), true),
                        };
                        if sender.send(frame).await.is_err() || end {
                            return;
                        }
                    }
                });
                let task = AbortOnDrop(task.abort_handle());
                *response.body_mut() = ResponseBody::Stream { frames, ended: false, _task: task };
            }
        }
        Ok(response)
    }

    fn head(&self) -> Response<ResponseBody> {
        head(&self.listener, self.chain.stream.response_headers.borrow().as_ref())
    }
}

/// Returns hyper's response with these headers and an empty body.
fn head(listener: &ListenerHandle, headers: Option<&Headers>) -> Response<ResponseBody> {
    let status = headers.and_then(|headers| headers.text(":status")).and_then(|status| status.parse::<u16>().ok());
    // An informational status cannot end a stream.
    let status = status.filter(|status| *status >= 200).and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    listener.stats.answered(status.as_u16());
    let mut response = Response::new(ResponseBody::Whole(None));
    *response.status_mut() = status;
    *response.headers_mut() = headers.map(Headers::to_http).unwrap_or_default();
    response
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.cancel();
        }
        self.chain.finish();
        self.listener.access_logs.iter().for_each(|log| log.write(&self.chain.stream));
    }
}

/// Sink that passes an upstream's response into the downstream filter chain.
struct ToDownstream {
    chain: Weak<Chain>,
    asked: Instant,
}

impl ToDownstream {
    fn with_chain(&self, act: impl FnOnce(&Chain)) {
        if let Some(chain) = self.chain.upgrade() {
            act(&chain);
        }
    }
}

impl ResponseSink for ToDownstream {
    fn headers(&self, mut headers: Headers, end: bool) {
        headers.set("x-envoy-upstream-service-time", self.asked.elapsed().as_millis().to_string());
        self.with_chain(|chain| {
            chain.stream.info.response_details.replace("via_upstream".to_owned());
            chain.response_headers(headers, end);
        });
    }

    fn data(&self, data: Bytes, end: bool) {
        self.with_chain(|chain| chain.response_data(data, end));
    }

    fn trailers(&self, trailers: Headers) {
        self.with_chain(|chain| chain.response_trailers(trailers));
    }

    fn broken(&self, _why: Broken) {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
        self.with_chain(|chain| chain.reply(reply(503, body, "upstream_reset_before_response_started")));
    }

    fn backlog(&self) -> Option<Rc<Chain>> {
        self.chain.upgrade().filter(|chain| chain.is_full())
    }
}

fn reply(status: u16, body: &str, details: &str) -> LocalReply {
    LocalReply {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        details: details.to_owned(),
        ..LocalReply::default()
    }
}

async fn read(body: &mut Option<Incoming>) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    match body {
        Some(body) => body.frame().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! HTTP stream of a downstream connection: through the filter chain to the route's cluster, and back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, Response};
use tokio::time::Instant;

use super::body::{AbortOnDrop, Interrupted, ResponseBody, response_channel};
use super::early::EarlyAnswer;
use super::forwarded::{Received, receive};
use super::http1::{asks_to_close, is_malformed};
use super::http2;
use super::response::{answer, close_after, head};
use super::router::{RouteMutations, location, sent, steered};
use super::sink::{ToDownstream, reply};
use super::timers::{Expiry, Timers};
use super::tunnel;
use super::worker::{ManagerHandle, Worker};
use crate::bootstrap::Action;
use crate::http::{ConnectionInfo, Direction, Headers, LocalReply, ResponseFlag, Stream, StreamControl, StreamInfo};
use crate::upstream::UpstreamRequest;
use crate::vm::chain::{Chain, Output};

/// Error of a stream that ends without a response: its connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset")]
pub(crate) struct Reset;

/// Id, addresses and transport of a downstream connection.
#[derive(Clone, Copy)]
pub(crate) struct Peers {
    pub(crate) id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) is_tls: bool,
}

pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<ManagerHandle>,
    peers: Peers,
    connection: Rc<ConnectionInfo>,
    mut request: Request<Incoming>,
    refused: Option<EarlyAnswer>,
) -> Result<Response<ResponseBody>, Reset> {
    listener.stats.requests.add(1);
    let upgrade = tunnel::asked_for(&request);
    let on_upgrade = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    if parts.version == hyper::Version::HTTP_2 && http2::is_reset(&parts) {
        return Err(Reset);
    }
    let received = match refused {
        Some(answer) => Received::refused(answer, peers),
        None => receive(&parts, &listener.config, peers, upgrade.as_deref()),
    };
    let info = StreamInfo {
        source: Some(received.client),
        destination: Some(peers.local),
        connection_id: peers.id,
        connection,
        protocol: received.protocol,
        // No route is chosen for a request that is answered at once.
        routes: received.answered.is_none().then(|| listener.routes.clone()),
        ..StreamInfo::default()
    };
    let head = parts.method == hyper::Method::HEAD;
    let stream = Stream { request_headers: RefCell::new(received.headers), info, ..Stream::default() };
    let is_http1 = parts.version < hyper::Version::HTTP_2;
    let is_connect = parts.method == hyper::Method::CONNECT;
    if let Some(early) = received.answered {
        let response = answer(&listener, &stream, early.reply(&stream));
        return Ok(if is_http1 { close_after(response) } else { response });
    }
    if let Some(name) = &upgrade {
        let headers = stream.request_headers.borrow();
        let route = listener.routes.find(&headers).map(|(_, route)| route);
        if !tunnel::is_allowed(name, &listener.config, route) {
            drop(headers);
            let details = "upgrade_failed".to_owned();
            return Ok(close_after(answer(
                &listener,
                &stream,
                LocalReply { status: 403, details, ..LocalReply::default() },
            )));
        }
    }
    let timers = {
        let headers = stream.request_headers.borrow();
        let route = if listener.routes.has_timers { listener.routes.find(&headers) } else { None };
        Timers::start(&listener.config, route.map(|(_, route)| route))
    };
    let chain = Chain::new(&listener.filters, stream, listener.buffer_limit);
    // The bytes of an upgraded connection follow the response.
    let whole = upgrade.is_none() && body.is_end_stream();
    let mut exchange = Exchange {
        worker,
        listener,
        chain,
        closes: is_http1 && (is_connect || upgrade.is_some() || asks_to_close(&parts.headers)),
        body: (!whole && upgrade.is_none()).then_some(body),
        is_complete: false,
        upstream: None,
        request_ended: whole,
        timeout: None,
        timers,
    };
    exchange.chain.request_headers(whole);
    let headers_only = match exchange.next().await? {
        Output::Headers(end) => end,
        Output::Data(..) | Output::Trailers => return Err(Reset),
    };
    match on_upgrade {
        Some(upgrade) if exchange.is_switching() => {
            let response = exchange.head();
            tokio::task::spawn_local(tunnel::run(exchange, upgrade));
            Ok(response)
        }
        _ => exchange.respond(headers_only, head),
    }
}

/// HTTP stream. It is dropped when its response is complete or the downstream disconnects; its contexts end then.
pub(super) struct Exchange {
    worker: Rc<Worker>,
    listener: Rc<ManagerHandle>,
    pub(super) chain: Rc<Chain>,
    /// Whether the connection ends with the response, unless the response switches protocols.
    closes: bool,
    /// Unread part of the request body.
    body: Option<Incoming>,
    pub(super) upstream: Option<Rc<UpstreamRequest>>,
    request_ended: bool,
    /// Whether the downstream has got the whole response.
    pub(super) is_complete: bool,
    /// Timeout of the route, counted from the end of the request.
    timeout: Option<Duration>,
    timers: Timers,
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
            if self.body.is_none() {
                self.timers.request = None;
            }
            let wants_body = self.body.is_some() && !self.chain.holds_request() && !self.chain.is_replied();
            let upstream = self.upstream.clone();
            tokio::select! {
                () = self.chain.changed() => {}
                frame = read(&mut self.body, upstream.as_deref()), if wants_body => self.read(frame),
                expiry = self.timers.expired() => self.expire(expiry),
            }
        }
    }

    fn read(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    // Envoy's codec of HTTP/1 passes data on before it looks for their end: an empty part is the end.
                    let end = !self.is_http1() && self.body.as_ref().is_none_or(Body::is_end_stream);
                    if end {
                        self.body = None;
                    }
                    self.chain.request_data(data, end);
                }
                // Envoy's default for HTTP/1 (`enable_trailers`): trailers are dropped.
                Err(_) if self.is_http1() => {
                    self.body = None;
                    self.chain.request_data(Bytes::new(), true);
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
            Some(Err(error)) if self.is_http1() && is_malformed(&error) => {
                self.body = None;
                self.closes = true;
                self.chain.reply(EarlyAnswer::BadRequest.reply(&self.chain.stream));
            }
            Some(Err(_)) => {
                self.body = None;
                self.chain.stream.info.note_disconnect();
                self.chain.reset();
            }
            None => {
                self.body = None;
                self.chain.request_data(Bytes::new(), true);
            }
        }
    }

    /// Router: sends the request output of the filters to the route's cluster.
    pub(super) fn route(&mut self, output: Output) {
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
        let stream = self.chain.stream.clone();
        let headers = stream.request_headers.borrow().clone();
        let routes = self.listener.routes.clone();
        let Some((host, route)) = routes.find(&headers) else {
            let flag = ResponseFlag::NoRouteFound;
            return self.refuse(flag, reply(404, "", "route_not_found"));
        };
        let mutations = RouteMutations::of(&routes, host, route);
        match &route.action {
            Action::Direct(direct) => {
                let reply = reply(direct.status, &direct.body, "direct_response");
                self.chain.reply(mutations.changed(reply, &stream));
            }
            Action::Redirect(redirect) => {
                let location = location(redirect, &route.path, &headers);
                let headers = [("location", location)].into_iter().collect();
                let reply = LocalReply { headers, ..reply(redirect.status, "", "direct_response") };
                self.chain.reply(mutations.changed(reply, &stream));
            }
            Action::Cluster { cluster, timeout, .. } => {
                let Some(cluster) = self.worker.cluster(cluster) else {
                    return self.refuse(ResponseFlag::NoClusterFound, reply(503, "", "cluster_not_found"));
                };
                let mut headers = headers;
                let timeout = steered(&mut headers, *timeout);
                let mut headers = sent(route, &mutations, &stream, headers);
                if !timeout.is_zero() {
                    headers.replace("x-envoy-expected-rq-timeout-ms", timeout.as_millis().to_string());
                }
                self.timeout = (!timeout.is_zero()).then_some(timeout);
                let chain = Rc::downgrade(&self.chain);
                let sink = Rc::new(ToDownstream { chain, asked: Instant::now(), mutations });
                self.upstream = Some(UpstreamRequest::start(&cluster, headers, end, sink, Some(stream), None));
            }
        }
    }

    /// Answers a request that the router cannot send on.
    fn refuse(&self, flag: ResponseFlag, reply: LocalReply) {
        self.chain.stream.info.add_flag(flag);
        self.chain.reply(reply);
    }

    /// Whether the response switches protocols.
    fn is_switching(&self) -> bool {
        let headers = self.chain.stream.response_headers.borrow();
        headers.as_ref().and_then(|headers| headers.text(":status")) == Some("101")
    }

    fn note_end(&mut self, end: bool) {
        self.request_ended |= end;
        if end && self.timers.response.is_none() {
            self.timers.response = self.timeout.map(|timeout| Instant::now() + timeout);
        }
    }

    /// Ends the stream after one of its timers.
    fn expire(&mut self, expiry: Expiry) {
        self.timers.clear(expiry);
        let (flag, reply) = expiry.reply(self.body.is_none());
        if let Some(upstream) = self.upstream.take() {
            upstream.cancel();
        }
        if self.chain.is_replied() {
            return self.chain.reset();
        }
        flag.into_iter().for_each(|flag| self.chain.stream.info.add_flag(flag));
        self.chain.reply(reply);
    }

    /// Returns hyper's response; an incomplete body is streamed by a task.
    fn respond(mut self, headers_only: bool, head: bool) -> Result<Response<ResponseBody>, Reset> {
        let mut response = self.head();
        if headers_only {
            self.is_complete = true;
            // hyper writes no length of a missing body over HTTP/1, but for HEAD.
            let keeps_length = head || !self.is_http1() && response.status() == hyper::StatusCode::NOT_MODIFIED;
            if !keeps_length {
                response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
            }
            return Ok(response);
        }
        match self.chain.take(Direction::Response) {
            Some(Output::Data(data, true)) => {
                self.is_complete = true;
                *response.body_mut() = ResponseBody::complete(data, response.headers_mut());
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
                            // Envoy's default for HTTP/1 (`enable_trailers`): trailers are dropped.
                            Ok(Output::Trailers) if self.is_http1() => (Ok(Frame::data(Bytes::new())), true),
                            Ok(Output::Trailers) => {
                                let trailers = self.chain.stream.response_trailers.borrow().clone();
                                (Ok(Frame::trailers(trailers.unwrap_or_default().to_http())), true)
                            }
                            Err(Reset) => (Err(Interrupted), true),
                        };
                        let is_sent = sender.send(frame).await.is_ok();
                        self.is_complete = is_sent && end;
                        if !is_sent || end {
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

    fn is_http1(&self) -> bool {
        self.chain.stream.info.protocol != "HTTP/2"
    }

    fn head(&self) -> Response<ResponseBody> {
        let response = head(&self.listener, self.chain.stream.response_headers.borrow().as_ref());
        let closes = self.closes && !self.is_switching();
        if closes || (self.body.is_some() && self.is_http1()) {
            return close_after(response);
        }
        response
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.cancel();
        }
        if !self.is_complete && !self.chain.is_reset() {
            self.chain.stream.info.note_disconnect();
        }
        self.chain.finish();
        self.listener.access_logs.iter().for_each(|log| log.write(&self.chain.stream));
    }
}

/// Reads a part of a body, once its upstream has room for it.
async fn read(
    body: &mut Option<Incoming>,
    upstream: Option<&UpstreamRequest>,
) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    if let Some(upstream) = upstream {
        upstream.has_room().await;
    }
    match body {
        Some(body) => body.frame().await,
        None => std::future::pending().await,
    }
}

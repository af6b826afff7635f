//! Request at a limiter without a server: what the connection manager, the routes and the native filters before it make
//! of a request, for tests of limits.
//!
//! The same code serves requests on the embedded host. Wasm filters other than the limiter are not run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::http::request::Builder;
use hyper::http::{HeaderName, HeaderValue, Method};

use crate::abi::property;
use crate::bootstrap::{Action, HttpFilter, HttpManager, Listener, Plugin, Route, RouteTable, Terminal};
use crate::http::local_reply::render;
use crate::http::{Headers, LocalReply, Stream, StreamInfo};
use crate::server::downstream::Peers;
use crate::server::forwarded::receive;
use crate::server::router::{RouteMutations, location, sent};
use crate::server::sink::reply;

/// Names and values of headers, in their order.
pub type HeaderList = Vec<(String, Vec<u8>)>;

/// Listener as far as a request passes it before a limiter.
#[derive(Debug, Clone)]
pub struct Preflight {
    address: SocketAddr,
    is_tls: bool,
    manager: HttpManager,
    routes: Arc<RouteTable>,
    /// Number of filters before the limiter.
    before: usize,
}

/// Request of a client.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, with `host`.
    pub headers: HeaderList,
    /// Address of the connection's other end.
    pub peer: SocketAddr,
    /// Dynamic metadata from filters that are not run: an object for each namespace.
    pub metadata: Vec<(String, serde_json::Value)>,
    /// Filter state from filters that are not run.
    pub filter_state: Vec<(String, String)>,
}

/// Way of a request before the limiter.
pub enum Passage {
    /// The request reaches the limiter.
    Reached(Box<Reached>),
    /// The proxy or a filter before the limiter answers.
    Answered(ProxyAnswer),
}

/// Answer of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers without `:status`.
    pub headers: HeaderList,
    /// Body.
    pub body: Vec<u8>,
}

/// Request at the limiter.
pub struct Reached {
    stream: Stream,
}

/// Header that no HTTP request can have.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP request has {what}: {why}")]
pub struct InvalidRequest {
    what: String,
    why: hyper::http::Error,
}

impl Preflight {
    /// Returns the way to the limiter `plugin` of this listener. `None` where it is no filter of the listener.
    #[must_use]
    pub fn of(listener: &Listener, plugin: &Plugin) -> Option<Self> {
        let is_it = |filter: &HttpFilter| matches!(filter, HttpFilter::Wasm(own) if own.path == plugin.path);
        listener.all_chains().find_map(|chain| {
            let Terminal::Http(manager) = &chain.terminal else { return None };
            let before = manager.filters.iter().position(is_it)?;
            Some(Self {
                address: listener.address,
                is_tls: chain.tls.is_some(),
                routes: Arc::new(manager.routes.clone()),
                manager: manager.as_ref().clone(),
                before,
            })
        })
    }

    /// Sends a request to the limiter.
    ///
    /// # Errors
    /// If no HTTP request has this method, path or header.
    pub fn pass(&self, request: &ClientRequest) -> Result<Passage, InvalidRequest> {
        let invalid = |what: String| move |why: hyper::http::Error| InvalidRequest { what, why };
        let method = Method::from_bytes(request.method.as_bytes());
        let method = method.map_err(|why| invalid(format!("the method {:?}", request.method))(why.into()))?;
        let builder = Builder::new().method(method).uri(&request.path);
        let mut parts = builder.body(()).map_err(invalid(format!("the path {:?}", request.path)))?.into_parts().0;
        for (name, value) in &request.headers {
            let header = || Ok((HeaderName::try_from(name)?, HeaderValue::from_bytes(value)?));
            let (name, value) = header().map_err(invalid(format!("the header {name:?}")))?;
            parts.headers.append(name, value);
        }
        let peers = Peers { id: 1, remote: request.peer, local: self.address, is_tls: self.is_tls };
        let received = receive(&parts, &self.manager, peers, None);
        let info = StreamInfo {
            source: Some(received.client),
            destination: Some(self.address),
            connection_id: 1,
            protocol: received.protocol,
            routes: Some(Arc::clone(&self.routes)),
            ..StreamInfo::default()
        };
        let stream = Stream { request_headers: RefCell::new(received.headers), info, ..Stream::default() };
        if let Some(early) = received.answered {
            return Ok(Passage::Answered(answer(early.reply(&stream), &stream)));
        }
        stream.dynamic_metadata.borrow_mut().extend(request.metadata.iter().cloned());
        let state =
            request.filter_state.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone().into_bytes()));
        stream.filter_state.borrow_mut().extend(state);
        for filter in self.manager.filters.iter().take(self.before) {
            if let HttpFilter::Native(filter) = filter
                && let Some(reply) = filter.on_request_headers(&stream)
            {
                return Ok(Passage::Answered(answer(reply, &stream)));
            }
        }
        Ok(Passage::Reached(Box::new(Reached { stream })))
    }

    /// Whether a wasm filter stands before the limiter: it is not run.
    #[must_use]
    pub fn leaves_out_filters(&self) -> bool {
        self.manager.filters.iter().take(self.before).any(|filter| matches!(filter, HttpFilter::Wasm(_)))
    }
}

impl Reached {
    /// Headers at the limiter, pseudo-headers included.
    #[must_use]
    pub fn headers(&self) -> HeaderList {
        list(&self.stream.request_headers.borrow())
    }

    /// Property of the request, as the limiter reads it.
    #[must_use]
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        property::of_stream(&self.stream, path)
    }

    /// Answer of the route if the filters let the request pass, with the route's changes of headers: of a direct
    /// response; 404 without a route; 200 of a cluster.
    #[must_use]
    pub fn upstream(&self) -> ProxyAnswer {
        self.routed(None)
    }

    /// The same where every route that does not redirect leads to an upstream with this response. `details` are those of
    /// its code: `via_upstream`, or the reason for which the proxy answers in the upstream's place.
    #[must_use]
    pub fn served(&self, answer: &ProxyAnswer, details: &str) -> ProxyAnswer {
        let body = answer.body.clone().into();
        let (status, details) = (answer.status, details.to_owned());
        self.routed(Some(LocalReply { status, headers: map(&answer.headers), body, details, ..LocalReply::default() }))
    }

    fn routed(&self, served: Option<LocalReply>) -> ProxyAnswer {
        let of = |status, body: &str, details| reply(status, body, details);
        let routed = self.with_route(|mutations, route| {
            let reply = match &route.action {
                // The changes of a route to a cluster apply to any answer.
                Action::Direct(_) | Action::Cluster { .. } if let Some(reply) = &served => {
                    return answer(reply.clone(), &self.stream);
                }
                Action::Direct(direct) => of(direct.status, &direct.body, "direct_response"),
                Action::Redirect(redirect) => {
                    let location = location(redirect, &route.path, &self.stream.request_headers.borrow());
                    let headers = [("location", location)].into_iter().collect();
                    LocalReply { headers, ..of(redirect.status, "", "direct_response") }
                }
                Action::Cluster { .. } => return answer(of(200, "", "via_upstream"), &self.stream),
            };
            answer(mutations.changed(reply, &self.stream), &self.stream)
        });
        routed.unwrap_or_else(|| answer(of(404, "", "route_not_found"), &self.stream))
    }

    /// Headers with which a request that had `headers` after the filters reaches its cluster, as the route changes them.
    /// `filter_state` are the properties that the filter has set.
    #[must_use]
    pub fn sent(&self, headers: &HeaderList, filter_state: &BTreeMap<String, String>) -> HeaderList {
        let own = filter_state.iter().map(|(name, value)| (format!("wasm.{name}").into_bytes(), value.clone().into()));
        self.stream.filter_state.borrow_mut().extend(own);
        let headers = map(headers);
        self.stream.request_headers.replace(headers.clone());
        let routed = self.with_route(|mutations, route| sent(route, mutations, &self.stream, headers.clone()));
        list(&routed.unwrap_or(headers))
    }

    /// Renders a local reply of the filter to a request that had `headers` then, as the client gets it.
    #[must_use]
    pub fn replied(&self, headers: &HeaderList, reply: &ProxyAnswer, grpc_status: Option<u32>) -> ProxyAnswer {
        self.stream.request_headers.replace(map(headers));
        let body = reply.body.clone().into();
        let reply = LocalReply {
            status: reply.status,
            headers: map(&reply.headers),
            body,
            grpc_status,
            ..LocalReply::default()
        };
        answer(reply, &self.stream)
    }

    fn with_route<T>(&self, act: impl FnOnce(&RouteMutations, &Route) -> T) -> Option<T> {
        let table = self.stream.info.routes.as_ref()?;
        let headers = self.stream.request_headers.borrow().clone();
        let (host, route) = table.find(&headers)?;
        Some(act(&RouteMutations::of(table, host, route), route))
    }
}

fn answer(mut reply: LocalReply, stream: &Stream) -> ProxyAnswer {
    stream.info.response_details.replace(reply.details.clone());
    reply.changes.extend(stream.local_reply_changes());
    of_rendered(render(reply, &stream.request_headers.borrow()))
}

fn of_rendered((headers, body): (Headers, bytes::Bytes)) -> ProxyAnswer {
    let status = headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(500);
    let headers = list(&headers).into_iter().filter(|(name, _)| name != ":status").collect();
    ProxyAnswer { status, headers, body: body.to_vec() }
}

fn map(headers: &HeaderList) -> Headers {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn list(headers: &Headers) -> HeaderList {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    headers.iter().map(|(name, value)| (text(name), value.to_vec())).collect()
}

//! Upstream of tests on real hosts, and clients that leave before the end of its responses.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weir_demo::upstream::{self, Reply};
use weir_filter::units::Micros;

use super::Seen;
use super::real::{Call, text_of};
use crate::test::file::{End, Moment, Requests, Upstream};

/// Name of the upstream's cluster.
const CLUSTER: &str = "weir-test-upstream";

/// Upstream of one test: all requests of a step get the response that the step gives.
pub(super) struct TestUpstream {
    server: upstream::Upstream,
    reply: Arc<Mutex<Reply>>,
    arrivals: watch::Sender<u64>,
}

impl TestUpstream {
    /// Starts an upstream on a free port.
    ///
    /// # Errors
    /// If no port is free.
    pub(super) async fn start() -> io::Result<Self> {
        let reply = Arc::new(Mutex::new(Reply::default()));
        let arrivals = watch::Sender::new(0_u64);
        let (replies, arrives) = (Arc::clone(&reply), arrivals.clone());
        let respond = move |_: &Request<Bytes>| {
            arrives.send_modify(|count| *count += 1);
            replies.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let server = upstream::Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0)), respond).await?;
        Ok(Self { server, reply, arrivals })
    }

    /// Sets the response to the requests of a step.
    pub(super) fn answer(&self, requests: &Requests) {
        let upstream = requests.upstream.clone().unwrap_or_else(Upstream::empty);
        let of_piece = |(wait, piece): (Micros, Vec<u8>)| (Duration::from(wait), Bytes::from(piece));
        let reply = Reply {
            status: upstream.status,
            headers: upstream.headers,
            takes: requests.takes.into(),
            pieces: upstream.pieces.into_iter().map(of_piece).collect(),
            end: match upstream.end {
                End::Whole => upstream::End::Whole,
                End::Reset(Moment::BeforeHeaders) => upstream::End::Reset,
                End::Reset(_) => upstream::End::ResetInBody,
                End::Left(Moment::BeforeHeaders) => upstream::End::Silent,
                End::Left(_) => upstream::End::Open,
            },
        };
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }

    /// Leads all routes of a bootstrap that do not redirect to the upstream.
    pub(super) fn serve_all(&self, document: &mut Value) {
        let statics = &mut document["static_resources"];
        lead(&mut statics["listeners"]);
        let addr = self.server.addr();
        let address = json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}});
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
        let load = json!({"cluster_name": CLUSTER, "endpoints": endpoints});
        let cluster = json!({"name": CLUSTER, "type": "STATIC", "load_assignment": load});
        if let Some(clusters) = statics["clusters"].as_array_mut() {
            clusters.push(cluster);
        }
    }

    /// Sends a request whose response is cut off, or whose client leaves it. Of a client that leaves before the response,
    /// the status is 0.
    ///
    /// # Errors
    /// If there is no connection, or the response ends where it should not.
    pub(super) async fn cut_off(&self, call: &Call, upstream: &Upstream) -> Result<Seen, String> {
        let began = Instant::now();
        let why = |error: &dyn std::fmt::Display| error.to_string();
        let mut arrivals = self.arrivals.subscribe();
        let stream = TcpStream::connect(call.target).await.map_err(|error| why(&error))?;
        let (mut sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
        // Its end closes the connection.
        let mut driver = tokio::task::JoinSet::from_iter([driver]);
        let request = Request::builder().method(&call.method).uri(&call.path);
        let mut request = request.body(Full::new(Bytes::from(call.body.clone()))).map_err(|error| why(&error))?;
        *request.headers_mut() = call.headers.clone();
        let leaves_early = upstream.end == End::Left(Moment::BeforeHeaders);
        let response = tokio::select! {
            biased;
            response = sender.send_request(request) => response.map_err(|error| why(&error))?,
            Ok(()) = arrivals.changed(), if leaves_early => {
                driver.shutdown().await;
                return Ok(Seen { status: 0, headers: Vec::new(), body: String::new(), held: Micros::ZERO, upstream: None });
            }
        };
        let held = Micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        // A denial has a body of its own, which is read to its end.
        let most = if status == upstream.status { upstream.size() } else { usize::MAX };
        let mut bytes = Vec::new();
        while bytes.len() < most {
            match body.frame().await {
                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) if matches!(upstream.end, End::Reset(_)) => break,
                Some(Err(error)) => return Err(why(&error)),
                None => break,
            }
        }
        driver.shutdown().await;
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text_of(value))).collect();
        Ok(Seen { status, headers, body: String::from_utf8_lossy(&bytes).into_owned(), held, upstream: None })
    }
}

/// Makes routes lead to the upstream's cluster.
fn lead(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("match") {
                let direct = ["direct_response", "directResponse"].map(|name| fields.remove(name).is_some());
                if direct.contains(&true) {
                    fields.insert("route".to_owned(), json!({"timeout": "0s"}));
                }
                if let Some(route) = fields.get_mut("route").and_then(Value::as_object_mut) {
                    let others = ["weighted_clusters", "weightedClusters", "cluster_header", "clusterHeader"];
                    others.iter().for_each(|name| _ = route.remove(*name));
                    route.insert("cluster".to_owned(), CLUSTER.into());
                }
            }
            fields.values_mut().for_each(lead);
        }
        Value::Array(items) => items.iter_mut().for_each(lead),
        _ => {}
    }
}

//! Upstream over HTTP/1.1 whose responses a function gives: in pieces with pauses between them, whole or cut off.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Sleep, sleep};

/// Time until connections are accepted again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Time for which the connection of a response that is cut off stays open for its last piece.
const LAST_PIECE: Duration = Duration::from_millis(50);

/// Function that gives the response to a request.
pub type Respond = dyn Fn(&Request<Bytes>) -> Reply + Send + Sync;

/// Response of an upstream.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// Time until the head is sent.
    pub takes: Duration,
    /// Pieces of the body, each with the time since the piece before, or since the head.
    pub pieces: Vec<(Duration, Bytes)>,
    /// End of the response.
    pub end: End,
}

/// End of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The end of the body follows its last piece.
    #[default]
    Whole,
    /// The connection ends in place of a response.
    Reset,
    /// The connection ends behind the body's last piece.
    ResetInBody,
    /// No head is sent, and the connection stays open.
    Silent,
    /// The connection stays open after the body's last piece, and sends nothing more.
    Open,
}

/// Running upstream; dropping it stops it.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Listens on an address, and answers by `respond`.
    ///
    /// # Errors
    /// If the address is not free.
    pub async fn start(
        addr: SocketAddr,
        respond: impl Fn(&Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let respond: Arc<Respond> = Arc::new(respond);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((connection, _)) = listener.accept() => {
                        connections.spawn(serve(connection, respond.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                    // No connection is open, and none can be accepted: files may have run out.
                    else => sleep(ACCEPT_PAUSE).await,
                }
            }
        });
        Ok(Self { addr, server })
    }

    /// Returns the address of the listener.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(connection: TcpStream, respond: Arc<Respond>) {
    let service = service_fn(|request| answer(request, &respond));
    // A connection that fails is one that a reply cuts off, or that the client has left.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

async fn answer(request: Request<Incoming>, respond: &Arc<Respond>) -> io::Result<Response<Pieces>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Reply { status, headers, takes, pieces, end } = respond(&Request::from_parts(head, body));
    sleep(takes).await;
    match end {
        End::Reset => return Err(cut_off()),
        End::Silent => std::future::pending().await,
        End::Whole | End::ResetInBody | End::Open => {}
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Pieces { rest: pieces.into(), pause: None, end }).map_err(io::Error::other)
}

fn cut_off() -> io::Error {
    io::Error::other("the reply is cut off")
}

/// Body of a response.
struct Pieces {
    rest: VecDeque<(Duration, Bytes)>,
    /// Pause before the first piece of the rest.
    pause: Option<Pin<Box<Sleep>>>,
    end: End,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some((wait, _)) = self.rest.front() else {
            return match self.end {
                End::Open => Poll::Pending,
                End::ResetInBody => {
                    // The pieces before leave first: an error would drop what is not yet written.
                    let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(LAST_PIECE)));
                    ready!(pause.as_mut().poll(context));
                    Poll::Ready(Some(Err(cut_off())))
                }
                _ => Poll::Ready(None),
            };
        };
        let wait = *wait;
        if !wait.is_zero() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(self.rest.pop_front().map(|(_, piece)| Ok(Frame::data(piece))))
    }
}

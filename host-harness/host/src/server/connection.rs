//! Downstream connections: choice of the filter chain, TLS, and the chain's last filter.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::body::NotedBody;
use super::downstream::{Peers, Reset, serve};
use super::executor::LocalExecutor;
use super::http2::HYPERS_LIMIT;
use super::inspect::{InspectedStream, Verdicts};
use super::worker::{ChainHandle, ListenerHandle, ManagerHandle, Service, Worker};
use crate::bootstrap::chain_match::{Facts, select};
use crate::http::ConnectionInfo;
use crate::io::{Connection, LingeringStream, Rewound};
use crate::log_lines::printable;

/// Concurrent streams of an HTTP/2 connection: Envoy's default of `max_concurrent_streams`.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// Time within which a connection has to show its TLS handshake: Envoy's `listener_filters_timeout`.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes of a connection that are inspected.
const INSPECTED: usize = 64 * 1024;

/// Addresses of a connection.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) id: u64,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
}

/// Serves a connection until it ends.
pub(super) async fn run(worker: Rc<Worker>, listener: Rc<ListenerHandle>, stream: TcpStream, addresses: Addresses) {
    if let Err(error) = try_run(worker, &listener, stream, addresses).await {
        let name = printable(&listener.name);
        log::debug!(target: "http", "listener `{name}`: a connection ended with an error: {error}");
    }
}

async fn try_run(
    worker: Rc<Worker>,
    listener: &ListenerHandle,
    stream: TcpStream,
    addresses: Addresses,
) -> io::Result<()> {
    let Addresses { remote, local, .. } = addresses;
    let mut facts =
        Facts { local, remote, is_tls: false, server_name: String::new(), application_protocols: Vec::new() };
    let mut stream = Rewound { start: Bytes::new(), stream };
    if listener.inspects {
        let inspecting = inspect(&mut stream.stream, &mut facts);
        stream.start = tokio::time::timeout(INSPECTION_TIMEOUT, inspecting).await??;
    }
    let chosen = select(listener.chains.iter().map(|chain| &chain.matches), &facts);
    let Some(chain) = chosen.map_or(listener.default_chain.as_ref(), |index| listener.chains.get(index)) else {
        let name = printable(&listener.name);
        log::debug!(target: "http", "listener `{name}`: no filter chain matches a connection");
        return Ok(());
    };
    let mut info = ConnectionInfo {
        server_name: facts.server_name,
        direction: listener.direction,
        chain: chain.name.clone(),
        ..ConnectionInfo::default()
    };
    let connection: Connection = match &chain.tls {
        None if stream.start.is_empty() => Box::new(stream.stream),
        None => Box::new(stream),
        Some(config) => {
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
            let session = stream.get_ref().1;
            info.tls_version = session.protocol_version().and_then(version);
            // A certificate that is not trusted ends the handshake.
            info.is_mutual_tls = session.peer_certificates().is_some_and(|chain| !chain.is_empty());
            Box::new(stream)
        }
    };
    serve_chain(worker, chain, connection, addresses, info).await
}

/// Envoy's name of a version of TLS.
fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

async fn serve_chain(
    worker: Rc<Worker>,
    chain: &ChainHandle,
    connection: Connection,
    addresses: Addresses,
    info: ConnectionInfo,
) -> io::Result<()> {
    match &chain.service {
        Service::Http(manager) => {
            let is_tls = chain.tls.is_some();
            let peers = Peers { id: addresses.id, remote: addresses.remote, local: addresses.local, is_tls };
            http(worker, manager.clone(), connection, peers, Rc::new(info)).await
        }
        Service::Tcp(proxy) => {
            let mut connection = connection;
            let cluster = worker.cluster(&proxy.cluster).ok_or(io::ErrorKind::NotFound)?;
            let mut upstream = cluster.open().await?;
            tokio::io::copy_bidirectional(&mut connection, &mut upstream).await?;
            Ok(())
        }
    }
}

async fn http(
    worker: Rc<Worker>,
    manager: Rc<ManagerHandle>,
    connection: Connection,
    peers: Peers,
    info: Rc<ConnectionInfo>,
) -> io::Result<()> {
    manager.stats.connected();
    let verdicts = Verdicts::default();
    let service = hyper::service::service_fn({
        let (manager, verdicts) = (manager.clone(), verdicts.clone());
        move |request| {
            let refused = verdicts.next();
            let serving = serve(worker.clone(), manager.clone(), peers, info.clone(), request, refused);
            let verdicts = verdicts.clone();
            async move { Ok::<_, Reset>(serving.await?.map(|body| NotedBody::new(body, verdicts))) }
        }
    });
    let mut server = hyper_util::server::conn::auto::Builder::new(LocalExecutor);
    // A slow client makes hyper hold this much of a response; it has to hold a whole head, too.
    server.http1().timer(TokioTimer::new()).max_buf_size(HYPERS_LIMIT as usize);
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(MAX_CONCURRENT_STREAMS).max_header_list_size(HYPERS_LIMIT);
    let connection = InspectedStream::new(LingeringStream::new(connection), verdicts);
    let served = server.serve_connection_with_upgrades(TokioIo::new(connection), service).await;
    manager.stats.disconnected();
    served.map_err(io::Error::other)
}

/// Reads the start of a connection until it shows the TLS handshake, or that there is none. Returns the bytes read.
async fn inspect(stream: &mut TcpStream, facts: &mut Facts) -> io::Result<Bytes> {
    let mut acceptor = Acceptor::default();
    let mut read = BytesMut::new();
    while read.len() < INSPECTED {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
        let mut new = read.get(before..).unwrap_or_default();
        while !new.is_empty() {
            if acceptor.read_tls(&mut new).is_err() {
                return Ok(read.freeze());
            }
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                facts.is_tls = true;
                facts.server_name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
                let offered = hello.alpn().into_iter().flatten();
                facts.application_protocols = offered.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                break;
            }
            // The bytes are not TLS.
            Err(_) => break,
        }
    }
    Ok(read.freeze())
}

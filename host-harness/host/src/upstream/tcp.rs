//! Request body as raw TCP (Envoy's `TcpConnectionPoolProto`).
//!
//! Once connected, the response is a 200; its body is the bytes that the endpoint sends. The end of the request body
//! closes the writing half; the endpoint's close of its writing half ends the response. Data written within one turn of
//! the event loop is sent in one system call.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Broken, Cluster, UpstreamRequest, drained};
use crate::http::{Direction, Headers, Stream};
use crate::vm::chain::Output;

const READ_SIZE: usize = 16 * 1024;

pub(super) async fn run(request: &UpstreamRequest, cluster: &Cluster, downstream: Option<Rc<Stream>>) {
    let chain = &request.chain;
    let Some(endpoint) = cluster.endpoint() else {
        return request.unreachable(&std::io::ErrorKind::AddrNotAvailable.into());
    };
    let connecting = cluster.connect(endpoint);
    tokio::pin!(connecting);
    let connected = loop {
        if chain.is_replied() || chain.is_reset() {
            return;
        }
        tokio::select! {
            connected = &mut connecting => break connected,
            () = chain.changed() => {}
        }
    };
    let (mut stream, address) = match connected {
        Ok(connected) => connected,
        Err(error) => return request.unreachable(&error),
    };
    chain.stream.info.upstream.set(Some(address));
    if let Some(downstream) = downstream {
        downstream.info.upstream.set(Some(address));
    }

    let (mut reader, mut writer) = stream.split();
    let mut begun = false;
    let mut outgoing = BytesMut::new();
    let mut ending = false;
    let mut incoming = BytesMut::new();
    loop {
        ending |= gather(request, &mut outgoing, &mut begun);
        request.flush();
        if chain.is_reset() || chain.is_replied() || !request.is_wanted() {
            return;
        }
        if ending && outgoing.is_empty() {
            ending = false;
            if writer.shutdown().await.is_err() {
                return request.broken(Broken::Connection);
            }
        }
        incoming.reserve(READ_SIZE);
        let backlog = request.backlog();
        tokio::select! {
            () = chain.changed() => {}
            () = drained(backlog.as_deref()) => {}
            written = writer.write_buf(&mut outgoing), if !outgoing.is_empty() => {
                if written.is_err() {
                    return request.broken(Broken::Connection);
                }
            }
            read = reader.read_buf(&mut incoming), if backlog.is_none() => match read {
                Ok(0) => {
                    chain.response_data(Bytes::new(), true);
                    // A filter may still hold the response.
                    return answered(request).await;
                }
                Ok(_) => {
                    chain.response_data(incoming.split().freeze(), false);
                    request.flush();
                }
                Err(_) => return request.broken(Broken::Connection),
            }
        }
    }
}

/// Collects the request output of the filters; returns whether the request has ended.
fn gather(request: &UpstreamRequest, outgoing: &mut BytesMut, begun: &mut bool) -> bool {
    let mut ending = false;
    while let Some(output) = request.chain.take(Direction::Request) {
        match output {
            Output::Headers(end) => {
                ending = end;
                if !std::mem::replace(begun, true) {
                    request.chain.response_headers([(":status", "200")].into_iter().collect::<Headers>(), false);
                }
            }
            Output::Data(data, end) => {
                outgoing.extend_from_slice(&data);
                ending = end;
            }
            Output::Trailers => ending = true,
        }
    }
    ending
}

/// Waits until the filters hold nothing of the response.
async fn answered(request: &UpstreamRequest) {
    loop {
        request.flush();
        let over = request.chain.is_reset() || request.chain.is_replied() || !request.is_wanted();
        if over || !request.chain.holds_response() {
            return;
        }
        request.chain.changed().await;
    }
}

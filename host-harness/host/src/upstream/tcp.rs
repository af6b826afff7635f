//! Request body as raw TCP (Envoy's `TcpConnectionPoolProto`).
//!
//! Once connected, the response is a 200; its body is the bytes that the endpoint sends. The end of the request body
//! closes the writing half; the endpoint's close of its writing half ends the response. Data written within one turn of
//! the event loop is sent in one system call.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Cluster, Failure, UpstreamRequest, drained};
use crate::http::{Direction, Headers};
use crate::trace::{Connection, Tracing, What};
use crate::vm::chain::Output;

const READ_SIZE: usize = 16 * 1024;

/// Number of bytes waiting to be written at which further output stays in the chain.
const MAX_OUTGOING: usize = 1024 * 1024;

/// Connection of a host with a tracer.
type Traced<'a> = Option<(&'a Tracing, Connection)>;

pub(super) async fn run(request: &UpstreamRequest, cluster: &Cluster) {
    let chain = &request.chain;
    let Some((index, endpoint)) = cluster.endpoint() else {
        return request.fail(&Failure::NoEndpoint);
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
    let (stream, address) = match connected {
        Ok(connected) => connected,
        Err(failed) => return request.unreachable(&failed),
    };
    request.note_endpoint(Some(address));

    let traced = cluster.tracing.connection(cluster.name());
    note(&traced, |connection| What::Connected { connection, address });

    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut begun = false;
    let mut outgoing = BytesMut::new();
    let mut ending = false;
    let mut incoming = BytesMut::new();
    let failed = cluster.failed(index);
    tokio::pin!(failed);
    loop {
        ending |= gather(request, &mut outgoing, &mut begun, &traced);
        request.flush();
        if !request.count(outgoing.len()) {
            return request.fail(&Failure::Filter);
        }
        if chain.is_reset() || chain.is_replied() || !request.is_wanted() {
            return;
        }
        if ending && outgoing.is_empty() {
            ending = false;
            if writer.shutdown().await.is_err() {
                return request.fail(&Failure::Terminated);
            }
        }
        incoming.reserve(READ_SIZE);
        let backlog = request.backlog();
        tokio::select! {
            () = chain.changed() => {}
            () = &mut failed => {
                note(&traced, |connection| What::Closed { connection, broken: true });
                return request.fail(&Failure::Terminated);
            }
            () = drained(backlog.as_deref()) => {}
            written = writer.write_buf(&mut outgoing), if !outgoing.is_empty() => {
                if written.is_err() {
                    note(&traced, |connection| What::Closed { connection, broken: true });
                    return request.fail(&Failure::Terminated);
                }
            }
            read = reader.read_buf(&mut incoming), if backlog.is_none() => match read {
                Ok(0) => {
                    note(&traced, |connection| What::Closed { connection, broken: false });
                    chain.response_data(Bytes::new(), true);
                    // A filter may still hold the response.
                    return answered(request).await;
                }
                Ok(_) => {
                    note(&traced, |connection| What::Received { connection, bytes: incoming.to_vec() });
                    chain.response_data(incoming.split().freeze(), false);
                    request.flush();
                }
                Err(_) => {
                    note(&traced, |connection| What::Closed { connection, broken: true });
                    return request.fail(&Failure::Terminated);
                }
            }
        }
    }
}

/// Reports an event of the connection, if the host has a tracer.
fn note(traced: &Traced<'_>, what: impl FnOnce(Connection) -> What) {
    if let Some((tracing, connection)) = traced {
        tracing.record(|| what(connection.clone()));
    }
}

/// Collects the request output of the filters, unless much waits to be written; returns whether the request has ended.
fn gather(request: &UpstreamRequest, outgoing: &mut BytesMut, begun: &mut bool, traced: &Traced<'_>) -> bool {
    let mut ending = false;
    while outgoing.len() < MAX_OUTGOING
        && let Some(output) = request.chain.take(Direction::Request)
    {
        match output {
            Output::Headers(end) => {
                ending = end;
                if !std::mem::replace(begun, true) {
                    request.chain.response_headers([(":status", "200")].into_iter().collect::<Headers>(), false);
                }
            }
            Output::Data(data, end) => {
                if !data.is_empty() {
                    note(traced, |connection| What::Sent { connection, bytes: data.to_vec() });
                }
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

//! Upgraded connections to endpoints, such as WebSocket: bytes instead of messages.

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Failure, UpstreamRequest, drained};
use crate::http::Direction;
use crate::vm::chain::Output;

const READ_SIZE: usize = 16 * 1024;

/// Moves bytes between an upgraded connection and the upstream filters, until the endpoint ends.
pub(super) async fn run(request: &UpstreamRequest, upgraded: Upgraded) {
    let chain = &request.chain;
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
    let mut incoming = BytesMut::new();
    loop {
        while let Some(output) = chain.take(Direction::Request) {
            let is_end = match output {
                Output::Headers(_) => false,
                Output::Data(data, end) => {
                    if writer.write_all(&data).await.is_err() {
                        return request.fail(&Failure::Terminated);
                    }
                    end
                }
                Output::Trailers => true,
            };
            if is_end && writer.shutdown().await.is_err() {
                return request.fail(&Failure::Terminated);
            }
        }
        request.flush();
        if chain.is_reset() || chain.is_replied() || !request.is_wanted() {
            return;
        }
        incoming.reserve(READ_SIZE);
        let backlog = request.backlog();
        tokio::select! {
            () = chain.changed() => {}
            () = drained(backlog.as_deref()) => {}
            read = reader.read_buf(&mut incoming), if backlog.is_none() => match read {
                Ok(0) => {
                    chain.response_data(Bytes::new(), true);
                    return request.flush();
                }
                Ok(_) => chain.response_data(incoming.split().freeze(), false),
                Err(_) => return request.fail(&Failure::Terminated),
            },
        }
    }
}

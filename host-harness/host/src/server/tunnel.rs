//! Upgraded connections of downstreams, such as WebSocket: bytes instead of messages.

use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::downstream::Exchange;
use crate::bootstrap::{Action, HttpManager, Route};
use crate::http::Direction;
use crate::vm::chain::Output;

const READ_SIZE: usize = 16 * 1024;

/// Type of the upgrade that a request asks for, in lower case. HTTP/2 without TLS is refused silently, as in Envoy.
pub(super) fn asked_for(request: &Request<Incoming>) -> Option<String> {
    let texts = |name| request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut options = texts(hyper::header::CONNECTION).flat_map(|value| value.split(','));
    let is_upgrade = options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let name = texts(hyper::header::UPGRADE).next().unwrap_or_default().trim().to_ascii_lowercase();
    (is_upgrade && !name.is_empty() && name != "h2c" && request.version() <= hyper::Version::HTTP_11).then_some(name)
}

/// Whether an upgrade is allowed: by the route, or else by the connection manager.
pub(super) fn is_allowed(name: &str, manager: &HttpManager, route: Option<&Route>) -> bool {
    let of_route = match route.map(|route| &route.action) {
        Some(Action::Cluster { upgrades, .. }) => upgrades.iter().find(|(known, _)| known == name),
        _ => None,
    };
    of_route.map_or_else(|| manager.upgrades.iter().any(|known| known == name), |(_, is_enabled)| *is_enabled)
}

/// Moves bytes between an upgraded connection and the filter chain, until one side ends.
pub(super) async fn run(mut exchange: Exchange, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
    let mut read = BytesMut::new();
    let mut is_open = true;
    loop {
        while let Some(output) = exchange.chain.take(Direction::Request) {
            exchange.route(output);
        }
        while let Some(output) = exchange.chain.take(Direction::Response) {
            let is_end = match output {
                Output::Headers(_) => false,
                Output::Data(data, end) => {
                    if writer.write_all(&data).await.is_err() {
                        return;
                    }
                    end
                }
                Output::Trailers => true,
            };
            if is_end {
                let _ = writer.shutdown().await;
                exchange.is_complete = true;
                return;
            }
        }
        if exchange.chain.is_reset() {
            return;
        }
        let wants_bytes = is_open && !exchange.chain.holds_request();
        read.reserve(READ_SIZE);
        let upstream = exchange.upstream.clone();
        let reading = async {
            if let Some(upstream) = &upstream {
                upstream.has_room().await;
            }
            reader.read_buf(&mut read).await
        };
        tokio::select! {
            () = exchange.chain.changed() => {}
            count = reading, if wants_bytes => match count {
                Ok(0) => {
                    is_open = false;
                    exchange.chain.request_data(bytes::Bytes::new(), true);
                }
                Ok(_) => exchange.chain.request_data(read.split().freeze(), false),
                Err(_) => return,
            },
        }
    }
}

//! Proxy in front of Redis that cuts the connection of the next settlement at a place.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_filter::limit::KnownScript;
use weir_filter::redis::resp::{Decoder, encode_command};
use weir_virtual::resp::Commands;

use super::{Cut, script_of};

/// Running proxy.
pub(super) struct CutProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: Mutex<Option<Cut>>,
    cuts: AtomicU64,
    /// Settlements that Redis has run, and whose replies have passed.
    passed: AtomicU64,
}

impl CutProxy {
    pub(super) async fn start(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_connections = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&of_connections);
                tokio::spawn(async move { carry(client, redis, &shared).await });
            }
        });
        Self { addr, shared }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts the next settlement at this place, or at its end if it is shorter.
    pub(super) fn cut(&self, cut: Cut) {
        *self.shared.next.lock().unwrap() = Some(cut);
    }

    /// Number of connections that were cut.
    pub(super) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Number of settlements that Redis has run, and whose replies have passed.
    pub(super) fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

/// Carries commands one after the other, until the connection ends or is cut.
async fn carry(mut client: TcpStream, redis: SocketAddr, shared: &Shared) -> Option<()> {
    let mut server = TcpStream::connect(redis).await.ok()?;
    let mut commands = Commands::default();
    let mut piece = vec![0; 16_384];
    loop {
        let size = client.read(&mut piece).await.ok().filter(|size| *size > 0)?;
        commands.push(&piece[..size]);
        while let Some(command) = commands.next() {
            let command = command.unwrap();
            let mut call = Vec::new();
            encode_command(&mut call, &command);
            let settles = script_of(&command) == Some(KnownScript::Settle);
            let cut = if settles { shared.next.lock().unwrap().take() } else { None };
            if let Some(Cut::Call(bytes)) = cut {
                server.write_all(&call[..bytes.min(call.len())]).await.ok()?;
                server.shutdown().await.ok()?;
                server.read_to_end(&mut Vec::new()).await.ok()?;
                shared.cuts.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            server.write_all(&call).await.ok()?;
            let mut reply = reply(&mut server).await?;
            if let Some(Cut::Reply(bytes)) = cut {
                reply.truncate(bytes);
                client.write_all(&reply).await.ok()?;
                shared.cuts.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            client.write_all(&reply).await.ok()?;
            let passed = settles && !reply.starts_with(b"-");
            shared.passed.fetch_add(passed.into(), Ordering::Relaxed);
        }
    }
}

/// Reads one reply, as its bytes.
async fn reply(server: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut decoder, mut reply, mut piece) = (Decoder::new(), Vec::new(), vec![0; 16_384]);
    loop {
        let size = server.read(&mut piece).await.ok().filter(|size| *size > 0)?;
        reply.extend_from_slice(&piece[..size]);
        decoder.push(&piece[..size]);
        if decoder.next_reply().ok()?.is_some() {
            return Some(reply);
        }
    }
}

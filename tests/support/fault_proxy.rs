//! Trouble between a host and Redis, on real sockets.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// What happens to the bytes. Applies at once, to open connections as well as to new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: they pass.
    None,
    /// What goes to Redis is held back this long.
    Delay(Duration),
    /// Nothing passes, and nobody is told, until it is over: what TCP makes of a network that loses every packet.
    Blackhole,
    /// Connections are reset, new ones as soon as they are accepted.
    Reset,
    /// Connections are reset, new ones refused.
    Refuse,
    /// Requests reach Redis, but when it answers, the connection is reset: nobody learns what Redis did.
    LoseReplies,
    /// In place of each of Redis' replies come bytes that are no RESP.
    Garbage,
}

/// A TCP proxy in front of a Redis. Dropped: gone, with its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    fault: watch::Sender<Fault>,
    connections: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl FaultProxy {
    /// Passes everything to `redis` and back, to begin with. Its address stays the same throughout.
    pub async fn to(redis: SocketAddr) -> Self {
        let held = weir_harness::provision::port::free_port().expect("a free port");
        let listener = TcpListener::bind(held.release()).await.expect("the port is still free");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let (fault, seen) = watch::channel(Fault::None);
        let connections = Arc::new(AtomicU64::new(0));
        let listening = tokio::spawn(listen(listener, redis, seen, connections.clone()));
        Self { addr, fault, connections, listening }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on, this happens.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    mut listener: TcpListener,
    redis: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    count: Arc<AtomicU64>,
) {
    let addr = listener.local_addr().expect("a bound listener has an address");
    loop {
        if *fault.borrow_and_update() == Fault::Refuse {
            drop(listener);
            if fault.wait_for(|fault| *fault != Fault::Refuse).await.is_err() {
                return;
            }
            listener = TcpListener::bind(addr).await.expect("the port is ours");
        }
        tokio::select! {
            // The sender is gone: so is the proxy.
            changed = fault.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, redis, fault.clone()));
            },
        }
    }
}

async fn carry(mut client: TcpStream, redis: SocketAddr, mut fault: watch::Receiver<Fault>) {
    let Ok(mut server) = TcpStream::connect(redis).await else { return reset(&client) };
    // Errors are an end of the connection from either side, or of the proxy: nothing to tell anybody.
    let _ = shuttle(&mut client, &mut server, &mut fault).await;
}

async fn shuttle(client: &mut TcpStream, server: &mut TcpStream, fault: &mut watch::Receiver<Fault>) -> io::Result<()> {
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let gone = |_| io::Error::from(io::ErrorKind::NotConnected);
    loop {
        let now = *fault.borrow_and_update();
        match now {
            Fault::Blackhole => {
                fault.changed().await.map_err(gone)?;
                continue;
            }
            Fault::Reset | Fault::Refuse => {
                reset(client);
                return Ok(());
            }
            _ => {}
        }
        tokio::select! {
            changed = fault.changed() => changed.map_err(gone)?,
            read = client.read(&mut up) => {
                let read = read?;
                if let Fault::Delay(delay) = now {
                    sleep(delay).await;
                }
                match read {
                    // Both transports end a connection from this side first; Redis' last replies still pass.
                    0 => return finish(client, server).await,
                    read => server.write_all(&up[..read]).await?,
                }
            }
            read = server.read(&mut down) => match (read?, now) {
                (0, _) => return client.shutdown().await,
                (_, Fault::LoseReplies) => {
                    reset(client);
                    return Ok(());
                }
                (_, Fault::Garbage) => client.write_all(b"\x00\xffHTTP/1.1 no RESP at all\n$-7\r\n*x\r\n").await?,
                (read, _) => client.write_all(&down[..read]).await?,
            },
        }
    }
}

async fn finish(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    server.shutdown().await?;
    tokio::io::copy(server, client).await?;
    client.shutdown().await
}

/// Closing it will send RST rather than FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

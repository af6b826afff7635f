//! TCP proxy that injects faults between a host and Redis, on real sockets.

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

/// A fault of the network or of Redis. It applies at once, to open connections as well as to new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault: all bytes pass.
    None,
    /// Bytes to Redis are held back for this time.
    Delay(Duration),
    /// No byte passes and no connection ends until the fault is over, as when a network loses every packet.
    Blackhole,
    /// Connections are reset, new ones as soon as they are accepted.
    Reset,
    /// Connections are reset, new ones refused.
    Refuse,
    /// Commands reach Redis, but when Redis replies, the connection is reset: the client does not learn the outcome.
    LoseReplies,
    /// Each reply of Redis is replaced by bytes that are not RESP.
    Garbage,
}

/// A TCP proxy in front of a Redis. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    fault: watch::Sender<Fault>,
    connections: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy to `redis` with [`Fault::None`], on an address that does not change.
    pub async fn to(redis: SocketAddr) -> Self {
        let held = weir_provision::port::free_port().expect("a free port");
        let listener = TcpListener::bind(held.release()).await.expect("the port is still free");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let (fault, seen) = watch::channel(Fault::None);
        let connections = Arc::new(AtomicU64::new(0));
        let listening = tokio::spawn(listen(listener, redis, seen, connections.clone()));
        Self { addr, fault, connections, listening }
    }

    /// Address that the proxy listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the fault that applies from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Number of connections that the proxy has accepted so far.
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
            // An error means that the proxy has been dropped, and the sender with it.
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
    // An error means that a side has ended the connection, or that the proxy has been dropped: nothing to report.
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
                    // Both transports close their side of a connection first; the last replies of Redis still pass.
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

/// Makes the close of `stream` send RST rather than FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

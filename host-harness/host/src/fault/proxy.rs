//! Listener of the proxy, and the faults that are in force.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::carry::carry;
use super::draw::Draws;
use super::{Fault, Faults, KINDS};

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1024;

/// TCP proxy in front of one address. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    faults: watch::Sender<Faults>,
    counts: Arc<Counts>,
    listening: JoinHandle<()>,
}

/// Numbers of connections, and of faults that have struck, by kind.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    faults: [AtomicU64; KINDS.len()],
}

impl Counts {
    pub(super) fn add(&self, fault: Fault) {
        if let Some(count) = self.faults.get(fault.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FaultProxy {
    /// Starts a proxy to `target` (`host:port`) on a free port of 127.0.0.1, without faults. `name` and `seed` determine
    /// the choices of faults with a probability. Has to be called in a tokio runtime, which carries the connections.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub async fn start(target: impl ToString, name: &str, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (faults, seen) = watch::channel(Faults::default());
        let counts = Arc::new(Counts::default());
        let source = (name.to_owned(), seed);
        let listening = tokio::spawn(listen(listener, target.to_string(), source, seen, counts.clone()));
        Ok(Self { addr, faults, counts, listening })
    }

    /// Returns the address that the proxy listens on; it does not change.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the faults that apply from now on, to open connections as well as to new ones.
    pub fn set(&self, faults: impl Into<Faults>) {
        self.faults.send_replace(faults.into());
    }

    /// Ends all faults: all bytes pass.
    pub fn clear(&self) {
        self.set(Faults::default());
    }

    /// Returns the number of connections that the proxy has accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of times that each kind of fault has struck; kinds that have not are left out. Of
    /// [`Fault::Refuse`], only open connections are counted: the proxy does not see those that a closed port refuses.
    #[must_use]
    pub fn struck(&self) -> Vec<(&'static str, u64)> {
        let names = KINDS.iter().map(|kind| kind.split('=').next().unwrap_or_default());
        let counts = self.counts.faults.iter().map(|count| count.load(Ordering::Relaxed));
        names.zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    mut listener: TcpListener,
    target: String,
    (name, seed): (String, u64),
    mut faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
) {
    let Ok(addr) = listener.local_addr() else { return };
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        if faults.borrow_and_update().refuse() {
            drop(listener);
            let refusing = refusing_socket(addr);
            if faults.wait_for(|faults| !faults.refuse()).await.is_err() {
                return;
            }
            listener = match refusing.and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => listener,
                Err(error) => {
                    log::error!(target: "fault", "the proxy of `{name}` cannot listen on {addr} again: {error}");
                    return;
                }
            };
        }
        tokio::select! {
            // An error means that the proxy has been dropped, and the sender with it.
            changed = faults.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let number = counts.connections.fetch_add(1, Ordering::Relaxed) + 1;
                let draws = Draws::new(seed, &name, number);
                let (target, faults, counts) = (target.clone(), faults.clone(), counts.clone());
                connections.spawn(async move {
                    // An error means that a side has ended the connection, or that the proxy has been dropped.
                    let _ = carry(client, &target, faults, draws, &counts).await;
                });
            },
        }
    }
}

/// Returns a socket that refuses connections: it is bound and does not listen. Meanwhile, the system gives its port to
/// nobody else.
fn refusing_socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

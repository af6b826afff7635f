//! TCP proxy that delays the bytes to Redis, to simulate a slower network.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Proxy that delays all bytes to the server by a fixed time, regardless of the number of bytes in flight. Replies are
/// not delayed. Dropping the proxy stops its listener; open connections last until an end closes them.
///
/// Runs threads, not tasks: a runtime's timer has a resolution of 1 ms, which is as long as the delays.
pub(super) struct DelayProxy {
    addr: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl DelayProxy {
    pub(super) fn start(server: SocketAddr, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        thread::Builder::new().name("delay".into()).spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::Relaxed) {
                    break;
                }
                // If the server refuses the connection, the client's connection is closed.
                let _ = carry(client, server, delay);
            }
        })?;
        Ok(Self { addr, ended })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // A last connection wakes the thread, which then closes the listener.
        let _ = TcpStream::connect(self.addr);
    }
}

fn carry(client: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (held, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    let mut from = client.try_clone()?;
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count) else { break };
            if held.send((Instant::now() + delay, bytes.to_vec())).is_err() {
                break;
            }
        }
    });
    let mut to = server.try_clone()?;
    thread::spawn(move || {
        for (at, bytes) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sent_together_arrive_together_after_the_delay() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let delay = Duration::from_millis(30);
        let proxy = DelayProxy::start(server.local_addr().unwrap(), delay).unwrap();
        let mut client = TcpStream::connect(proxy.addr()).unwrap();
        let started = Instant::now();
        let (mut accepted, _) = server.accept().unwrap();
        for _ in 0..5 {
            client.write_all(b"ping").unwrap();
        }
        let mut bytes = [0; 20];
        accepted.read_exact(&mut bytes).unwrap();
        let took = started.elapsed();
        assert!(took >= delay, "{took:?}");
        accepted.write_all(b"pong").unwrap();
        client.read_exact(&mut bytes[..4]).unwrap();
        assert_eq!(&bytes[..4], b"pong");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(accepted.read(&mut bytes).unwrap(), 0);
    }
}

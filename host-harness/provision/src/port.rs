//! Free ports on 127.0.0.1 for the servers of a run.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::ProvisionError;

/// Ports for servers. The range ends below the ports that Linux assigns to outgoing connections (32768 and up), so that
/// a server restarted under load does not find its port taken by a client's end of a connection.
pub const RANGE: RangeInclusive<u16> = 12_000..=32_000;

/// Number of ports that are tried for one server.
const TRIES: usize = 5;

/// A reserved port: no other process can bind it until it is released. Release it just before the server binds it.
#[derive(Debug)]
pub struct HeldPort {
    listener: TcpListener,
    port: u16,
}

impl HeldPort {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Releases the port. Another process may bind it before the server does; the caller then needs another port.
    pub fn release(self) -> SocketAddr {
        let addr = self.addr();
        drop(self.listener);
        addr
    }
}

/// Reserves a free port of [`RANGE`]. Two calls of one process never get the same port until the whole range was used.
///
/// # Errors
/// [`ProvisionError::NoPort`] if all ports are taken.
pub fn free_port() -> Result<HeldPort, ProvisionError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ports = u32::from(RANGE.end() - RANGE.start()) + 1;
    // Processes that start at the same time begin at distant ports.
    let first = process::id().wrapping_mul(2_654_435_761) >> 8;
    for _ in 0..ports {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % ports;
        let Some(port) = u16::try_from(offset).ok().and_then(|offset| RANGE.start().checked_add(offset)) else {
            continue;
        };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(HeldPort { listener, port });
        }
    }
    Err(ProvisionError::NoPort)
}

/// Starts a server on a free port; tries another port if a different process takes the first one before the server.
///
/// # Errors
/// The errors of `start`, and [`ProvisionError::NoPort`].
pub(super) fn on_a_free_port<T>(
    mut start: impl FnMut(SocketAddr) -> Result<T, ProvisionError>,
) -> Result<T, ProvisionError> {
    for _ in 1..TRIES {
        match start(free_port()?.release()) {
            Err(ProvisionError::Start { log, .. }) if log.contains("in use") => {}
            settled => return settled,
        }
    }
    start(free_port()?.release())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_cannot_be_taken_until_it_is_released() {
        let held = free_port().unwrap();
        let addr = held.addr();
        assert!(TcpListener::bind(addr).is_err());
        assert_eq!(held.release(), addr);
        assert!(TcpListener::bind(addr).is_ok());
    }

    #[test]
    fn a_server_whose_port_is_taken_gets_another() {
        let taken = |addr: SocketAddr| {
            let (what, why) = (addr.to_string(), "the process ended".into());
            ProvisionError::Start { what, why, log: "bind: Address already in use".into() }
        };
        let mut asked = Vec::new();
        let started = on_a_free_port(|addr| {
            asked.push(addr);
            if asked.len() < 3 { Err(taken(addr)) } else { Ok(addr) }
        });
        assert_eq!(started.unwrap(), asked[2]);
        assert!(asked[0] != asked[1] && asked[1] != asked[2]);
        let mut tries = 0;
        let never = on_a_free_port::<()>(|addr| {
            tries += 1;
            Err(taken(addr))
        });
        assert!(matches!(never, Err(ProvisionError::Start { .. })));
        assert_eq!(tries, TRIES);
    }

    #[test]
    fn a_failure_with_another_cause_is_not_tried_again() {
        let mut tries = 0;
        let failed = on_a_free_port::<()>(|_| {
            tries += 1;
            Err(ProvisionError::NoPort)
        });
        assert!(matches!(failed, Err(ProvisionError::NoPort)));
        assert_eq!(tries, 1);
    }

    #[test]
    fn two_calls_never_give_the_same_port() {
        let first = free_port().unwrap().release();
        assert_ne!(first, free_port().unwrap().release());
    }
}

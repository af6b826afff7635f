//! Ports that other processes have. Envoy shares its ports: two of them start on one, and each gets some connections.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use weir_host::HostError;
use weir_host::documents::{At, Source};

/// Checks that no other process listens where a file's listeners do.
///
/// # Errors
/// That of the embedded host, if one does.
pub(super) fn are_free(source: &Source) -> Result<(), HostError> {
    let Some(document) = source.documents.first() else { return Ok(()) };
    let resources = At::root(document).field("static_resources");
    for listener in resources.iter().flat_map(|resources| resources.each("listeners")) {
        let binds = listener.field("bind_to_port").and_then(|at| at.flag()).unwrap_or(true);
        let others = listener.each("additional_addresses");
        let sockets =
            std::iter::once(&listener).chain(&others).filter_map(|at| at.fields(["address", "socket_address"]));
        for socket in sockets.filter(|_| binds) {
            if let Some((address, source)) = taken(&socket) {
                return Err(HostError::Listen { listener: listener.text_of("name").to_owned(), address, source });
            }
        }
    }
    Ok(())
}

/// The address of a socket that another process has, and the error. All other errors are Envoy's to tell.
fn taken(socket: &At<'_>) -> Option<(SocketAddr, io::Error)> {
    let port = u16::try_from(socket.field("port_value")?.integer()?).ok().filter(|port| *port > 0)?;
    let address = SocketAddr::new(socket.text_of("address").parse().ok()?, port);
    // Envoy's listeners on all addresses of IPv6 have none of IPv4, unlike those of the standard library.
    let asked = match address {
        SocketAddr::V6(all) if all.ip().is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        _ => address,
    };
    let is_udp = socket.field("protocol").is_some_and(|at| at.one_of(&["TCP", "UDP"]) == Some(1));
    let bound = if is_udp { UdpSocket::bind(asked).map(drop) } else { TcpListener::bind(asked).map(drop) };
    bound.err().filter(|error| error.kind() == io::ErrorKind::AddrInUse).map(|error| (address, error))
}

//! Name server of a test, and the addresses that its name has had.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

/// Length of a message's header.
const HEADER: usize = 12;
/// Response code of a name that does not exist.
const NO_SUCH_NAME: u8 = 3;

/// What the server answers to a question for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Address(Ipv4Addr),
    /// The name does not exist.
    NoSuchName,
    /// No answer.
    Silence,
}

/// Name server on a free port of 127.0.0.1. Every name has the same address.
pub(super) struct NameServer {
    pub(super) addr: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    serving: JoinHandle<()>,
}

impl NameServer {
    pub(super) async fn start(first: Answer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let addr = socket.local_addr().expect("a bound socket");
        let answer = Arc::new(Mutex::new(first));
        let answers = answer.clone();
        let serving = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question).await {
                let answer = *answers.lock().unwrap();
                if let Some(reply) = reply(&question[..length], answer) {
                    // The client asks again.
                    let _ = socket.send_to(&reply, client).await;
                }
            }
        });
        Self { addr, answer, serving }
    }

    pub(super) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The reply to a question (RFC 1035), with a time to live of 0.
fn reply(question: &[u8], answer: Answer) -> Option<Vec<u8>> {
    // The name ends with an empty label; type and class follow.
    let name_ends = HEADER + question.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let asks_for_v4 = question.get(name_ends..name_ends + 2)? == [0, 1];
    let (code, address) = match answer {
        Answer::Silence => return None,
        Answer::NoSuchName => (NO_SUCH_NAME, None),
        Answer::Address(address) => (0, Some(address).filter(|_| asks_for_v4)),
    };
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    reply.extend(question.get(HEADER..name_ends + 4)?);
    if let Some(address) = address {
        // The name of the question, an address of IPv4 of the Internet, 0 s, 4 bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

/// TCP forwarder on another loopback address. Dropping it closes its port and its connections.
pub(super) struct Forwarder(JoinHandle<()>);

impl Forwarder {
    /// Forwards from `from`, whose port is that of the target.
    pub(super) async fn start(from: Ipv4Addr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind((from, target.port())).await.expect("a free port");
        Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        }))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

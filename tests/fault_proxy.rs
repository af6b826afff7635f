//! `FaultProxy` injects the faults that it is set to, between a plain client and a real Redis.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use weir::{Fault, FaultProxy, Rule, or_skip};
use weir_provision::redis::{RedisOptions, RedisServer};

const SOON: Duration = Duration::from_secs(30);
const A_WHILE: Duration = Duration::from_millis(150);

#[derive(Debug)]
struct Client(TcpStream);

impl Client {
    async fn to(proxy: &FaultProxy) -> io::Result<Self> {
        TcpStream::connect(proxy.addr()).await.map(Self)
    }

    async fn say(&mut self, command: &str) -> io::Result<()> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await
    }

    /// Reads the next bytes. Empty: the connection was closed.
    async fn hear(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = vec![0; 1024];
        let read = timeout(SOON, self.0.read(&mut reply)).await.expect("bytes or a close within 30 s")?;
        reply.truncate(read);
        Ok(reply)
    }

    async fn ask(&mut self, command: &str) -> io::Result<Vec<u8>> {
        self.say(command).await?;
        self.hear().await
    }

    async fn hears_nothing(&mut self) -> bool {
        timeout(A_WHILE, self.0.read(&mut [0; 1])).await.is_err()
    }
}

macro_rules! redis_and_proxy {
    () => {{
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        let proxy = FaultProxy::start(redis.addr(), "redis", 1).await.unwrap();
        (redis, proxy)
    }};
}

/// Connects until the outcome is as `wanted`, for at most 30 s, and returns it.
async fn soon(proxy: &FaultProxy, wanted: fn(&io::Result<Client>) -> bool) -> io::Result<Client> {
    let trying = async {
        loop {
            let connected = Client::to(proxy).await;
            if wanted(&connected) {
                break connected;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, trying).await.expect("the proxy opens or closes its port within 30 s")
}

fn is_reset(answer: io::Result<Vec<u8>>) -> bool {
    answer.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn without_a_fault_everything_passes_and_connections_are_counted() {
    let (_redis, proxy) = redis_and_proxy!();
    for nth in 1..=3 {
        assert_eq!(Client::to(&proxy).await.unwrap().ask("PING").await.unwrap(), b"+PONG\r\n");
        assert_eq!(proxy.connections(), nth);
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_still_gets_the_reply() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut client = Client::to(&proxy).await.unwrap();
    client.say("PING").await.unwrap();
    client.0.shutdown().await.unwrap();
    assert_eq!(client.hear().await.unwrap(), b"+PONG\r\n");
    assert_eq!(client.hear().await.unwrap(), b"");
}

#[tokio::test]
async fn a_delay_holds_commands_back() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut client = Client::to(&proxy).await.unwrap();
    proxy.set(Fault::Delay(A_WHILE));
    let asked = Instant::now();
    assert_eq!(client.ask("PING").await.unwrap(), b"+PONG\r\n");
    assert!(asked.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn a_drop_passes_nothing_and_delivers_held_bytes_afterwards() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut client = Client::to(&proxy).await.unwrap();
    assert_eq!(client.ask("PING").await.unwrap(), b"+PONG\r\n");
    proxy.set(Fault::Drop);
    // A silent new connection shows that the proxy's tasks have seen the fault.
    assert!(Client::to(&proxy).await.unwrap().hears_nothing().await);
    client.say("ECHO later").await.unwrap();
    assert!(client.hears_nothing().await);
    proxy.clear();
    assert_eq!(client.hear().await.unwrap(), b"$5\r\nlater\r\n");
}

#[tokio::test]
async fn a_reset_ends_open_connections_and_new_ones() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut open = Client::to(&proxy).await.unwrap();
    assert_eq!(open.ask("PING").await.unwrap(), b"+PONG\r\n");
    proxy.set(Fault::Reset);
    assert!(is_reset(open.hear().await));
    assert!(is_reset(Client::to(&proxy).await.unwrap().hear().await));
    proxy.clear();
    assert_eq!(Client::to(&proxy).await.unwrap().ask("PING").await.unwrap(), b"+PONG\r\n");
}

#[tokio::test]
async fn a_refusing_proxy_resets_connections_and_listens_again_on_the_same_port() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut open = Client::to(&proxy).await.unwrap();
    assert_eq!(open.ask("PING").await.unwrap(), b"+PONG\r\n");
    proxy.set(Fault::Refuse);
    assert!(is_reset(open.hear().await));
    assert_eq!(
        soon(&proxy, |connected| connected.is_err()).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    let taken = TcpSocket::new_v4().unwrap().bind(proxy.addr()).map_err(|why| why.kind());
    assert_eq!(taken, Err(io::ErrorKind::AddrInUse), "the port stays the proxy's");
    proxy.clear();
    let mut client = soon(&proxy, |connected| connected.is_ok()).await.unwrap();
    assert_eq!(client.ask("PING").await.unwrap(), b"+PONG\r\n");
}

#[tokio::test]
async fn a_command_whose_reply_is_lost_is_executed() {
    let (_redis, proxy) = redis_and_proxy!();
    let mut client = Client::to(&proxy).await.unwrap();
    assert_eq!(client.ask("INCR n").await.unwrap(), b":1\r\n");
    proxy.set(Fault::LoseReply);
    assert!(is_reset(client.ask("INCR n").await));
    proxy.clear();
    assert_eq!(Client::to(&proxy).await.unwrap().ask("GET n").await.unwrap(), b"$1\r\n2\r\n");
}

#[tokio::test]
async fn a_giant_reply_begins_and_goes_on() {
    const MOST: usize = 64 * 1024 * 1024;
    let (_redis, proxy) = redis_and_proxy!();
    proxy.set(Fault::Giant);
    let mut client = Client::to(&proxy).await.unwrap();
    let start = client.ask("PING").await.unwrap();
    assert!(start.starts_with(b"$536870912\r\n"), "{start:?}");
    let mut read = start.len();
    while read < MOST {
        read += client.hear().await.unwrap().len();
    }
    assert!(client.hears_nothing().await, "the rest does not arrive");
}

#[tokio::test]
async fn garbage_replaces_replies() {
    let (_redis, proxy) = redis_and_proxy!();
    proxy.set(Fault::Garbage);
    let reply = Client::to(&proxy).await.unwrap().ask("PING").await.unwrap();
    assert!(reply.starts_with(b"\x00\xff"), "{reply:?}");
}

/// The proxy learns of a change in each of its states: here, while it passes a reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_set_while_a_reply_passes_strikes_the_next_one() {
    let (_redis, proxy) = redis_and_proxy!();
    for nth in 0..100 {
        let mut client = Client::to(&proxy).await.unwrap();
        assert_eq!(client.ask("PING").await.unwrap(), b"+PONG\r\n");
        proxy.set(Rule::from(Fault::HalfClose).after(3));
        client.say("PING").await.unwrap();
        let mut heard = Vec::new();
        timeout(SOON, client.0.read_to_end(&mut heard)).await.unwrap_or_else(|_| panic!("{nth}: not closed")).unwrap();
        assert_eq!(heard, b"+PO", "{nth}");
        proxy.clear();
    }
}

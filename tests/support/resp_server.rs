//! RESP server whose reply to scripts is a fixed error: for error texts of Redis versions that are not at hand.
//!
//! It is no Redis: a test with it shows how a text is read, and nothing else.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Starts a server that answers `EVALSHA` and `EVAL` with `error`, `PING` with `PONG`, and any other command with `OK`.
///
/// # Panics
/// If no port is free.
pub async fn refusing_scripts(error: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("the listener is bound");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, error));
        }
    });
    addr
}

async fn serve(connection: TcpStream, error: &str) {
    let mut connection = BufReader::new(connection);
    while let Some(name) = command(&mut connection).await {
        let reply = match name.as_str() {
            "EVALSHA" | "EVAL" => format!("-{error}\r\n"),
            "PING" => "+PONG\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        if connection.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads a command, an array of bulk strings, and returns its name. `None` at the end of the connection.
async fn command(connection: &mut BufReader<TcpStream>) -> Option<String> {
    let count = number(connection).await?;
    let mut name = None;
    for _ in 0..count {
        let mut bytes = vec![0; number(connection).await?.checked_add(2)?];
        connection.read_exact(&mut bytes).await.ok()?;
        name.get_or_insert_with(|| String::from_utf8_lossy(&bytes).trim_end().to_ascii_uppercase());
    }
    name
}

/// Reads a line such as `*3` or `$5`, and returns its number.
async fn number(connection: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    connection.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

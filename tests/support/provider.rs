//! Provider of language models: an HTTP server whose responses tell usage as those of the known APIs do.
//!
//! A request chooses its response by headers: `x-answer` is the kind, `x-input` and `x-output` are the tokens that the
//! response tells. Bodies are written in pieces of odd sizes. It is no model: it shows what a proxy reads, and counts what
//! it has told.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Model that responses name.
pub const MODEL: &str = "gpt-4o-mini";
/// Time for which a slow response pauses before its usage.
pub const PAUSE: Duration = Duration::from_secs(3);

/// Running provider.
#[derive(Debug)]
pub struct Provider {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    gate: watch::Sender<bool>,
}

/// Record of what a provider has told and seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests that it has answered.
    pub requests: u64,
    /// Tokens of requests and of responses that its whole responses of status 200 have told.
    pub told: [u64; 2],
    /// Responses of status 200 that end before they tell any, and the bytes of their requests.
    pub untold: [u64; 2],
    /// Head of the last request.
    pub head: String,
    /// Body of the last request.
    pub body: String,
    /// Body of the last response.
    pub response: String,
}

impl Provider {
    /// Starts a provider.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("the listener is bound");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let (gate, opened) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (shared, opened) = (Arc::clone(&shared), opened.clone());
                tokio::spawn(async move { serve(connection, &shared, opened).await });
            }
        });
        Self { addr, seen, gate }
    }

    /// Lets the responses of kind `gated` go on to their usage, from now on.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Returns what the provider has told and seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Routes all requests of a bootstrap to the provider.
    ///
    /// # Panics
    /// If the bootstrap's first listener has no route configuration.
    pub fn serve_all(&self, bootstrap: &mut Value) {
        route_all(bootstrap, self.addr);
    }
}

/// Routes all requests of a bootstrap to the server at this address.
///
/// # Panics
/// If the bootstrap's first listener has no route configuration.
pub fn route_all(bootstrap: &mut Value, server: SocketAddr) {
    const ROUTES: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config\
            /virtual_hosts/0/routes";
    let routes = bootstrap.pointer_mut(ROUTES).expect("a route configuration");
    *routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}]);
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": server.port()}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let cluster = json!({"name": "provider", "type": "STATIC",
            "load_assignment": {"cluster_name": "provider", "endpoints": endpoints}});
    bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters").push(cluster);
}

/// Response, before it is written.
#[derive(Default)]
struct Response {
    status: u16,
    headers: String,
    body: String,
    /// Bytes after which the response pauses.
    pause_at: Option<usize>,
    /// Whether the pause lasts until the provider's gate is opened.
    is_gated: bool,
    /// Whether the connection ends before the body does.
    is_cut: bool,
    /// Whether the body has no end: the connection stays open until the client leaves.
    has_no_end: bool,
}

async fn serve(connection: TcpStream, seen: &Mutex<Seen>, mut gate: watch::Receiver<bool>) {
    let mut connection = BufReader::new(connection);
    while let Some((head, body)) = request(&mut connection).await {
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_default().to_owned()
        };
        let number = |name| header(name).parse::<u64>().unwrap_or(0);
        let (input, output) = (number("x-input"), number("x-output"));
        let kind = header("x-answer");
        if kind == "reset" {
            return;
        }
        let response = response(&kind, input, output);
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.requests += 1;
            if matches!(kind.as_str(), "cut" | "hang") {
                seen.untold[0] += 1;
                seen.untold[1] += body.len() as u64;
            }
            (seen.head, seen.body, seen.response) = (head, body, response.body.clone());
            if response.status == 200
                && !matches!(kind.as_str(), "cut" | "hang" | "silent" | "missing" | "failed" | "gzip")
            {
                seen.told[0] += input;
                seen.told[1] += output;
            }
        }
        if kind == "silent" {
            let _ = connection.read(&mut [0]).await;
            return;
        }
        if write(&mut connection, &response, &mut gate).await.is_none() || response.is_cut {
            return;
        }
    }
}

/// Reads a request of HTTP/1.1. `None` at the end of the connection.
async fn request(connection: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase().replace("\r\n", "\n");
    let mut body = Vec::new();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()) {
        body.resize(length, 0);
        connection.read_exact(&mut body).await.ok()?;
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            connection.read_exact(&mut chunk).await.ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(chunk.get(..size)?);
        }
    }
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

fn response(kind: &str, input: u64, output: u64) -> Response {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let document = |usage: &Value| {
        json!({"id": "chatcmpl-1", "model": MODEL, "choices": [{"index": 0, "message": {"content": "Hi \"you\""}}],
            "usage": usage})
        .to_string()
    };
    let chunk = |text: &str| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}], "model": MODEL, "usage": null});
        format!("data: {delta}\n\n")
    };
    let chunks = || chunk("Say: {\"usage\":").repeat(3);
    let last = format!("data: {}\n\n", json!({"choices": [], "model": MODEL, "usage": usage}));
    let json_type = "content-type: application/json\r\n".to_owned();
    let stream_type = "content-type: text/event-stream; charset=utf-8\r\n".to_owned();
    let ok = |headers, body| Response { status: 200, headers, body, ..Response::default() };
    match kind {
        "json" => ok(json_type, document(&usage)),
        "missing" => ok(json_type, document(&Value::Null)),
        "gzip" => ok(json_type + "content-encoding: gzip\r\n", document(&usage)),
        "headers" => {
            let headers =
                format!("x-amzn-bedrock-input-token-count: {input}\r\nx-amzn-bedrock-output-token-count: {output}\r\n");
            ok(json_type + &headers, json!({"completion": "Hi"}).to_string())
        }
        "own" => {
            let (input, output) = (input.to_string(), output.to_string());
            ok(json_type, format!(r#"{{"meter": {{"in": {input}, "out": {output}}}, "usage": {{"cost": 1.23e-3}}}}"#))
        }
        "own_headers" => {
            let headers = format!("x-in: {input}\r\nx-out: {output}\r\nx-cached: -1\r\n");
            ok(json_type + &headers, json!({"completion": "Hi"}).to_string())
        }
        "stream" => ok(stream_type, chunks() + &last + "data: [DONE]\n\n"),
        "slow" | "gated" => {
            let (body, is_gated) = (chunks(), kind == "gated");
            Response { pause_at: Some(body.len()), is_gated, ..ok(stream_type, body + &last + "data: [DONE]\n\n") }
        }
        "late" => {
            let body = chunks() + &last;
            Response { pause_at: Some(body.len()), ..ok(stream_type, body + "data: [DONE]\n\n") }
        }
        "anthropic" => {
            let start = json!({"type": "message_start", "message": {"model": "claude-sonnet-4",
                "usage": {"input_tokens": input, "output_tokens": 1}}});
            let delta = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}});
            let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": output}});
            let mut body = String::new();
            for event in [start, delta, end, json!({"type": "message_stop"})] {
                let name = event["type"].as_str().unwrap_or_default();
                // Cannot fail: it writes to a string.
                let _ = write!(body, "event: {name}\r\ndata: {event}\r\n\r\n");
            }
            ok(stream_type, body)
        }
        "message" => {
            let content = json!([{"type": "text", "text": "Hi \"you\""}]);
            let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4",
                "content": content, "usage": {"input_tokens": input, "output_tokens": output}});
            ok(json_type, message.to_string())
        }
        // The client leaves before the head, before the usage, and right after the last event.
        "silent" => ok(json_type, String::new()),
        "hang" => Response { has_no_end: true, ..ok(stream_type, chunks()) },
        "done" => Response { has_no_end: true, ..ok(stream_type, chunks() + &last + "data: [DONE]\n\n") },
        "failed" => ok(stream_type, chunks() + "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
        "cut" => Response { is_cut: true, ..ok(stream_type, chunks()) },
        "error" => Response { status: 500, headers: json_type, body: document(&usage), ..Response::default() },
        other => Response {
            status: 400,
            headers: json_type,
            body: json!({"error": {"message": format!("no answer of kind {other}")}}).to_string(),
            ..Response::default()
        },
    }
}

/// Writes a response in chunks of 1 to 13 bytes, several at a time.
async fn write(
    connection: &mut BufReader<TcpStream>,
    response: &Response,
    gate: &mut watch::Receiver<bool>,
) -> Option<()> {
    let head = format!("HTTP/1.1 {} OK\r\n{}transfer-encoding: chunked\r\n\r\n", response.status, response.headers);
    connection.write_all(head.as_bytes()).await.ok()?;
    let (mut rest, mut sent) = (response.body.as_bytes(), 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_checked(1 + sent % 13).unwrap_or((rest, &[]));
        connection.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.ok()?;
        connection.write_all(piece).await.ok()?;
        connection.write_all(b"\r\n").await.ok()?;
        sent += piece.len();
        rest = after;
        let pauses = response.pause_at.is_some_and(|at| (sent - piece.len()..sent).contains(&at));
        if pauses {
            connection.flush().await.ok()?;
            if response.is_gated {
                gate.wait_for(|is_open| *is_open).await.ok()?;
            } else {
                sleep(PAUSE).await;
            }
        } else if sent % 5 == 0 {
            connection.flush().await.ok()?;
            tokio::task::yield_now().await;
        }
    }
    if response.is_cut {
        connection.flush().await.ok()?;
        // What is written reaches the proxy before the end of the connection does.
        sleep(Duration::from_millis(50)).await;
        return None;
    }
    if response.has_no_end {
        connection.flush().await.ok()?;
        let _ = connection.read(&mut [0]).await;
        return None;
    }
    connection.write_all(b"0\r\n\r\n").await.ok()?;
    connection.flush().await.ok()
}

//! HTTP front ends of Redis for tests: a Webdis, or an emulation of Upstash's REST API.
//!
//! The emulation follows Upstash's documentation of `/pipeline` with `Upstash-Encoding: base64`. It is not Upstash:
//! what Upstash does beyond its documentation, no test here shows.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use weir_filter::redis::resp::{Decoder, encode_command};
use weir_filter::redis::{FrontEnd as Kind, Reply};
use weir_host::scenario::{Scenario, ScenarioError};
use weir_provision::ProvisionError;
use weir_provision::webdis::{WebdisOptions, WebdisServer};
use weir_virtual::front_end::Request as Commands;

/// Token of an emulation whose scenario names a variable that is not set.
const TOKEN: &str = "token-of-the-emulation";
/// Most bytes of a request's body; a longer one is answered with 413.
const MAX_BODY: usize = 1024 * 1024;

/// Front end in front of a Redis, as a scenario's transport needs it.
#[derive(Debug)]
pub enum FrontEnd {
    /// A Webdis process.
    Webdis(WebdisServer),
    /// An emulation of Upstash's REST API.
    Upstash(UpstashEmulation),
}

impl FrontEnd {
    /// Starts the front end that the limiter of a scenario needs; `None` if its transport reaches Redis itself.
    /// `options` are for Webdis. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// If the front end is missing, or does not start.
    pub async fn provide(
        scenario: &Scenario,
        redis: SocketAddr,
        options: WebdisOptions,
    ) -> Result<Option<Self>, ProvisionError> {
        let limiter = scenario.limiter().unwrap_or_default();
        let kind = match limiter.pointer("/redis/transport").and_then(Value::as_str) {
            Some("webdis") => Kind::Webdis,
            Some("upstash") => Kind::Upstash,
            _ => return Ok(None),
        };
        let variable = limiter.pointer("/redis/token/env").and_then(Value::as_str);
        let token = variable.and_then(|name| std::env::var(name).ok());
        Self::start(kind, redis, options, token).await.map(Some)
    }

    /// Starts a front end of this kind. `token` is that of the emulation; `None`: one of its own. Has to be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// If the front end is missing, or does not start.
    pub(crate) async fn start(
        kind: Kind,
        redis: SocketAddr,
        options: WebdisOptions,
        token: Option<String>,
    ) -> Result<Self, ProvisionError> {
        match kind {
            Kind::Webdis => {
                let started = tokio::task::spawn_blocking(move || WebdisServer::start(redis, &options)).await;
                Ok(Self::Webdis(started.map_err(failed)??))
            }
            Kind::Upstash => {
                let started = UpstashEmulation::start(redis, options.redis_password, token).await;
                Ok(Self::Upstash(started.map_err(failed)?))
            }
        }
    }

    /// The address of its listener.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Webdis(webdis) => webdis.addr(),
            Self::Upstash(upstash) => upstash.addr(),
        }
    }

    /// Adapts a scenario: the emulation has no TLS, and a token of its own if the environment has none.
    ///
    /// # Errors
    /// If the scenario has no limiter.
    pub fn adapt(&self, scenario: &mut Scenario) -> Result<(), ScenarioError> {
        if let Self::Upstash(upstash) = self {
            if !upstash.is_of_environment {
                scenario.filter_configuration(|filter| filter["redis"]["token"] = json!({ "inline": TOKEN }))?;
            }
            let cluster = scenario.limiter()?.pointer("/redis/cluster").cloned().unwrap_or_default();
            let cluster = scenario.cluster(cluster.as_str().unwrap_or_default());
            if let Some(fields) = cluster.and_then(Value::as_object_mut) {
                ["transport_socket", "transportSocket"].iter().for_each(|name| _ = fields.remove(*name));
            }
        }
        Ok(())
    }
}

fn failed(why: impl std::fmt::Display) -> ProvisionError {
    ProvisionError::Start { what: "the front end".to_owned(), why: why.to_string(), log: String::new() }
}

/// Emulation of Upstash's REST API in front of a Redis. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct UpstashEmulation {
    addr: SocketAddr,
    is_of_environment: bool,
    refusal: Arc<AtomicU16>,
    listening: JoinHandle<()>,
}

/// Connection to Redis of an HTTP connection.
struct Redis {
    backend: Arc<Backend>,
    connection: Mutex<Option<TcpStream>>,
}

/// Settings of all connections.
struct Backend {
    addr: SocketAddr,
    password: Option<String>,
    token: String,
    /// Status of all responses; 0: requests are served.
    refusal: Arc<AtomicU16>,
}

impl UpstashEmulation {
    /// Starts an emulation on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be listened on.
    async fn start(redis: SocketAddr, password: Option<String>, token: Option<String>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let refusal = Arc::new(AtomicU16::new(0));
        let is_of_environment = token.is_some();
        let token = token.unwrap_or_else(|| TOKEN.to_owned());
        let backend = Backend { addr: redis, password, token, refusal: Arc::clone(&refusal) };
        let listening = tokio::spawn(listen(listener, Arc::new(backend)));
        Ok(Self { addr, is_of_environment, refusal, listening })
    }

    /// The address of its listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers all requests with this status from now on, and runs no command; 0: serves them again.
    pub fn refuse(&self, status: u16) {
        self.refusal.store(status, Ordering::Relaxed);
    }
}

impl Drop for UpstashEmulation {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, backend: Arc<Backend>) {
    // Dropped with this task, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let redis = Arc::new(Redis { backend: Arc::clone(&backend), connection: Mutex::default() });
                let service = service_fn(move |request| {
                    let redis = Arc::clone(&redis);
                    async move { Ok::<_, Infallible>(answer(request, &redis).await) }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(client), service));
            }
        }
    }
}

async fn answer(request: Request<Incoming>, redis: &Redis) -> Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (token, encoding) = (header(AUTHORIZATION.as_str()), header("upstash-encoding"));
    let is_pipeline = request.method() == "POST" && request.uri().path() == "/pipeline";
    let Ok(body) = request.into_body().collect().await else { return refused(400, "ERR no body") };
    let body = body.to_bytes();
    let refusal = redis.backend.refusal.load(Ordering::Relaxed);
    if refusal > 0 {
        return refused(refusal, "ERR refused");
    }
    if token.as_deref() != Some(&["Bearer ", &redis.backend.token].concat()) {
        return refused(401, "WRONGPASS invalid or missing auth token");
    }
    if body.len() > MAX_BODY {
        return refused(413, "ERR max request size exceeded");
    }
    let Some(commands) = Commands::read(&body).filter(|_| is_pipeline && encoding.as_deref() == Some("base64")) else {
        return refused(400, "ERR failed to parse pipeline request");
    };
    match redis.run(commands.commands()).await {
        Ok(replies) => response(200, commands.response(&replies)),
        Err(_) => refused(500, "ERR no reply of Redis"),
    }
}

fn refused(status: u16, error: &str) -> Response<Full<Bytes>> {
    response(status, json!({ "error": error }).to_string().into_bytes())
}

fn response(status: u16, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status.try_into().unwrap_or_default();
    response
}

impl Redis {
    /// Runs commands one after the other, and returns their replies.
    async fn run(&self, commands: &[Vec<Vec<u8>>]) -> anyhow::Result<Vec<Reply>> {
        let mut connection = self.connection.lock().await;
        // A connection on which something fails is dropped.
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let replies = exchange(&mut open, commands).await?;
        *connection = Some(open);
        Ok(replies)
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let mut open = TcpStream::connect(self.backend.addr).await?;
        open.set_nodelay(true)?;
        if let Some(password) = &self.backend.password {
            let login = ["AUTH", password].map(|word| word.as_bytes().to_vec()).to_vec();
            exchange(&mut open, &[login]).await?;
        }
        Ok(open)
    }
}

async fn exchange(open: &mut TcpStream, commands: &[Vec<Vec<u8>>]) -> anyhow::Result<Vec<Reply>> {
    let mut wire = Vec::new();
    commands.iter().for_each(|command| encode_command(&mut wire, command));
    open.write_all(&wire).await?;
    let (mut decoder, mut replies, mut chunk) = (Decoder::new(), Vec::new(), vec![0; 16 * 1024]);
    while replies.len() < commands.len() {
        match decoder.next_reply()? {
            Some(reply) => replies.push(reply),
            None => {
                let read = open.read(&mut chunk).await?;
                let bytes =
                    chunk.get(..read).filter(|bytes| !bytes.is_empty()).context("Redis closed the connection")?;
                decoder.push(bytes);
            }
        }
    }
    Ok(replies)
}

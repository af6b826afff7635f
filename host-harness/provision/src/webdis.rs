//! Webdis, an HTTP front end of a Redis, from Debian's packages: installed, or a private copy.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::{
    ProvisionError, checkout, command, debian, port,
    process::{ServerProcess, last_lines},
    tools,
};

const READY_WITHIN: Duration = Duration::from_secs(20);
/// Time within which Webdis answers one question.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Webdis, and those of its libraries that a machine may lack.
const PACKAGES: [&str; 5] = ["webdis", "libhiredis0.14", "libb64-0d", "libjansson4", "libevent-2.1-7"];
/// Commands that the filter sends.
const COMMANDS: [&str; 4] = ["EVALSHA", "EVAL", "ZREM", "PING"];

/// Executable of Webdis, and folders of its libraries outside the system's search path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    binary: PathBuf,
    libraries: Vec<PathBuf>,
}

/// Options of a [`WebdisServer`].
#[derive(Debug, Clone, Default)]
pub struct WebdisOptions {
    /// Username and password that clients need, as HTTP Basic credentials; `None`: no client needs any.
    pub login: Option<(String, String)>,
    /// Password of the default user of Redis.
    pub redis_password: Option<String>,
    /// Most bytes of a request; `None`: the default of Webdis.
    pub max_request_bytes: Option<u64>,
}

/// A Webdis process that allows the commands of the filter alone. Dropping it stops the process.
pub struct WebdisServer {
    installed: Installed,
    addr: SocketAddr,
    scratch: TempDir,
    process: Mutex<Option<ServerProcess>>,
}

/// Finds a Webdis, or fetches a private copy.
fn find_or_fetch() -> Result<Installed, ProvisionError> {
    if let Some(binary) = command::on_path("webdis") {
        return Ok(Installed { binary, libraries: Vec::new() });
    }
    let place = tools::dir()?.join("webdis");
    let private = Installed { binary: place.join("usr/bin/webdis"), libraries: debian::libraries(&place) };
    let _lock = tools::lock("webdis")?;
    if !command::is_executable(&private.binary) {
        crate::announce(format_args!("weir: no webdis on PATH: fetching Debian's packages into target/tools"));
        debian::unpack(&PACKAGES, &place).map_err(|why| ProvisionError::Missing {
            what: "webdis",
            why: why.to_string(),
            try_command: "apt-get install webdis".into(),
        })?;
    }
    Ok(private)
}

impl WebdisServer {
    /// Starts a Webdis in front of this Redis, on a free port, and waits until it answers.
    ///
    /// # Errors
    /// If there is no executable, or Webdis has no connection to Redis within 20 s. The latter error shows the end of
    /// its log.
    pub fn start(redis: SocketAddr, options: &WebdisOptions) -> Result<Self, ProvisionError> {
        let installed = find_or_fetch()?;
        port::on_a_free_port(|addr| {
            let scratch = checkout::scratch_dir("webdis")?;
            let file = scratch.path().join("webdis.json");
            let written = options.file(redis, addr, scratch.path()).to_string();
            std::fs::write(&file, written).map_err(ProvisionError::io(&file))?;
            let server = Self { installed: installed.clone(), addr, scratch, process: Mutex::new(None) };
            server.restart()?;
            Ok(server)
        })
    }

    /// The address of its listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Kills Webdis with SIGKILL.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.kill();
        }
    }

    /// Stops Webdis if it runs, and starts it again on the same port.
    ///
    /// # Errors
    /// If Webdis has no connection to Redis within 20 s.
    pub fn restart(&self) -> Result<(), ProvisionError> {
        let mut process = self.process();
        process.take();
        let mut command = Command::new(&self.installed.binary);
        if let Ok(path) = std::env::join_paths(&self.installed.libraries)
            && !path.is_empty()
        {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.current_dir(self.scratch.path()).arg("webdis.json");
        let mut started = ServerProcess::spawn(&mut command, &self.scratch.path().join("output.log"))?;
        let addr = self.addr;
        started.wait_until_ready(&format!("Webdis on {addr}"), READY_WITHIN, last_lines, || answers(addr))?;
        *process = Some(started);
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<ServerProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that Webdis answers with anything but 503: it has a connection to Redis.
fn answers(addr: SocketAddr) -> Result<(), String> {
    let ask = || -> io::Result<String> {
        let mut connection = TcpStream::connect_timeout(&addr, LOOK_WITHIN)?;
        connection.set_read_timeout(Some(LOOK_WITHIN))?;
        connection.write_all(b"POST / HTTP/1.0\r\nContent-Length: 8\r\n\r\nPING.raw")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|why| format!("no answer ({why})"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status.is_empty() || status == "503" { Err("no connection to Redis".to_owned()) } else { Ok(()) }
}

impl WebdisOptions {
    /// Contents of `webdis.json`.
    fn file(&self, redis: SocketAddr, addr: SocketAddr, folder: &Path) -> serde_json::Value {
        let mut allowed = json!({ "enabled": COMMANDS });
        if let Some((username, password)) = &self.login {
            allowed["http_basic_auth"] = format!("{username}:{password}").into();
        }
        let mut file = json!({
            "redis_host": redis.ip().to_string(), "redis_port": redis.port(), "redis_auth": self.redis_password,
            "http_host": addr.ip().to_string(), "http_port": addr.port(),
            "threads": 2, "pool_size": 2, "daemonize": false, "websockets": false, "database": 0,
            "acl": [{"disabled": ["*"]}, allowed],
            "verbosity": 2, "logfile": folder.join("webdis.log"), "pidfile": folder.join("webdis.pid"),
        });
        if let Some(most) = self.max_request_bytes {
            file["http_max_request_size"] = most.into();
        }
        file
    }
}

impl std::fmt::Debug for WebdisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebdisServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper::{Method, header::HeaderMap};

    use super::*;
    use crate::{
        client::Client,
        or_skip,
        redis::{RedisOptions, RedisServer},
    };

    #[tokio::test]
    async fn webdis_answers_with_raw_resp_and_allows_few_commands() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        let Some(webdis) = or_skip(WebdisServer::start(redis.addr(), &WebdisOptions::default())) else { return };
        let mut client = Client::new(webdis.addr(), Duration::from_secs(10));
        let mut ask = async |body: &'static str| {
            let answer = client.send(&Method::POST, "/", &HeaderMap::new(), body.into()).await.unwrap();
            (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
        };
        assert_eq!(ask("PING.raw").await, (200, "+PONG\r\n".to_owned()));
        assert_eq!(ask("EVAL/return ARGV[1]/0/a%2Fb.raw").await, (200, "$3\r\na/b\r\n".to_owned()));
        assert_eq!(ask("FLUSHALL.raw").await, (403, String::new()));
    }
}

//! Redis processes.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tempfile::TempDir;

use crate::{
    ProvisionError, checkout, port,
    process::{ServerProcess, last_lines},
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Options of a [`RedisServer`].
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// The executable; `None`: [`binary`](super::binary).
    pub binary: Option<PathBuf>,
    /// Whether Redis keeps an append-only file; with it, the data survives a `kill -9`.
    pub appendonly: bool,
    /// The folder of its data and log; `None`: a new folder under `target/`, removed with the handle.
    pub dir: Option<PathBuf>,
    /// The port on 127.0.0.1; 0: a free port.
    pub port: u16,
    /// The default user's password.
    pub password: Option<String>,
    /// Additional arguments, such as `["--maxmemory", "1mb"]`.
    pub args: Vec<String>,
    /// Environment variables in addition to those of this process.
    pub env: Vec<(String, String)>,
    /// Whether a write beyond [`RedisServer::limit_file_size`] fails, as on a full disk, and does not kill Redis.
    pub survives_file_size_limit: bool,
}

/// A Redis process. Dropping it stops the process.
pub struct RedisServer {
    binary: PathBuf,
    options: RedisOptions,
    addr: SocketAddr,
    dir: PathBuf,
    _scratch: Option<TempDir>,
    process: Mutex<Option<ServerProcess>>,
}

impl RedisServer {
    /// Starts a Redis and waits until it answers.
    ///
    /// # Errors
    /// If no executable is found or fetched, or Redis does not answer within 20 s. The latter error shows the end of
    /// Redis' log.
    pub fn start(options: RedisOptions) -> Result<Self, ProvisionError> {
        let binary = options.binary.clone().map_or_else(super::binary, Ok)?;
        let scratch = match options.dir {
            Some(_) => None,
            None => Some(checkout::scratch_dir("redis")?),
        };
        let dir = match (&options.dir, &scratch) {
            (Some(dir), _) => dir.clone(),
            (None, scratch) => scratch.as_ref().map(|dir| dir.path().to_path_buf()).unwrap_or_default(),
        };
        std::fs::create_dir_all(&dir).map_err(ProvisionError::io(&dir))?;
        let dir = dir.canonicalize().map_err(ProvisionError::io(&dir))?;
        let addr = SocketAddr::from(([127, 0, 0, 1], options.port));
        let mut server = Self { binary, options, addr, dir, _scratch: scratch, process: Mutex::new(None) };
        if server.options.port == 0 {
            port::on_a_free_port(|addr| {
                server.addr = addr;
                server.restart()
            })?;
        } else {
            server.restart()?;
        }
        Ok(server)
    }

    /// The address of the server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL, `redis://127.0.0.1:port`, with the password if there is one.
    pub fn url(&self) -> String {
        match self.password() {
            Some(password) => format!("redis://:{password}@{}", self.addr),
            None => format!("redis://{}", self.addr),
        }
    }

    /// The default user's password.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// The process id; `None` while Redis is stopped.
    pub fn id(&self) -> Option<u32> {
        self.process().as_ref().map(ServerProcess::id)
    }

    /// The folder of its data and of `redis.log`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills Redis with SIGKILL: it saves nothing and closes no connection in order.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.kill();
        }
    }

    /// Stops Redis with SIGTERM, as an operator would.
    pub fn stop(&self) {
        self.process().take();
    }

    /// Stops Redis if it runs, and starts it again on the same port with the same data folder.
    ///
    /// # Errors
    /// If Redis does not answer within 20 s.
    pub fn restart(&self) -> Result<(), ProvisionError> {
        let mut process = self.process();
        process.take();
        let mut started = ServerProcess::spawn(&mut self.command(), &self.dir.join("redis.log"))?;
        self.wait_until_ready(&mut started)?;
        *process = Some(started);
        Ok(())
    }

    /// Pauses Redis with SIGSTOP: connections stay open, and commands get no reply.
    ///
    /// # Errors
    /// If Redis does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Resumes Redis with SIGCONT after [`RedisServer::pause`].
    ///
    /// # Errors
    /// If Redis does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sets the largest size of the files that this process of Redis writes, in bytes; `None`: no limit. A restarted
    /// Redis has no limit.
    ///
    /// # Errors
    /// If Redis does not run.
    pub fn limit_file_size(&self, bytes: Option<u64>) -> io::Result<()> {
        let id = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).ok_or(io::ErrorKind::NotConnected)?;
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(id), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process().as_ref().ok_or(io::ErrorKind::NotConnected)?.signal(signal)
    }

    fn process(&self) -> MutexGuard<'_, Option<ServerProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self) -> Command {
        let mut command = if self.options.survives_file_size_limit {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(&self.binary);
            shell
        } else {
            Command::new(&self.binary)
        };
        command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
        command.arg("--port").arg(self.addr.port().to_string());
        command.arg("--dir").arg(&self.dir);
        command.args(["--appendonly", if self.options.appendonly { "yes" } else { "no" }]);
        if let Some(password) = self.password() {
            command.args(["--requirepass", password]);
        }
        command.args(&self.options.args);
        command.envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn wait_until_ready(&self, process: &mut ServerProcess) -> Result<(), ProvisionError> {
        let url = self.url();
        let answers = || ping(&url).map_err(|why| format!("no answer to PING ({why})"));
        process.wait_until_ready(&format!("Redis on {}", self.addr), READY_WITHIN, last_lines, answers)
    }
}

impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisServer").field("addr", &self.addr).field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Checks that the Redis at `url` answers PING within 500 ms, and has finished loading its data.
pub(super) fn ping(url: &str) -> ::redis::RedisResult<()> {
    let client = ::redis::Client::open(url)?;
    let mut connection = client.get_connection_with_timeout(Duration::from_millis(500))?;
    connection.set_read_timeout(Some(Duration::from_millis(500)))?;
    ::redis::cmd("PING").query(&mut connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::or_skip;

    fn connect(redis: &RedisServer) -> ::redis::Connection {
        ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
    }

    fn say<T: ::redis::FromRedisValue>(redis: &RedisServer, words: &[&str]) -> T {
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connect(redis)).unwrap()
    }

    #[test]
    fn with_an_append_only_file_a_key_survives_a_kill() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions { appendonly: true, ..Default::default() })) else {
            return;
        };
        say::<()>(&redis, &["SET", "k", "v"]);
        redis.kill();
        assert!(ping(&redis.url()).is_err());
        redis.restart().unwrap();
        assert_eq!(say::<String>(&redis, &["GET", "k"]), "v");
    }

    #[test]
    fn without_an_append_only_file_a_stopped_redis_forgets() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        say::<()>(&redis, &["SET", "k", "v"]);
        redis.stop();
        redis.restart().unwrap();
        assert_eq!(say::<Option<String>>(&redis, &["GET", "k"]), None);
    }

    #[test]
    fn a_paused_redis_does_not_answer_until_it_is_resumed() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        redis.pause().unwrap();
        assert!(ping(&redis.url()).is_err());
        redis.resume().unwrap();
        assert_eq!(say::<String>(&redis, &["PING"]), "PONG");
    }

    /// The limit stands for a full disk.
    #[test]
    fn a_redis_whose_files_cannot_grow_refuses_to_write_until_they_can() {
        let options = RedisOptions { appendonly: true, survives_file_size_limit: true, ..Default::default() };
        let Some(redis) = or_skip(RedisServer::start(options)) else { return };
        let mut connection = connect(&redis);
        let mut set = |value: &str| ::redis::cmd("SET").arg("k").arg(value).exec(&mut connection);
        set("1").unwrap();
        redis.limit_file_size(Some(0)).unwrap();
        let deadline = std::time::Instant::now() + READY_WITHIN;
        // The write that fails is that of a command which has its reply.
        let refusal = loop {
            match set("2") {
                Err(refusal) => break refusal.to_string(),
                Ok(()) => assert!(std::time::Instant::now() < deadline),
            }
        };
        assert!(refusal.contains("MISCONF"), "{refusal}");
        redis.limit_file_size(None).unwrap();
        while set("3").is_err() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
        redis.kill();
        redis.restart().unwrap();
        assert_eq!(say::<String>(&redis, &["GET", "k"]), "3");
    }

    #[test]
    fn a_redis_with_a_password_refuses_clients_without_it() {
        let options = RedisOptions { password: Some("open-sesame".into()), ..Default::default() };
        let Some(redis) = or_skip(RedisServer::start(options)) else { return };
        assert!(ping(&format!("redis://{}", redis.addr())).is_err());
        assert_eq!(say::<String>(&redis, &["PING"]), "PONG");
    }

    #[test]
    fn dropping_the_server_removes_it_and_its_folder() {
        let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
        let (url, dir) = (redis.url(), redis.dir().to_path_buf());
        drop(redis);
        assert!(ping(&url).is_err());
        assert!(!dir.exists());
    }

    #[test]
    fn a_redis_that_cannot_start_shows_its_log() {
        let options = RedisOptions { args: vec!["--no-such-option".into(), "1".into()], ..Default::default() };
        match RedisServer::start(options) {
            Err(ProvisionError::Start { log, .. }) => assert!(log.contains("no-such-option"), "{log}"),
            other => drop(or_skip(other)),
        }
    }
}

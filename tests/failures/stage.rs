//! A host, its Redis, and an operator's connection to it.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use redis::{Connection, RedisResult, Value};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Load, Mesh, Phases, Trial};
use weir_provision::redis::RedisOptions;

use crate::catalogue::Entry;

/// Value of `redis.timeout`.
pub(super) const TIMEOUT: Duration = Load::STEADY.timeout;
/// Command that gives Weir's user its password and its permissions.
pub(super) const USER: &str = "ACL SETUSER weir on resetpass >open-sesame ~* &* +@all";
/// Time that each key takes in a `LOADING` Redis, in µs.
const LOAD_DELAY: u32 = 1_000;
/// Number of keys that Redis has to load, beside those of the load.
const FILLERS: u32 = 1_500;

pub(super) struct Stage {
    pub(super) mesh: Mesh,
    load: Load,
    operator: Mutex<Connection>,
    background: Mutex<Option<JoinHandle<()>>>,
    /// Folder of the data of Redis.
    folder: String,
}

/// Result of a fault.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) trial: Trial,
    /// Connections that Redis accepted, and commands that it ran, from the end of the fault to the end of the load.
    pub(super) since: Option<(u64, u64)>,
}

impl Stage {
    /// Starts a host for this load with this number of workers, and a Redis with an append-only file.
    pub(super) async fn start(host: HostKind, workers: u32, load: Load) -> Option<Self> {
        let mut args: Vec<&str> = "--user weir on >open-sesame ~* &* +@all --lua-time-limit 100".split(' ').collect();
        let version = redis_version()?;
        if version.split('.').next().is_none_or(|major| major.parse::<u32>().is_ok_and(|major| major >= 7)) {
            // Since 7.0, DEBUG and some settings are for those who ask for them.
            args.extend(["--enable-debug-command", "yes", "--enable-protected-configs", "yes"]);
        }
        let args = args.into_iter().map(str::to_owned).collect();
        let redis = RedisOptions { appendonly: true, args, ..RedisOptions::default() };
        let mesh = Mesh::on(host, "envoy/quickstart.yaml").redis(redis).with_faults().workers(workers);
        let mesh = load.configure(mesh).configure(|filter| {
            filter["redis"]["username"] = "weir".into();
            filter["redis"]["password"] = json!({"inline": "open-sesame"});
        });
        let mesh = mesh.start().await?;
        let stage = Self {
            operator: Mutex::new(mesh.redis_connection()),
            background: Mutex::new(None),
            folder: mesh.redis().dir().display().to_string(),
            load,
            mesh,
        };
        let fill = format!("for i = 1, {FILLERS} do redis.call('SET', 'filler' .. i, '') end");
        stage.run_words(&["EVAL", &fill, "0"]);
        stage.tell(&format!("CONFIG SET key-load-delay {LOAD_DELAY}"));
        Some(stage)
    }

    /// Runs the load, with the fault in the middle.
    pub(super) async fn run(&self, entry: &Entry) -> Row {
        until_decided(&self.mesh).await;
        let phases = Phases {
            before: Duration::from_millis(500),
            fault: Duration::from_secs(1),
            after: entry.recovers_within + Duration::from_millis(500),
        };
        let at_end = Mutex::new((0, 0));
        let end = async || {
            entry.kind.end(self).await;
            *at_end.lock().unwrap() = self.statistics();
        };
        let trial = self.load.run(&self.mesh, phases, async || entry.kind.begin(self).await, end).await;
        let (connections, commands) = self.statistics();
        let (connections_before, commands_before) = *at_end.lock().unwrap();
        Row { name: entry.name, trial, since: Some((connections - connections_before, commands - commands_before)) }
    }

    /// Runs a command of the operator, whose words are separated by spaces.
    pub(super) fn tell(&self, command: &str) {
        self.run_words(&command.split(' ').collect::<Vec<_>>());
    }

    fn run_words(&self, words: &[&str]) {
        let reply = self.ask(words);
        assert!(reply.is_ok(), "{words:?}: {reply:?}");
    }

    /// Asks Redis, on a new connection if Redis was started again.
    fn ask(&self, words: &[&str]) -> RedisResult<Value> {
        let mut operator = self.operator.lock().unwrap();
        match command(words).query(&mut *operator) {
            Err(why) if why.is_io_error() => {
                *operator = self.mesh.redis_connection();
                command(words).query(&mut *operator)
            }
            replied => replied,
        }
    }

    /// Runs a command that blocks Redis, on a connection of its own.
    pub(super) fn in_background(&self, words: &[&str]) {
        let mut connection = self.mesh.redis_connection();
        let command = command(words);
        let run = move || {
            // A killed script replies with an error.
            let _ = command.exec(&mut connection);
        };
        *self.background.lock().unwrap() = Some(tokio::task::spawn_blocking(run));
    }

    pub(super) async fn until_returned(&self) {
        let running = self.background.lock().unwrap().take();
        running.expect("a command runs").await.expect("the command returns");
    }

    /// Lets a snapshot fail: Redis then refuses to write.
    pub(super) async fn break_disk(&self) {
        self.run_words(&["CONFIG", "SET", "save", "3600 1"]);
        self.tell("CONFIG SET dir /proc");
        self.tell("BGSAVE");
        while !self.info("persistence").contains("rdb_last_bgsave_status:err") {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn mend_disk(&self) {
        self.tell(&format!("CONFIG SET dir {}", self.folder));
        self.run_words(&["CONFIG", "SET", "save", ""]);
    }

    /// Numbers of connections and commands of Redis since its start.
    fn statistics(&self) -> (u64, u64) {
        let info = self.info("stats");
        let number = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|number| number.trim().parse().ok()).expect("a statistic")
        };
        (number("total_connections_received"), number("total_commands_processed"))
    }

    fn info(&self, part: &str) -> String {
        let reply = self.ask(&["INFO", part]).expect("Redis answers");
        redis::from_redis_value(reply).expect("a text")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, trial, since } = self;
        write!(f, "{name}: {trial}; connections and commands since the end: {since:?}")
    }
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command
}

/// Waits until requests in a row are decided by Redis.
pub(super) async fn until_decided(mesh: &Mesh) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut in_a_row, mut nth) = (0, 0);
    while in_a_row < 12 {
        nth += 1;
        let decided = mesh.get(&format!("warm-up {nth}")).await.header("x-ratelimit-limit").is_some();
        in_a_row = if decided { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "Redis does not decide within 60 s");
        if !decided {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The version of Redis; `None` if Redis is missing, which is printed.
pub(super) fn redis_version() -> Option<String> {
    let binary = weir::or_skip(weir_provision::redis::binary())?;
    let output = std::process::Command::new(binary).arg("--version").output().expect("Redis runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Some(version.expect("a version").to_owned())
}

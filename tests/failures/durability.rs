//! State that is left of Redis after it was killed under load, by its persistence; and a Redis whose disk is full.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Load, Mesh, Phases, Trial};
use weir_provision::redis::RedisOptions;

use crate::stage::until_decided;

/// Users who ask for five times what their buckets give, so that lost state lets them have more at once.
pub(super) const LOAD: Load = Load {
    users: 5,
    connections: 4,
    rate: 100.0,
    max_tokens: 100,
    tokens_per_second: 20,
    timeout: Load::STEADY.timeout,
};
/// Time between two looks at the length of the append-only file.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time after which `everysec` has synced what was written.
const SYNCED_WITHIN: Duration = Duration::from_secs(1);
/// Time for recovery: the start of Redis, and a few attempts to connect.
const SOON: Duration = Duration::from_secs(2);

/// Persistence of Redis, and the event in which it may lose state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Value of `appendfsync`; `None`: no append-only file.
    pub(super) fsync: Option<&'static str>,
    pub(super) loss: Loss,
}

/// Event in which Redis may lose state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// SIGKILL and a start. What Redis has written is in the system's memory, and is not lost.
    Kill,
    /// The same, and a file that is as long as it was a second before: `everysec` syncs it once a second, and what is
    /// written since is lost with the machine.
    PowerCut,
    /// FLUSHALL.
    Flush,
}

/// Values of `appendfsync` for a disk that is full for a while.
pub(super) const FULL_DISK: [(&str, &str); 2] =
    [("everysec", "full disk, `appendfsync everysec`"), ("always", "full disk, `appendfsync always`")];

/// Result of a case.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) trial: Trial,
    /// The most that buckets may admit beyond their promise.
    pub(super) most: u64,
}

pub(super) const CASES: [Case; 5] = [
    Case { name: "`appendfsync always`, kill -9", fsync: Some("always"), loss: Loss::Kill },
    Case { name: "`appendfsync everysec`, kill -9", fsync: Some("everysec"), loss: Loss::Kill },
    Case { name: "`appendfsync everysec`, power cut", fsync: Some("everysec"), loss: Loss::PowerCut },
    Case { name: "memory alone, kill -9", fsync: None, loss: Loss::Kill },
    Case { name: "memory alone, `FLUSHALL`", fsync: None, loss: Loss::Flush },
];

/// Takes state away from Redis in the middle of load.
pub(super) async fn lose(host: HostKind, case: Case) -> Option<Outcome> {
    let args = case.fsync.map(|fsync| ["--appendfsync", fsync].map(str::to_owned)).into_iter().flatten().collect();
    let redis = RedisOptions { appendonly: case.fsync.is_some(), args, ..RedisOptions::default() };
    // Workers that heal would hide what Redis has lost.
    let mesh = LOAD
        .configure(Mesh::on(host, "envoy/quickstart.yaml").redis(redis))
        .configure(|filter| filter["heal"] = serde_json::json!({"max_keys": 0}))
        .start()
        .await?;
    until_decided(&mesh).await;
    let most_is_rate = case.fsync == Some("everysec");
    let spent_for = Mutex::new(Duration::ZERO);
    let begin = async || {
        let emptied = until_buckets_are_empty(&mesh).await;
        // What a file lacks was admitted since then: each bucket had less than a token, and gained its rate.
        let lengths = if most_is_rate { lengths_for(&mesh, 2 * SYNCED_WITHIN).await } else { Vec::new() };
        if case.loss != Loss::Flush {
            mesh.redis().kill();
        }
        *spent_for.lock().unwrap() = emptied.elapsed();
        match case.loss {
            Loss::PowerCut => cut(&mesh, &lengths),
            Loss::Kill => {}
            Loss::Flush => redis::cmd("FLUSHALL").exec(&mut mesh.redis_connection()).expect("Redis runs"),
        }
    };
    let end = async || {
        if case.loss != Loss::Flush {
            tokio::task::block_in_place(|| mesh.redis().restart().expect("Redis starts"));
        }
    };
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::ZERO, after: SOON };
    let trial = LOAD.run(&mesh, phases, begin, end).await;
    let most = match case.fsync {
        Some("always") => 0,
        Some(_) if most_is_rate => {
            1 + (LOAD.tokens_per_second as f64 * spent_for.into_inner().unwrap().as_secs_f64()) as u64
        }
        _ => LOAD.max_tokens,
    };
    Some(Outcome { trial, most })
}

/// Waits until each user was denied, and returns the time of the first denial.
pub(super) async fn until_buckets_are_empty(mesh: &Mesh) -> Instant {
    let begin = Instant::now();
    let mut first = None;
    for nth in 0..LOAD.users {
        while mesh.get(&Load::user(nth)).await.status != 429 {
            assert!(begin.elapsed() < Duration::from_secs(60), "the load does not empty the buckets within a minute");
            sleep(LOOK_EVERY).await;
        }
        first.get_or_insert_with(Instant::now);
    }
    first.expect("users")
}

/// Returns the lengths that the append-only file has in this time, the last one first.
async fn lengths_for(mesh: &Mesh, time: Duration) -> Vec<(Instant, u64)> {
    let end = Instant::now() + time;
    let file = append_only_file(mesh.redis().dir());
    let mut lengths = Vec::new();
    while Instant::now() < end {
        lengths.extend(file.as_ref().and_then(|file| Some((Instant::now(), file.metadata().ok()?.len()))));
        sleep(LOOK_EVERY).await;
    }
    lengths.reverse();
    lengths
}

/// Cuts the append-only file of a Redis that was killed to its length of a second ago.
fn cut(mesh: &Mesh, lengths: &[(Instant, u64)]) {
    let file = append_only_file(mesh.redis().dir()).expect("a file");
    let (_, length) = lengths.iter().find(|(at, _)| at.elapsed() >= SYNCED_WITHIN).expect("a length of a second ago");
    let file = std::fs::File::options().write(true).open(file).expect("the file");
    assert!(file.metadata().expect("the file").len() > *length, "nothing was written within a second");
    file.set_len(*length).expect("a shorter file");
}

/// The file that Redis appends to: since 7.0 it is one of several in a folder.
fn append_only_file(folder: &Path) -> Option<PathBuf> {
    let files = [folder.to_path_buf(), folder.join("appendonlydir")].into_iter().filter_map(|it| it.read_dir().ok());
    let mut paths = files.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with(".incr.aof") || path.ends_with("appendonly.aof"))
}

/// Lets Redis write nothing more under load, and then gives it room again. With `appendfsync always`, Redis ends
/// itself, and is started again.
pub(super) async fn fill_disk(host: HostKind, fsync: &str) -> Option<Trial> {
    let args = ["--appendfsync", fsync].map(str::to_owned).to_vec();
    let redis = RedisOptions { appendonly: true, survives_file_size_limit: true, args, ..RedisOptions::default() };
    let mesh = Load::STEADY.configure(Mesh::on(host, "envoy/quickstart.yaml").redis(redis)).start().await?;
    until_decided(&mesh).await;
    let process = mesh.redis().id();
    let begin = async || mesh.redis().limit_file_size(Some(0)).expect("Redis runs");
    let end = async || match fsync {
        "always" => {
            let begin = Instant::now();
            while TcpStream::connect(mesh.redis().addr()).await.is_ok() {
                assert!(begin.elapsed() < Duration::from_secs(30), "Redis does not end itself");
                sleep(LOOK_EVERY).await;
            }
            tokio::task::block_in_place(|| mesh.redis().restart().expect("Redis starts"));
        }
        _ => mesh.redis().limit_file_size(None).expect("Redis runs"),
    };
    let phases =
        Phases { before: Duration::from_millis(500), fault: Duration::from_millis(1_500), after: after_full(fsync) };
    let trial = Load::STEADY.run(&mesh, phases, begin, end).await;
    assert_eq!(mesh.redis().id() == process, fsync != "always", "the process that Redis was");
    Some(trial)
}

/// Time for recovery from a full disk. Lost connections are tried again after about as long as Redis was away.
fn after_full(fsync: &str) -> Duration {
    if fsync == "always" { 2 * SOON } else { SOON }
}

weir::on_both_hosts! {
    a_killed_redis_loses_no_more_than_its_persistence_allows
    a_full_disk_fails_requests_until_there_is_room
}

/// Losses of Redis do not depend on the host: each case is tested on one of them.
fn is_tested_on<T>(host: HostKind) -> impl Fn(&(usize, T)) -> bool {
    move |(nth, _)| nth.is_multiple_of(2) == (host == HostKind::Envoy)
}

async fn a_killed_redis_loses_no_more_than_its_persistence_allows(host: HostKind) {
    for (_, case) in CASES.into_iter().enumerate().filter(is_tested_on(host)) {
        let Some(Outcome { trial, most }) = lose(host, case).await else { return };
        println!("{host:?}: {}: {trial}, at most {most}", case.name);
        trial.as_asked();
        assert!(trial.over_admitted <= most, "{}: expected {most} at most: {trial}", case.name);
        assert!(trial.mostly_decided_after < SOON, "{}: {trial}", case.name);
        // The measure sees lost state: FLUSHALL takes no time in which the buckets would fill.
        assert!(trial.over_admitted > 0 || case.loss != Loss::Flush, "{}: {trial}", case.name);
    }
}

async fn a_full_disk_fails_requests_until_there_is_room(host: HostKind) {
    for (_, (fsync, name)) in FULL_DISK.into_iter().enumerate().filter(is_tested_on(host)) {
        let Some(trial) = fill_disk(host, fsync).await else { return };
        println!("{host:?}: {name}: {trial}");
        trial.as_asked();
        assert!(trial.failed > 0 && trial.over_admitted == 0, "{name}: {trial}");
        assert!(trial.mostly_decided_after < after_full(fsync), "{name}: {trial}");
    }
}

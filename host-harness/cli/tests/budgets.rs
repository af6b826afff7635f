//! `weir budgets` as a command: exit codes, and exports that are killed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir_provision::or_skip;
use weir_provision::redis::{RedisOptions, RedisServer};

const STREAM: &str = "test:events";
/// Entries whose records exceed what a pipe holds.
const ENTRIES: usize = 1_500;

struct Scene {
    server: RedisServer,
    config: NamedTempFile,
}

impl Scene {
    fn start() -> Option<Self> {
        let server = or_skip(RedisServer::start(RedisOptions::default()))?;
        let config = NamedTempFile::new().unwrap();
        let limit = json!({"name": "tokens", "descriptor": [{"request_header": {"name": "x-user-id"}}],
            "charge": "total_tokens", "quota": {"max_tokens": 100_000, "unit": "month"}});
        let limiter = json!({"redis": {"cluster": "redis", "key_prefix": "test:"}, "request_body": {"timeout": "10s"},
            "usage": {}, "events": {"usage": true}, "limits": [limit]});
        std::fs::write(config.path(), limiter.to_string()).unwrap();
        Some(Self { server, config })
    }

    fn weir(&self, words: &[&str]) -> Command {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        let access = ["--redis", &self.server.url(), "--config", self.config.path().to_str().unwrap()];
        weir.arg("budgets").args(words).args(access).env_clear().stdin(Stdio::null());
        weir
    }

    fn run(&self, words: &[&str]) -> Output {
        self.weir(words).output().unwrap()
    }

    /// Adds entries to the ledger, as settlements do.
    fn settle(&self) {
        let mut redis = redis::Client::open(self.server.url()).unwrap().get_connection().unwrap();
        let mut pipe = redis::pipe();
        for nth in 0..ENTRIES {
            let fields = [("source", "usage"), ("key", "test:tokens:alice#budgetmonth0"), ("limits", "tokens")];
            let command = pipe.cmd("XADD").arg(STREAM).arg("*").arg("reserved").arg("9 ").arg("outcome").arg("O");
            command.arg("charged").arg("1793491200000000:5 ").arg("id").arg(format!("{nth:032x}"));
            command.arg("amounts").arg("5").arg(&fields).ignore();
        }
        pipe.exec(&mut redis).unwrap();
    }
}

fn ids<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    lines.map(id).collect()
}

#[test]
fn an_export_that_is_killed_goes_on_with_what_it_has_not_acknowledged() {
    let Some(scene) = Scene::start() else { return };
    scene.settle();
    let follow = ["export", "--group", "billing", "--follow", "--format", "cloudevents"];
    let interrupted = |lines: usize| {
        let mut export = scene.weir(&follow).stdout(Stdio::piped()).spawn().unwrap();
        let read: Vec<String> =
            BufReader::new(export.stdout.take().unwrap()).lines().take(lines).map(Result::unwrap).collect();
        export.kill().unwrap();
        export.wait().unwrap();
        ids(read.iter().map(String::as_str))
    };
    let rest = || {
        let done = scene.run(&["export", "--group", "billing", "--format", "cloudevents"]);
        assert!(done.status.success(), "{done:?}");
        ids(String::from_utf8(done.stdout).unwrap().lines())
    };
    // Killed in the midst of a page: nothing of it is acknowledged.
    let first = interrupted(10);
    let again = interrupted(20);
    assert_eq!(again[..10], first);
    let all = rest();
    assert_eq!((&all[..20], all.len()), (&again[..], ENTRIES));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), ENTRIES);
    assert_eq!(rest(), [""; 0]);
    scene.settle();
    assert_eq!(interrupted(ENTRIES).len(), ENTRIES);
    // All but the last page at most is acknowledged.
    let twice = rest();
    assert!(twice.len() <= 1_000, "{} come again", twice.len());
}

#[test]
fn exit_codes_tell_mistakes_from_failures() {
    let Some(scene) = Scene::start() else { return };
    let code = |words: &[&str]| {
        let done = scene.run(words);
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(code(&["list"]).0, 0);
    for words in [
        &["get", "alice", "--limit", "none"][..],
        &["get", "alice", "bob"],
        &["credit", "alice", "1.5", "--yes"],
        &["list", "--window", "soon"],
        &["list", "--window", "2999-01"],
        &["export", "--format", "xml"],
    ] {
        let (code, error) = code(words);
        assert_eq!(code, 2, "{words:?}: {error}");
    }
    let (unasked, error) = code(&["credit", "alice", "5"]);
    assert_eq!(unasked, 2);
    assert!(
        error.ends_with(
            "expected --yes, found no terminal to ask on: give back 5 tokens to tokens alice (tokens: 0 \
        tokens used)\n"
        ),
        "{error}"
    );
    let gone = scene.weir(&["list"]).env("REDIS_URL", "redis://127.0.0.1:1").output().unwrap();
    assert_eq!(gone.status.code(), Some(0), "--redis goes before the variable");
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    let config = scene.config.path().to_str().unwrap();
    let gone = weir.args(["budgets", "list", "--redis", "redis://127.0.0.1:1", "--config", config]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8(gone.stderr).unwrap().starts_with("redis at 127.0.0.1:1: "));
}

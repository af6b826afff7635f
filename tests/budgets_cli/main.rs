//! `weir budgets` on a real Redis: on a running proxy, and on budgets that the tests charge as workers do.

mod changes;
mod cluster;
mod exports;
mod ledgers;
mod permissions;
mod proxy;
mod refused;

use std::cell::RefCell;

use redis::{ConnectionLike as _, Value as Wire};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir_filter::limit::{Check, Ledger, Scripts, SlotOwner, Verdict};
use weir_filter::redis::{Call, Reply};
use weir_filter::units::Tokens;
use weir_harness::budgets::Budgets;
use weir_provision::or_skip;
use weir_provision::redis::{RedisOptions, RedisServer};

const PREFIX: &str = "weir:";
const STREAM: &str = "weir:ledger";

/// Operator with a Redis and a configuration, and the worker that charges its budgets.
struct Operator {
    server: RedisServer,
    config: NamedTempFile,
    redis: RefCell<redis::Connection>,
    scripts: Scripts,
    requests: RefCell<u64>,
}

/// Request of a user, with what it has reserved.
struct Open {
    check: Check,
    verdict: Verdict,
    keys: Vec<String>,
}

/// A configuration with these limits.
fn configuration(limits: &Value, events: &Value) -> Value {
    json!({
        "redis": {"cluster": "redis", "key_prefix": PREFIX},
        "request_body": {"timeout": "10s"},
        "usage": {"prices": [{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]},
        "limits": limits,
        "events": events,
    })
}

fn ledger() -> Value {
    json!({"usage": true, "stream": STREAM, "max_len": 100_000})
}

/// A limit of each user on money in a month, and one on tokens in this window.
fn limits(window: &str) -> Value {
    let reserve = json!({"input": 100});
    let user = json!([{"request_header": {"name": "x-user-id"}}]);
    json!([
        {"name": "money", "descriptor": user, "charge": "cost", "reserve": reserve, "soft_limit": 0.8,
            "quota": {"max_usd": 10, "unit": "month"}},
        {"name": "tokens", "descriptor": user, "charge": "total_tokens", "reserve": reserve,
            "fixed_window": {"max_tokens": 100_000, "window": window}},
    ])
}

impl Operator {
    fn of(configuration: &Value) -> Option<Self> {
        Self::on(configuration, RedisOptions::default())
    }

    fn on(configuration: &Value, options: RedisOptions) -> Option<Self> {
        let server = or_skip(RedisServer::start(options))?;
        let redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let (redis, requests) = (RefCell::new(redis), RefCell::new(0));
        Some(Self { server, config: file(configuration), redis, scripts: Scripts::default(), requests })
    }

    /// Runs `weir budgets` with these words, and returns its output.
    fn types(&self, words: &[&str]) -> String {
        self.tries(words).unwrap_or_else(|error| panic!("{words:?}: {error}")).0
    }

    /// Runs `weir budgets` with words that it refuses, and returns the error.
    fn is_told(&self, words: &[&str]) -> String {
        self.tries(words).expect_err("the command must fail")
    }

    /// Runs `weir budgets` with `--format json`, and returns the objects of its output.
    fn reads(&self, words: &[&str]) -> Vec<Value> {
        objects(&self.types(&[words, &["--format", "json"]].concat()))
    }

    fn tries(&self, words: &[&str]) -> Result<(String, String), String> {
        types(words, &self.server.url(), &self.config)
    }

    fn run(&self, call: &Call) -> Reply {
        run(&mut self.redis.borrow_mut(), call)
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let [name, arguments @ ..] = command else { panic!("no command") };
        redis::cmd(name).arg(arguments).query(&mut *self.redis.borrow_mut()).unwrap()
    }

    /// Makes a request that reserves so much of each of the user's budgets of these limits.
    fn reserves(&self, user: &str, estimates: &[(&str, u64)]) -> Open {
        let config = weir_filter::config::parse(&std::fs::read(self.config.path()).unwrap(), &|_| None).unwrap();
        let mut buckets = Vec::new();
        for (name, estimate) in estimates {
            let limit = config.limits.iter().find(|limit| limit.name == *name).unwrap();
            let key = format!("{PREFIX}{name}:{user}");
            buckets.extend(limit.windows.checks(buckets.len(), key, Tokens(*estimate), true));
        }
        let nth = self.requests.replace_with(|nth| *nth + 1);
        let keys = estimates.iter().map(|(name, _)| (*name).to_owned()).collect();
        let check = Check::new(buckets, SlotOwner::new(0x0a0b, nth));
        let verdict = match self.run(&check.call(&self.scripts)) {
            Reply::Bulk(bytes) => check.read(&Reply::Bulk(bytes)).unwrap(),
            reply => panic!("{reply:?}"),
        };
        Open { check, verdict, keys }
    }

    /// Settles a request that has cost so much in each limit.
    fn settles(&self, open: &Open, costs: &[u64]) {
        let own = open.check.reservations(&open.verdict).expect("reservations");
        let text = |texts: Vec<String>| texts.join(" ").into_bytes();
        let id: String = own.owner().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut fields =
            vec![("id", id.into_bytes()), ("model", b"any, \"odd\"".to_vec()), ("source", b"usage".to_vec())];
        fields.extend(own.as_slice().iter().map(|of| ("key", of.key.clone())));
        fields.push(("limits", text(open.keys.clone())));
        fields.push(("amounts", text(costs.iter().map(u64::to_string).collect())));
        let ledger = Ledger { stream: STREAM.as_bytes(), max_len: 100_000, fields };
        self.run(&own.settle_call(&|limit| costs[limit], false, Some(&ledger), &self.scripts));
    }

    /// Makes a request that has cost so much in each limit.
    fn spends(&self, user: &str, costs: &[(&str, u64)]) {
        let open = self.reserves(user, costs);
        self.settles(&open, &costs.iter().map(|(_, cost)| *cost).collect::<Vec<_>>());
    }
}

/// Runs a worker's call.
fn run(redis: &mut redis::Connection, call: &Call) -> Reply {
    let mut wire = Vec::new();
    call.encode_with_source(&mut wire);
    let reply = redis.req_packed_commands(&wire, 0, 1).unwrap().remove(0);
    let Wire::BulkString(bytes) = reply else { panic!("expected a bulk string, found {reply:?}") };
    Reply::Bulk(bytes)
}

fn file(configuration: &Value) -> NamedTempFile {
    let config = NamedTempFile::new().unwrap();
    std::fs::write(config.path(), configuration.to_string()).unwrap();
    config
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `weir budgets`, and returns its output and its notes.
fn types(words: &[&str], url: &str, config: &NamedTempFile) -> Result<(String, String), String> {
    let access = ["--redis", url, "--config", config.path().to_str().unwrap()];
    let budgets = Budgets::parse(&[words, &access].concat()).map_err(|error| error.to_string())?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    budgets.perform(&mut out, &mut notes).map_err(|error| error.to_string())?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap()))
}

/// Sum of what records have charged, by limit and key.
fn sums(records: &[Value]) -> std::collections::BTreeMap<(String, String), i64> {
    let mut sums = std::collections::BTreeMap::new();
    for record in records {
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        *sums.entry((text("limit"), text("key"))).or_default() += record["charged"].as_i64().unwrap();
    }
    sums
}

/// What `list --format json` has as used, by limit and key.
fn used(rows: &[Value]) -> std::collections::BTreeMap<(String, String), i64> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter().map(|row| ((text(row, "limit"), text(row, "key")), row["used"].as_i64().unwrap())).collect()
}

//! An operator who runs `weir limits`.

use std::num::NonZeroU64;

use redis::{Commands, ConnectionLike, Value};
use tempfile::NamedTempFile;
use weir_filter::limit::{Algorithms, Check, Scripts, SlotOwner, TokenBucket, Verdict};
use weir_filter::overrides::Setting;
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};
use weir_harness::limits::Limits;
use weir_provision::{self as provision, redis::RedisOptions, redis::RedisServer};

use crate::{HASH, PREFIX};

/// An operator who runs `weir limits` on a Redis and a configuration file.
pub(crate) struct Operator {
    pub(crate) url: String,
    config: NamedTempFile,
    pub(crate) redis: redis::Connection,
    _server: RedisServer,
}

impl Operator {
    pub(crate) fn of(configuration: &str, options: RedisOptions) -> Option<Self> {
        let server = provision::or_skip(RedisServer::start(options))?;
        let redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let config = NamedTempFile::new().unwrap();
        std::fs::write(config.path(), configuration).unwrap();
        Some(Self { url: server.url(), config, redis, _server: server })
    }

    /// Runs `weir limits` with these arguments, and returns its output.
    pub(crate) fn types(&self, command: &[&str]) -> String {
        self.tries(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs `weir limits` with arguments that must fail, and returns the error.
    pub(crate) fn is_told(&self, command: &[&str]) -> String {
        self.tries(command).expect_err("the command must fail")
    }

    /// Runs `weir limits` with these arguments, and returns its notes.
    pub(crate) fn is_noted(&self, command: &[&str]) -> String {
        let config = self.config.path().to_str().unwrap();
        notes(&[command, &["--redis", &self.url, "--config", config]].concat())
    }

    /// Runs `weir limits` with `--format json`, and returns the objects of its output.
    pub(crate) fn reads(&self, command: &[&str]) -> Vec<serde_json::Value> {
        let lines = self.types(&[command, &["--format", "json"]].concat());
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn tries(&self, command: &[&str]) -> Result<String, String> {
        let config = self.config.path().to_str().unwrap();
        types(&[command, &["--redis", &self.url, "--config", config]].concat())
    }

    /// Spends from a bucket as the filter does.
    pub(crate) fn spends(&mut self, key: &str, bucket: (u64, u64), cost: u64) {
        let (capacity, emission) = bucket;
        let bucket = TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, Micros(emission)).unwrap();
        let check = Algorithms::from(bucket).checks(0, key, Tokens(cost), true).collect();
        assert!(self.decides(&Check::new(check, SlotOwner::default())).admitted);
    }

    /// Runs the filter's script call for this check, and returns the verdict.
    pub(crate) fn decides(&mut self, check: &Check) -> Verdict {
        let mut wire = Vec::new();
        check.call(&Scripts::default()).encode_with_source(&mut wire);
        let reply = self.redis.req_packed_commands(&wire, 0, 1).unwrap().remove(0);
        let Value::BulkString(packed) = reply else { panic!("expected a bulk string, found {reply:?}") };
        check.read(&Reply::Bulk(packed)).unwrap()
    }

    /// The override of a limit, a field of the hash, or of a key, a string.
    pub(crate) fn override_of(&mut self, field: &str) -> Option<Setting> {
        let value: Option<Vec<u8>> = match field.contains(':') {
            true => self.redis.get(format!("{PREFIX}{field}#override")).unwrap(),
            false => self.redis.hget(HASH, field).unwrap(),
        };
        value.map(|value| Setting::parse(&value).unwrap())
    }
}

pub(crate) fn types(command: &[&str]) -> Result<String, String> {
    both(command).map(|(out, _)| out)
}

/// Runs `weir limits` with arguments that it accepts, and returns its notes.
pub(crate) fn notes(command: &[&str]) -> String {
    both(command).unwrap_or_else(|error| panic!("{command:?}: {error}")).1
}

fn both(command: &[&str]) -> Result<(String, String), String> {
    let limits = Limits::parse(command).map_err(|error| error.to_string())?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    limits.perform(&mut out, &mut notes).map_err(|error| error.to_string())?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap()))
}

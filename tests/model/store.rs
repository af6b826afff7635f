//! A real Redis that runs calls exactly as the filter encodes them.

use redis::{Connection, ConnectionLike, Value};
use weir_filter::limit::{BucketCheck, Check, MIXED_SCRIPT, Outcome, Peek, Scripts, TOKEN_BUCKETS_SCRIPT, Verdict};
use weir_filter::overrides::{SET_SCRIPT, override_key};
use weir_filter::redis::{Call, Reply, Script, Shares};
use weir_filter::units::Micros;
use weir_provision::{self as provision, redis::RedisOptions, redis::RedisServer};
use weir_virtual::Clock;

/// Lua that replaces Redis' clock with a settable one and keeps keys from expiring by the real clock. The script that
/// follows it is unchanged. If `expires` is true, strings expire by the settable clock.
const SETTABLE_CLOCK: &str = r"
local server = redis
local redis = {pcall = server.pcall, call = function(command, ...)
  if command == 'TIME' then
    local now = server.call('GET', 'clock')
    return {string.sub(now, 1, -7), string.sub(now, -6)}
  end
  if command == 'PTTL' and expires then
    return math.floor((server.call('GET', 'expiry ' .. ...) - server.call('GET', 'clock')) / 1000)
  end
  if command == 'PEXPIRE' then
    local key, millis = ...
    local at = server.call('GET', 'clock') + millis * 1000
    if expires then server.call('SET', 'expiry ' .. key, string.format('%.0f', at)) end
    return 1
  end
  if command == 'GET' and expires then
    local at = server.call('GET', 'expiry ' .. ...)
    if at and tonumber(at) <= tonumber(server.call('GET', 'clock')) then return false end
  end
  if command == 'SET' then
    local key, value, option, millis = ...
    if expires and option == 'PX' then
      local at = server.call('GET', 'clock') + millis * 1000
      server.call('SET', 'expiry ' .. key, string.format('%.0f', at))
    end
    return server.call('SET', key, value)
  end
  return server.call(command, ...)
end}
";

pub(crate) struct Store {
    pub(crate) redis: Connection,
    pub(crate) scripts: Scripts,
    is_settable: bool,
    expires: bool,
    /// Virtual Redis that gets the same commands: its replies must be those of the real one. `None` where the clocks
    /// differ, or after a test has written a state by hand.
    shadow: Option<(Clock, weir_virtual::Redis)>,
    _server: RedisServer,
}

impl Store {
    /// Starts a Redis with its own clock. `None` if no Redis can be provided.
    pub(crate) fn start() -> Option<Self> {
        let server = provision::or_skip(RedisServer::start(RedisOptions::default()))?;
        let redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        Some(Self {
            redis,
            scripts: Scripts::default(),
            is_settable: false,
            expires: false,
            shadow: None,
            _server: server,
        })
    }

    /// Starts a Redis whose clock stands still until [`Store::set_clock`].
    pub(crate) fn with_settable_clock() -> Option<Self> {
        let clock = Clock::at(Micros::ZERO);
        let shadow = weir_virtual::Redis::keeping_keys(&clock);
        Self::start().map(|store| Self { is_settable: true, shadow: Some((clock, shadow)), ..store })
    }

    /// Makes keys expire by the settable clock.
    pub(crate) fn that_expires_keys(self) -> Self {
        let shadow = self.shadow.map(|(clock, _)| (clock.clone(), weir_virtual::Redis::new(&clock)));
        Self { expires: true, shadow, ..self }
    }

    /// Compares no more replies with those of the virtual Redis: for tests that write states by hand.
    pub(crate) fn forget_shadow(&mut self) {
        self.shadow = None;
    }

    /// Deletes all keys.
    pub(crate) fn clear(&mut self) {
        self.command(&["FLUSHDB"]);
        if let Some((_, shadow)) = &self.shadow {
            shadow.flush();
        }
    }

    pub(crate) fn set_clock(&mut self, now: Micros) {
        self.command(&["SET", "clock", &now.0.to_string()]);
        if let Some((clock, _)) = &self.shadow {
            clock.set(now);
        }
    }

    /// Sets the override of the key whose first bucket is `bucket`, or removes it if `text` is empty.
    pub(crate) fn set_override(&mut self, bucket: &str, text: &str) {
        let name = override_key(bucket.as_bytes());
        let set: [&[u8]; 9] = [
            b"EVAL",
            SET_SCRIPT.as_bytes(),
            b"3",
            bucket.as_bytes(),
            &name,
            b"overrides",
            text.as_bytes(),
            b"0",
            bucket.as_bytes(),
        ];
        self.command(&set);
        if let Some((_, shadow)) = &self.shadow {
            if text.is_empty() {
                shadow.unset_key_override(bucket.as_bytes());
            } else {
                shadow.set_key_override(bucket.as_bytes(), text.as_bytes(), None);
            }
        }
    }

    pub(crate) fn decide(&mut self, check: &Check) -> Result<Verdict, String> {
        let reply = self.run(&check.call(&self.scripts));
        check.read(&reply).map_err(|malformed| format!("{malformed}: {reply:?}"))
    }

    pub(crate) fn look(&mut self, check: &[BucketCheck]) -> Result<Vec<Outcome>, String> {
        let reply = self.run(&Peek::default().call(check));
        Peek::read(check, &reply).map_err(|malformed| format!("{malformed}: {reply:?}"))
    }

    /// Returns all keys and values.
    pub(crate) fn dump(&mut self) -> Value {
        const ALL: &str = "local keys, all = redis.call('KEYS', '*'), {}
            table.sort(keys)
            for i, key in ipairs(keys) do all[i] = key .. redis.call('DUMP', key) end
            return all";
        self.command(&["EVAL", ALL, "0"])
    }

    /// Runs a call whose reply is an integer, and returns it.
    pub(crate) fn count(&mut self, call: &Call) -> i64 {
        match self.run(call) {
            Reply::Integer(n) => n,
            other => panic!("expected an integer, found {other:?}"),
        }
    }

    pub(crate) fn run(&mut self, call: &Call) -> Reply {
        let mut wire = Vec::new();
        let is_script = call.encode_with_source(&mut wire);
        if !is_script {
            call.encode(&mut wire);
        }
        self.run_parts(bulk_strings(&wire), is_script)
    }

    /// Runs checks in their order, joined into as few commands as possible. Returns the reply to each check.
    pub(crate) fn run_joined(&mut self, checks: &[Check]) -> Vec<Reply> {
        let calls: Vec<Call> = checks.iter().map(|check| check.call(&self.scripts)).collect();
        calls.chunk_by(Call::joins).flat_map(|calls| self.run_together(calls)).collect()
    }

    fn run_together(&mut self, calls: &[Call]) -> Vec<Reply> {
        if let [call] = calls {
            return vec![self.run(call)];
        }
        let mut wire = Vec::new();
        Call::encode_joined(calls.iter(), &mut wire);
        let mut parts = bulk_strings(&wire);
        let script = [TOKEN_BUCKETS_SCRIPT, MIXED_SCRIPT].map(Script::new);
        let script = script
            .iter()
            .find(|script| script.sha1_hex().as_bytes() == parts[1])
            .expect("the hash of a script of Weir");
        parts[0] = b"EVAL".to_vec();
        parts[1] = script.source().into();
        let mut shares = Shares::of(self.run_parts(parts, true)).expect("a reply with shares");
        let replies = calls.iter().map(|call| shares.take(call.share().unwrap())).collect();
        assert!(shares.is_empty(), "the reply has more shares than there are checks");
        replies
    }

    fn run_parts(&mut self, parts: Vec<Vec<u8>>, is_script: bool) -> Reply {
        // Operators' peeks are not for workers.
        let is_peek = parts.get(1).is_some_and(|source| *source == Peek::default().source().into_bytes());
        let expected = self.shadow.as_ref().filter(|_| !is_peek).map(|(_, shadow)| shadow.run(&parts));
        let reply = self.run_on_redis(parts, is_script);
        if let Some(expected) = expected {
            assert_eq!(expected, reply, "the virtual Redis replies as the real one does");
        }
        reply
    }

    fn run_on_redis(&mut self, mut parts: Vec<Vec<u8>>, is_script: bool) -> Reply {
        if is_script && self.is_settable {
            let expires = format!("local expires = {}", self.expires);
            parts[1] = [expires.as_bytes(), SETTABLE_CLOCK.as_bytes(), &parts[1]].concat();
        }
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| _ = command.arg(part));
        // `Cmd::query` would return an error for a reply with an error among its elements.
        reply(self.redis.req_packed_commands(&command.get_packed_command(), 0, 1).unwrap().remove(0))
    }

    pub(crate) fn command(&mut self, parts: &[impl AsRef<[u8]>]) -> Value {
        let mut command = redis::Cmd::new();
        parts.iter().for_each(|part| _ = command.arg(part.as_ref()));
        command.query(&mut self.redis).unwrap()
    }
}

/// Returns the bulk strings of an encoded command.
fn bulk_strings(wire: &[u8]) -> Vec<Vec<u8>> {
    let head = |wire: &[u8]| {
        let end = wire.windows(2).position(|two| two == b"\r\n").unwrap();
        (std::str::from_utf8(&wire[1..end]).unwrap().parse::<usize>().unwrap(), end + 2)
    };
    let (count, mut at) = head(wire);
    let mut parts = Vec::new();
    for _ in 0..count {
        let (length, skip) = head(&wire[at..]);
        parts.push(wire[at + skip..at + skip + length].to_vec());
        at += skip + length + 2;
    }
    assert_eq!(at, wire.len());
    parts
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(n) => Reply::Integer(n),
        Value::BulkString(bytes) => Reply::Bulk(bytes),
        Value::Array(values) => Reply::Array(values.into_iter().map(reply).collect()),
        Value::ServerError(error) => {
            Reply::Error(format!("{} {}", error.code(), error.details().unwrap_or("")).into_bytes())
        }
        other => panic!("expected an integer, a bulk string, an array or an error, found {other:?}"),
    }
}

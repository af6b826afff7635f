//! Virtual Redis: the commands that workers send, by the Rust specification of the scripts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use weir_filter::limit::{KnownScript, Model, ScriptCall};
use weir_filter::limiter::EVENTS_SCRIPT;
use weir_filter::overrides::{MARK, PAGE_SCRIPT};
use weir_filter::redis::{Reply, Script, inner_source};
use weir_filter::units::Micros;

use crate::Clock;
use crate::cluster::Cluster;
use crate::resp::encode;

/// Redis in memory. Clones are the same Redis.
///
/// It replies as Redis does to the scripts of the filter, `ZREM` and the commands of a handshake, at the time of its
/// clock. Every login succeeds, and all databases are one. Token buckets expire as in Redis; of other keys, whose expiry changes
/// no decision, none does.
#[derive(Debug, Clone)]
pub struct Redis {
    clock: Clock,
    server: Rc<RefCell<Server>>,
}

#[derive(Debug, Clone, Default)]
struct Server {
    is_down: bool,
    buckets: Model,
    /// Scripts that have been sent with their sources, by SHA-1.
    scripts: BTreeSet<String>,
    /// SHA-1 of scripts, by the SHA-1 of their forms for Webdis.
    flat: BTreeMap<String, String>,
    /// Texts of the overrides of whole limits, by hash and field.
    limits: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Texts of the overrides of keys, and their ends, by the key of the limit's first bucket.
    keys: BTreeMap<Vec<u8>, (Vec<u8>, Option<Micros>)>,
    /// Nodes of a cluster, if this is one.
    cluster: Option<Cluster>,
    commands: u64,
    unknown: BTreeSet<String>,
}

/// Script that the virtual Redis knows.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// A script about buckets.
    Buckets(KnownScript),
    /// Reads a page of the overrides of whole limits.
    Page,
    /// Appends events to a stream.
    Events,
}

impl Redis {
    /// Returns an empty Redis on this clock.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), server: Rc::default() }
    }

    /// Returns an empty Redis whose keys never expire.
    #[must_use]
    pub fn keeping_keys(clock: &Clock) -> Self {
        let server = Server { buckets: Model::keeping_keys(), ..Server::default() };
        Self { clock: clock.clone(), server: Rc::new(RefCell::new(server)) }
    }

    /// Time by Redis' clock, since 1970.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Whether Redis accepts no connection.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.server.borrow().is_down
    }

    /// Stops or starts Redis. Its data survives. The connections of workers are theirs to close.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.server.borrow_mut().is_down = is_down;
    }

    /// Deletes all keys, as `FLUSHALL` does: buckets and overrides. Scripts stay cached.
    pub fn flush(&self) {
        let mut server = self.server.borrow_mut();
        server.buckets.clear();
        (server.limits, server.keys) = Default::default();
    }

    /// Forgets all scripts, as `SCRIPT FLUSH` and a restart do.
    pub fn flush_scripts(&self) {
        self.server.borrow_mut().scripts.clear();
    }

    /// Makes this a Redis Cluster behind a proxy: it refuses commands with keys of several hash slots.
    pub fn become_cluster(&self) {
        self.server.borrow_mut().cluster = Some(Cluster::default());
    }

    /// Makes commands for the hash slot of `key` fail with this error, or no more.
    pub fn set_slot_error(&self, key: &[u8], error: Option<&'static str>) {
        if let Some(cluster) = &mut self.server.borrow_mut().cluster {
            cluster.set_error(key, error);
        }
    }

    /// Sets whether the hash slot of `key` moves to another node: commands with several of its keys fail meanwhile.
    pub fn set_slot_moving(&self, key: &[u8], is_moving: bool) {
        if let Some(cluster) = &mut self.server.borrow_mut().cluster {
            cluster.set_moving(key, is_moving);
        }
    }

    /// Returns another Redis on the same clock with the data of this one, as a replica has it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let server = self.server.borrow().clone();
        Self { clock: self.clock.clone(), server: Rc::new(RefCell::new(server)) }
    }

    /// Replaces the data by that of another Redis, which this one has been copied from or to.
    pub fn restore(&self, other: &Self) {
        let copy = other.server.borrow().clone();
        let mut server = self.server.borrow_mut();
        *server = Server { commands: server.commands, unknown: std::mem::take(&mut server.unknown), ..copy };
    }

    /// Deletes one bucket, as an eviction does: the `nth`, counted around. Returns its key; `None` if there is no bucket.
    pub fn evict(&self, nth: usize) -> Option<Vec<u8>> {
        self.server.borrow_mut().buckets.evict(nth)
    }

    /// Number of slots of concurrency limits that are taken, and whose leases have not ended.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.server.borrow().buckets.slots(self.now())
    }

    /// Amounts settled and reserved in the window of a budget, as of its last call; what is settled of a token bucket is
    /// in units. `None` where there is no budget.
    #[must_use]
    pub fn budget(&self, key: &[u8]) -> Option<(u64, u64)> {
        self.server.borrow().buckets.budget(key)
    }

    /// Amounts settled and reserved now in the window of a budget's last call, in tokens or nano-USD. `None` where there is
    /// no budget.
    #[must_use]
    pub fn budget_tokens(&self, key: &[u8]) -> Option<(u64, u64)> {
        self.server.borrow().buckets.budget_at(self.now(), key)
    }

    /// Sets the override of a whole limit: a field of the hash `hash_key`. Workers read it at their refresh interval.
    pub fn set_limit_override(&self, hash_key: &[u8], limit: &[u8], text: &[u8]) {
        let mut server = self.server.borrow_mut();
        server.limits.entry(hash_key.to_vec()).or_default().insert(limit.to_vec(), text.to_vec());
    }

    /// Removes the override of a whole limit. Returns whether there was one.
    pub fn unset_limit_override(&self, hash_key: &[u8], limit: &[u8]) -> bool {
        let mut server = self.server.borrow_mut();
        server.limits.get_mut(hash_key).is_some_and(|hash| hash.remove(limit).is_some())
    }

    /// Sets the override of the key whose first bucket is at `bucket_key`, until `ends` by Redis' clock. Requests of the
    /// key read it from now on.
    pub fn set_key_override(&self, bucket_key: &[u8], text: &[u8], ends: Option<Micros>) {
        self.server.borrow_mut().keys.insert(bucket_key.to_vec(), (text.to_vec(), ends));
    }

    /// Announces the override of a key, given by limit and key, in the hash `hash_key`; `text` is empty if it was removed.
    pub fn announce_override(&self, hash_key: &[u8], key: &[u8], text: &[u8]) {
        let value = [format!("{}:", self.now().0).as_bytes(), text].concat();
        self.set_limit_override(hash_key, &[&[MARK], key].concat(), &value);
    }

    /// Removes the override of a key. Returns whether there was one.
    pub fn unset_key_override(&self, bucket_key: &[u8]) -> bool {
        let now = self.now();
        let removed = self.server.borrow_mut().keys.remove(bucket_key);
        removed.is_some_and(|(_, ends)| is_in_force(ends, now))
    }

    /// Deletes all buckets of a limit's key, which makes them full. Returns whether there were any.
    pub fn delete_buckets(&self, limit_key: &[u8]) -> bool {
        self.server.borrow_mut().buckets.reset(self.now(), limit_key)
    }

    /// Number of commands so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.server.borrow().commands
    }

    /// Commands and scripts so far that the virtual Redis does not know: a decision may depend on them.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        self.server.borrow().unknown.iter().cloned().collect()
    }

    /// Runs a command and returns its reply.
    #[must_use]
    pub fn run(&self, command: &[Vec<u8>]) -> Reply {
        self.server.borrow_mut().run(self.now(), command)
    }
}

fn is_in_force(ends: Option<Micros>, now: Micros) -> bool {
    ends.is_none_or(|ends| ends > now)
}

impl Server {
    fn run(&mut self, now: Micros, command: &[Vec<u8>]) -> Reply {
        self.commands = self.commands.saturating_add(1);
        let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        if let Some(error) = self.cluster.as_ref().and_then(|cluster| cluster.refusal(&name, command)) {
            return Reply::Error(error.into());
        }
        match (name.as_slice(), command) {
            (b"PING", _) => Reply::Simple(b"PONG".to_vec()),
            (b"AUTH" | b"SELECT", _) => Reply::Simple(b"OK".to_vec()),
            (b"ZREM", [_, key, names @ ..]) => self.buckets.release_slots(key, names),
            (b"EVAL", [_, source, rest @ ..]) => {
                let sha1 = sha1_of(source);
                let inner = inner_source(&String::from_utf8_lossy(source)).map(|inner| sha1_of(inner.as_bytes()));
                self.flat.extend(inner.map(|inner| (sha1.clone(), inner)));
                self.scripts.insert(sha1.clone());
                self.script(now, &sha1, rest)
            }
            (b"EVALSHA", [_, sha1, rest @ ..]) => {
                let sha1 = String::from_utf8_lossy(sha1).into_owned();
                if !self.scripts.contains(&sha1) {
                    return Reply::Error(b"NOSCRIPT No matching script. Please use EVAL.".to_vec());
                }
                self.script(now, &sha1, rest)
            }
            _ => self.unknown(format!("the command {}", String::from_utf8_lossy(&name))),
        }
    }

    /// Runs a script: the number of its keys, its keys, and its arguments. In its form for Webdis, a script returns its
    /// reply within a string, behind its last argument.
    fn script(&mut self, now: Micros, sha1: &str, rest: &[Vec<u8>]) -> Reply {
        if let (Some(inner), Some((id, rest))) = (self.flat.get(sha1).cloned(), rest.split_last()) {
            let mut text = [&b":"[..], id, b"\r\n"].concat();
            encode(&self.script(now, &inner, rest), &mut text);
            return Reply::Bulk(text);
        }
        let count = rest.first().and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
        let parts = rest.get(1..).zip(count).and_then(|(rest, count)| rest.split_at_checked(count));
        let Some((keys, arguments)) = parts else {
            return Reply::Error(b"ERR Number of keys can't be greater than number of args".to_vec());
        };
        match Known::by_sha1(sha1) {
            Some(Known::Buckets(script)) => {
                let overrides = &self.keys;
                let text = |key: &[u8]| {
                    let (text, ends) = overrides.get(key)?;
                    is_in_force(*ends, now).then(|| text.clone())
                };
                self.buckets.reply(now, ScriptCall { script, keys, arguments }, &text)
            }
            Some(Known::Page) => self.page(now, keys, arguments),
            Some(Known::Events) => Reply::Integer(1),
            None => self.unknown(format!("the script {sha1}")),
        }
    }

    /// All overrides of whole limits, in one page.
    fn page(&self, now: Micros, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> Reply {
        let number = |n: u64| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        let serial = arguments.get(2).and_then(|serial| std::str::from_utf8(serial).ok()?.parse().ok());
        let hash = keys.first().and_then(|key| self.limits.get(key));
        let fields = || hash.into_iter().flatten();
        let mut reply = vec![
            Reply::Integer(serial.unwrap_or_default()),
            number(now.0),
            number(fields().count() as u64),
            Reply::Bulk(b"0".to_vec()),
            Reply::Bulk(Vec::new()),
        ];
        reply.extend(fields().flat_map(|(field, text)| [field, text]).map(|bytes| Reply::Bulk(bytes.clone())));
        Reply::Array(reply)
    }

    fn unknown(&mut self, what: String) -> Reply {
        let reply = format!("ERR the virtual Redis does not know {what}");
        self.unknown.insert(what);
        Reply::Error(reply.into_bytes())
    }
}

thread_local! {
    /// Scripts by SHA-1: there are few, and their hashes take time.
    static KNOWN: RefCell<BTreeMap<String, Option<Known>>> = const { RefCell::new(BTreeMap::new()) };
    /// SHA-1s of the sources that were sent.
    static SHA1S: RefCell<BTreeMap<Vec<u8>, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Sources whose SHA-1s are kept, at most: workers have a few scripts.
const MAX_SHA1S: usize = 100;

/// Returns the SHA-1 of a script's source, as 40 hexadecimal digits.
fn sha1_of(source: &[u8]) -> String {
    SHA1S.with_borrow_mut(|known| {
        if let Some(sha1) = known.get(source) {
            return sha1.clone();
        }
        let sha1 = Script::new(String::from_utf8_lossy(source).into_owned()).sha1_hex().to_owned();
        if known.len() < MAX_SHA1S {
            known.insert(source.to_vec(), sha1.clone());
        }
        sha1
    })
}

impl Known {
    fn by_sha1(sha1: &str) -> Option<Self> {
        KNOWN.with_borrow_mut(|known| match known.get(sha1) {
            Some(script) => *script,
            None => {
                let is = |source: &'static str| Script::new(source).sha1_hex() == sha1;
                let others = [(PAGE_SCRIPT, Self::Page), (EVENTS_SCRIPT, Self::Events)];
                let other = || others.into_iter().find(|(source, _)| is(source)).map(|(_, script)| script);
                let script = KnownScript::by_sha1(sha1).map(Self::Buckets).or_else(other);
                known.insert(sha1.to_owned(), script);
                script
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn an_unknown_command_fails_and_is_listed() {
        let redis = Redis::new(&Clock::at(Micros::from_secs(1)));
        assert_eq!(redis.run(&command(&["PING"])), Reply::Simple(b"PONG".to_vec()));
        assert_eq!(redis.unknown(), [""; 0]);
        assert!(matches!(redis.run(&command(&["get", "weir:per_user:alice"])), Reply::Error(_)));
        assert!(matches!(redis.run(&command(&["EVAL", "return 1", "0"])), Reply::Error(_)));
        let unknown = redis.unknown();
        assert_eq!(unknown, ["the command GET", "the script e0e1f9fabfc9d4800c877a703b823ac0578ff8db"]);
    }

    #[test]
    fn a_script_is_known_by_its_hash_once_it_was_sent() {
        let redis = Redis::new(&Clock::at(Micros::from_secs(1)));
        let source = Script::new(PAGE_SCRIPT);
        let call = |name: &str, script: &str| redis.run(&command(&[name, script, "1", "weir:overrides", "0", "", "7"]));
        let missing = call("EVALSHA", source.sha1_hex());
        assert!(matches!(missing, Reply::Error(error) if error.starts_with(b"NOSCRIPT ")));
        assert!(matches!(call("EVAL", PAGE_SCRIPT), Reply::Array(_)));
        assert!(matches!(call("EVALSHA", source.sha1_hex()), Reply::Array(_)));
    }
}

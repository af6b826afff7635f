//! Heartbeats: a worker tells Redis how much of each limit its requests ask for, and Redis grants it shares.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::redis::{Call, Reply, Script, lua, script};
use crate::units::Micros;

const SOURCE: &str = lua!(include_str!("heartbeat.lua"));

/// Claim of a worker to one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Key of the limit's registry of workers.
    pub registry: Vec<u8>,
    /// Tokens per 1,000 s that requests asked for.
    pub load: u64,
    /// Parts of the limit that the worker holds.
    pub held: u32,
    /// Number of parts of the limit, ≥ 1.
    pub parts: u32,
}

/// Script of heartbeats.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    script: Arc<Script>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { script: Arc::new(script!(SOURCE)) }
    }
}

impl Heartbeat {
    /// The call of the worker with this id. A worker that is not seen for `ttl` is forgotten.
    #[must_use]
    #[inline(never)]
    pub fn call(&self, worker: u64, ttl: Micros, claims: &[Claim]) -> Call {
        let arguments = claims.len().saturating_mul(3).saturating_add(2);
        let mut call = Call::write_script(&self.script, claims.len(), arguments, 0);
        claims.iter().for_each(|claim| call.bytes(&claim.registry));
        call.bytes(&worker.to_be_bytes());
        call.number(ttl.to_millis_ceil());
        for Claim { load, held, parts, .. } in claims {
            [*load, (*held).into(), (*parts).into()].into_iter().for_each(|number| call.number(number));
        }
        call.finish().replying(arguments.saturating_mul(16))
    }

    /// Reads the number of workers and the granted parts of each claim, in the order of the claims. A reply of another
    /// form has none.
    pub fn read(reply: &Reply) -> impl Iterator<Item = u32> {
        let numbers = if let Reply::Array(numbers) = reply { numbers.as_slice() } else { &[] };
        numbers.iter().map_while(|number| match number {
            Reply::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// The script, for tools that show calls.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }
}

/// Model of the script.
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::model::Registry;

#[cfg(not(target_arch = "wasm32"))]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::arithmetic_side_effects)]
mod model {
    use alloc::vec::Vec;

    use crate::limit::check::model::Model;
    use crate::limit::check::script_model::{ScriptCall, number};
    use crate::redis::Reply;
    use crate::units::Micros;

    /// Workers of a limit, with their reserved shares.
    #[derive(Debug, Clone)]
    pub(in crate::limit::check) struct Registry {
        made: i64,
        workers: Vec<Worker>,
    }

    #[derive(Debug, Clone)]
    struct Worker {
        id: Vec<u8>,
        seen: i64,
        load: f64,
        share: f64,
    }

    impl Model {
        /// Returns the reply to a call of the script: the number of workers, and the granted parts.
        pub(in crate::limit::check) fn heartbeat(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
            let now = i64::try_from(now.0 / 1_000).ok()?;
            let [id, ttl, claims @ ..] = call.arguments else { return None };
            let ttl: i64 = number(ttl)?;
            let (mut workers, mut reply) = (0, Vec::new());
            for (key, claim) in call.keys.iter().zip(claims.chunks(3)) {
                let [load, held, parts] = claim else { return None };
                let (load, held, parts): (u64, u32, u32) = (number(load)?, number(held)?, number(parts)?);
                let registry =
                    self.registries.entry(key.clone()).or_insert(Registry { made: now, workers: Vec::new() });
                let (number, granted) = registry.grant(now, (id, ttl), load as f64, (held.into(), parts.into()));
                workers = workers.max(number);
                reply.push(Reply::Integer(granted as i64));
            }
            reply.insert(0, Reply::Integer(i64::try_from(workers).ok()?));
            Some(Reply::Array(reply))
        }
    }

    impl Registry {
        fn grant(
            &mut self,
            now: i64,
            (id, ttl): (&[u8], i64),
            mut load: f64,
            (held, parts): (f64, f64),
        ) -> (usize, f64) {
            self.made = self.made.min(now);
            let newest = self.workers.iter().map(|worker| worker.seen).max().unwrap_or(0);
            let away = if (0..=ttl / 2).contains(&(now - newest)) { 0 } else { now - newest };
            self.workers.iter_mut().for_each(|worker| worker.seen += away);
            if let Some(own) = self.workers.iter().find(|worker| worker.id == id) {
                load = (load + own.load) / 2.0;
            }
            self.workers.retain(|worker| worker.id != id && now - worker.seen <= ttl);
            let number = self.workers.len() + 1;
            let all = self.workers.iter().fold(load, |sum, worker| sum + worker.load);
            let even = 1.0 / number as f64;
            let wanted =
                |load: f64| parts * (0.1 / number as f64 + 0.9 * if all > 0.0 { load / all } else { even }) + 1e-9;
            let reserved: f64 = self.workers.iter().map(|worker| worker.share).sum();
            let claims = self.workers.iter().map(|worker| worker.share.max(wanted(worker.load).floor() / parts));
            let free = ((1.0 - reserved) * parts + 1e-6).floor();
            let unclaimed = ((1.0 - claims.sum::<f64>()) * parts + 1e-6).floor();
            let want = wanted(load);
            let mut granted = want.floor().min(free).max(0.0);
            let up = (want - 2e-9).ceil();
            if up <= free.min(unclaimed) {
                granted = granted.max(up);
            }
            if now - self.made < ttl {
                granted = granted.min(held);
            }
            self.workers.insert(0, Worker { id: id.to_vec(), seen: now, load, share: granted.max(held) / parts });
            (number, granted)
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::limit::check::known_script::KnownScript;
    use crate::limit::check::model::Model;
    use crate::limit::check::script_model::ScriptCall;

    const TTL: u64 = 3_000;

    /// Workers of one limit, each with its load and the parts that it holds.
    struct Fleet {
        redis: Model,
        now: Micros,
        parts: u32,
        workers: Vec<(u64, u32)>,
    }

    impl Fleet {
        fn new(parts: u32, loads: &[u64]) -> Self {
            let workers = loads.iter().map(|load| (*load, 0)).collect();
            Self { redis: Model::default(), now: Micros::from_secs(1_795_132_800), parts, workers }
        }

        /// Sends the heartbeat of a worker. Its reply is lost if `is_lost`.
        fn beats(&mut self, worker: usize, is_lost: bool) {
            let (load, held) = self.workers[worker];
            let text = |number: u64| number.to_string().into_bytes();
            let id = (worker as u64).to_be_bytes().to_vec();
            let arguments = [id, text(TTL), text(load), text(held.into()), text(self.parts.into())];
            let keys = [b"registry".to_vec()];
            let call = ScriptCall { script: KnownScript::Heartbeat, keys: &keys, arguments: &arguments };
            let reply = self.redis.reply(self.now, call, &|_| None);
            let granted = Heartbeat::read(&reply).nth(1).unwrap();
            if !is_lost {
                self.workers[worker].1 = granted;
            }
            assert!(self.held() <= self.parts, "{:?}", self.workers);
        }

        fn rounds(&mut self, rounds: usize) -> Vec<u32> {
            for _ in 0..rounds {
                for worker in 0..self.workers.len() {
                    self.now = self.now.plus(Micros::from_millis(1_000 / self.workers.len() as u64));
                    self.beats(worker, false);
                }
            }
            self.workers.iter().map(|(_, held)| *held).collect()
        }

        fn held(&self) -> u32 {
            self.workers.iter().map(|(_, held)| held).sum()
        }
    }

    #[test]
    fn shares_follow_the_traffic_once_all_workers_had_time_to_be_seen() {
        let mut fleet = Fleet::new(1_000, &[100, 100, 100, 100]);
        assert_eq!(fleet.rounds(2), [0, 0, 0, 0], "the registry is new");
        assert_eq!(fleet.rounds(4), [250, 250, 250, 250]);
        fleet.workers.iter_mut().zip([700, 100, 100, 100]).for_each(|(worker, load)| worker.0 = load);
        let skewed = fleet.rounds(12);
        assert!((640..=660).contains(&skewed[0]) && fleet.held() > 990, "{skewed:?}");
        let mut idle = Fleet::new(1_000, &[0, 0]);
        assert_eq!(idle.rounds(6), [500, 500]);
    }

    #[test]
    fn a_limit_of_few_tokens_is_granted_in_whole_tokens() {
        for (parts, workers) in [(5, 8), (20, 8), (7, 3), (1, 4)] {
            let mut fleet = Fleet::new(parts, &vec![10; workers]);
            fleet.rounds(12);
            assert_eq!(fleet.held(), parts, "{:?}", fleet.workers);
        }
    }

    #[test]
    fn a_share_that_shrinks_is_free_once_its_worker_has_confirmed_it() {
        let mut fleet = Fleet::new(100, &[10, 0]);
        fleet.rounds(8);
        fleet.workers[0].0 = 0;
        fleet.workers[1].0 = 10;
        for _ in 0..10 {
            // The worker does not learn that it has less.
            fleet.now = fleet.now.plus(Micros::from_millis(300));
            fleet.beats(0, true);
            fleet.beats(1, false);
        }
        assert!(fleet.workers[1].1 <= 10, "{:?}", fleet.workers);
        let held = fleet.rounds(12);
        assert!(held[1] >= 90, "{held:?}");
    }

    #[test]
    fn a_worker_that_is_gone_is_forgotten_and_an_outage_forgets_nobody() {
        let mut fleet = Fleet::new(100, &[10, 10]);
        assert_eq!(fleet.rounds(8), [50, 50]);
        fleet.now = fleet.now.plus(Micros::from_secs(600));
        fleet.beats(0, false);
        assert_eq!(fleet.workers[0].1, 50, "the other worker may hold its share");
        for _ in 0..5 {
            fleet.now = fleet.now.plus(Micros::from_secs(1));
            let gone = fleet.workers[1].1;
            fleet.workers[1].1 = 0;
            fleet.beats(0, false);
            fleet.workers[1].1 = gone;
            if fleet.workers[0].1 > 50 {
                break;
            }
        }
        assert_eq!(fleet.workers[0].1, 100);
    }

    #[test]
    fn a_registry_that_was_lost_lets_nobody_grow_at_first() {
        let mut fleet = Fleet::new(100, &[10, 10]);
        fleet.rounds(8);
        fleet.redis = Model::default();
        fleet.beats(0, false);
        assert_eq!(fleet.rounds(1), [50, 50]);
    }
}

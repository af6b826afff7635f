//! The Lua that Redis runs, held against its Rust specification over random histories, in a real Redis.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands;
use weir_filter::limit::{Asked, Check, SCRIPT, TokenBucket};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};
use weir_harness::provision::{self, redis::RedisOptions, redis::RedisServer};

/// Lets a history set Redis' clock, and keeps keys from expiring by the real one; the script below it is unchanged.
const SETTABLE_CLOCK: &str = r"
local server = redis
local redis = {call = function(command, key, value, ...)
  if command == 'TIME' then
    local now = server.call('GET', 'clock')
    return {string.sub(now, 1, -7), string.sub(now, -6)}
  end
  if command == 'SET' then return server.call('SET', key, value) end
  return server.call(command, key)
end}
";

/// 2026-11-20: clocks of this size are near the limit of what Lua's numbers hold exactly.
const START: u64 = 1_795_132_800_000_000;

#[derive(Debug, Clone)]
struct Step {
    /// How far the clock moves: backwards, too.
    pause: i64,
    /// Which limits apply, what they cost, and whether they are enforced.
    asked: Vec<(usize, u64, bool)>,
}

#[test]
fn the_lua_decides_as_its_specification_over_any_history() {
    let Some(server) = provision::or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let connection = RefCell::new(redis::Client::open(server.url()).unwrap().get_connection().unwrap());
    let script = redis::Script::new(&format!("{SETTABLE_CLOCK}{SCRIPT}"));

    let limits = proptest::collection::vec((1_u64..30, 1_u64..3_000_000), 3);
    let step = (-500_000_i64..3_000_000, proptest::collection::vec((0_usize..3, 0_u64..40, any::<bool>()), 1..4))
        .prop_map(|(pause, asked)| Step { pause, asked: one_of_each_limit(asked) });
    let histories = (limits, proptest::collection::vec(step, 1..80));

    TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })
        .run(&histories, |(limits, steps)| {
            let redis = &mut *connection.borrow_mut();
            let _: () = redis::cmd("FLUSHDB").query(redis).unwrap();
            let buckets: Vec<TokenBucket> =
                limits.iter().map(|&(capacity, emission)| bucket(capacity, emission)).collect();
            let mut now = START;
            let mut arrival_times: HashMap<usize, u64> = HashMap::new();
            for step in steps {
                now = now.saturating_add_signed(step.pause);
                let check = check(&buckets, &step.asked);
                let lacks: Vec<Micros> = check
                    .asked()
                    .map(|asked| {
                        let Some(tat) = arrival_times.get_mut(&asked.limit) else { return Micros::ZERO };
                        // Further ahead than a bucket can be, after the clock was set back: empty from now on.
                        *tat = (*tat).min(now + asked.bucket.fill_time().0);
                        Micros(tat.saturating_sub(now))
                    })
                    .collect();
                let expected = check.decide(&lacks);
                for (asked, lack) in check.asked().zip(&lacks) {
                    let price = asked.bucket.price(asked.cost);
                    if expected.admitted && asked.bucket.admits(*lack, asked.cost) && price > Micros::ZERO {
                        arrival_times.insert(asked.limit, now + lack.plus(price).0);
                    }
                }

                let _: () = redis.set("clock", now).unwrap();
                let reply: Vec<i64> = invoke(&script, &check).invoke(redis).unwrap();
                let reply = Reply::Array(reply.into_iter().map(Reply::Integer).collect());
                prop_assert_eq!(check.read(&reply).map_err(|error| error.to_string()), Ok(expected));
            }
            for (limit, tat) in arrival_times {
                let kept: Option<u64> = redis.get(key(limit)).unwrap();
                prop_assert!(kept == Some(tat) || (kept.is_none() && tat <= now), "{:?} and not {}", kept, tat);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_bucket_lives_in_redis_until_it_is_full_and_no_longer() {
    let Some(server) = provision::or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let script = redis::Script::new(SCRIPT);
    let buckets = [bucket(10, 60_000_000)];

    let _: Vec<i64> = invoke(&script, &check(&buckets, &[(0, 0, true)])).invoke(&mut redis).unwrap();
    assert!(!redis.exists::<_, bool>(key(0)).unwrap(), "a look at a full bucket leaves nothing behind");

    let _: Vec<i64> = invoke(&script, &check(&buckets, &[(0, 3, true)])).invoke(&mut redis).unwrap();
    let ttl: i64 = redis.pttl(key(0)).unwrap();
    assert!((170_000..=180_000).contains(&ttl), "3 tokens of a minute each, so gone in 180 s; found {ttl} ms");

    let before: String = redis.get(key(0)).unwrap();
    let reply: Vec<i64> = invoke(&script, &check(&buckets, &[(0, 9, true)])).invoke(&mut redis).unwrap();
    assert_eq!(reply[0], 0);
    assert_eq!(redis.get::<_, String>(key(0)).unwrap(), before, "a denied request takes nothing");
}

#[test]
fn a_bucket_that_was_larger_fills_at_the_new_rate_from_when_it_is_first_seen() {
    let Some(server) = provision::or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let script = redis::Script::new(SCRIPT);
    let mut ask = |emission: u64, cost: u64| -> Vec<i64> {
        invoke(&script, &check(&[bucket(10, emission)], &[(0, cost, true)])).invoke(&mut redis).unwrap()
    };
    let (hour, millisecond) = (3_600_000_000, 1_000);
    assert_eq!(ask(hour, 10)[0], 1);
    assert_eq!(ask(millisecond, 1)[0], 0, "it is empty");
    let admitted = (0..1_000).any(|_| ask(millisecond, 1)[0] == 1);
    assert!(admitted, "a token came within a millisecond, not within an hour");
}

#[test]
fn its_name_is_the_one_that_redis_gives_it() {
    let Some(server) = provision::or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let loaded: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(&mut redis).unwrap();
    assert_eq!(weir_filter::redis::Script::new(SCRIPT).sha1_hex(), loaded);
}

fn bucket(capacity: u64, emission: u64) -> TokenBucket {
    TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, Micros(emission)).unwrap()
}

fn key(limit: usize) -> String {
    format!("bucket{limit}")
}

/// A request runs into each limit at most once.
fn one_of_each_limit(mut asked: Vec<(usize, u64, bool)>) -> Vec<(usize, u64, bool)> {
    asked.sort_unstable_by_key(|&(limit, ..)| limit);
    asked.dedup_by_key(|&mut (limit, ..)| limit);
    asked
}

fn check(buckets: &[TokenBucket], asked: &[(usize, u64, bool)]) -> Check {
    let asked = asked.iter().map(|&(limit, cost, enforced)| Asked {
        limit,
        key: key(limit).into_bytes(),
        bucket: buckets[limit],
        cost: Tokens(cost),
        enforced,
    });
    Check::new(asked.collect())
}

fn invoke<'a>(script: &'a redis::Script, check: &Check) -> redis::ScriptInvocation<'a> {
    let mut invocation = script.prepare_invoke();
    for asked in check.asked() {
        invocation.key(&asked.key);
        for argument in asked.arguments() {
            invocation.arg(argument);
        }
    }
    invocation
}

//! Tests of overload: many requests at once, of one key or of many.

#![allow(clippy::arithmetic_side_effects, reason = "numbers of a test are small")]

use std::collections::HashMap;

use super::*;

/// Model of Redis with token buckets and a clock that stands still. It replies when [`replies`](Self::replies) is
/// called.
#[derive(Default)]
struct Redis {
    lacks: HashMap<String, u64>,
    commands: Vec<u8>,
    /// Times that overrides were read, in vain.
    overrides_read: usize,
}

impl Redis {
    /// Runs at most `most` of the commands that were sent. Returns their number and their replies.
    fn replies(&mut self, fixture: &mut Fixture, most: usize) -> (usize, Vec<u8>) {
        self.commands.extend(fixture.sent().into_bytes());
        let (mut replies, mut answered) = (Vec::new(), 0);
        while answered < most
            && let Some(parts) = self.take_command()
        {
            answered += 1;
            if parts[3] == "weir:overrides" {
                self.overrides_read += 1;
                replies.extend(b"-ERR not now\r\n");
                continue;
            }
            let keys: usize = parts[2].parse().unwrap();
            assert_eq!(parts.len(), 3 + 5 * keys, "the script for token buckets");
            replies.extend(format!("*{}\r\n", 2 * keys).into_bytes());
            for nth in 0..keys {
                let [capacity, cost, unit] =
                    [0, 1, 2].map(|arg| parts[3 + keys + 4 * nth + arg].parse::<u64>().unwrap());
                let (fill, price) = (capacity * unit, cost * unit);
                let lack = self.lacks.entry(parts[3 + nth].clone()).or_default();
                let admits = *lack + price <= fill;
                replies.extend(format!(":{}5\r\n:{lack}\r\n", if admits { "" } else { "-" }).into_bytes());
                *lack += if admits { price } else { 0 };
            }
        }
        (answered, replies)
    }

    fn take_command(&mut self) -> Option<Vec<String>> {
        let text = String::from_utf8(self.commands.clone()).unwrap();
        let (head, mut rest) = text.strip_prefix('*')?.split_once("\r\n")?;
        let mut parts = Vec::new();
        for _ in 0..head.parse().unwrap() {
            let (size, after) = rest.strip_prefix('$').unwrap().split_once("\r\n").unwrap();
            let (part, after) = after.split_at(size.parse().unwrap());
            parts.push(part.to_owned());
            rest = after.strip_prefix("\r\n").unwrap();
        }
        self.commands = rest.as_bytes().to_vec();
        Some(parts)
    }
}

/// Number of requests by their decision: admitted, denied with 429, or failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    admitted: usize,
    limited: usize,
    failed: usize,
}

impl Ends {
    fn add(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Decide(_, decision) = effect {
                self.decide(&decision);
            }
        }
    }

    fn decide(&mut self, decision: &Decision) {
        match decision {
            Decision::Admit(_) => self.admitted += 1,
            Decision::Answer(reply) if reply.status.code() == 429 => self.limited += 1,
            Decision::Answer(_) => self.failed += 1,
            Decision::EndResponse => panic!("no response is held"),
        }
    }
}

/// Sends requests, the nth by `user(n)`. Returns the immediate decisions, and the number of requests that wait.
fn at_once(fixture: &mut Fixture, requests: u32, user: impl Fn(u32) -> String) -> (Ends, usize) {
    let (mut ends, mut waiting) = (Ends::default(), 0);
    for id in 1..=requests {
        let user = user(id);
        match fixture.limiter.request(fixture.now, RequestId(id), &Request::default().header("x-user-id", &user)) {
            Step::Wait => waiting += 1,
            Step::Decided(decision) => ends.decide(&decision),
            Step::Pass => panic!("a limit applies"),
        }
    }
    (ends, waiting)
}

/// Replies to all commands that are sent, 100 at a time.
fn redis_answers(fixture: &mut Fixture, redis: &mut Redis, ends: &mut Ends) {
    loop {
        let (answered, replies) = redis.replies(fixture, 100);
        if answered == 0 {
            return;
        }
        fixture.limiter.redis().handle_bytes(fixture.now, &replies);
        ends.add(core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect());
    }
}

fn mallory(_: u32) -> String {
    "mallory".into()
}

#[test]
fn few_checks_of_a_flood_reach_redis_and_the_buckets_tokens_are_admitted() {
    for mode in ["allow", "deny"] {
        for cache in [0, 10_000] {
            let of_filter = format!(r#""failure_mode": "{mode}", "deny_cache": {{"max_entries": {cache}}},"#);
            let mut fixture = Fixture::connected("", &of_filter);
            let (mut ends, submitted) = at_once(&mut fixture, 10_000, mallory);
            assert!(submitted < 100, "{submitted}");
            redis_answers(&mut fixture, &mut Redis::default(), &mut ends);
            assert_eq!(ends, Ends { admitted: 20, limited: 9_980, failed: 0 });
            let counted = fixture.counted();
            assert!(counted.contains(&format!("weir.crowd.denied {}", 10_000 - submitted)), "{counted:?}");
            assert!(counted.contains(&"weir.requests.denied 9980".to_owned()), "{counted:?}");
        }
    }
}

#[test]
fn requests_of_a_flood_get_the_time_until_a_token_exists() {
    let mut fixture = Fixture::connected("", "");
    at_once(&mut fixture, 100, mallory);
    let Step::Decided(Decision::Answer(reply)) = fixture.request(RequestId(999), "mallory") else {
        panic!("the request waits")
    };
    assert_eq!((reply.status.code(), retry_after(&reply)), (429, Some("1")));
    assert_eq!(fixture.request(RequestId(1_000), "alice"), Step::Wait, "another user");
}

#[test]
fn a_denial_of_a_flood_has_the_time_of_redis_clock() {
    let mut fixture = Fixture::connected("", r#""emit_metadata": true,"#);
    fixture.request(ALICE, "alice");
    fixture.redis_replies(b"*2\r\n:1795132800000000\r\n:0\r\n");
    at_once(&mut fixture, 100, mallory);
    fixture.effects();
    let step = fixture.request(RequestId(999), "mallory");
    assert!(matches!(step, Step::Decided(Decision::Answer(_))), "{step:?}");
    let effects = fixture.effects();
    let [Effect::Annotate(RequestId(999), entries)] = &effects[..] else { panic!("{effects:?}") };
    let time = entries.iter().find(|(name, _)| *name == "weir.redis_unix_time_us");
    assert_eq!(time.map(|(_, value)| value.as_str()), Some("1795132800000000"));
}

#[test]
fn a_flood_that_redis_decides_too_late_is_denied_and_not_admitted() {
    for mode in ["allow", "deny"] {
        let mut fixture = Fixture::connected("", &format!(r#""failure_mode": "{mode}","#));
        fixture.request(ALICE, "alice");
        fixture.redis_replies(ADMITTED);
        let (mut ends, _) = at_once(&mut fixture, 10_000, mallory);
        fixture.request(RequestId(20_000), "alice");
        fixture.now = fixture.now.plus(Micros::from_millis(300));
        assert_eq!(fixture.tick(), [], "bytes that have arrived are read first");
        // The tick was late: a busy proxy reads the replies within eight ticks.
        (0..8).for_each(|_| ends.add(fixture.tick()));
        let failed = usize::from(mode == "deny");
        assert_eq!(ends, Ends { admitted: 1 - failed, limited: 10_000, failed }, "only mallory's key floods");
    }
}

#[test]
fn a_flood_is_decided_by_the_failure_mode_once_redis_has_been_silent_for_a_second() {
    let mut fixture = Fixture::connected("", r#""redis": {"cluster": "redis", "timeout": "0.5s"},"#);
    for burst in 0..2_u32 {
        for id in 1..=100 {
            fixture.request(RequestId(1_000 * burst + id), "mallory");
        }
        let mut ends = Ends::default();
        for _ in 0..120 {
            fixture.now = fixture.now.plus(Micros::from_millis(5));
            ends.add(fixture.tick());
        }
        let (decided, others) = if burst == 0 { (ends.limited, ends.admitted) } else { (ends.admitted, ends.limited) };
        assert!(decided >= 64 && (others, ends.failed) == (0, 0), "{burst}: {ends:?}");
    }
}

/// Redis is not silent: the proxy has not had the time to read its replies.
#[test]
fn a_flood_is_denied_however_long_the_turns_of_the_proxy_take() {
    let mut fixture = Fixture::connected("", "");
    let mut ends = Ends::default();
    for burst in 0..2_u32 {
        for id in 1..=100 {
            fixture.request(RequestId(1_000 * burst + id), "mallory");
        }
        for span in [3_000].into_iter().chain([1; 20]) {
            fixture.now = fixture.now.plus(Micros::from_millis(span));
            ends.add(fixture.tick());
        }
    }
    assert_eq!((ends.admitted, ends.failed), (0, 0), "{ends:?}");
}

/// The worker reads the replies of several turns before all users are decided, long after the deadlines by the clock.
/// Users wait for room in the queue for four turns, which are more than two timeouts.
#[test]
fn each_user_of_a_crowd_is_decided_however_long_the_turns_of_the_proxy_take() {
    let of_filter = r#""failure_mode": "deny", "redis": {"cluster": "redis", "timeout": "5s"},"#;
    let mut fixture = Fixture::connected("", of_filter);
    let mut redis = Redis::default();
    let (mut ends, waiting) = at_once(&mut fixture, 6_000, |id| format!("user-{id}"));
    assert_eq!((waiting, fixture.limiter.redis().in_flight()), (6_000, 4_096));
    for _ in 0..12 {
        fixture.now = fixture.now.plus(Micros::from_millis(3_000));
        let (_, replies) = redis.replies(&mut fixture, 8);
        fixture.limiter.redis().handle_bytes(fixture.now, &replies);
        ends.add(core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect());
        fixture.limiter.tick(fixture.now);
        ends.add(core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect());
    }
    assert_eq!(ends, Ends { admitted: 6_000, limited: 0, failed: 0 });
}

/// Redis is gone: the failure mode decides, though late.
#[test]
fn a_proxy_that_is_always_busy_does_not_wait_for_ever() {
    let of_filter = r#""failure_mode": "deny", "redis": {"cluster": "redis", "timeout": "5s"},"#;
    let mut fixture = Fixture::connected("", of_filter);
    let (mut ends, _) = at_once(&mut fixture, 6_000, |id| format!("user-{id}"));
    for _ in 0..24 {
        fixture.now = fixture.now.plus(Micros::from_millis(3_000));
        ends.add(fixture.tick());
    }
    assert_eq!(ends, Ends { admitted: 0, limited: 0, failed: 6_000 });
}

#[test]
fn many_users_at_once_wait_for_room_and_each_is_decided() {
    let mut fixture = Fixture::connected("", r#""failure_mode": "deny","#);
    let (mut ends, waiting) = at_once(&mut fixture, 10_000, |id| format!("user-{id}"));
    assert_eq!((waiting, fixture.limiter.redis().in_flight()), (10_000, 4_096));
    redis_answers(&mut fixture, &mut Redis::default(), &mut ends);
    assert_eq!(ends, Ends { admitted: 10_000, limited: 0, failed: 0 });
    assert!(fixture.limiter.queue.is_empty() && fixture.limiter.pending.len() == 0);
}

#[test]
fn a_request_that_waits_for_room_until_its_deadline_is_decided_by_the_failure_mode() {
    let mut fixture = Fixture::connected("", r#""failure_mode": "deny", "stat_prefix": "w","#);
    let (mut ends, _) = at_once(&mut fixture, 5_000, |id| format!("user-{id}"));
    fixture.limiter.done(fixture.now, RequestId(4_999));
    fixture.now = fixture.now.plus(Micros::from_millis(50));
    ends.add(fixture.tick());
    ends.add(fixture.tick());
    assert_eq!(ends, Ends { admitted: 0, limited: 0, failed: 4_999 });
    let counted = fixture.counted();
    assert!(counted.contains(&"w.redis.overloaded 903".to_owned()), "{counted:?}");
    assert!(counted.contains(&"w.redis.timeout 4096".to_owned()), "{counted:?}");
}

#[test]
fn a_flood_of_a_large_bucket_leaves_room_for_other_keys_and_is_never_admitted_by_the_failure_mode() {
    let large = r#""token_bucket": {"max_tokens": 100000, "tokens_per_fill": 1, "fill_interval": "3600s"}"#;
    for spent in [0, u64::MAX] {
        let mut fixture = Fixture::of(large, r#""deny_cache": {"max_entries": 0},"#);
        fixture.connect();
        let mut redis = Redis::default();
        redis.lacks.insert("weir:per_user:mallory".into(), spent.min(100_000 * 3_600_000_000));
        let (mut ends, waiting) = at_once(&mut fixture, 30_000, mallory);
        assert!(waiting < 20_000 && ends.limited == 30_000 - waiting && ends.admitted == 0, "{ends:?}");
        assert_eq!(
            fixture.limiter.request(fixture.now, RequestId(99_999), &Request::default().header("x-user-id", "alice")),
            Step::Wait
        );
        redis_answers(&mut fixture, &mut redis, &mut ends);
        let admitted = if spent == 0 { waiting + 1 } else { 1 };
        assert_eq!((ends.admitted, ends.failed), (admitted, 0));
    }
}

#[test]
fn when_the_connection_is_lost_those_that_wait_for_room_are_decided_as_well() {
    let mut fixture = Fixture::connected("", r#""failure_mode": "deny","#);
    let (mut ends, _) = at_once(&mut fixture, 9_000, |id| format!("user-{id}"));
    fixture.send();
    fixture.limiter.redis().handle_closed(fixture.now);
    ends.add(fixture.effects());
    assert_eq!(ends, Ends { admitted: 0, limited: 0, failed: 9_000 });
}

#[test]
fn while_many_users_wait_for_room_overrides_are_read_all_the_same() {
    let mut fixture = Fixture::new(
        "",
        r#""redis": {"cluster": "redis", "max_in_flight": 10}, "overrides": {"refresh_interval": "1s"},"#,
    );
    let (mut redis, mut ends) = (Redis::default(), Ends::default());
    fixture.request(RequestId(0), "warm-up");
    fixture.tick();
    fixture.redis_replies(PONG);
    fixture.redis_replies(&[ADMITTED, b"-ERR not now\r\n"].concat());
    for turn in 1..=1_200 {
        for id in 0..20 {
            fixture.request(RequestId(20 * turn + id), &format!("user-{turn}-{id}"));
        }
        fixture.now = fixture.now.plus(Micros::from_millis(5));
        // The requests of a turn are more than have room.
        let (_, replies) = redis.replies(&mut fixture, 1_000);
        fixture.limiter.redis().handle_bytes(fixture.now, &replies);
        ends.add(core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect());
        fixture.limiter.tick(fixture.now);
        ends.add(core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect());
    }
    assert!(redis.overrides_read >= 5, "{} times in 6 s", redis.overrides_read);
}

/// The request before the flood has waited in vain: it is not the flood that keeps Redis from replying.
#[test]
fn the_silence_of_redis_begins_with_the_first_undecided_request_and_not_with_a_flood() {
    let mut fixture = Fixture::connected("", r#""redis": {"cluster": "redis", "timeout": "0.9s"},"#);
    let mut ends = Ends::default();
    fixture.request(ALICE, "alice");
    for nth in 0..290 {
        if nth == 100 {
            (100..200).for_each(|id| drop(fixture.request(RequestId(id), "mallory")));
        }
        fixture.now = fixture.now.plus(Micros::from_millis(5));
        ends.add(fixture.tick());
    }
    assert!(ends.admitted >= 65 && (ends.limited, ends.failed) == (0, 0), "{ends:?}");
}

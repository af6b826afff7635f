//! Tests of heals: a worker remembers what was spent, and tells a Redis that has lost it.

use super::*;

const MS: fn(u64) -> Micros = Micros::from_millis;

/// Reply of one limit that admits at `seconds` by Redis' clock, when so many units were spent: a token has 600,000.
fn admitted(seconds: u64, spent: u64) -> Vec<u8> {
    format!("*2\r\n:{}\r\n:{spent}\r\n", Micros::from_secs(seconds).0).into_bytes()
}

impl Fixture {
    /// Admits a request of a user.
    fn admits(&mut self, user: &str, reply: &[u8]) {
        assert_eq!(self.request(ALICE, user), Step::Wait);
        let effects = self.redis_replies(reply);
        assert!(matches!(effects[..], [Effect::Decide(ALICE, Decision::Admit(_))]), "{effects:?}");
        self.limiter.done(self.now, ALICE);
    }

    /// Loses the connection, and connects with a request of a user. Returns what was sent.
    fn connects_again(&mut self, user: &str) -> String {
        self.limiter.redis().handle_closed(self.now);
        assert_eq!(self.request(BOB, user), Step::Wait);
        assert_eq!(self.tick(), [Effect::OpenStream]);
        self.sent();
        self.limiter.redis().handle_bytes(self.now, PONG);
        core::iter::from_fn(|| self.limiter.poll(self.now)).for_each(drop);
        self.sent()
    }

    /// Lets time pass in ticks of 10 ms, and returns what was sent.
    fn waits(&mut self, span: Micros) -> String {
        let (end, mut sent) = (self.now.plus(span), String::new());
        while self.now < end {
            self.now = self.now.plus(MS(10));
            self.limiter.tick(self.now);
            core::iter::from_fn(|| self.limiter.poll(self.now)).for_each(drop);
            sent += &self.sent();
        }
        sent
    }
}

/// Number of heals in what was sent.
fn heals(sent: &str) -> usize {
    let scripts = Scripts::new(false);
    let (_, heal) = scripts.named().into_iter().find(|(name, _)| *name == "heal").unwrap();
    sent.matches(heal.sha1_hex()).count()
}

#[test]
fn a_reply_that_lacks_what_was_spent_leads_to_a_heal() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.counted();
    // Of 5,600,000 units, a million has flowed back within a second.
    fixture.admits("alice", &admitted(11, 4_600_000));
    assert_eq!(fixture.sent(), "", "nothing is lost");
    fixture.admits("alice", &admitted(12, 0));
    let heal = fixture.sent();
    assert_eq!(heals(&heal), 1, "{heal}");
    // With the token that the last request has spent.
    assert!(heal.contains("weir:per_user:alice") && heal.contains("\r\n11000000\r\n$7\r\n5800000\r\n"), "{heal}");
    fixture.admits("alice", b"$1\r\n1\r\n*2\r\n:12000000\r\n:4800000\r\n");
    assert_eq!(fixture.sent(), "");
    assert!(fixture.counted().contains(&"weir.heal.buckets 1".to_owned()));
}

#[test]
fn a_loss_is_seen_once_and_healed_at_once() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "alice");
    fixture.sent();
    fixture.redis_replies(&[admitted(10, 0), admitted(10, 600_000)].concat());
    let sent = fixture.sent();
    assert!(heals(&sent) == 1 && sent.contains("\r\n6200000\r\n"), "{sent}");
    assert_eq!(heals(&fixture.waits(MS(50))), 0);
}

#[test]
fn two_seconds_after_a_void_heal_the_worker_believes_redis() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.admits("alice", &admitted(10, 600_000));
    assert_eq!(heals(&fixture.sent()), 1);
    // An operator has reset the bucket.
    fixture.redis_replies(b"$1\r\n2\r\n");
    fixture.admits("alice", &admitted(11, 600_000));
    fixture.admits("alice", &admitted(12, 1_200_000));
    assert_eq!(heals(&fixture.waits(MS(500))), 0);
    // What was spent since is remembered.
    fixture.admits("alice", &admitted(12, 0));
    let heal = fixture.sent();
    assert!(heals(&heal) == 1 && heal.contains("\r\n2400000\r\n"), "{heal}");
}

#[test]
fn after_a_new_connection_a_heal_precedes_the_next_check_of_each_bucket() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("alice", &admitted(10, 5_000_000));
    let sent = fixture.connects_again("alice");
    let (heal, check) = sent.split_once("EVALSHA").unwrap().1.split_once("EVALSHA").unwrap();
    assert_eq!((heals(heal), heals(check)), (1, 0), "{sent}");
    let effects = fixture.redis_replies(b"$1\r\n0\r\n*2\r\n:11000000\r\n:4600000\r\n");
    assert!(matches!(effects[..], [Effect::Decide(BOB, Decision::Admit(_))]), "{effects:?}");
    fixture.admits("alice", &admitted(11, 5_200_000));
    assert_eq!(heals(&fixture.waits(MS(500))), 0, "Redis has confirmed all buckets");
    assert!(!fixture.counted().contains(&"weir.heal.buckets 1".to_owned()), "nothing was lost");
}

#[test]
fn buckets_that_no_request_uses_are_healed_by_and_by() {
    let mut fixture = Fixture::connected("", "");
    for user in 0..150 {
        fixture.admits(&format!("user {user}"), &admitted(10, 5_000_000));
    }
    let sent = fixture.connects_again("stranger");
    assert_eq!(heals(&sent), 0, "the bucket is unknown");
    assert_eq!(heals(&fixture.waits(MS(50))), 0, "in less than a tenth of a second");
    fixture.redis_replies(&admitted(10, 0));
    let (mut buckets, mut calls) = (0, 0);
    for _ in 0..20 {
        let sent = fixture.waits(MS(50));
        let healed = sent.matches("weir:per_user:user%20").count();
        assert!(healed <= 64);
        if healed > 0 {
            (buckets, calls) = (buckets + healed, calls + 1);
            assert_eq!(heals(&sent), 1);
            let digits = "1".repeat(healed);
            fixture.redis_replies(format!("${healed}\r\n{digits}\r\n").as_bytes());
        }
    }
    assert_eq!((buckets, calls), (150, 3));
    assert!(fixture.counted().contains(&"weir.heal.buckets 150".to_owned()));
}

#[test]
fn a_bucket_that_is_full_again_is_not_healed_by_and_by() {
    // With the request's own token, the bucket lacks 5,600,000 units, of which a second brings a million.
    for (lost_after, healed) in [(5_490, 1), (5_500, 0)] {
        let mut fixture = Fixture::connected("", "");
        fixture.admits("alice", &admitted(10, 5_000_000));
        fixture.now = fixture.now.plus(MS(lost_after));
        fixture.connects_again("stranger");
        assert_eq!(heals(&fixture.waits(MS(100))), healed, "{lost_after} ms and a tenth of a second");
    }
}

#[test]
fn a_heal_without_a_reply_is_repeated_and_one_that_is_void_is_not() {
    for (reply, repeated) in [(&b"-OOM command not allowed\r\n"[..], 1), (b"$1\r\n2\r\n", 0), (b":1\r\n", 1)] {
        let mut fixture = Fixture::connected("", "");
        fixture.admits("alice", &admitted(10, 5_000_000));
        fixture.admits("alice", &admitted(10, 0));
        assert_eq!(heals(&fixture.waits(MS(20))), 1);
        fixture.redis_replies(reply);
        let sent = fixture.waits(MS(1_200));
        assert_eq!(heals(&sent), repeated, "{reply:?}: {sent}");
    }
}

#[test]
fn a_heal_that_was_needed_puts_the_other_buckets_in_doubt() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("bob", &admitted(10, 5_000_000));
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.admits("alice", &admitted(10, 0));
    assert_eq!(heals(&fixture.waits(MS(20))), 1);
    fixture.redis_replies(b"$1\r\n1\r\n");
    fixture.request(BOB, "bob");
    let sent = fixture.sent();
    assert_eq!((heals(&sent), sent.matches("weir:per_user:bob").count()), (1, 2), "{sent}");
    fixture.redis_replies(b"$1\r\n1\r\n*2\r\n:10000000\r\n:5600000\r\n");
    fixture.admits("bob", &admitted(10, 6_200_000));
    assert_eq!(fixture.sent(), "", "the heal was the first");
}

#[test]
fn a_bucket_is_remembered_while_it_lacks_a_sixteenth_and_a_loss_is_seen_in_any_reply() {
    for (spent, is_remembered) in [(0, false), (600_000, true)] {
        let mut fixture = Fixture::connected("", "");
        // With the request's own token, 1 or 2 of 20.
        fixture.admits("alice", &admitted(10, spent));
        assert_eq!(heals(&fixture.connects_again("alice")), usize::from(is_remembered), "{spent}");
        let mut fixture = Fixture::connected("", "");
        fixture.admits("alice", &admitted(10, spent));
        fixture.admits("alice", &admitted(10, 0));
        assert_eq!(heals(&fixture.waits(MS(20))), usize::from(is_remembered), "{spent}");
    }
}

#[test]
fn without_a_memory_nothing_is_healed() {
    let mut fixture = Fixture::connected("", r#""heal": {"max_keys": 0},"#);
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.admits("alice", &admitted(10, 0));
    let sent = [fixture.sent(), fixture.connects_again("alice")].concat();
    assert_eq!(heals(&sent), 0);
}

#[test]
fn what_redis_has_lost_stays_remembered_until_redis_has_had_time_to_heal() {
    let mut fixture = Fixture::connected("", "");
    fixture.admits("alice", &admitted(10, 5_000_000));
    fixture.admits("alice", &admitted(10, 0));
    assert_eq!(heals(&fixture.sent()), 1);
    // The heal is on its way: this reply lacks what it brings.
    fixture.redis_replies(b"$1\r\n2\r\n");
    fixture.admits("alice", &admitted(11, 600_000));
    let sent = fixture.connects_again("alice");
    assert!(heals(&sent) == 1 && sent.contains("\r\n6200000\r\n"), "not 1,200,000: {sent}");
}

#[test]
fn error_replies_to_heals_are_logged() {
    for (reply, line) in [
        (&b"-ERR Error running script: heal\r\n"[..], "redis refused: "),
        (b"*1\r\n:1\r\n", "redis protocol: malformed reply to a heal: expected a bulk string, found an array"),
    ] {
        let mut fixture = Fixture::connected("", "");
        // The connection began with an error, whose cause is logged once in ten seconds.
        fixture.waits(Micros::from_secs(11));
        fixture.admits("alice", &admitted(20, 5_000_000));
        fixture.admits("alice", &admitted(20, 0));
        assert_eq!(heals(&fixture.sent()), 1);
        let warned = |effects: &[Effect]| {
            let lines =
                effects.iter().filter_map(|effect| if let Effect::Warn(line) = effect { Some(line) } else { None });
            lines.filter(|warning| warning.contains(line)).count()
        };
        assert_eq!(warned(&fixture.redis_replies(reply)), 1, "{line}");
    }
}

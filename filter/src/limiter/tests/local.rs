//! Tests of `failure_mode: local`: requests that the worker decides by its shares while Redis is lost.

mod ends;
mod limits;

use super::*;
use crate::redis::Failure;

/// Name and value of the header of requests that the worker has decided.
const LOCAL: (&str, Option<&str>) = ("x-weir-failure-mode", Some("local"));
/// Key of pings and probes.
const PING: &str = "\r\nweir:local\r\n";
const LOCAL_HALF: &str = r#""failure_mode": "local", "local": {"share": 0.5},"#;
const MS: fn(u64) -> Micros = Micros::from_millis;

impl Fixture {
    /// Loses the connection, with a request in flight, and waits.
    fn loses_redis_for(&mut self, span: Micros) {
        self.request(RequestId(90), "in flight");
        self.limiter.redis().handle_closed(self.now);
        self.tick();
        self.now = self.now.plus(span);
        self.tick();
    }

    /// Connects again at the next attempt. Returns what was sent to Redis at once.
    fn returns(&mut self) -> String {
        while !self.tick().contains(&Effect::OpenStream) {
            self.now = self.now.plus(MS(10));
        }
        self.limiter.redis().handle_bytes(self.now, PONG);
        core::iter::from_fn(|| self.limiter.poll(self.now)).for_each(drop);
        self.sent.clear();
        self.now = self.now.plus(MS(50));
        self.limiter.tick(self.now);
        core::iter::from_fn(|| self.limiter.poll(self.now)).for_each(drop);
        self.sent()
    }

    /// Lets time pass, with an answer to each ping at once. Returns what was sent to Redis.
    fn sent_for(&mut self, span: Micros) -> String {
        let (until, mut all) = (self.now.plus(span), String::new());
        while self.now < until {
            self.now = self.now.plus(MS(1));
            self.limiter.tick(self.now);
            let sent = self.sent();
            if sent.contains(PING) {
                self.limiter.redis().handle_bytes(self.now, b":1\r\n");
                core::iter::from_fn(|| self.limiter.poll(self.now)).for_each(drop);
            }
            all.push_str(&sent);
        }
        all
    }

    /// Lets time pass, with an answer to each ping at once. Returns their number.
    fn answers_pings_for(&mut self, span: Micros) -> usize {
        self.sent_for(span).matches(PING).count()
    }

    /// Number of requests of a user that the worker admits at once, and the last answer.
    fn admitted_at_once(&mut self, user: &str) -> usize {
        (1_000..1_100)
            .filter(|request| {
                let step = self.request(RequestId(*request), user);
                let Step::Decided(decision) = step else { panic!("{step:?}") };
                matches!(decision, Decision::Admit(_))
            })
            .count()
    }
}

fn reply(step: Step) -> Rc<LocalReply> {
    match step {
        Step::Decided(Decision::Answer(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_admits_its_share_of_the_rate_without_redis_and_without_a_wait() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(Micros::ZERO);
    let denied = reply(fixture.request(ALICE, "alice"));
    assert_eq!((denied.status.code(), retry_after(&denied)), (429, Some("2")), "half of 100 a minute: 1.2 s");
    assert_eq!(denied.headers().find(|(name, _)| *name == LOCAL.0).map(|(_, value)| value), LOCAL.1);
    fixture.now = fixture.now.plus(MS(6_000));
    assert_eq!(fixture.admitted_at_once("alice"), 5);
    assert_eq!(fixture.admitted_at_once("bob"), 5, "of an unknown bucket since Redis was lost");
    fixture.now = fixture.now.plus(Micros::from_secs(3_600));
    assert_eq!(fixture.admitted_at_once("alice"), 10, "half of the burst");
}

#[test]
fn requests_that_the_worker_decides_are_marked_and_counted() {
    let mut fixture =
        Fixture::connected("", r#""emit_metadata": true, "failure_mode": "local", "local": {"share": 0.5},"#);
    fixture.loses_redis_for(MS(1_200));
    fixture.counted();
    let Step::Decided(Decision::Admit(headers)) = fixture.request(ALICE, "alice") else { panic!() };
    assert_eq!((header(&headers, LOCAL.0), header(&headers, "x-ratelimit-remaining")), (LOCAL.1, Some("0")));
    let effects: Vec<Effect> = core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).collect();
    let entries: Vec<&(&str, String)> = effects
        .iter()
        .filter_map(|effect| if let Effect::Annotate(ALICE, entries) = effect { Some(entries) } else { None })
        .flatten()
        .collect();
    let entry = |name| entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!((entry("weir.decision"), entry("weir.failure_mode")), (Some("admitted"), Some("local")));
    assert_eq!((entry("weir.failure"), entry("weir.redis_unix_time_us")), (Some("reset"), None));
    reply(fixture.request(BOB, "alice"));
    assert_eq!(
        fixture.counted(),
        [
            "weir.limit.per_user.admitted 1",
            "weir.limit.per_user.denied 1",
            "weir.local.admitted 1",
            "weir.local.denied 1",
            "weir.redis.reset 2",
            "weir.requests.admitted 1",
            "weir.requests.denied 1",
        ]
    );
}

#[test]
fn a_new_worker_has_its_configured_share_and_none_by_default() {
    for (local, admitted) in [("", 0), (r#""local": {"new_worker_share": 0.25},"#, 5)] {
        let mut fixture = Fixture::new("", &[r#""failure_mode": "local","#, local].concat());
        assert_eq!(fixture.request(ALICE, "alice"), Step::Wait, "it has never asked Redis");
        assert_eq!(fixture.tick(), [Effect::OpenStream]);
        fixture.loses_redis_for(Micros::from_secs(3_600));
        assert_eq!(fixture.admitted_at_once("alice"), admitted, "{local}");
        let denied = reply(fixture.request(BOB, "alice"));
        assert!(retry_after(&denied).is_some(), "Redis may be back soon");
    }
}

#[test]
fn what_was_spent_is_posted_and_answered_before_redis_is_asked() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(6_000));
    assert_eq!(fixture.admitted_at_once("alice"), 5);
    let probe = fixture.returns();
    assert!(probe.contains("weir:local") && !probe.contains("alice"), "{probe}");
    assert!(matches!(fixture.request(ALICE, "alice"), Step::Decided(_)), "Redis has not answered the probe");
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let post = fixture.sent();
    assert!(post.contains("weir:per_user:alice\r\n"), "{post}");
    assert!(post.contains("$1\r\nt\r\n$1\r\n0\r\n$7\r\n3000000\r\n"), "5 tokens of 600,000 units: {post}");
    assert!(matches!(fixture.request(BOB, "bob"), Step::Decided(_)), "Redis has not answered the post");
    fixture.redis_replies(b":1\r\n");
    // Both decide: alice has no token in memory.
    assert!(matches!(fixture.request(ALICE, "alice"), Step::Decided(Decision::Answer(_))));
    assert_eq!(fixture.request(BOB, "carol"), Step::Wait);
    fixture.now = fixture.now.plus(MS(400));
    fixture.tick();
    assert_eq!(fixture.request(RequestId(3), "alice"), Step::Wait, "Redis alone decides again");
}

#[test]
fn a_post_is_what_the_workers_bucket_lacks_and_its_share_of_the_time_in_which_all_return() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(60_000));
    assert_eq!(fixture.admitted_at_once("alice"), 10);
    let back = fixture.now.plus(MS(6_100));
    fixture.returns();
    fixture.now = back;
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let post = fixture.sent();
    // The bucket lacks 4.92 tokens. A third of one more flows in within 0.4 s.
    assert!(post.contains("$1\r\nt\r\n$1\r\n0\r\n$7\r\n3600000\r\n"), "6 tokens: {post}");
}

#[test]
fn a_post_that_fails_is_sent_again_at_the_next_return() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(6_000));
    fixture.admitted_at_once("alice");
    fixture.returns();
    fixture.redis_replies(b":1\r\n");
    fixture.redis_replies(b"-OOM command not allowed\r\n");
    assert_eq!(fixture.admitted_at_once("alice"), 0, "the worker still decides, of the same bucket");
    fixture.now = fixture.now.plus(MS(60));
    fixture.limiter.tick(fixture.now);
    let probe = fixture.sent();
    assert!(probe.contains("weir:local") && !probe.contains("alice"), "{probe}");
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    assert!(fixture.sent().contains("weir:per_user:alice\r\n"));
}

#[test]
fn a_single_failure_while_redis_answers_denies_one_request() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.request(BOB, "bob");
    fixture.redis_replies(ADMITTED);
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(b"-ERR once\r\n");
    let decided = effects.iter().find_map(|effect| match effect {
        Effect::Decide(ALICE, Decision::Answer(reply)) => Some(reply),
        _ => None,
    });
    assert_eq!(retry_after(decided.unwrap()), Some("1"));
    assert_eq!(fixture.request(BOB, "bob"), Step::Wait, "Redis is not lost");
}

#[test]
fn deny_of_another_limit_goes_before_and_allow_does_not_count() {
    let limits = |mode: &str| {
        format!(
            r#"{{"redis": {{"cluster": "redis"}}, "overrides": {{"enabled": false}}, "failure_mode": "local",
                "local": {{"share": 1}}, "limits": [
                {{"name": "a", "descriptor": [], "token_bucket": {{"max_tokens": 5, "fill_interval": "1s"}}}},
                {{"name": "b", "descriptor": [], "failure_mode": "{mode}",
                  "fixed_window": {{"max_requests": 1, "window": "60s"}}}}]}}"#
        )
    };
    for (mode, status) in [("allow", None), ("deny", Some(503)), ("local", Some(429))] {
        let config = config::parse(limits(mode).as_bytes(), &|_| None).unwrap();
        let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
        fixture.request(RequestId(7), "alice");
        fixture.tick();
        fixture.loses_redis_for(Micros::from_secs(9));
        let step = fixture.request(ALICE, "alice");
        let found = match &step {
            Step::Decided(Decision::Answer(reply)) => Some(reply.status.code()),
            _ => None,
        };
        assert_eq!(found, status, "{mode}: without Redis' clock, the worker does not know when a window begins");
    }
}

#[test]
fn a_configuration_without_local_keeps_nothing_and_probes_nothing() {
    let mut fixture = Fixture::connected("", "");
    assert!(fixture.limiter.local.is_none());
    fixture.loses_redis_for(MS(100));
    assert_eq!(fixture.request(ALICE, "alice"), Step::Decided(Decision::Admit(Vec::new())));
    assert_eq!(fixture.sent(), "");
}

#[test]
fn redis_grants_shares_by_heartbeats_a_second_apart() {
    let mut fixture = Fixture::connected("", r#""failure_mode": "local","#);
    // The heartbeat after the warm-up.
    fixture.redis_replies(b"*2\r\n:1\r\n:0\r\n");
    fixture.request(ALICE, "alice");
    fixture.redis_replies(ADMITTED);
    let sent = fixture.sent_for(Micros::from_secs(1));
    assert!(sent.contains("$20\r\nweir:{local}per_user\r\n"), "{sent}");
    // alice asked for one token in a second or less. The worker holds no part of 20.
    assert!(sent.contains("\r\n$4\r\n3000\r\n$4\r\n1"), "{sent}");
    assert!(sent.ends_with("\r\n$1\r\n0\r\n$2\r\n20\r\n"), "{sent}");
    fixture.redis_replies(b"*2\r\n:4\r\n:5\r\n");
    fixture.limiter.tick(fixture.now);
    assert_eq!(fixture.sent(), "", "not before a second");
    let sent = fixture.sent_for(Micros::from_secs(1));
    assert!(sent.ends_with("$1\r\n0\r\n$1\r\n5\r\n$2\r\n20\r\n"), "nothing was asked for, 5 parts are held: {sent}");
    fixture.loses_redis_for(Micros::from_secs(3_600));
    assert_eq!(fixture.admitted_at_once("alice"), 5, "a quarter of the burst");
}

#[test]
fn a_worker_without_requests_pings_redis_and_needs_no_heartbeat_for_shares_by_hand() {
    let mut fixture = Fixture::new("", LOCAL_HALF);
    fixture.now = Micros::from_secs(9);
    fixture.limiter.tick(fixture.now);
    assert_eq!(fixture.sent(), "", "no request has come yet");
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(ADMITTED);
    assert_eq!(fixture.answers_pings_for(Micros::from_secs(7)), 20);
    fixture.request(ALICE, "alice");
    assert!(fixture.sent().contains("alice"), "Redis alone decides");
}

/// Requests that Redis admits at once in the present phase, which one of three users makes.
fn asks(fixture: &mut Fixture, user: &str) -> bool {
    let step = fixture.request(ALICE, user);
    fixture.limiter.done(fixture.now, ALICE);
    step == Step::Wait
}

#[test]
fn a_worker_that_heard_nothing_for_a_while_needs_both_until_all_are_back() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.request(ALICE, "alice");
    fixture.redis_replies(ADMITTED);
    fixture.now = fixture.now.plus(MS(350));
    fixture.tick();
    fixture.now = fixture.now.plus(MS(349));
    assert!(asks(&mut fixture, "alice"), "others do not decide by themselves yet");
    fixture.now = fixture.now.plus(MS(1));
    assert!(!asks(&mut fixture, "alice"), "they may do so before the request is at Redis");
    fixture.redis_replies(b":1\r\n");
    fixture.redis_replies(ADMITTED);
    fixture.now = fixture.now.plus(MS(399));
    assert!(!asks(&mut fixture, "alice"), "others may not be back yet");
    fixture.now = fixture.now.plus(MS(1));
    assert!(asks(&mut fixture, "alice"));
}

#[test]
fn a_reply_after_a_silence_begins_the_return_without_a_request() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.now = fixture.now.plus(MS(350));
    fixture.tick();
    fixture.now = fixture.now.plus(MS(700));
    fixture.redis_replies(b":1\r\n");
    assert!(!asks(&mut fixture, "alice"));
    assert_eq!(fixture.answers_pings_for(MS(400)), 1);
    assert!(asks(&mut fixture, "alice"));
}

#[test]
fn a_worker_that_loses_its_connection_without_a_call_in_flight_returns_like_others() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    assert!(!asks(&mut fixture, "alice"), "others may decide by themselves");
    assert_eq!(fixture.tick(), []);
    assert_eq!(fixture.tick(), [Effect::OpenStream], "the ping connects again");
    fixture.redis_replies(PONG);
    fixture.now = fixture.now.plus(MS(100));
    assert!(!asks(&mut fixture, "alice"), "Redis has not answered the ping");
    fixture.redis_replies(b":1\r\n");
    assert_eq!(fixture.answers_pings_for(MS(399)), 1);
    assert!(!asks(&mut fixture, "alice"));
    fixture.now = fixture.now.plus(MS(1));
    assert!(asks(&mut fixture, "alice"));
}

#[test]
fn redis_is_lost_after_a_second_and_a_timeout_without_a_reply() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    let heard = fixture.now;
    for (at, is_lost) in [(500, false), (990, false), (1_300, true)] {
        fixture.now = heard.plus(MS(at));
        fixture.limiter.may_lose_redis(fixture.now, Failure::Timeout);
        assert_eq!(fixture.limiter.local.as_ref().unwrap().cause().is_some(), is_lost, "{at} ms");
    }
}

#[test]
fn a_post_that_is_lost_with_the_connection_is_sent_again_at_the_next_return() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(6_000));
    assert_eq!(fixture.admitted_at_once("alice"), 5);
    fixture.returns();
    fixture.redis_replies(b":1\r\n");
    assert_eq!(fixture.admitted_at_once("bob"), 5, "while the first post is in flight");
    fixture.redis_replies(b":1\r\n");
    // The second post, of what bob has spent, is in flight, and the worker returns.
    assert!(fixture.sent().contains("bob"));
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    fixture.returns();
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let post = fixture.sent();
    assert!(post.contains("weir:per_user:bob\r\n") && !post.contains("alice"), "{post}");
}

#[test]
fn overrides_of_keys_are_believed_without_redis_and_without_a_wait() {
    let json = r#"{"redis": {"cluster": "redis"}, "failure_mode": "local", "local": {"share": 0.5}, "limits": [{
        "name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
        "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    let keys = fixture.limiter.key_overrides.as_mut().unwrap();
    let redis_time = Some(Micros::from_secs(1_795_132_800));
    keys.tell(fixture.now, redis_time, b"weir:per_user:alice", br#"{"is": "blocked", "until": 1795132830}"#).unwrap();
    assert_eq!(fixture.request(ALICE, "bob"), Step::Wait);
    fixture.tick();
    fixture.redis_replies(PONG);
    fixture.loses_redis_for(MS(6_000));
    assert_eq!(fixture.admitted_at_once("bob"), 5);
    assert_eq!(fixture.admitted_at_once("alice"), 0);
    assert_eq!(fixture.sent(), "");
    fixture.now = fixture.now.plus(Micros::from_secs(24));
    assert_eq!(fixture.admitted_at_once("alice"), 10, "the override has ended");
}

#[test]
fn overrides_of_limits_are_read_each_second_with_local() {
    let of = |mode: &str| {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "failure_mode": "{mode}", "limits": [{{"name": "a", "descriptor": [],
                "token_bucket": {{"max_tokens": 5, "fill_interval": "1s"}}}}]}}"#
        );
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        super::super::start::refresh_interval(&config, config.overrides.unwrap())
    };
    assert_eq!((of("local"), of("deny")), (MS(900), Micros::from_secs(5)));
}

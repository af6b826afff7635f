//! Limits in virtual time: each algorithm on the filter's own worker, over the virtual proxy and the virtual Redis.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use weir_filter::units::Micros;
use weir_virtual::{Answer, Exchange, Mesh};

use support::{exchange, start};

fn mesh_of(workers: usize, limits: &str) -> Mesh {
    let configuration = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{limits}]}}"#);
    start(workers, &configuration, Micros::ZERO).unwrap()
}

fn mesh(limits: &str) -> Mesh {
    mesh_of(1, limits)
}

fn by(user: &str) -> Exchange {
    taking(user, Micros::ZERO)
}

fn taking(user: &str, takes: Micros) -> Exchange {
    exchange(&[("x-user-id", user)], takes)
}

/// Sends requests at once, and returns their answers in the order of the requests.
fn at_once(mesh: &Mesh, worker: usize, exchanges: impl IntoIterator<Item = Exchange>) -> Vec<Answer> {
    exchanges.into_iter().for_each(|exchange| _ = mesh.begin(worker, exchange).unwrap());
    assert!(mesh.run_until_answered(mesh.now().plus(Micros::from_secs(600))), "every request is answered");
    let mut answers = mesh.take_answers();
    answers.sort_by_key(|(id, _)| *id);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn ask(mesh: &Mesh, user: &str) -> Answer {
    at_once(mesh, 0, [by(user)]).remove(0)
}

fn admitted(mesh: &Mesh, user: &str, count: usize) -> usize {
    (0..count).filter(|_| ask(mesh, user).status == 200).count()
}

const PER_USER: &str = r#""name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}]"#;

fn limit(algorithm: &str) -> Mesh {
    mesh(&format!("{{{PER_USER}, {algorithm}}}"))
}

#[test]
fn a_token_bucket_admits_its_burst_and_then_its_rate() {
    let mesh = limit(r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}"#);
    assert_eq!(admitted(&mesh, "alice", 25), 20);
    let denied = ask(&mesh, "alice");
    assert_eq!((denied.status, denied.header("retry-after"), denied.is_local), (429, Some("1"), true));
    mesh.advance(Micros::from_secs(6));
    assert_eq!(admitted(&mesh, "alice", 25), 10);
    assert_eq!(ask(&mesh, "bob").header("x-ratelimit-remaining"), Some("19"));
    assert_eq!(mesh.redis().unknown(), [""; 0]);
}

#[test]
fn requests_at_once_on_several_workers_share_one_bucket() {
    let one = r#""token_bucket": {"max_tokens": 100, "tokens_per_fill": 1, "fill_interval": "60s"}"#;
    let mesh = mesh_of(4, &format!("{{{PER_USER}, {one}}}"));
    for request in 0..2_000 {
        mesh.begin(request % 4, by("alice")).unwrap();
    }
    assert!(mesh.run_until_answered(mesh.now().plus(Micros::from_secs(5))));
    let answers = mesh.take_answers();
    assert_eq!(answers.len(), 2_000);
    assert_eq!(answers.iter().filter(|(_, answer)| answer.status == 200).count(), 100);
}

#[test]
fn a_monthly_quota_restarts_with_the_month() {
    let mesh = limit(r#""quota": {"max_requests": 3, "unit": "month"}"#);
    assert_eq!(admitted(&mesh, "alice", 5), 3);
    mesh.advance(Micros::from_secs(30 * 86_400));
    assert_eq!(admitted(&mesh, "alice", 5), 0, "January has 31 days");
    mesh.advance(Micros::from_secs(86_400));
    assert_eq!(admitted(&mesh, "alice", 5), 3);
}

#[test]
fn quotas_of_weeks_and_offsets_and_windows_of_each_kind_hold() {
    for (algorithm, span) in [
        (r#""quota": {"max_requests": 3, "unit": "week"}"#, 7 * 86_400),
        (r#""quota": {"max_requests": 3, "unit": "day", "utc_offset": "+05:45"}"#, 86_400),
        (r#""fixed_window": {"max_requests": 3, "window": "60s"}"#, 60),
        (r#""sliding_window": {"max_requests": 3, "window": "60s", "mode": "exact"}"#, 60),
        (r#""sliding_window": {"max_requests": 3, "window": "60s", "mode": "approximate"}"#, 120),
    ] {
        let mesh = limit(algorithm);
        assert_eq!(admitted(&mesh, "alice", 5), 3, "{algorithm}");
        mesh.advance(Micros::from_secs(span));
        assert_eq!(admitted(&mesh, "alice", 5), 3, "{algorithm}");
        assert_eq!(mesh.redis().unknown(), [""; 0]);
    }
}

#[test]
fn slots_are_taken_until_the_response_has_ended() {
    let mesh = limit(r#""concurrency": {"max_requests": 2}"#);
    let slow = || taking("alice", Micros::from_secs(30));
    let answers = at_once(&mesh, 0, [slow(), slow(), slow()]);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429]);
    assert_eq!(answers[0].ended.minus(answers[0].decided), Micros::from_secs(30));
    assert_eq!(admitted(&mesh, "alice", 5), 5, "one after the other");
}

#[test]
fn early_requests_are_held_until_their_tokens_exist() {
    let algorithm =
        r#""token_bucket": {"max_tokens": 1, "tokens_per_fill": 10, "fill_interval": "1s"}, "max_delay": "1s""#;
    let mesh = limit(algorithm);
    let answers = at_once(&mesh, 0, (0..5).map(|_| by("alice")));
    for (turn, answer) in (0..).zip(&answers) {
        let waited = answer.decided.minus(answer.began);
        let due = Micros::from_millis(100).times(turn);
        assert!(answer.status == 200 && waited >= due && waited <= due.plus(Micros::from_millis(10)), "{answer:?}");
    }
}

#[test]
fn leases_admit_no_more_than_the_bucket_has() {
    let algorithm = r#""token_bucket": {"max_tokens": 100, "tokens_per_fill": 1, "fill_interval": "60s"},
        "lease": {"max": 20, "ttl": "2s"}"#;
    let mesh = mesh_of(3, &format!("{{{PER_USER}, {algorithm}}}"));
    let mut admitted = 0;
    for request in 0..300 {
        admitted += usize::from(at_once(&mesh, request % 3, [by("alice")])[0].status == 200);
    }
    assert!((90..=100).contains(&admitted), "{admitted}");
    assert!(mesh.redis().commands() < 250, "{} commands", mesh.redis().commands());
    assert_eq!(mesh.redis().unknown(), [""; 0]);
}

#[test]
fn a_limit_in_shadow_mode_denies_nothing_and_an_enforced_limit_beside_it_does() {
    let bucket = |name: &str, tokens: u64, shadow: bool| {
        format!(
            r#"{{"name": "{name}", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], "shadow_mode": {shadow},
                "token_bucket": {{"max_tokens": {tokens}, "tokens_per_fill": 1, "fill_interval": "60s"}}}}"#
        )
    };
    let mesh = mesh(&[bucket("small", 2, true), bucket("large", 5, false)].join(","));
    assert_eq!(admitted(&mesh, "alice", 8), 5);
    mesh.workers()[0].tick();
    assert_eq!(mesh.workers()[0].metric("weir.limit.small.shadow_denied"), Some(6));
}

#[test]
fn without_redis_the_failure_mode_answers_and_state_survives() {
    let algorithm =
        r#""failure_mode": "deny", "token_bucket": {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "600s"}"#;
    let mesh = limit(algorithm);
    assert_eq!(admitted(&mesh, "alice", 2), 2);
    mesh.stop_redis();
    assert_eq!(ask(&mesh, "alice").status, 503);
    mesh.start_redis();
    mesh.advance(Micros::from_secs(6));
    assert_eq!(admitted(&mesh, "alice", 3), 1);
    mesh.redis().flush();
    mesh.advance(Micros::from_secs(2));
    // The reply to the first request shows the loss, and the worker heals it.
    assert_eq!(admitted(&mesh, "alice", 5), 1);
}

#[test]
fn overrides_of_keys_hold_at_once_and_those_of_limits_after_a_refresh() {
    let mesh = limit(r#""token_bucket": {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "600s"}"#);
    assert_eq!(admitted(&mesh, "alice", 1), 1);
    mesh.redis().set_key_override(b"weir:per_user:alice", b"blocked", Some(mesh.now().plus(Micros::from_secs(5))));
    assert_eq!((admitted(&mesh, "alice", 2), admitted(&mesh, "bob", 2)), (0, 2));
    mesh.advance(Micros::from_secs(6));
    assert_eq!(admitted(&mesh, "alice", 5), 2);
    mesh.redis().set_limit_override(b"weir:overrides", b"per_user", b"unlimited");
    assert_eq!(admitted(&mesh, "alice", 2), 0);
    mesh.advance(Micros::from_secs(11));
    assert_eq!(admitted(&mesh, "alice", 9), 9);
}

#[test]
fn callouts_decide_as_the_stream_does() {
    let configuration = format!(
        r#"{{"redis": {{"cluster": "redis", "transport": "callout"}}, "failure_mode": "deny", "limits": [{{{PER_USER},
            "token_bucket": {{"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "60s"}}}}]}}"#
    );
    let mesh = start(1, &configuration, Micros::from_millis(1)).unwrap();
    assert_eq!(admitted(&mesh, "alice", 5), 3);
    mesh.stop_redis();
    assert_eq!(ask(&mesh, "bob").status, 503);
}

#[test]
fn a_refused_configuration_names_its_errors() {
    let configuration = r#"{"redis": {"cluster": "redis"}, "limts": []}"#;
    let errors = start(1, configuration, Micros::ZERO).unwrap_err();
    assert!(errors.iter().any(|error| error.contains("limts") && error.contains("limits")), "{errors:?}");
}

/// Two runs from one seed are the same, event by event.
#[test]
fn a_run_repeats_itself() {
    let run = || {
        let algorithm =
            r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 7, "fill_interval": "1s"}, "max_delay": "2s""#;
        let mesh = mesh_of(3, &format!("{{{PER_USER}, {algorithm}}}"));
        for request in 0..500 {
            mesh.begin(request % 3, taking("alice", Micros(request as u64 * 37))).unwrap();
            mesh.run_until(mesh.now().plus(Micros(request as u64 % 29 * 400)));
        }
        mesh.run_until_answered(mesh.now().plus(Micros::from_secs(60)));
        mesh.take_answers()
    };
    assert_eq!(run(), run());
}

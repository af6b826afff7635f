//! Log lines of failures, and of their end.

use super::*;

/// Status of the host for a callout to an unknown cluster.
const BAD_ARGUMENT: u32 = 2;
/// Status of the host for a stream to an unknown cluster.
const PARSE_FAILURE: u32 = 4;
/// Status of the host for any other refusal.
const INTERNAL_FAILURE: u32 = 10;

fn lines() -> Vec<String> {
    let line = |call| if let Call::Log(line) = call { Some(line) } else { None };
    take_calls().into_iter().filter_map(line).collect()
}

#[test]
fn a_slow_redis_is_one_warning_in_ten_seconds_and_its_recovery_is_information() {
    let proxy = connected(PER_USER);
    let mut logged = Vec::new();
    for context in 100..160 {
        proxy.request(context, &by("alice"), true);
        proxy.turn();
        proxy.passes(60);
        proxy.tick();
        proxy.tick();
        proxy.redis_says(ADMITTED);
        proxy.done(context);
        proxy.passes(138);
        logged.extend(lines());
    }
    let [first, second] = &logged[..] else { panic!("{logged:#?}") };
    let start = "Warn weir: redis timeout: no reply within redis.timeout (cluster \"redis\"; ";
    assert_eq!(*first, format!("{start}requests failed open: 1, failed closed: 0)"));
    assert_eq!(
        *second,
        format!("{start}since the last warning of this cause, requests failed open: 50, failed closed: 0)")
    );
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    proxy.redis_says(ADMITTED);
    assert_eq!(lines(), [""; 0]);
    proxy.passes(1_000);
    proxy.tick();
    let [recovered] = &lines()[..] else { panic!() };
    assert_eq!(
        *recovered,
        "Info weir: redis recovered: requests are decided again \
         (cluster \"redis\"; outage: 11.938 s; requests failed open: 60, failed closed: 0)"
    );
}

#[test]
fn a_wrong_cluster_is_named_over_both_transports() {
    for (configuration, status) in [(PER_USER.to_owned(), PARSE_FAILURE), (callouts(), BAD_ARGUMENT)] {
        let proxy = Proxy::start(&configuration.replace(r#""cluster": "redis""#, r#""cluster": "rediss""#));
        proxy.refuses(status);
        proxy.request(4, &by("alice"), true);
        proxy.turn();
        proxy.tick();
        let [line] = &lines()[..] else { panic!() };
        assert_eq!(
            *line,
            "Warn weir: redis unavailable: the proxy has no such cluster: check redis.cluster with `weir check` \
             (cluster \"rediss\"; requests failed open: 1, failed closed: 0)"
        );
    }
}

#[test]
fn any_other_refusal_does_not_blame_the_clusters_name() {
    for configuration in [PER_USER.to_owned(), callouts()] {
        let proxy = Proxy::start(&configuration);
        proxy.refuses(INTERNAL_FAILURE);
        proxy.request(4, &by("alice"), true);
        proxy.turn();
        proxy.tick();
        let [line] = &lines()[..] else { panic!() };
        assert!(line.starts_with("Warn weir: redis unavailable: the proxy refused"), "{line}");
    }
}

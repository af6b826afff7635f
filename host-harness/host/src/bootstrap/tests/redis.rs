//! Clusters that lead to Redis: health checks and secrets of TLS.

use std::time::Duration;

use super::*;

const FAILOVER: &str = include_str!("../../../../../envoy/failover.yaml");

#[test]
fn a_health_check_over_tcp_is_parsed() {
    let bootstrap = Bootstrap::parse(FAILOVER, "failover.yaml").unwrap();
    let [redis] = bootstrap.clusters.as_slice() else { panic!("{:?}", bootstrap.clusters) };
    let half = Duration::from_millis(500);
    let expected = HealthCheck {
        timeout: half,
        interval: half,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        send: Some(b"ROLE\r\n".to_vec()),
        receive: vec![b"master".to_vec()],
    };
    assert_eq!((&redis.health_check, redis.endpoints.len()), (&Some(expected), 3));
    assert_eq!((redis.panic_threshold, redis.closes_on_failure), (0, true));
    let bootstrap = Bootstrap::parse(QUICKSTART, "quickstart.yaml").unwrap();
    assert_eq!((&bootstrap.clusters[0].health_check, bootstrap.clusters[0].panic_threshold), (&None, 50));
}

#[test]
fn a_problem_of_a_health_check_has_its_path() {
    let problems = |from: &str, to: &str| {
        assert!(FAILOVER.contains(from), "no {from:?}");
        problems(&FAILOVER.replacen(from, to, 1))
    };
    let check = "static_resources.clusters[0].health_checks[0]";
    let text = format!("{check}.tcp_health_check.send.text: expected bytes in hexadecimal digits, found \"ROLE\"");
    assert_eq!(problems("\"524f4c450d0a\"", "ROLE"), [text]);
    assert_eq!(problems("      healthy_threshold: 1\n", ""), [format!("{check}.healthy_threshold: missing")]);
    let tcp = "tcp_health_check: {send: {text: \"524f4c450d0a\"}, receive: [{text: \"6d6173746572\"}]}";
    let other = problems(tcp, "http_health_check: {path: /}").concat();
    assert!(other.contains("http_health_check") && other.contains("tcp_health_check: missing"), "{other}");
    let panic = problems("{value: 0}", "{value: half}");
    assert!(panic.concat().contains("healthy_panic_threshold.value: expected a whole percentage"), "{panic:?}");
}

#[test]
fn a_secret_is_read_from_the_file_that_is_named() {
    const TLS: &str = include_str!("../../../../../envoy/redis-tls.yaml");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy/secrets");
    let text = TLS.replace("envoy/secrets", folder);
    let found = problems(&text);
    // The certificates are not on this machine.
    let place = "common_tls_context.tls_certificate_sds_secret_configs[0].sds_config.path_config_source.path";
    let client = found.iter().find(|problem| problem.contains(place)).unwrap_or_else(|| panic!("{found:?}"));
    assert!(client.contains("redis-client.yaml:7:") && client.contains("cannot be read"), "{client}");
    let found = problems(&text.replacen("redis-client.yaml", "redis-authority.yaml", 1)).concat();
    assert!(found.contains("expected a file with the secret \"redis_client\" and its `tls_certificate`"), "{found}");
    let found = problems(&text.replacen("redis-client.yaml", "missing.yaml", 1)).concat();
    assert!(found.contains("the file of secrets cannot be read"), "{found}");
}

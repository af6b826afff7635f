//! Findings about the way to Redis.

use crate::support::{changed, check, check_changed, place_of};
use crate::{CALLOUT, LIMITER, QUICKSTART};

const TCP: &str = "    upstream_config:
      name: envoy.upstreams.http.tcp
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto
";
const ENDPOINT: &str = "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 6379}}}\n";
const HEALTH: &str = "timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1";
const CLUSTER: &str = "    type: STRICT_DNS\n";

#[test]
fn the_cluster_of_redis_must_exist() {
    let text = changed(QUICKSTART, [("{cluster: redis}", "{cluster: redsi}")]);
    let checked = check(&text);
    let missing = checked.only();
    assert_eq!((missing.rule.as_str(), missing.severity.as_str()), ("missing-cluster", "error"));
    assert_eq!(missing.path, format!("{LIMITER}.configuration.value.redis.cluster"));
    assert_eq!(missing.place, place_of(&text, "redsi"));
    assert_eq!(missing.expected, "a cluster of the files given (\"redis\")");
    assert_eq!(missing.found, "another name of 5 bytes");

    let (without, _) = QUICKSTART.split_once("  clusters:\n").unwrap();
    assert_eq!(check(without).only().expected, "a cluster of the files given (there is none)");
    // A control plane may have it.
    let remote = format!(
        "node: {{id: a, cluster: b}}\ndynamic_resources: {{cds_config: {{ads: {{}}}}, \
         ads_config: {{api_type: GRPC}}}}\n{without}"
    );
    let checked = check(&remote);
    assert_eq!((checked.only().rule.as_str(), checked.only().severity.as_str()), ("unknown-cluster", "note"));
}

#[test]
fn the_cluster_of_redis_must_be_raw_tcp() {
    let http2 = check_changed(QUICKSTART, [(TCP, "")]);
    assert_eq!(http2.only().rule, "raw-tcp");
    assert_eq!(http2.only().path, "static_resources.clusters[0].upstream_config");
    assert_eq!(http2.only().found, "a cluster that is sent HTTP/2");
    assert_eq!(check_changed(CALLOUT, [(TCP, "")]).only().found, "a cluster that is sent HTTP/1.1");
}

#[test]
fn the_stream_transport_needs_one_bridge_and_the_callout_transport_none() {
    let to_stream = check_changed(CALLOUT, [("transport: callout, ", "")]);
    let bridge = "upstream filter with the root_id \"bridge\" in the cluster \"redis\"";
    assert_eq!(to_stream.only().rule, "bridge");
    assert_eq!(to_stream.only().path, format!("{LIMITER}.configuration.value.redis.transport"));
    assert_eq!(to_stream.only().expected, format!("\"callout\", or an {bridge}"));

    let to_callout = ("{cluster: redis}", "{cluster: redis, transport: callout, max_in_flight: 1024}");
    let checked = check_changed(QUICKSTART, [to_callout]);
    assert_eq!(checked.only().expected, format!("\"stream\", or no {bridge}"));
    assert_eq!(checked.only().found, "\"callout\" with one");

    let (_, rest) = QUICKSTART.split_once("        - name: bridge\n").unwrap();
    let (one, _) = rest.split_once("        - name: codec\n").unwrap();
    let two = changed(
        QUICKSTART,
        [("        - name: codec\n", &format!("        - name: second\n{one}        - name: codec\n"))],
    );
    assert_eq!(check(&two).only().found, "several");
}

#[test]
fn a_disabled_bridge_is_an_error() {
    const NAME: &str = "        - name: bridge\n";
    let disabled = format!("{NAME}          disabled: true\n");
    let checked = check_changed(QUICKSTART, [(NAME, &disabled)]);
    assert_eq!((checked.only().rule.as_str(), checked.only().severity.as_str()), ("bridge", "error"));
    assert_eq!(checked.only().found, "a disabled one");
    assert!(checked.only().path.ends_with("http_filters[0].disabled"), "{checked:?}");
}

#[test]
fn a_breaker_below_max_in_flight_is_a_warning_with_the_callout_transport() {
    const BREAKER: &str = "    circuit_breakers:
      thresholds:
      - {max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}
";
    let found = |change: (&str, &str)| {
        let checked = check_changed(CALLOUT, [change]);
        let warnings = checked.findings.iter().map(|it| {
            assert_eq!((it.rule.as_str(), it.severity.as_str()), ("breaker", "warning"));
            (it.expected.split(' ').next().unwrap().to_owned(), it.found.clone())
        });
        warnings.collect::<Vec<_>>()
    };
    let low = |name: &str, threshold: &str| vec![(name.to_owned(), threshold.to_owned())];
    assert_eq!(found((BREAKER, "")), low("max_connections", "1024"), "Envoy's own threshold");
    assert_eq!(found(("max_requests: 4096", "max_requests: 7")), low("max_requests", "7"));
    assert_eq!(found(("max_requests: 4096", "maxRequests: '7'")), low("max_requests", "7"));
    assert_eq!(found(("transport: callout", "transport: callout, max_in_flight: 1024")), []);
    let high = ("- {max_connections", "- {priority: HIGH, max_connections");
    assert_eq!(found(high), low("max_connections", "1024"), "callouts are of the default priority");
    // One object may stand for a list of one.
    assert_eq!(found(("      - {max_connections", "        {max_connections")), []);
}

#[test]
fn several_endpoints_need_a_health_check_that_selects_one() {
    let two = format!("{ENDPOINT}{}", ENDPOINT.replace("6379", "6380"));
    let checked = check_changed(QUICKSTART, [(ENDPOINT, &two)]);
    let several = checked.only();
    assert_eq!((several.rule.as_str(), several.found.as_str()), ("endpoints", "2 endpoints without such a check"));
    assert!(several.help.contains("admit up to 2 times as much"), "{several:?}");

    let check_of = |tcp: &str| format!("{CLUSTER}    health_checks: [{{{HEALTH}, tcp_health_check: {tcp}}}]\n");
    let connects = check_of("{}");
    assert_eq!(check_changed(QUICKSTART, [(ENDPOINT, &two), (CLUSTER, &connects)]).rules(), ["endpoints"]);
    let pings = check_of("{send: {text: 50494e470d0a}, receive: [{text: 504f4e47}]}");
    let of_redis = format!(
        "{CLUSTER}    common_lb_config: {{healthy_panic_threshold: {{value: 0}}}}\n    health_checks: \
         [{{{HEALTH}, custom_health_check: {{name: envoy.health_checkers.redis}}}}]\n"
    );
    for replica in [pings, of_redis] {
        let checked = check_changed(QUICKSTART, [(ENDPOINT, &two), (CLUSTER, &replica)]);
        assert_eq!(checked.only().found, "2 endpoints without such a check", "a replica passes it");
    }
    for (threshold, is_well) in [("", false), ("{value: 50}", false), ("{value: 0}", true), ("{}", true)] {
        for send in ["text: 524f4c450d0a", "binary: Uk9MRQ0K"] {
            let asks = check_of(&format!("{{send: {{{send}}}, receive: [{{text: 6d6173746572}}]}}"));
            let asks = format!("{asks}    common_lb_config: {{healthy_panic_threshold: {threshold}}}\n");
            let checked = check_changed(QUICKSTART, [(ENDPOINT, &two), (CLUSTER, &asks)]);
            assert_eq!(checked.rules().is_empty(), is_well, "{threshold} {checked:?}");
        }
    }
}

#[test]
fn tls_to_redis_has_a_server_name_and_checks_the_name_of_the_certificate() {
    let found = |context: &str| {
        let socket = format!(
            "{CLUSTER}    transport_socket: {{name: tls, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext{context}}}}}\n"
        );
        let text = format!("node: {{id: a, cluster: b}}\n{QUICKSTART}");
        let checked = check_changed(&text, [(CLUSTER, &socket)]);
        checked.findings.iter().for_each(|finding| assert_eq!(finding.rule, "tls"));
        checked.findings.into_iter().map(|finding| finding.found).collect::<Vec<_>>()
    };
    let authority = "trusted_ca: {filename: /etc/ca.pem}";
    let named = format!(
        ", sni: redis, common_tls_context: {{validation_context: {{{authority}, \
         match_typed_subject_alt_names: [{{san_type: \
         DNS, matcher: {{exact: redis}}}}]}}}}"
    );
    assert_eq!(found(""), ["no sni and no check of the certificate"]);
    assert_eq!(found(", sni: redis"), ["no check of the certificate"]);
    let unnamed = format!(", sni: redis, commonTlsContext: {{validationContext: {{{authority}}}}}");
    assert_eq!(found(&unnamed), ["no check of the certificate's name"]);
    assert_eq!(found(&named), [""; 0]);
    let secret =
        ", sni: redis, common_tls_context: {validation_context_sds_secret_config: {name: ca, sds_config: {ads: {}}}}";
    assert_eq!(found(secret), [""; 0], "a secret cannot be seen");
    let accepting = named.replace(authority, &format!("{authority}, trust_chain_verification: ACCEPT_UNTRUSTED"));
    assert_eq!(found(&accepting), ["no check of the certificate"]);
    let matches = format!(
        "{CLUSTER}    transport_socket_matches: [{{name: all, match: {{}}, transport_socket: {{name: tls, \
         typed_config: \
         {{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}}}}}]\n"
    );
    assert_eq!(check_changed(QUICKSTART, [(CLUSTER, &matches)]).only().found, "no sni and no check of the certificate");
}

const WEBDIS: &str = include_str!("../../../../envoy/webdis.yaml");
const UPSTASH: &str = include_str!("../../../../envoy/upstash.yaml");

#[test]
fn an_http_front_end_needs_a_cluster_of_http_without_a_bridge() {
    for (scenario, transport) in [(WEBDIS, "webdis"), (UPSTASH, "upstash")] {
        const TIMEOUT: &str = "    connect_timeout: 1s\n";
        let checked = check_changed(scenario, [(TIMEOUT, &format!("{TIMEOUT}{TCP}")[..])]);
        assert_eq!((checked.only().rule.as_str(), checked.only().severity.as_str()), ("raw-tcp", "error"));
        let expected = format!("a cluster of HTTP, since the transport \"{transport}\" is an HTTP front end");
        assert_eq!(checked.only().expected, expected);
        assert_eq!(check_changed(scenario, [("max_requests: 4096", "max_requests: 7")]).rules(), ["breaker"]);
    }
    let to_webdis = ("{cluster: redis}", "{cluster: redis, transport: webdis, max_in_flight: 1024}");
    let checked = check_changed(QUICKSTART, [to_webdis, (TCP, "")]);
    assert_eq!((checked.only().rule.as_str(), checked.only().found.as_str()), ("bridge", "\"webdis\" with one"));
}

#[test]
fn several_front_ends_may_have_one_redis_and_upstash_needs_tls() {
    let two = "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 7379}}}\n";
    assert!(check_changed(WEBDIS, [(two, &two.repeat(2)[..])]).rules().is_empty());
    let (plain, _) = UPSTASH.split_once("    transport_socket:\n").unwrap();
    let checked = check(plain);
    assert_eq!((checked.only().rule.as_str(), checked.only().found.as_str()), ("tls", "none"));
}

const CLUSTERED: &str = include_str!("../../../../envoy/redis-cluster.yaml");

#[test]
fn a_redis_cluster_needs_its_topology_and_a_proxy_that_gives_up_in_time_and_follows() {
    let finding = |change: (&str, &str)| {
        let checked = check_changed(CLUSTERED, [change]);
        let only = checked.only();
        assert_eq!((only.rule.as_str(), only.severity.as_str()), ("redis-cluster", "warning"));
        (only.path.clone(), only.expected.clone(), only.found.clone())
    };
    const SETTINGS: &str = "static_resources.listeners[1].filter_chains[0].filters[0].typed_config.settings";
    for (op_timeout, found) in [("0.2s", "0.2s"), ("'1s'", "1s"), ("0.250s", "0.25s")] {
        let (path, expected, its) = finding(("op_timeout: 0.1s", &format!("op_timeout: {op_timeout}")));
        assert_eq!((path, its.as_str()), (format!("{SETTINGS}.op_timeout"), found));
        assert_eq!(expected, "an op_timeout below 0.2s, the limiter's redis.timeout");
    }
    assert_eq!(check_changed(CLUSTERED, [("op_timeout: 0.1s", "opTimeout: 0.19s")]).rules(), [""; 0]);
    for (redirection, place) in
        [("enable_redirection: false", "enable_redirection"), ("max_buffer_size_before_flush: 0", "enable_redirection")]
    {
        let (path, expected, _) = finding(("enable_redirection: true", redirection));
        assert_eq!((path, expected.as_str()), (format!("{SETTINGS}.{place}"), "true"));
    }
    for waits in ["", "    wait_for_warm_on_init: true\n"] {
        let (path, expected, found) = finding(("    wait_for_warm_on_init: false\n", waits));
        assert_eq!(path, "static_resources.clusters[0].wait_for_warm_on_init");
        assert_eq!((expected.as_str(), found.as_str()), ("false", "true, which is the default"));
    }
    let (path, expected, found) = finding(("server_listener_name: redis_proxy", "server_listener_name: other"));
    assert_eq!(path, "static_resources.clusters[1].load_assignment");
    assert_eq!((expected.as_str(), found.as_str()), ("the internal listener of a redis_proxy", "another one"));
    let tagged = "                      hash_tag: {entry: 0}\n";
    let changes = [("topology: cluster, ", ""), (tagged, ""), (tagged, "")];
    let checked = check_changed(CLUSTERED, changes);
    assert_eq!(checked.only().path, format!("{LIMITER}.configuration.value.redis.topology"));
    assert_eq!(checked.only().expected, "\"cluster\", since redis_proxy leads to a Redis Cluster");
    // Without a cluster behind it, the proxy may lead to one Redis.
    let plain = ("name: envoy.clusters.redis\n", "name: other\n");
    assert_eq!(check_changed(CLUSTERED, [changes[0], changes[1], changes[2], plain]).rules(), [""; 0]);
    let (without, _) = CLUSTERED.split_once("  # The proxy of the Redis Cluster.").unwrap();
    let (_, clusters) = CLUSTERED.split_once("  clusters:\n").unwrap();
    assert_eq!(check(&format!("{without}  clusters:\n{clusters}")).only().found, "another one");
}

//! `weir render`: what it makes is sound by `weir check`, and mistakes have their places.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use weir_harness::texts;

const FILE: &str = include_str!("../../../../envoy/kubernetes/limits.yaml");
const BODY: &str = "  - request_body: {json_pointer: /model, default: none}\n";
const CHARGE: &str = "  - request_header: {name: x-user-id}\n  charge: total_tokens\n  reserve: none\n";
const HEADER: &str = "  - request_header: {name: x-user-id}\n";

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(FILE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no {from:?} in {text}");
        text.replacen(from, to, 1)
    })
}

fn render(form: &str, text: &str) -> String {
    texts::render(form, text).unwrap_or_else(|mistakes| panic!("{form}: {mistakes:?}\n{text}"))
}

/// Renders a text, and checks that `weir check` has nothing to say about the result.
fn sound(form: &str, text: &str) -> String {
    let made = render(form, text);
    let checked = texts::check("made.yaml", made.as_bytes()).text;
    let last = checked.lines().last().unwrap();
    assert!(checked.lines().count() == 1 && last.ends_with("1 limiter, 1 bridge: all is well"), "{checked}\n{made}");
    made
}

fn mistake(form: &str, text: &str) -> String {
    let mistakes = texts::render(form, text).expect_err("a mistake");
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    mistake.clone()
}

#[test]
fn every_form_is_sound_with_every_redis_and_every_limit() {
    let targets = [
        ("istio", "gateway: ingress"),
        ("istio", "waypoint: ingress"),
        ("istio", "labels: {app: carts, tier: \"1\"}"),
        ("envoy-gateway", "gateway: ingress"),
        ("envoy", "gateway: ingress"),
    ];
    let address = "  address: redis.weir.svc.cluster.local:6379\n";
    for (form, target) in targets {
        for body in [HEADER, BODY, CHARGE] {
            for (number, redis) in [
                "",
                "  username: weir\n  password_env: PASSWORD\n",
                "  tls: true\n",
                "  password_env: PASSWORD\n  tls: {server_name: redis.example, secret: certificates, client_certificate: false}\n",
            ]
            .into_iter()
            .enumerate()
            {
                let text = changed(&[("gateway: ingress", target), (HEADER, body), (address, &format!("{address}{redis}"))]);
                let made = sound(form, &text);
                let sees_bodies = made.contains("allow_on_headers_stop_iteration: true");
                assert_eq!(sees_bodies, body != HEADER, "{made}");
                assert_eq!(made.contains("PASSWORD"), number == 1 || number == 3, "{made}");
                assert_eq!(made.contains("UpstreamTlsContext"), number > 1, "{made}");
                assert_eq!(made.contains("exact: redis.example}"), number == 3, "{made}");
                assert_eq!(made.contains("tls_certificates"), number == 2, "{made}");
                for example in ["REDIS_PASSWORD", "orders.shop", "0-1-0", "0.1.0", "istio-ingress", "namespace: default", "namespace: weir}"] {
                    assert!(!made.contains(example), "{example} in {made}");
                }
            }
        }
    }
}

/// Changes the address and the timeout of Redis.
fn redis(fields: &str) -> String {
    let fields = format!("  timeout: 0.2s\n{fields}");
    changed(&[("  address: redis.weir.svc.cluster.local:6379\n  timeout: 0.1s\n", &fields)])
}

#[test]
fn a_failover_is_found_by_a_health_check_in_each_form() {
    let text = redis("  address: redis.weir.svc.cluster.local\n  failover: true\n");
    for form in ["istio", "envoy-gateway", "envoy"] {
        let made = sound(form, &text);
        assert_eq!(made.matches("tcp_health_check: {send: {text: \"524f4c450d0a\"}").count(), 1, "{made}");
        assert!(made.contains("healthy_panic_threshold: {value: 0}"), "{made}");
        assert!(made.contains("close_connections_on_host_health_failure: true"), "{made}");
        assert!(!made.contains("failover"), "{made}");
    }
    let off = sound("istio", &text.replace("failover: true", "failover: false"));
    assert!(!off.contains("health_check"), "{off}");
}

#[test]
fn a_redis_cluster_has_a_proxy_in_each_form() {
    let fields = "  address: nodes.weir:7000\n  topology: cluster\n";
    let login = "  username: limiter\n  password_env: PASSWORD\n  tls: {server_name: redis.example}\n";
    for (form, target) in [
        ("istio", "gateway: ingress"),
        ("istio", "labels: {app: carts}"),
        ("envoy-gateway", "gateway: ingress"),
        ("envoy", "gateway: ingress"),
    ] {
        for (login, body) in [("", HEADER), (login, HEADER), (login, BODY)] {
            let text = redis(&format!("{fields}{login}"));
            let made = sound(form, &text.replace("gateway: ingress", target).replace(HEADER, body));
            assert!(made.contains("redis: {cluster: weir-redis, timeout: \"0.2s\", topology: cluster}"), "{made}");
            assert_eq!(made.matches("address: nodes.weir, port_value: 7000").count(), 1, "{made}");
            assert_eq!(made.matches("weir-redis-nodes").count(), 3, "{made}");
            assert_eq!(made.matches("server_listener_name: weir-redis-proxy").count(), 1, "{made}");
            assert!(!made.contains("redis.weir.svc") && !made.contains("7001"), "{made}");
            // Envoy has the login, the filter has none.
            let has_login = usize::from(!login.is_empty());
            let options = "auth_username: {inline_string: limiter}\n";
            assert_eq!(made.matches(options).count(), has_login, "{made}");
            assert_eq!(made.matches("auth_password: {environment_variable: PASSWORD}").count(), has_login, "{made}");
            assert_eq!(made.matches("exact: redis.example}").count(), has_login, "{made}");
            assert!(!made.contains("host_env_keys") && !made.contains("hostKeys"), "{made}");
        }
    }
    for (timeout, its, op_timeout) in [("", "0.2s", "0.1s"), ("  timeout: 0.05s\n", "0.05s", "0.025s")] {
        let text = redis(&format!("{fields}{timeout}")).replace("  timeout: 0.2s\n", "");
        let made = sound("istio", &text);
        assert!(made.contains(&format!("timeout: \"{its}\"")), "{made}");
        assert!(made.contains(&format!("op_timeout: {op_timeout}\n")), "{made}");
    }
    let token = redis(&format!("{fields}  token_env: TOKEN\n"));
    assert_eq!(mistake("envoy", &token), "limits.yaml:12:14: redis.token_env: expected none with `topology: cluster`");
    let waypoint = redis(fields).replace("gateway: ingress", "waypoint: ingress");
    assert!(mistake("istio", &waypoint).contains("with a Redis Cluster: Istio adds no listener"));
}

#[test]
fn a_front_end_needs_no_envoy_filter() {
    let only = |text: &str| {
        let made = render("istio", text);
        assert!(!made.contains("EnvoyFilter"), "{made}");
        made
    };
    let webdis = redis("  address: webdis.tools.svc.cluster.local\n  transport: webdis\n");
    let made = only(&webdis);
    let fields =
        "redis: {cluster: \"outbound|7379||webdis.tools.svc.cluster.local\", timeout: \"0.2s\", transport: webdis}";
    assert!(made.contains(fields) && made.contains("  host: webdis.tools.svc.cluster.local\n"), "{made}");
    assert!(made.contains("metadata: {name: webdis, namespace: apps}"), "{made}");

    let fields = "  address: eu.upstash.example\n  transport: upstash\n  token_env: TOKEN\n";
    let made = only(&redis(fields));
    for expected in [
        "authority: eu.upstash.example, cluster: \"outbound|443||eu.upstash.example\"",
        "token: {env: TOKEN}",
        "- {name: TOKEN, valueFrom: HOST}",
        "hosts: [eu.upstash.example]",
        "valueFrom: {secretKeyRef: {name: weir-redis, key: token}}",
        "tls: {mode: SIMPLE, sni: eu.upstash.example, subjectAltNames: [eu.upstash.example]}",
    ] {
        assert!(made.contains(expected), "{expected} in {made}");
    }
    for example in ["example.upstash.io", "REDIS_PASSWORD", "namespace: istio-ingress", "namespace: weir}"] {
        assert!(!made.contains(example), "{example} in {made}");
    }
    let labels = only(&redis(fields).replace("gateway: ingress", "labels: {app: carts}"));
    assert!(labels.starts_with("# The sidecars of these pods need the variable TOKEN.\n"), "{labels}");

    let tls = redis("  address: webdis.tools\n  transport: webdis\n  tls: true\n");
    assert_eq!(mistake("istio", &tls), "limits.yaml:12:8: redis.tls: expected none with `transport: webdis`");
    let token = mistake("istio", &redis(&format!("{fields}  token: abc\n")));
    assert_eq!(
        token,
        "limits.yaml:13:3: redis.token: expected `token_env`, the name of a variable: a manifest shows its texts"
    );
    let waypoint = webdis.replace("gateway: ingress", "waypoint: ingress");
    assert!(mistake("istio", &waypoint).contains("a waypoint has no other clusters"));
    assert!(mistake("istio", &webdis.replace(HEADER, BODY)).contains("no limit that reads bodies"));
}

#[test]
fn a_front_end_needs_no_bridge() {
    let webdis = redis("  address: webdis.tools\n  transport: webdis\n");
    let login = redis("  address: webdis.tools\n  transport: webdis\n  username: w\n  password_env: PASSWORD\n");
    let upstash = redis("  address: eu.upstash.example\n  transport: upstash\n  token_env: TOKEN\n");
    for (text, seed) in [
        (&webdis, "address: webdis.tools, port_value: 7379"),
        (&login, "address: webdis.tools, port_value: 7379"),
        (&upstash, "address: eu.upstash.example, port_value: 443"),
    ] {
        for (form, body) in [("envoy-gateway", HEADER), ("envoy-gateway", BODY), ("envoy", HEADER), ("envoy", BODY)] {
            let text = text.replace(HEADER, body);
            let made = render(form, &text);
            let checked = texts::check("made.yaml", made.as_bytes()).text;
            assert!(checked.ends_with("1 limiter, 0 bridges: all is well\n"), "{checked}\n{made}");
            assert!(made.contains(seed) && !made.contains("root_id: bridge"), "{made}");
            assert!(made.contains("redis: {") && made.contains("cluster: weir-redis, "), "{made}");
            // An image of Envoy Gateway is no file of the pod.
            assert_eq!(made.contains("weir_filter.wasm"), form == "envoy" || body == BODY, "{made}");
            assert_eq!(made.contains("configMap: {name: weir-0-3-0}"), form == "envoy" || body == BODY, "{made}");
            assert_eq!(made.contains("secretKeyRef: {name: weir-redis, key: token}"), seed.ends_with("443"), "{made}");
            assert_eq!(
                made.contains("secretKeyRef: {name: weir-redis, key: password}"),
                text.contains("PASSWORD"),
                "{made}"
            );
            for example in ["REDIS_PASSWORD", "example.upstash.io", "127.0.0.1, port_value: 7379", "TcpConnectionPool"]
            {
                assert!(!made.contains(example), "{example} in {made}");
            }
        }
    }
}

#[test]
fn without_values_the_output_is_the_shipped_manifest() {
    let text = changed(&[
        ("namespace: apps\n", ""),
        (":0.3.0", ":0.1.0"),
        ("  timeout: 0.1s\n", ""),
        ("failure_mode: deny\n", ""),
        ("# A burst of 20 requests, and 100 a minute.\n", ""),
    ]);
    let shipped = include_str!("../../../../envoy/kubernetes/istio/gateway.yaml");
    let (_, documents) = shipped.split_once("\napiVersion").unwrap();
    assert_eq!(sound("istio", &text), format!("apiVersion{documents}"));
}

#[test]
fn limits_are_those_of_the_file_with_their_comments() {
    let made = sound("istio", FILE);
    let limits = "    failure_mode: deny\n    limits:\n    - name: per_user\n      descriptor:\n      - request_header: {name: x-user-id}\n";
    assert!(made.contains("    redis: {cluster: weir-redis, timeout: \"0.1s\"}\n"), "{made}");
    assert!(made.contains(limits), "{made}");
    // Values of the shipped manifests are replaced in these alone.
    let made = sound("envoy-gateway", &changed(&[("name: per_user", "name: weir-0-1-0 # namespace: default}")]));
    assert!(made.contains("      - name: weir-0-1-0 # namespace: default}\n"), "{made}");
    // Texts that Kubernetes would read as booleans, and files without lines of their own, are written as JSON.
    let made = sound("istio", &changed(&[("request_header: {name: x-user-id}", "request_header: {name: on}")]));
    assert!(
        made.contains("limits: [{\"descriptor\":[{\"request_header\":{\"name\":\"on\"}}],\"name\":\"per_user\""),
        "{made}"
    );
    let value: serde_json::Value = serde_saphyr::from_str(FILE).expect("YAML");
    assert!(sound("envoy", &value.to_string()).contains("limits: [{\""));
}

#[test]
fn mistakes_have_their_places() {
    for (form, from, to, expected) in [
        (
            "istio",
            "gateway: ingress\n",
            "",
            "limits.yaml:4:1: expected one of `gateway`, `waypoint`, `labels`: the proxies of the limiter, found none",
        ),
        (
            "envoy",
            "upstream: orders.apps:8080\n",
            "",
            "limits.yaml:4:1: expected `upstream`: HOST:PORT of the service behind the proxy, found none",
        ),
        (
            "istio",
            ":0.3.0",
            "",
            "limits.yaml:4:8: expected an image with a version, such as registry.example.com/weir/weir-filter:0.1.0, found \"registry.example.com/weir/weir-filter\"",
        ),
        (
            "istio",
            "namespace: apps",
            "namespace: Apps",
            "limits.yaml:5:12: expected a name of lower-case letters, digits and dashes, at most 63, found \"Apps\"",
        ),
        (
            "istio",
            ":6379",
            ":x",
            "limits.yaml:9:12: expected HOST:PORT, such as redis.weir.svc.cluster.local:6379, found \"redis.weir.svc.cluster.local:x\"",
        ),
        (
            "istio",
            "  timeout: 0.1s",
            "  tls: {server_nam: a}",
            "limits.yaml:10:9: unknown field `server_nam`: did you mean `server_name`?",
        ),
        (
            "istio",
            "  timeout: 0.1s",
            "  password: hunter2",
            "limits.yaml:10:3: redis.password: expected `password_env`, the name of a variable: a manifest shows its texts",
        ),
        (
            "istio",
            "  timeout: 0.1s",
            "  password_env: hunter-2",
            "limits.yaml:10:17: expected the name of an environment variable, such as REDIS_PASSWORD, found another value",
        ),
        (
            "istio",
            "gateway: ingress",
            "gateway: ingress\nlabels: {a: b}",
            "limits.yaml:7:9: expected one workload, found both `gateway` and `labels`",
        ),
    ] {
        assert_eq!(mistake(form, &changed(&[(from, to)])), expected);
    }
    let unknown = mistake("istio", &changed(&[("failure_mode: deny", "failure_mod: deny")]));
    assert!(
        unknown.starts_with("limits.yaml:11:1: failure_mod: unknown field (did you mean failure_mode?)"),
        "{unknown}"
    );
    let refused = mistake("istio", &changed(&[("timeout: 0.1s", "timeout: fast")]));
    assert!(refused.starts_with("limits.yaml:10:12: redis.timeout: expected "), "{refused}");
    assert!(mistake("istio", "a: [\n").starts_with("limits.yaml:1:4: expected one document of YAML"));
}

#[test]
fn a_folder_gets_a_file_for_each_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let weir = || Command::new(env!("CARGO_BIN_EXE_weir"));
    let mut running = weir()
        .args(["render", "envoy", "-", "--out"])
        .arg(folder.path().join("made"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("`weir` runs");
    running.stdin.take().unwrap().write_all(FILE.as_bytes()).unwrap();
    assert!(running.wait().unwrap().success());
    let files = std::fs::read_dir(folder.path().join("made")).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert_eq!(
        files,
        ["configmap-edge-envoy.yaml", "deployment-edge.yaml", "poddisruptionbudget-edge.yaml", "service-edge.yaml"]
    );

    std::fs::write(folder.path().join("limits.yaml"), FILE.replace("x-user-id", "")).unwrap();
    let output = weir().args(["render", "istio", "limits.yaml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("limits.yaml:"), "{output:?}");
}

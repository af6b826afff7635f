//! `weir render`: what it makes is sound by `weir check`, and mistakes have their places.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use weir_harness::texts;

const FILE: &str = include_str!("../../../../envoy/kubernetes/limits.yaml");
const BODY: &str = "  - request_body: {json_pointer: /model, default: none}\n";
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
        for body in [HEADER, BODY] {
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

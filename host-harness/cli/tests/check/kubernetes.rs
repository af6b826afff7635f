//! Kubernetes manifests: those of `envoy/kubernetes` and of the chart are sound, and broken copies of them are not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weir_provision::helm;

use crate::support::{Checked, Folder, changed, place_of, scenarios, weir};

/// Text of the token bucket in the manifests.
const BY_USER: &str = "request_header: {name: x-user-id}";
const TCP_POOL: &str = "\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto\n";
const IMAGE: &str = "oci://registry.example.com/weir/weir-filter";

fn shipped(name: &str) -> String {
    std::fs::read_to_string(scenarios().join("kubernetes").join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn check(text: &str) -> Checked {
    Folder::new().with("envoy.yaml", text).check(&["envoy.yaml"])
}

/// Checks standard input.
fn check_stdin(text: &str) -> Checked {
    let mut weir = weir();
    weir.args(["check", "--format", "json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = weir.spawn().expect("`weir` runs");
    running.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = running.wait_with_output().expect("`weir` ends");
    Checked::parse(output.status.success(), &String::from_utf8(output.stdout).expect("UTF-8"))
}

/// Checks a changed manifest: it has findings of these rules alone, and the last one is at the text `at`, in all formats.
fn finds<const N: usize>(name: &str, changes: [(&str, &str); N], rules: &[(&str, &str)], at: &str) {
    let text = changed(&shipped(name), changes);
    let folder = Folder::new().with("envoy.yaml", &text);
    let checked = folder.check(&["envoy.yaml"]);
    let found: Vec<_> = checked.findings.iter().map(|it| (it.rule.as_str(), it.severity.as_str())).collect();
    assert_eq!(found, rules, "{name}: {checked:?}");
    let (rule, severity) = rules.last().expect("a rule");
    let place = place_of(&text, at);
    assert_eq!(checked.about(rule).place, place, "{checked:?}");
    let (_, printed) = folder.run(&["envoy.yaml"]);
    let is_line = |line: &str| {
        line.starts_with(&format!("{place}: {severity}: expected ")) && line.ends_with(&format!("[{rule}]"))
    };
    assert!(printed.lines().any(is_line), "{printed}");
    let [_, line, column] = place.split(':').collect::<Vec<_>>()[..] else { panic!("{place}") };
    let kind = if *severity == "note" { "notice" } else { severity };
    let start = format!("::{kind} file=envoy.yaml,line={line},col={column},title=weir check%3A {rule}::expected ");
    let (_, printed) = folder.run(&["--format", "github", "envoy.yaml"]);
    assert!(printed.lines().any(|line| line.starts_with(&start)), "{start}\n{printed}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn shipped_manifests_are_sound() {
    let all = files(&scenarios().join("kubernetes"));
    assert!(all.len() >= 13, "{all:?}");
    let is_of_redis = |file: &Path| file.to_string_lossy().contains("plain/redis");
    for file in all.iter().filter(|file| !is_of_redis(file) && !file.ends_with("kubernetes/limits.yaml")) {
        let checked = check(&std::fs::read_to_string(file).unwrap());
        assert_eq!(checked.rules(), [""; 0], "{}: {checked:?}", file.display());
        let has_bridge = !file.ends_with("webdis.yaml") && !file.ends_with("upstash.yaml");
        let numbers = (checked.number("limiters"), checked.number("bridges"));
        assert_eq!(numbers, (1, u64::from(has_bridge)), "{}", file.display());
    }
}

#[test]
fn manifests_of_several_proxies_are_one_mesh() {
    let names = ["istio/gateway.yaml", "istio/sidecar.yaml", "istio/waypoint.yaml"];
    let folder = Folder::new().with("a.yaml", shipped(names[0])).with("b.yaml", shipped(names[1]));
    let checked = folder.with("c.yaml", shipped(names[2])).check(&["a.yaml", "b.yaml", "c.yaml"]);
    assert_eq!((checked.rules(), checked.number("limiters"), checked.number("clusters")), (vec![], 3, 3));
    // The documents of one manifest may be in several files.
    let gateway = shipped(names[0]);
    let (plugin, filter) = gateway.split_once("---\n").expect("two documents");
    let folder = Folder::new().with("plugin.yaml", plugin).with("filter.yaml", filter);
    assert_eq!(folder.check(&["plugin.yaml", "filter.yaml"]).rules(), [""; 0]);
    assert_eq!(folder.check(&["plugin.yaml"]).rules(), ["missing-cluster"]);
    let alone = folder.check(&["filter.yaml"]);
    assert_eq!((alone.rules(), alone.number("bridges")), (vec!["no-limiter"], 1));
}

#[test]
fn what_the_chart_makes_is_sound() {
    let helm = helm::binary().expect("Helm");
    let chart = scenarios().join("helm/weir");
    let values = files(&chart.join("ci"));
    assert!(values.len() >= 18, "{values:?}");
    for values in values {
        let mut command = Command::new(&helm);
        let output =
            command.args(["template", "weir", "--namespace", "shop"]).arg(&chart).arg("-f").arg(&values).output();
        let output = output.expect("Helm runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let checked = check_stdin(&text);
        // The Service of Webdis is the user's.
        let notes = if values.ends_with("gateway-webdis-values.yaml") { vec!["unknown-cluster"] } else { vec![] };
        assert_eq!(checked.rules(), notes, "{}: {checked:?}", values.display());
        let has_bridge = !text.contains("transport: webdis") && !text.contains("transport: upstash");
        let numbers = (checked.number("limiters"), checked.number("bridges"));
        assert_eq!(numbers, (1, u64::from(has_bridge)), "{}", values.display());
        let groups = checked.numbers["groups"].as_array().expect("groups").len();
        assert_eq!(groups, 1, "{}: {}", values.display(), checked.numbers);
        // Places are those of Helm's output.
        let broken =
            text.replacen("name: x-user-id", "nam: x-user-id", 1).replacen("json_pointer: ", "json_pointr: ", 1);
        let checked = check_stdin(&broken);
        let key = if broken.contains("nam: x-user-id") { "nam: x-user-id" } else { "json_pointr: " };
        let place = place_of(&broken, key).replace("envoy.yaml", "stdin");
        assert!(checked.of("error").iter().any(|it| it.place == place), "{place}: {checked:?}");
    }
}

/// Helm's output with a Redis Cluster, in each place where the proxy of the nodes may be.
#[test]
fn the_proxy_of_a_redis_cluster_is_found_in_manifests() {
    let helm = helm::binary().expect("Helm");
    for mode in ["mode=istio", "mode=envoyGateway", "mode=envoy"] {
        let mut command = Command::new(&helm);
        command.args(["template", "weir"]).arg(scenarios().join("helm/weir"));
        let output = command.args(["--set", mode, "--set", "redis.topology=cluster"]).output().expect("Helm runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for (from, to, expected) in [
            ("op_timeout: 0.1s", "op_timeout: 0.2s", "an op_timeout below 0.2s, the limiter's redis.timeout"),
            ("wait_for_warm_on_init: false", "wait_for_warm_on_init: true", "false"),
        ] {
            let checked = check_stdin(&changed(&text, [(from, to)]));
            assert_eq!((checked.rules(), &*checked.only().expected), (vec!["redis-cluster"], expected), "{mode}");
        }
    }
}

#[test]
fn a_list_of_kubectl_has_manifests() {
    let documents = shipped("istio/gateway.yaml");
    let items: Vec<serde_json::Value> =
        documents.split("\n---\n").map(|text| serde_saphyr::from_str(text).expect("YAML")).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let folder = Folder::new().with("list.json", &list).with("broken.json", list.replace("\"weir-redis\"}", "\"x\"}"));
    let checked = folder.check(&["list.json"]);
    assert_eq!((checked.rules(), checked.number("limiters"), checked.number("bridges")), (vec![], 1, 1));
    let broken = folder.check(&["broken.json"]);
    assert_eq!(broken.about("missing-cluster").path, "items[0].spec.pluginConfig.redis.cluster");
}

#[test]
fn other_kinds_are_skipped_and_counted() {
    let checked = check(&shipped("plain/redis.yaml"));
    let note = checked.only();
    assert_eq!((note.rule.as_str(), note.severity.as_str()), ("manifest", "note"));
    assert!(
        note.found.starts_with(&format!(
            "{} manifests without any (",
            shipped("plain/redis.yaml").matches("\nkind: ").count()
        )),
        "{note:?}"
    );
    let both = Folder::new().with("a.yaml", shipped("plain/redis.yaml")).with("b.yaml", shipped("istio/gateway.yaml"));
    assert_eq!(both.check(&["a.yaml", "b.yaml"]).rules(), [""; 0]);
    let other = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nspec: {url: oci://example.com/coraza}\n";
    let checked = check(other);
    assert_eq!((checked.rules(), checked.number("other_plugins")), (vec!["manifest"], 1));
}

#[test]
fn the_cluster_of_redis_has_to_be_there_for_these_proxies() {
    let error = [("missing-cluster", "error")];
    for name in ["istio/gateway.yaml", "istio/traffic-extension.yaml", "envoy-gateway/extension-policy.yaml"] {
        finds(name, [("redis: {cluster: weir-redis}", "redis: {cluster: weir-redsi}")], &error, "weir-redsi");
    }
    finds(
        "envoy-gateway/patch-policy.yaml",
        [("{cluster: weir-redis}", "{cluster: weir-redsi}")],
        &error,
        "weir-redsi",
    );
    finds("plain/envoy.yaml", [("{cluster: weir-redis,", "{cluster: weir-redsi,")], &error, "weir-redsi");
    let scope = [("scope", "warning")];
    let filter = "kind: EnvoyFilter\nmetadata: {name: weir-redis, namespace: istio-ingress}";
    let other = filter.replace("istio-ingress", "other");
    finds("istio/gateway.yaml", [(filter, &other)], &scope, "weir-redis}\n    limits");
    let root = filter.replace("istio-ingress", "istio-system");
    assert_eq!(check(&changed(&shipped("istio/gateway.yaml"), [(filter, &root)])).rules(), [""; 0]);
    finds(
        "istio/gateway.yaml",
        [("gateway-name: ingress}", "gateway-name: egress}")],
        &scope,
        "weir-redis}\n    limits",
    );
    let more = ("matchLabels: {app: orders}", "matchLabels: {app: orders, version: v1}");
    assert_eq!(check(&changed(&shipped("istio/sidecar.yaml"), [more])).rules(), [""; 0]);
    finds("istio/sidecar.yaml", [("labels: {app: orders}", "labels: {app: carts}")], &scope, "weir-redis}\n    limits");
}

#[test]
fn the_cluster_of_redis_needs_raw_tcp_and_the_bridge() {
    let error = [("raw-tcp", "error")];
    for (name, indent) in [
        ("istio/gateway.yaml", 8),
        ("envoy-gateway/extension-policy.yaml", 10),
        ("envoy-gateway/patch-policy.yaml", 8),
        ("plain/envoy.yaml", 8),
    ] {
        let space = " ".repeat(indent);
        let tcp = format!(
            "{space}upstream_config:\n{space}  name: envoy.upstreams.http.tcp\n{space}  typed_config:\n{space}    {TCP_POOL}"
        );
        finds(name, [(&tcp, "")], &error, &format!("name: weir-redis\n{space}type: STRICT_DNS"));
    }
    let bridge = [("bridge", "error")];
    let redis = "{cluster: weir-redis}\n";
    for (name, from, to) in [
        (
            "istio/gateway.yaml",
            "            - name: weir-bridge\n              config_discovery",
            "            - name: other\n              disabled: true\n              is_optional: true\n              config_discovery",
        ),
        ("envoy-gateway/extension-policy.yaml", "root_id: bridge", "root_id: other"),
    ] {
        let text = changed(&shipped(name), [(from, to)]);
        let checked = check(&text);
        let finding = checked.about("bridge");
        assert_eq!(finding.place, place_of(&text, redis), "{checked:?}");
    }
    finds(
        "istio/gateway.yaml",
        [("    name: weir-bridge\n        typed_config", "    name: weir-brigde\n        typed_config")],
        &[("bridge", "error"), ("missing-resource", "warning")],
        "weir-bridge\n              config_discovery",
    );
    finds(
        "istio/gateway.yaml",
        [("redis: {cluster: weir-redis}", "redis: {cluster: weir-redis, transport: callout, max_in_flight: 9}")],
        &bridge,
        "callout, max",
    );
    // Clusters that Istio makes of Services speak HTTP.
    finds("istio/webdis.yaml", [("      transport: webdis\n", "")], &error, "outbound|7379");
    finds(
        "istio/webdis.yaml",
        [("name: http, port: 7379", "name: http, port: 7380")],
        &[("unknown-cluster", "note")],
        "outbound|7379",
    );
    finds("istio/upstash.yaml", [("hosts: [example", "hosts: [other")], &[("unknown-cluster", "note")], "outbound|443");
}

#[test]
fn bodies_need_a_flag_that_plugins_of_control_planes_do_not_have() {
    let error = [("unseen-body", "error")];
    let body = "request_body: {json_pointer: /model, default: none}";
    for name in ["istio/gateway.yaml", "istio/traffic-extension.yaml", "envoy-gateway/extension-policy.yaml"] {
        finds(name, [(BY_USER, body)], &error, "name: per_user");
    }
    let flag = "            allow_on_headers_stop_iteration: true\n";
    finds("istio/bodies.yaml", [(flag, "")], &error, "name: weir-limiter\n            root_id");
    finds("envoy-gateway/patch-policy.yaml", [(flag, "")], &error, "name: weir\n            root_id");
}

#[test]
fn plugins_of_one_vm_have_one_list_of_variables() {
    let bridge = "              environment_variables: {host_env_keys: [REDIS_PASSWORD]}\n";
    finds(
        "istio/gateway-secured.yaml",
        [(bridge, "")],
        &[("unlisted-variable", "error")],
        "{name: REDIS_PASSWORD, valueFrom: HOST}",
    );
    let plugin = "  pluginConfig:\n";
    let more = "  vmConfig:\n    env:\n    - {name: ZONE, value: a}\n  pluginConfig:\n";
    finds("istio/gateway.yaml", [(plugin, more)], &[("environments", "warning")], "{name: ZONE");
    finds(
        "istio/gateway-secured.yaml",
        [("    - {name: REDIS_PASSWORD, valueFrom: HOST}\n", "    - {name: OTHER, valueFrom: HOST}\n")],
        &[("configuration", "error")],
        "REDIS_PASSWORD}}",
    );
    // The variable has to be in the pod as well, if the pod is among the manifests.
    let pod =
        "          - name: REDIS_PASSWORD\n            valueFrom: {secretKeyRef: {name: weir-redis, key: password}}\n";
    finds(
        "envoy-gateway/secured.yaml",
        [(pod, "          - {name: OTHER, value: x}\n")],
        &[("unset-variable", "note")],
        "{hostKeys: [REDIS_PASSWORD]}",
    );
}

#[test]
fn remote_code_has_a_version() {
    let (version, latest) = (format!("{IMAGE}:0.1.0"), format!("{IMAGE}:latest"));
    let found = [("unversioned", "warning")];
    finds("istio/gateway.yaml", [(&version, IMAGE)], &found, &format!("{IMAGE}\n"));
    finds("istio/bodies.yaml", [(&version, &latest)], &found, &latest);
    let digest = format!("{IMAGE}@sha256:{}", "0".repeat(64));
    let text = shipped("istio/gateway.yaml").replace(&version, &digest);
    assert_eq!(check(&text).rules(), [""; 0]);
    let image = "registry.example.com/weir/weir-filter";
    finds(
        "envoy-gateway/extension-policy.yaml",
        [(&format!("{image}:0.1.0"), &format!("{image}:stable"))],
        &found,
        image,
    );
    finds(
        "envoy-gateway/extension-policy.yaml",
        [("metadata: {name: weir-0-1-0,", "metadata: {name: weir,")],
        &[("vm-id", "warning")],
        "weir, namespace: default}\nspec:\n  targetRefs",
    );
    let local = "code: {local: {filename: /etc/weir/weir_filter.wasm}}";
    let remote = format!("code: {{remote: {{http_uri: {{uri: {version}, timeout: 9s, cluster: _}}, sha256: '00'}}}}");
    finds("envoy-gateway/patch-policy.yaml", [(local, &remote)], &[("image", "error")], &version);
}

#[test]
fn a_plugin_is_a_limiter_that_starts_again() {
    let found = [("failure-policy", "warning")];
    let strategy = "  failStrategy: FAIL_RELOAD\n";
    finds("istio/gateway.yaml", [(strategy, "  failStrategy: FAIL_OPEN\n")], &found, "FAIL_OPEN");
    finds("istio/gateway.yaml", [(strategy, "")], &found, "targetRefs:");
    finds("istio/bodies.yaml", [("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN")], &found, "FAIL_OPEN");
    finds("istio/gateway.yaml", [("pluginName: limiter", "pluginName: limitr")], &[("root-id", "error")], "limitr");
    finds(
        "envoy-gateway/extension-policy.yaml",
        [("rootID: limiter", "rootID: other")],
        &[("root-id", "error")],
        "other",
    );
    finds(
        "istio/gateway.yaml",
        [("pluginName: limiter", "pluginName: bridge")],
        &[("misplaced", "error")],
        "targetRefs:",
    );
}

#[test]
fn claims_are_read_after_authentication_and_under_their_key() {
    let found = [("order", "warning")];
    finds("istio/jwt-plans.yaml", [("phase: AUTHZ", "phase: AUTHN")], &found, "AUTHN");
    assert_eq!(check(&changed(&shipped("istio/gateway.yaml"), [("phase: AUTHZ", "phase: AUTHN")])).rules(), [""; 0]);
    let key = "envoy.filters.http.jwt_authn, path: [{key: users}, {key: plan}]";
    let text = "istio/jwt-plans.yaml";
    finds(text, [("path: [{key: payload}, {key: plan}]", "path: [{key: users}, {key: plan}]")], &found, key);
    let other = key.replace("users", "payload");
    finds("envoy-gateway/secured.yaml", [(key, &other)], &found, &other);
}

#[test]
fn a_gateway_of_istio_shows_counters() {
    let annotation = "    annotations:\n      proxy.istio.io/config: |\n        proxyStatsMatcher: {inclusionRegexps: [\".*wasmcustom.*\"]}\n";
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway";
    finds("istio/gateway-secured.yaml", [(annotation, "")], &[("stats", "note")], gateway);
}

#[test]
fn values_have_their_places_wherever_they_stand() {
    let configuration = [("configuration", "error")];
    for name in [
        "istio/gateway.yaml",
        "istio/traffic-extension.yaml",
        "envoy-gateway/extension-policy.yaml",
        "envoy-gateway/patch-policy.yaml",
        "istio/bodies.yaml",
        "plain/envoy.yaml",
    ] {
        finds(name, [("fill_interval: 60s", "fill_interval: fast")], &configuration, "fast");
    }
    for name in ["istio/gateway.yaml", "envoy-gateway/extension-policy.yaml", "envoy-gateway/patch-policy.yaml"] {
        finds(name, [("type: STRICT_DNS", "type: STRICT_DNZ")], &[("type", "error")], "STRICT_DNZ");
    }
    let text = changed(&shipped("envoy-gateway/extension-policy.yaml"), [("STRICT_DNS", "STRICT_DNZ")]);
    let path = "spec.bootstrap.value.static_resources.clusters[0].type";
    assert_eq!(check(&text).only().path, path);
    let text = changed(&shipped("plain/envoy.yaml"), [("fill_interval: 60s", "fill_interval: fast")]);
    assert!(check(&text).only().path.starts_with("data.envoy.yaml.static_resources.listeners[0]."));
    let text = "type: STRICT_DNS\n          connect_timeout";
    finds(
        "envoy-gateway/extension-policy.yaml",
        [(text, "type: [STRICT_DNS\n          connect_timeout")],
        &[("missing-cluster", "error"), ("syntax", "error")],
        ": 1s\n          load_assignment",
    );
    let next = "load_assignment:\n          cluster_name: upstream";
    finds("plain/envoy.yaml", [("type: STRICT_DNS", "type: 'STRICT_DNS")], &[("syntax", "error")], next);
}

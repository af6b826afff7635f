//! Forms of files: YAML, JSON, several documents, several files, standard input, and files that cannot be read.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Checked, Folder, changed, check, weir};
use crate::{CALLOUT, QUICKSTART};

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let checked = Folder::new().check(&["nowhere.yaml"]);
    let missing = checked.only();
    assert_eq!((missing.rule.as_str(), missing.place.as_str()), ("unreadable", "nowhere.yaml:1:1"));
    assert_eq!(missing.found, "no such file");
    assert_eq!(Folder::new().with("a/b", "").check(&["a"]).only().found, "a folder");
    assert_eq!(Folder::new().with("a.yaml", b"a: \xff").check(&["a.yaml"]).only().expected, "YAML or JSON in UTF-8");
}

#[test]
fn a_file_that_is_no_yaml_has_its_place() {
    for (text, place, found) in [
        ("a: [1, 2\n", "envoy.yaml:1:4", "a syntax error"),
        ("a: b\nc: *d\n", "envoy.yaml:2:4", "an alias without an anchor"),
    ] {
        let checked = check(text);
        let syntax = checked.about("syntax");
        assert_eq!((syntax.place.as_str(), syntax.found.as_str()), (place, found), "{text}");
    }
}

/// Envoy 1.40 was observed to accept and refuse the same files.
#[test]
fn the_language_of_a_file_is_told_by_its_name() {
    let named = |name: &str, text: &str| Folder::new().with(name, text).check(&[name]);
    let (yaml, json) = ("admin: {access_log_path: /dev/null}\n", "{\"admin\": {}}\n");
    let marked = |text: &str| format!("\u{feff}{text}");
    for (name, text) in [
        ("a.YAML", yaml),
        ("a.yml", yaml),
        ("a.yaml", json),
        ("a.conf", json),
        ("a.yaml", &marked(yaml)),
        ("trailing.json", "{\"admin\": {},}"),
        ("single.json", "{'admin': {}}"),
        ("bare.json", "{admin: {}}"),
        ("line.json", "{\"node\": {\"id\": \"a\nb\"}, \"admin\": {}}"),
    ] {
        let checked = named(name, text);
        assert_eq!(checked.rules(), ["no-limiter"], "{name}: {checked:?}");
    }
    for (name, text, rule, place) in [
        ("a.json", yaml, "syntax", "a.json:1:1"),
        ("a.json", &marked(json), "syntax", "a.json:1:1"),
        ("comment.json", "{\"node\": {\"id\": \"#'\"},\n  # admin\n}", "syntax", "comment.json:2:3"),
        ("two.json", "{}\n---\n{}", "syntax", "two.json:2:1"),
        ("text.json", "{\"node\": {\"id\": abc}}", "syntax", "text.json:1:17"),
        ("escape.json", "{\"node\": {\"id\": \"\\x41\"}}", "syntax", "escape.json:1:18"),
        ("anchor.json", "{\"node\": &a {\"id\": \"b\"}}", "syntax", "anchor.json:1:13"),
        (
            "twice.json",
            "{\"admin\": {}, \"node\": {\"metadata\": {\"a\": [1], \"a\": [2]}}}",
            "repeated-key",
            "twice.json:1:47",
        ),
        ("a.conf", yaml, "format", "a.conf:1:1"),
        ("admin", yaml, "format", "admin:1:1"),
        ("a.pb_text", "admin {}\n", "format", "a.pb_text:1:1"),
        ("a.pb", "", "format", "a.pb:1:1"),
    ] {
        let checked = named(name, text);
        let finding = checked.about(rule);
        assert_eq!((finding.severity.as_str(), finding.place.as_str()), ("error", place), "{finding:?}");
        assert_eq!(checked.of("error").len(), 1, "{name}: {checked:?}");
    }
}

/// Envoy 1.36 and 1.40 were observed to accept and refuse the same files.
#[test]
fn a_bootstrap_is_known_by_any_of_its_fields() {
    for text in ["stats_flush_interval: 5s\n", "statsFlushInterval: 5s\n", "watchdogs: {}\n"] {
        assert_eq!(check(text).rules(), ["no-limiter"], "{text}");
    }
    let empty = check("overload_manager: {resource_monitors: []}\n");
    assert_eq!(empty.about("required").path, "overload_manager.resource_monitors", "{empty:?}");
}

#[test]
fn a_file_is_as_deep_as_envoys() {
    let nested = |depth: usize| {
        let (open, close) = ("{a: ".repeat(depth - 2), "}".repeat(depth - 2));
        check(&format!("node: {{id: a, cluster: b, metadata: {open}1{close}}}\nadmin: {{}}\n"))
    };
    assert_eq!(nested(100).rules(), ["no-limiter"]);
    assert_eq!(nested(101).about("syntax").found, "more than 100 levels of nesting");
}

#[test]
fn a_file_whose_first_document_is_no_object_is_an_error() {
    let other = format!("---\n---\n{QUICKSTART}");
    for (text, place, found) in [
        ("", "envoy.yaml:1:1", "an empty file"),
        ("# nothing\n", "envoy.yaml:1:1", "an empty file"),
        ("null\n", "envoy.yaml:1:1", "nothing"),
        ("# text\nhello\n", "envoy.yaml:2:1", "a string of 5 bytes"),
        ("- a: b\n", "envoy.yaml:1:1", "a list of 1"),
        (other.as_str(), "envoy.yaml:2:1", "nothing"),
    ] {
        let checked = check(text);
        let syntax = checked.about("syntax");
        assert_eq!((syntax.found.as_str(), syntax.severity.as_str()), (found, "error"), "{text}");
        assert!(syntax.place == place || text == other, "{syntax:?}");
    }
    assert_eq!(Folder::new().with("envoy.json", "").check(&["envoy.json"]).only().rule, "syntax");
    assert_eq!(check(&format!("{QUICKSTART}---\n")).rules(), [""; 0], "no document follows the last mark");
}

#[test]
fn json_is_read_as_by_envoy() {
    let value: serde_json::Value = serde_saphyr::from_str(QUICKSTART).expect("YAML");
    let sound = |text: &str, name: &str| {
        let checked = Folder::new().with(name, text).check(&[name]);
        assert_eq!((checked.rules(), checked.number("limiters")), (vec![], 1), "{name}");
    };
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    sound(&pretty, "envoy.json");
    sound(&pretty.replace("  ", "\t"), "envoy.json");
    sound(&value.to_string(), "envoy.yaml");

    let large = pretty.replace("\"max_tokens\": 20", "\"max_tokens\": 3000000000");
    sound(&large, "envoy.json");
    let broken = pretty.replace("\"max_tokens\": 20", "\"max_tokens\": true");
    let checked = Folder::new().with("envoy.json", &broken).check(&["envoy.json"]);
    let line = broken.lines().position(|line| line.contains("\"max_tokens\": true")).unwrap() + 1;
    assert!(checked.only().place.starts_with(&format!("envoy.json:{line}:")), "{checked:?}");
}

#[test]
fn protobuf_takes_camel_case_single_objects_and_any_case_of_enums() {
    let text = changed(
        QUICKSTART,
        [
            ("  listeners:\n  - name: ingress\n    address", "  listeners:\n    address"),
            (
                "filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        \
                 typed_config",
                "filterChains:\n      filters:\n        name: manager\n        typedConfig",
            ),
            ("http_filters", "httpFilters"),
            ("root_id: limiter", "rootId: limiter"),
            ("vm_config", "vmConfig"),
            ("failure_policy: FAIL_RELOAD", "failurePolicy: fail_reload"),
            ("typed_extension_protocol_options", "typedExtensionProtocolOptions"),
            ("upstream_config", "upstreamConfig"),
        ],
    );
    let checked = check(&text);
    assert_eq!((checked.rules(), checked.number("limiters"), checked.number("bridges")), (vec![], 1, 1));
    // Paths are spelled as in the file.
    let broken = check(&changed(&text, [("max_tokens: 20", "max_tokens: -1")]));
    assert!(
        broken.only().path.starts_with("static_resources.listeners.filterChains.filters.typedConfig.httpFilters[0].")
    );
}

#[test]
fn several_files_and_documents_are_checked_on_their_own() {
    let folder = Folder::new().with("a.yaml", QUICKSTART).with("b.yaml", CALLOUT);
    let both = folder.check(&["a.yaml", "b.yaml"]);
    assert_eq!(both.rules(), [""; 0], "each limiter has the cluster of its own file");
    assert_eq!(both.numbers["groups"].as_array().unwrap().len(), 2);
    assert_eq!(folder.check(&["a.yaml", "./a.yaml"]).numbers["groups"].as_array().unwrap().len(), 1);

    let text = format!("{QUICKSTART}---\n{}", changed(CALLOUT, [("{cluster: redis,", "{cluster: other,")]));
    let checked = check(&text);
    assert_eq!(checked.rules(), ["extra-document"], "Envoy reads the first one only");
    let groups = checked.numbers["groups"].as_array().unwrap();
    assert_eq!((groups.len(), checked.number("limiters"), checked.number("clusters")), (1, 1, 1));
}

#[test]
fn documents_behind_the_first_one_count_only_where_something_reads_them() {
    let extra = |text: &str| {
        let checked = check(text);
        let finding = checked.only();
        assert_eq!((finding.rule.as_str(), finding.severity.as_str()), ("extra-document", "warning"), "{finding:?}");
        (finding.place.clone(), checked.number("limiters"))
    };
    let end = QUICKSTART.matches('\n').count() + 2;
    assert_eq!(extra(&format!("{QUICKSTART}---\n---\na: b\n")), (format!("envoy.yaml:{}:1", end + 1), 1));
    assert_eq!(extra(&format!("{QUICKSTART}---\na: [\n")).1, 1, "Envoy does not look there");
    assert_eq!(extra(&format!("{QUICKSTART}---\nredis: {{cluster: a}}\nlimits: 7\n")).1, 1);

    // Kubernetes reads all documents, and empty ones as nothing.
    let manifest = "apiVersion: v1\nkind: ConfigMap\ndata: {}\n";
    let two = check(&format!("---\n---\n{manifest}---\n{manifest}"));
    assert_eq!((two.rules(), two.only().place.as_str()), (vec!["manifest"], "envoy.yaml:3:1"));
    assert_eq!(two.only().found, "2 manifests without any (\"ConfigMap\")");
    let beside = check(&format!("{QUICKSTART}---\n{manifest}"));
    assert_eq!((beside.rules(), beside.number("limiters")), (vec!["manifest"], 1));
    let broken = check(&format!("{manifest}---\na: [\n"));
    assert_eq!(broken.rules(), ["syntax"]);

    // A file of resources has one document, too, and a limiter's configuration may have several.
    let cds = |name: &str| {
        format!(
            "resources: [{{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {name}, \
             connect_timeout: 1}}]\n"
        )
    };
    let folder = Folder::new().with("cds.yaml", format!("{}---\n{}", cds("a"), cds("b")));
    assert_eq!(folder.check(&["cds.yaml"]).rules(), ["type", "extra-document"]);
    let limits = "redis: {cluster: redis}\nlimits: 7\n";
    assert_eq!(check(&format!("{limits}---\n{limits}")).rules(), ["configuration", "configuration"]);
}

#[test]
fn anchors_are_resolved_and_merge_keys_are_not() {
    let module = "code: {local: {filename: target/wasm32-wasip1/release/weir_filter.wasm}}";
    let text = changed(QUICKSTART, [(module, &format!("&x {module}").replace("&x code: ", "code: &x "))]);
    let (head, tail) = text.split_at(text.rfind(module).unwrap());
    let aliased = format!("{head}{}", tail.replacen(module, "code: *x", 1));
    assert_eq!(check(&aliased).rules(), [""; 0]);
    let merged =
        changed(QUICKSTART, [("    type: STRICT_DNS\n", "    type: STRICT_DNS\n    <<: {lb_policy: RANDOM}\n")]);
    assert_eq!((check(&merged).only().rule.as_str(), check(&merged).only().severity.as_str()), ("merge-key", "error"));
    let twice = changed(QUICKSTART, [("    type: STRICT_DNS\n", "    type: STRICT_DNS\n    type: STATIC\n")]);
    let duplicate = check(&twice);
    assert_eq!((duplicate.only().rule.as_str(), duplicate.only().severity.as_str()), ("duplicate-key", "warning"));
    assert!(duplicate.only().path.ends_with("clusters[0]"));
}

#[test]
fn a_dash_is_standard_input() {
    let mut weir = weir();
    weir.args(["check", "--format", "json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = weir.spawn().expect("`weir` runs");
    let text = changed(QUICKSTART, [("max_tokens: 20", "max_tokens: -1")]);
    running.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = running.wait_with_output().expect("`weir` ends");
    let checked = Checked::parse(output.status.success(), &String::from_utf8(output.stdout).expect("UTF-8"));
    assert!(checked.only().place.starts_with("stdin:"), "{checked:?}");
}

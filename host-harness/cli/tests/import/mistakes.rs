//! Inputs that are refused: exit code 1, and no result.

use crate::support::{Imported, import, weir};

fn refused(imported: &Imported, rule: &str) {
    assert_eq!((imported.code, imported.yaml.as_str()), (1, ""), "{:?}", imported.findings);
    assert!(imported.rules("error").contains(&rule), "{:?}", imported.findings);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (code, yaml, findings) = weir(folder.path(), &["import", "none.yaml"]);
    assert_eq!((code, yaml.as_str()), (1, ""));
    assert!(findings.starts_with("none.yaml:1:1: error: cannot be read"), "{findings}");
    refused(&import([("a.yaml", "domain: [\n")]), "syntax");
}

#[test]
fn files_without_limits_are_an_error() {
    refused(&import([("a.yaml", "apiVersion: v1\nkind: Service\n")]), "no-limits");
    refused(&import([("a.yaml", "rate_limits: [{actions: [{remote_address: {}}]}]\n")]), "no-limits");
    refused(&import([("a.yaml", "{}\n")]), "no-limits");
}

#[test]
fn what_the_original_refuses_is_an_error() {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 1}";
    for text in [
        format!("descriptors: [{{key: a, {limit}}}]"),
        format!("domain: d\ndescriptors: [{{key: a, {limit}}}, {{key: a, {limit}}}]"),
        format!("domain: d\ndescriptors: [{{value: a, {limit}}}]"),
        format!("domain: d\ndescriptors: [{{key: a, value: b, share_threshold: true, {limit}}}]"),
        "domain: d\ndescriptors: [{key: a, rate_limit: {unit: fortnight, requests_per_unit: 1}}]".to_owned(),
        "- {namespace: n, max_value: 1, conditions: [], variables: []}".to_owned(),
    ] {
        refused(&import([("a.yaml", &text)]), "invalid");
    }
    let one = format!("domain: d\ndescriptors: [{{key: a, {limit}}}]");
    refused(&import([("a.yaml", &one), ("b.yaml", &one)]), "invalid");
}

#[test]
fn from_selects_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "- {namespace: d, max_value: 1, seconds: 5, conditions: [], variables: [k]}\n";
    let ratelimit = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: minute, requests_per_unit: 7}}]\n";
    let rules = "rate_limits: [{actions: [{request_headers: {header_name: x, descriptor_key: k}}]}]\n";
    for (name, text) in [("limits.yaml", limits), ("ratelimit.yaml", ratelimit), ("envoy.yaml", rules)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let files = ["limits.yaml", "ratelimit.yaml", "envoy.yaml"];
    let windows = |kind: &str| {
        let (code, yaml, findings) = weir(folder.path(), &[&["import", "--from", kind], &files[..]].concat());
        (code, yaml.matches("window: 5s").count(), yaml.matches("window: 60s").count(), findings)
    };
    assert!(matches!(windows("limitador"), (0, 1, 0, _)));
    assert!(matches!(windows("ratelimit"), (0, 0, 1, _)));
    assert_eq!(windows("kuadrant").0, 1);
}

#[test]
fn findings_are_lines_objects_or_annotations() {
    let text = "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: minute, requests_per_unit: 7}\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a,b.yaml"), text).unwrap();
    let of = |format: &str| weir(folder.path(), &["import", "--format", format, "a,b.yaml"]);
    let (code, yaml, lines) = of("text");
    assert_eq!((code, yaml.as_str()), (2, ""), "there is nothing to print without the Envoy file");
    assert!(lines.starts_with("a,b.yaml:1:1: untranslated: no rate_limits of Envoy for the domain d [no-source]\n"));
    assert!(lines.ends_with("0 limits in 0 configurations: 1 untranslated, 0 warnings\n"), "{lines}");
    let (_, _, annotations) = of("github");
    assert!(annotations.starts_with("::error file=a%2Cb.yaml,line=1,col=1,title=weir import%3A no-source::"));
}

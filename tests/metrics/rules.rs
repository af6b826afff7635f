//! The file of rules: promtool accepts it, its unit tests pass, and each alert has one that fires.

use std::fs;
use std::process::Command;

use serde_json::Value;
use weir::or_skip;
use weir_provision::{checkout, prometheus};

use crate::expressions::all_rules;
use crate::folder;

const TESTS: &str = include_str!("rules_test.yaml");

#[test]
fn promtool_accepts_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", &folder().join("rules.yaml").display().to_string()]);
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    let file = checkout::root().unwrap().join("tests/metrics/rules_test.yaml");
    promtool(&["test", "rules", &file.display().to_string()]);
}

#[test]
fn each_alert_is_tested_once_when_it_fires_and_once_when_it_does_not() {
    let tests: Value = serde_saphyr::from_str(TESTS).unwrap();
    let cases: Vec<&Value> = tests["tests"].as_array().unwrap().iter().collect();
    let cases = || cases.iter().flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten());
    for rule in all_rules().iter().filter(|rule| rule.is_alert) {
        let own = || cases().filter(|case| case["alertname"] == rule.name.as_str());
        let fires = |case: &&Value| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        assert!(own().any(|case| fires(&case)), "{} never fires in a test", rule.name);
        assert!(own().any(|case| !fires(&case)), "{} always fires in its tests", rule.name);
    }
}

/// Shipped files with a bootstrap of their own, and the chart, make labels as the page on metrics says.
#[test]
fn files_with_a_bootstrap_have_the_labels_of_the_page() {
    let page = fs::read_to_string(checkout::root().unwrap().join("docs/src/metrics.md")).unwrap();
    let (_, block) = page.split_once("```yaml stats_config\n").expect("the page has the labels");
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let block = lines(block.split_once("\n```").unwrap().0);
    for file in [
        "kubernetes/plain/envoy.yaml",
        "kubernetes/envoy-gateway/extension-policy.yaml",
        "kubernetes/envoy-gateway/secured.yaml",
        "helm/weir/files/envoy.yaml",
        "helm/weir/templates/envoy-gateway.yaml",
    ] {
        let text = fs::read_to_string(checkout::root().unwrap().join("envoy").join(file)).unwrap();
        assert!(lines(&text).contains(&block), "{file}");
    }
}

/// Runs promtool, which has to succeed.
fn promtool(arguments: &[&str]) {
    let Some(promtool) = or_skip(prometheus::promtool()) else { return };
    let output = Command::new(promtool).args(arguments).output().unwrap();
    let printed = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{printed}");
}

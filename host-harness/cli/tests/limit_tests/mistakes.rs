//! Mistakes in test files and in the configurations under test.

use std::path::Path;

use super::support::{CONFIGURATION, ENVOY, Folder, mistakes, tests, weir};

#[test]
fn every_mistake_has_its_place_and_a_hint() {
    let with = |tests: &str| mistakes(&format!("{CONFIGURATION}tests:\n- name: a\n  steps:\n{tests}"));
    for (step, mistake) in [
        ("{request: GET /, cuont: 5}", "10:22: unknown field `cuont`: did you mean `count`?"),
        ("{reqest: GET /}", "10:6: unknown field `reqest`: did you mean `request`?"),
        ("{request: {pth: /}}", "10:16: unknown field `pth`: did you mean `path`?"),
        ("{request: GET /, expect: {stauts: 200}}", "10:31: unknown field `stauts`: did you mean `status`?"),
        ("{request: GET /, count: 0}", "10:29: expected a number of requests from 1 to 1000000, found 0"),
        ("{request: GET /, count: -5}", "10:29: expected a number of requests from 1 to 1000000, found -5"),
        (
            "{request: GET /, count: 1000000000000000000}",
            "10:29: expected a number of requests from 1 to 1000000, found 1000000000000000000",
        ),
        (
            "{request: GET /, count: 200000, at_once: true}",
            "10:29: expected at most 100000 requests at once, found 200000",
        ),
        ("{advance: -5s}", "10:15: expected a duration above 0 such as 0.5s, 15m or 31d, found \"-5s\""),
        ("{advance: 40000d}", "10:15: expected a duration of at most 100 years, found \"40000d\""),
        ("{redis: dwon}", "10:13: expected down, up or flushed, found \"dwon\""),
        (
            "{advance: 1s, redis: up}",
            "10:5: expected one of request, advance, redis, limits in a step, found advance and redis",
        ),
        ("{advance: 1s, count: 2}", "10:19: `count` belongs to a step with `request`, not with `advance`"),
        (
            "{request: GET /, rate: 5/s}",
            "10:28: expected `count` or `over` beside `rate`: how many requests, or for how long",
        ),
        ("{request: GET /, expect: {limit: per_usr}}", "10:38: no limit named \"per_usr\": did you mean `per_user`?"),
        (
            "{request: {path: /a b}}",
            "10:22: expected a path that begins with `/`, as an HTTP request has it, found \"/a b\"",
        ),
        (
            "{limits: set per_usr blocked}",
            "10:5: `weir limits set per_usr blocked`: no limit `per_usr`; expected one of per_user",
        ),
        ("{limits: 'set per_user \"alice'}", "10:14: expected a closing quote"),
    ] {
        let found = with(&format!("  - {step}\n"));
        assert_eq!(found, [format!("limits.test.yaml:{mistake}")], "{step}");
    }
}

#[test]
fn a_file_that_is_no_test_file_is_refused() {
    const STEP: &str = "tests: [{name: a, steps: [{request: GET /}]}]\n";
    for (text, mistake) in [
        ("", "1:1: expected a test file, found an empty document"),
        ("[]\n", "1:1: expected a map, found a list"),
        ("tests: [\n", "1:8: expected YAML, found a syntax error"),
        ("configuration: x.yaml\ntests: []\n", "1:16: expected a configuration, found no file x.yaml"),
        ("tests:\n- {name: a, name: b, steps: []}\n", "2:13: the same key a second time"),
    ] {
        let found = mistakes(text);
        assert!(found.contains(&format!("limits.test.yaml:{mistake}")), "{text:?}: {found:?}");
    }
    let itself = mistakes(&format!("configuration: limits.test.yaml\n{STEP}"));
    assert_eq!(itself, ["limits.test.yaml:1:16: expected a configuration, found this test file itself"]);
    let empty = mistakes(&format!("configuration: {{static_resources: {{}}}}\n{STEP}"));
    assert_eq!(empty.len(), 1);
    assert!(empty[0].contains("1:16: the configuration: expected a limiter"), "{empty:?}");
    let wrong = mistakes(&format!("configuration: {{redis: {{cluster: redis}}, limits: 7}}\n{STEP}"));
    assert_eq!(wrong, ["limits.test.yaml:1:50: limits: expected a list of 1 to 32 items, found 7"]);
    let beside = mistakes(STEP);
    assert!(beside[0].contains("expected the configuration limits.yaml beside this file"), "{beside:?}");
    assert_eq!(weir(&["/nowhere/x.test.yaml"]).code, 2);
}

#[test]
fn an_error_of_the_configuration_under_test_has_its_place() {
    let folder = Folder::with("tests: [{name: a, steps: [{request: GET /}]}]\n");
    let quickstart = std::fs::read_to_string(Path::new(ENVOY).join("quickstart.yaml")).expect("a scenario");
    let place = |text: &str, part: &str| {
        let before = &text[..text.find(part).expect("the part")];
        format!("{}:{}", before.matches('\n').count() + 1, before.rsplit('\n').next().expect("a line").len() + 1)
    };
    let refused = |text: &str| {
        std::fs::write(folder.0.path().join("limits.yaml"), text).expect("written");
        let run = folder.run(&[]);
        assert_eq!(run.code, 2, "{}", run.out);
        run.err
    };
    let negative = quickstart.replacen("max_tokens: 20", "max_tokens: -1", 1);
    let expected = format!("limits.yaml:{}: limits[0].token_bucket.max_tokens: expected ", place(&negative, "-1"));
    let found = refused(&negative);
    assert!(found.starts_with(&expected), "{found}");

    let two = negative.replacen("name: per_user", "nmae: per_user", 1);
    let found = refused(&two);
    assert!(found.contains(&format!("limits.yaml:{}: limits[0].nmae: ", place(&two, "nmae"))), "{found}");
    assert!(found.lines().all(|line| line.starts_with("limits.yaml:")) && found.lines().count() > 1, "{found}");

    assert_eq!(refused("a: [1, 2\n"), "limits.yaml:1:4: expected a configuration, found a syntax error\n");
    let other = quickstart.replacen("google.protobuf.Struct", "google.protobuf.Duration", 1);
    let found = refused(&other);
    let expected = format!("limits.yaml:{}: ", place(&other, "type.googleapis.com/google.protobuf.Duration"));
    assert!(found.starts_with(&expected) && found.contains("found another message"), "{found}");
}

#[test]
fn merge_keys_and_fractions_are_those_of_yaml() {
    let run = tests(
        "- name: merged
  steps:
  - request: &alice {headers: {x-user-id: alice}, filter_state: {share: 0.5}}
  - request: {<<: *alice, path: /b}
  - {request: *alice, expect: {status: 429}}
",
    );
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
}

#[test]
fn two_test_files_that_name_each_other_are_refused() {
    let folder = Folder::with("configuration: other.test.yaml\ntests: [{name: a, steps: [{request: GET /}]}]\n");
    let other = "configuration: limits.test.yaml\ntests: [{name: a, steps: [{request: GET /}]}]\n";
    std::fs::write(folder.0.path().join("other.test.yaml"), other).expect("written");
    let run = folder.run(&[]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (2, "limits.test.yaml:1:16: expected a configuration, found a test file: other.test.yaml\n")
    );
}

/// A file that the harness does not serve is tested behind a plain proxy, and a note says so.
#[test]
fn a_configuration_that_the_harness_does_not_serve_has_tests_too() {
    let folder = Folder::with(
        "tests: [{name: a, steps: [{request: {headers: {x-user-id: a}}, count: 21, at_once: true, \
         expect: {status: {200: 20, 429: 1}}}]}]\n",
    );
    let quickstart = std::fs::read_to_string(Path::new(ENVOY).join("quickstart.yaml")).expect("a scenario");
    let unserved =
        quickstart.replacen("stat_prefix: ingress", "stat_prefix: ingress\n          local_reply_config: {}", 1);
    std::fs::write(folder.0.path().join("limits.yaml"), unserved).expect("written");
    let run = folder.run(&[]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.starts_with("note: limits.yaml: tests run behind a plain proxy, not its own ("), "{}", run.err);
}

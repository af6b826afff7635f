//! `weir test`: the tests of `envoy/tests/` in virtual time, failures, mistakes and options.

#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

use std::fmt::Write as _;
use std::path::PathBuf;

mod mistakes;
mod proxies;
mod support;
mod upstreams;

use support::{CONFIGURATION, ENVOY, Folder, tests, weir};

#[test]
fn every_scenario_has_tests_that_pass_in_virtual_time() {
    let entries = std::fs::read_dir(ENVOY).expect("a folder").map(|entry| entry.expect("an entry").path());
    let scenarios: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    assert!(scenarios.len() >= 10, "{scenarios:?}");
    let test_of = |scenario: &PathBuf| {
        let name = scenario.file_stem().and_then(|name| name.to_str()).expect("a name");
        format!("{ENVOY}/tests/{name}.test.yaml")
    };
    let files: Vec<String> = scenarios.iter().map(test_of).collect();
    let run = weir(&files.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    assert!(!run.out.contains("skipped"), "{}", run.out);
}

#[test]
fn a_failure_reads_like_a_diff() {
    let run = tests(
        "- name: three
  steps:
  - request: {headers: {x-user-id: alice}}
    count: 4
    expect:
      status: {200: 3, 429: 1}
      limit: per_user
      retry_after: 10s
      remaining: 1
      headers: {x-ratelimit-limit: 3, retry-after: {absent: true}}
      body: {matches: ^sorry}
- name: two
  steps: [{request: {headers: {x-user-id: bob}}, count: 2, expect: {status: 200}}]
",
    );
    assert_eq!(run.code, 1, "{}", run.err);
    let expected = "limits.test.yaml: 1 passed, 1 failed
  FAILED: three
    limits.test.yaml:10: GET / × 4
      status (line 13)
      - expected: 200 × 3, 429 × 1
      + actual:   200 × 2, 429 × 2 (\"rate limited\\n\")
      header x-ratelimit-limit (line 17)
      - expected: \"3\"
      + actual:   \"2\"
      header retry-after (line 17)
      - expected: absent
      + actual:   \"30\"
      body (line 18)
      - expected: matches \"^sorry\"
      + actual:   \"rate limited\\n\"
      retry-after (line 15)
      - expected: 10s ± 1s
      + actual:   30s
      remaining (line 16)
      - expected: 1
      + actual:   0
2 tests in 1 file: 1 passed, 1 failed; 6 requests in ";
    assert!(run.out.starts_with(expected), "{}", run.out);
}

#[test]
fn the_limit_that_denied_is_told() {
    let run = tests(
        "- name: wrong
  steps: [{request: {headers: {x-user-id: alice}}, count: 2, expect: {limit: per_user}}]
",
    );
    assert_eq!(run.code, 1);
    assert!(run.out.contains("+ actual:   no request was denied by a limit"), "{}", run.out);
}

#[test]
fn each_kind_of_step_and_expectation_holds() {
    let run = tests(
        "- name: time
  start: 2026-12-31T23:59:00Z
  workers: 3
  steps:
  - {request: {headers: {x-user-id: alice}}, count: 5, at_once: true, expect: {status: {200: 2, 429: 3}, \
     limit: per_user}}
  - {request: {headers: {x-user-id: alice}}, expect: {status: 429, retry_after: {is: 30s, within: 0s}, held: 0s}}
  - advance: 31d
  - {request: {headers: {x-user-id: alice}}, rate: 2/60s, over: 10m, expect: {status: 200}}
- name: redis
  steps:
  - {request: {headers: {x-user-id: alice}}, count: 2, expect: {status: 200, remaining: 0..1}}
  - redis: down
  - {request: {headers: {x-user-id: alice}}, count: 9, expect: {status: 200, \
     headers: {x-ratelimit-limit: {absent: true}}}}
  - redis: up
  - {request: {headers: {x-user-id: alice}}, expect: {status: 429, headers: {x-ratelimit-limit: {present: true}}}}
  - redis: flushed
  - advance: 1s
  # The first reply shows the loss, and the worker heals it.
  - {request: {headers: {x-user-id: alice}}, count: 2, expect: {status: {200: 1, 429: 1}}}
- name: overrides
  steps:
  - {request: {headers: {x-user-id: alice}}, expect: {status: 200}}
  - limits: set per_user alice blocked --for 10m
  - {request: {headers: {x-user-id: alice}}, expect: {status: 429}}
  - {request: {headers: {x-user-id: bob}}, expect: {status: 200}}
  - advance: 11m
  - {request: {headers: {x-user-id: alice}}, expect: {status: 200}}
  - limits: [set, per_user, --max, '7']
  - {request: {headers: {x-user-id: carol}}, count: 8, at_once: true, expect: {status: {200: 7, 429: 1}}}
  - limits: reset per_user carol
  - advance: 1s
  - {request: {headers: {x-user-id: carol}}, count: 7, expect: {status: 200}}
",
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
}

#[test]
fn workers_decide_by_their_shares_while_redis_is_down() {
    let run = Folder::with(
        "configuration:
  redis: {cluster: redis}
  failure_mode: local
  local: {share: 1}
  limits:
  - name: per_user
    descriptor: [{request_header: {name: x-user-id}}]
    token_bucket: {max_tokens: 4, tokens_per_fill: 4, fill_interval: 60s}
tests:
- name: shares
  workers: 1
  steps:
  - {request: {headers: {x-user-id: alice}}, expect: {status: 200, headers: {x-weir-failure-mode: {absent: true}}}}
  - redis: down
  - {request: {headers: {x-user-id: alice}}, expect: {status: 429, retry_after: 15s, \
     headers: {x-weir-failure-mode: local}}}
  - advance: 30s
  - {request: {headers: {x-user-id: alice}}, count: 3, expect: {status: {200: 2, 429: 1}}}
  - redis: up
  - advance: 1s
  - {request: {headers: {x-user-id: alice}}, count: 3, \
     expect: {status: {200: 2, 429: 1}, headers: {x-weir-failure-mode: {absent: true}}}}
",
    )
    .run(&[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
}

#[test]
fn marks_metadata_bodies_and_addresses_are_given() {
    let run = Folder::with(
        "configuration:
  redis: {cluster: redis}
  limits:
  - name: per_model
    descriptor: [{request_body: {json_pointer: /model}}]
    token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 60s}
  - name: per_plan
    descriptor: [{dynamic_metadata: {metadata_key: {key: accounts, path: [{key: plan}]}}}]
    token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 60s}
  - name: per_tenant
    descriptor: [{filter_state: {key: tenant}}]
    token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 60s}
  - name: per_address
    when: [{path: {prefix: /marked}}]
    descriptor: [{remote_address: {}}]
    token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 60s}
    on_exceed: {mark: {name: x-over-limit, value: per_address}}
tests:
- name: body
  steps:
  - {request: {method: POST, headers: {content-type: application/json}, body: '{\"model\": \"small\"}'}, count: 2,
     expect: {status: {200: 1, 429: 1}, limit: per_model}}
  - {request: {method: POST, headers: {content-type: application/json}, body: '{\"model\": \"large\"}'}, \
     expect: {status: 200}}
- name: metadata
  steps:
  - {request: {metadata: {accounts: {plan: pro}}}, count: 2, expect: {status: {200: 1, 429: 1}, limit: per_plan}}
  - {request: {filter_state: {tenant: acme}}, count: 2, expect: {status: {200: 1, 429: 1}, limit: per_tenant}}
- name: address
  steps:
  - {request: {path: /marked, client: 203.0.113.1}, expect: {status: 200, \
     upstream_headers: {x-over-limit: {absent: true}}}}
  - {request: {path: /marked, client: 203.0.113.1}, expect: {status: 200, \
     upstream_headers: {x-over-limit: per_address}}}
  - {request: {path: /marked, client: 203.0.113.2}, expect: {status: 200, \
     upstream_headers: {x-over-limit: {absent: true}}}}
",
    )
    .run(&[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
}

#[test]
fn routes_change_headers_of_requests_and_responses() {
    let quickstart = std::fs::read_to_string(format!("{ENVOY}/quickstart.yaml")).expect("the quickstart");
    let own = r#"              - match: {prefix: "/shop"}
                route: {cluster: redis, prefix_rewrite: "/inner", host_rewrite_literal: inner.test}
                request_headers_to_add: [{header: {key: x-user, value: "%REQ(x-user-id)%"}}]
                request_headers_to_remove: [x-secret]
                response_headers_to_add: [{header: {key: x-route, value: shop}}]
              - match: {prefix: "/"}
                response_headers_to_add: [{header: {key: x-route, value: direct}}]
"#;
    let folder = Folder::with(
        "configuration: edge.yaml
tests:
- name: headers
  steps:
  - request: {path: /shop/cart, headers: {x-user-id: alice, x-secret: s}}
    expect:
      status: 200
      headers: {x-route: shop}
      upstream_headers: {':path': /inner/cart, ':authority': inner.test, x-user: alice, x-secret: {absent: true}}
  - {request: {path: /, headers: {x-user-id: alice}}, expect: {status: 200, headers: {x-route: direct}}}
",
    );
    let edge = quickstart.replacen("              - match: {prefix: \"/\"}\n", own, 1);
    std::fs::write(folder.0.path().join("edge.yaml"), edge).expect("written");
    let run = folder.run(&[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
}

#[test]
fn a_thousand_tests_are_one_run() {
    let mut all = String::new();
    for user in 0..1_000 {
        let step = format!(
            "{{request: {{headers: {{x-user-id: user-{user}}}}}, count: 3, expect: {{status: {{200: 2, 429: 1}}}}}}"
        );
        writeln!(all, "- {{name: user {user}, steps: [{step}]}}").expect("a text");
    }
    let run = tests(&all);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    assert!(run.out.contains("1000 tests in 1 file: 1000 passed; 3000 requests in "), "{}", run.out);
}

#[test]
fn tests_are_chosen_by_name_and_reported_to_ci() {
    let text = format!(
        "{CONFIGURATION}tests:
- {{name: 'a <b> & \"c\"', steps: [{{request: GET /, expect: {{status: 503}}}}]}}
- {{name: d, steps: [{{request: GET /, expect: {{status: 200}}}}]}}
"
    );
    let folder = Folder::with(&text);
    let junit = folder.0.path().join("junit.xml");
    let run = folder.run(&["--junit", &junit.display().to_string()]);
    assert_eq!(run.code, 1);
    let xml = std::fs::read_to_string(&junit).expect("a report");
    assert!(xml.contains(r#"<testsuites name="weir test" tests="2" failures="1" skipped="0""#), "{xml}");
    assert!(
        xml.contains(r#"<testcase name="a &lt;b&gt; &amp; &quot;c&quot;""#) && xml.contains("- expected: 503"),
        "{xml}"
    );
    let one = folder.run(&["--filter", "d"]);
    assert!(one.code == 0 && one.out.contains("1 test in 1 file: 1 passed"), "{}", one.out);
    let none = folder.run(&["--filter", "nobody"]);
    assert_eq!((none.code, none.err.as_str()), (2, "--filter: no test's name contains \"nobody\"\n"));
}

//! Responses of the upstream in tests, clients that leave them, and budgets.

use super::support::{Folder, mistakes};

/// A budget of tokens for each user, and one of money.
const BUDGETS: &str = "configuration:
  redis: {cluster: redis}
  usage: {prices: [{model: {prefix: gpt}, input: 1, output: 10}]}
  limits:
  - name: tokens
    descriptor: [{request_header: {name: x-user-id}}]
    charge: total_tokens
    token_bucket: {max_tokens: 10000, tokens_per_fill: 1000, fill_interval: 1s}
    reserve: {input: 10, output: {default: 100}}
  - name: money
    descriptor: [{request_header: {name: x-user-id}}]
    charge: cost
    quota: {max_usd: 1, unit: month}
    reserve: {input: 10, output: {default: 100}}
tests:
";

fn run(tests: &str) -> super::support::Run {
    Folder::with(&format!("{BUDGETS}{tests}")).run(&[])
}

/// A request of alice to this path, with this upstream and what else there is.
fn step(path: &str, body: &str, upstream: &str, rest: &str) -> String {
    format!(
        "  - {{request: {{method: POST, path: {path}, headers: {{x-user-id: alice}}, body: '{body}'}}, \
         upstream: {upstream}, {rest}}}\n"
    )
}

#[test]
fn usage_is_told_in_the_form_of_each_api() {
    let whole = r#"{"model": "gpt"}"#;
    let stream = r#"{"model": "gpt", "stream": true}"#;
    let usage = "{usage: {input: 100, cache_read: 20, output: 7}}";
    let mut tests = String::new();
    for (nth, (path, body)) in [
        ("/v1/chat/completions", whole),
        ("/v1/chat/completions", stream),
        ("/v1/messages", whole),
        ("/v1/messages", stream),
        ("/v1/models/gpt:generateContent", whole),
        ("/v1/models/gpt:streamGenerateContent", whole),
        ("/model/gpt/converse", whole),
    ]
    .into_iter()
    .enumerate()
    {
        tests += &format!("- name: {nth}\n  steps:\n");
        let expect = "expect: {status: 200, budgets: {tokens: {key: alice, spent: 127, held: 0}, \
            money: {key: alice, spent: 0.00019}}}";
        tests += &step(path, body, usage, expect);
        // The bucket drains by 100 tokens.
        tests += "  - advance: 0.1s\n";
        let upstream = "{usage: {api: openai, model: gpt-9, input: 3, output: 0}}";
        tests += &step("/other", whole, upstream, "expect: {budgets: {tokens: {key: alice, spent: 30}}}");
    }
    let run = run(&tests);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
}

#[test]
fn responses_are_cut_off_as_the_test_says() {
    let text = "{data: {choices: [{delta: {content: 'five fives of text.x'}}]}}";
    let usage = "{data: {choices: [], usage: {prompt_tokens: 5, completion_tokens: 6}}, after: 5m}";
    let all = format!("{{sse: [{text}, {usage}, '[DONE]']}}");
    // 20 bytes of text are 5 tokens, beside the 10 of the request's estimate.
    let half = format!("{{sse: [{text}, '[DONE]'], reset: mid_stream}}");
    let mut tests = String::new();
    for (nth, (upstream, rest, status, spent)) in [
        (all.as_str(), "disconnect: before_headers", "", 0),
        (&all, "disconnect: mid_stream", "status: 200, ", 11),
        (&all, "disconnect: after_done", "status: 200, ", 11),
        (&all, "count: 1", "status: 200, body: {matches: DONE}, ", 11),
        (&half, "count: 1", "status: 200, body: {matches: five}, ", 15),
        ("{reset: before_headers}", "count: 1", "status: 503, ", 0),
        ("{status: 500, json: {usage: {prompt_tokens: 5, completion_tokens: 6}}}", "count: 1", "status: 500, ", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let budgets = format!("{{money: {{key: alice, held: 0}}, tokens: {{key: alice, spent: {spent}, held: 0}}}}");
        let expect = format!("{rest}, expect: {{{status}budgets: {budgets}}}");
        let step = step("/v1/chat/completions", r#"{"model": "gpt", "stream": true}"#, upstream, &expect);
        tests += &format!("- name: {nth}\n  steps:\n{step}");
    }
    let run = run(&tests);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}\n{tests}", run.out);
}

#[test]
fn a_budget_that_differs_is_shown_in_its_unit() {
    let usage = "{usage: {input: 100, output: 7}}";
    let expect = "expect: {json: {/usage/total_tokens: 108, /error/code: {present: true}}, \
        budgets: {money: {key: alice, spent: 0.5..1, held: 1}, tokens: {key: bob, spent: 7}}}";
    let step = step("/v1/chat/completions", r#"{"model": "gpt"}"#, usage, expect);
    let run = run(&format!("- name: wrong\n  steps:\n{step}"));
    assert_eq!(run.code, 1, "{}", run.err);
    for text in [
        "/usage/total_tokens in the body (line 18)\n      - expected: \"108\"\n      + actual:   \"107\"",
        "/error/code in the body (line 18)\n      - expected: present\n      + actual:   absent",
        "spent of money alice (line 18)\n      - expected: 0.5..1\n      + actual:   0.00017\n",
        "held of money alice (line 18)\n      - expected: 1\n      + actual:   0\n",
        "spent of tokens bob (line 18)\n      - expected: 7\n      + actual:   0\n",
    ] {
        assert!(run.out.contains(text), "{text}\n{}", run.out);
    }
}

#[test]
fn mistakes_in_upstreams_and_budgets_have_their_places() {
    let request = "request: {method: POST, path: /v1/chat/completions}";
    for (rest, mistake) in [
        ("upstream: {usge: {}}", "unknown field `usge`: did you mean `usage`?"),
        ("upstream: {status: 99}", "expected a status from 200 to 599, found 99"),
        ("upstream: {json: {}, body: a}", "expected one of body, json, sse, usage, found body and json"),
        ("upstream: {sse: [{event: a}]}", "expected `data`, a text or JSON"),
        ("upstream: {sse: {data: a}}", "expected a list, found a map"),
        ("upstream: {sse: [a], after: soon}", "expected a duration above 0 such as 0.5s, 15m or 31d, found \"soon\""),
        ("upstream: {usage: {api: other}}", "expected openai, anthropic, gemini or bedrock, found \"other\""),
        ("upstream: {usage: {input: -1}}", "expected a number of tokens from 0 to 4294967295, found -1"),
        ("upstream: {usage: {cache_write: 1}}", "expected no `cache_write`: only anthropic and bedrock tell it"),
        ("upstream: {reset: after_done}", "expected before_headers or mid_stream, found \"after_done\""),
        ("upstream: {}, disconnect: early", "expected before_headers, mid_stream or after_done, found \"early\""),
        (
            "upstream: {reset: mid_stream}, disconnect: mid_stream",
            "`reset` and `disconnect` exclude each other: one of both ends the response",
        ),
        ("disconnect: mid_stream", "expected `upstream` beside `disconnect`: the response that the client leaves"),
        ("expect: {json: {error: a}}", "expected a JSON pointer such as /error/code, found \"error\""),
        ("expect: {budgets: {money: {key: a}}}", "expected `spent`, `held` or both"),
        (
            "expect: {budgets: {money: {spent: -1}}}",
            "expected a number of tokens or dollars, or a range such as 0.01..0.02, found -1",
        ),
        ("expect: {budgets: {mony: {spent: 1}}}", "no limit named \"mony\": did you mean `money`?"),
        ("expect: {budgets: {tokens: {key: a, spent: 1.5}}}", "expected a whole number of tokens, found 1.5"),
    ] {
        let found = mistakes(&format!("{BUDGETS}- name: a\n  steps:\n  - {{{request}, {rest}}}\n"));
        let of = |line: &String| {
            line.strip_prefix("limits.test.yaml:18:")
                .and_then(|rest| rest.split_once(": "))
                .map(|(_, what)| what.to_owned())
        };
        assert_eq!(found.iter().map(of).collect::<Vec<_>>(), [Some(mistake.to_owned())], "{rest}: {found:?}");
    }
}

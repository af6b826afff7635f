//! Arguments that are refused, and how.

use serde_json::json;
use weir_harness::budgets::Budgets;

use crate::{Operator, configuration, ledger, limits};

#[test]
fn arguments_that_do_not_fit_are_refused_by_name() {
    let mut limits = limits("86400s");
    let plain = json!({"name": "plain", "descriptor": [], "quota": {"max_requests": 5, "unit": "day"}});
    limits.as_array_mut().unwrap().push(plain);
    let Some(operator) = Operator::of(&configuration(&limits, &ledger())) else { return };
    let one_of = "expected one of money, tokens";
    for (words, expected) in [
        (&["list", "--limit", "plain"][..], format!("limit `plain` has no `charge`; {one_of}")),
        (&["list", "--limit", "none"], "no limit `none`; expected one of money, tokens, plain".to_owned()),
        (&["get", "alice"], "expected --limit with one of money, tokens, found no --limit".to_owned()),
        (&["get", "--limit", "money"], "as its descriptor has entries, 1, found 0".to_owned()),
        (&["get", "a", "b", "--limit", "money"], "as its descriptor has entries, 1, found 2".to_owned()),
        (
            &["get", "alice", "--limit", "money", "--window", "2026"],
            "--window: limit `money`: expected current, previous or a month such as 2026-09, found 2026".to_owned(),
        ),
        (
            &["list", "--window", "9999-01"],
            "--window: expected a window that has begun, found 9999-01, which begins at \
          9999-01-01T00:00:00Z"
                .to_owned(),
        ),
        (&["list", "--window", "2026-1"], "found \"2026-1\"".to_owned()),
        (&["export", "--format", "xml"], "possible values: jsonl, csv, cloudevents".to_owned()),
        (&["export", "--since", "yesterday"], "found \"yesterday\"".to_owned()),
        (&["export", "--since", "1h", "--group", "g"], "cannot be used with".to_owned()),
        (&["export", "--consumer", "c"], "--group".to_owned()),
        (&["credit", "alice", "1", "--limit", "tokens", "--id", "7"], "expected 32 hexadecimal digits".to_owned()),
        (
            &["credit", "alice", "1", "--limit", "money", "--yes", "--window", "2020-01"],
            "expected the current or the previous window, found 2020-01-01T00:00:00Z".to_owned(),
        ),
    ] {
        let refused = operator.is_told(words);
        assert!(refused.contains(&expected), "{words:?}: {refused}");
    }
    for (limit, amount) in
        [("money", "-1"), ("money", "0.0000000001"), ("money", "x"), ("tokens", "1.5"), ("tokens", "0")]
    {
        let refused = operator.is_told(&["credit", "alice", amount, "--limit", limit, "--yes"]);
        assert!(
            refused.starts_with("amount: expected ") && refused.ends_with(&format!("found {amount:?}")),
            "{refused}"
        );
    }
    operator.ask::<()>(&["SET", "weir:money:list#budgetmonth0", "x"]);
    let wrong = operator.is_told(&["get", "list", "--limit", "money"]);
    assert!(wrong.starts_with("weir:money:list#budgetmonth0: expected a bucket of this limit"), "{wrong}");
}

#[test]
fn without_a_ledger_nothing_is_exported_and_no_past_window_is_shown() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &json!({}))) else { return };
    for words in [
        &["export"][..],
        &["list", "--window", "2020-01"],
        &["get", "alice", "--limit", "money", "--window", "2020-01"],
    ] {
        let refused = operator.is_told(words);
        assert!(refused.starts_with("expected a ledger, found events.usage off"), "{refused}");
    }
    let plain = json!([{"name": "plain", "descriptor": [], "quota": {"max_requests": 5, "unit": "day"}}]);
    let Some(operator) = Operator::of(&configuration(&plain, &json!({}))) else { return };
    assert_eq!(operator.is_told(&["list"]), "expected a limit with `charge` in the configuration, found none");
}

#[test]
fn a_command_without_a_configuration_says_what_it_needs() {
    let perform = |words: &[&str]| {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        Budgets::parse(words).unwrap().perform(&mut out, &mut notes).unwrap_err().to_string()
    };
    let needs = "expected --config FILE with the limit, found no configuration of it";
    assert_eq!(perform(&["list", "--redis", "redis://127.0.0.1:1"]), needs);
    let gone = perform(&["export", "--redis", "redis://127.0.0.1:1"]);
    assert!(gone.starts_with("redis at 127.0.0.1:1: "), "{gone}");
}

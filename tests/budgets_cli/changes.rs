//! Credits and resets: what they give back, once, and what the ledger has of them.

use serde_json::json;

use crate::{Operator, STREAM, configuration, ledger, limits, sums, used};

const ID: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_credit_gives_back_no_more_than_was_spent_and_the_ledger_agrees() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    operator.spends("alice", &[("money", 2_000_000_000), ("tokens", 500)]);
    let credit = |amount| operator.types(&["credit", "alice", amount, "--limit", "money", "--yes"]);
    assert_eq!(credit("0.75"), "money alice: gave back 0.75 USD; 1.25 USD used now\n");
    let rest = "money alice: gave back 1.25 USD of 12.50 USD, as no more was spent; 0.00 USD used now\n";
    assert_eq!(credit("12.50"), rest);
    assert_eq!(credit("1"), "money alice: gave back 0.00 USD of 1.00 USD, as no more was spent; 0.00 USD used now\n");
    let tokens = operator.types(&["reset", "alice", "--limit", "tokens", "--yes", "--by", "carol", "--reason", "demo"]);
    assert_eq!(tokens, "tokens alice: gave back 500 tokens; 0 tokens used now\n");
    let nobody = operator.types(&["credit", "nobody", "5", "--limit", "tokens", "--yes"]);
    assert_eq!(nobody, "tokens nobody: gave back 0 tokens of 5 tokens, as no more was spent; 0 tokens used now\n");
    assert!(!operator.ask::<bool>(&["EXISTS", "weir:tokens:nobody#budgetfixed86400000000"]), "nothing is kept");

    let records = operator.reads_export(&[]);
    let changes: Vec<_> =
        records.iter().map(|it| json!([it["source"], it["limit"], it["amount"], it["note"]])).collect();
    let expected = [
        json!(["usage", "money", 2_000_000_000, null]),
        json!(["usage", "tokens", 500, null]),
        json!(["credit", "money", -750_000_000, null]),
        json!(["credit", "money", -1_250_000_000, null]),
        json!(["reset", "tokens", -500, "demo; by carol"]),
    ];
    assert_eq!(changes, expected);
    assert_eq!(sums(&records), used(&operator.reads(&["list"])));
}

#[test]
fn a_credit_of_one_name_is_made_once() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    operator.spends("alice", &[("tokens", 500)]);
    let credit = ["credit", "alice", "200", "--limit", "tokens", "-y", "--id", ID];
    assert_eq!(operator.types(&credit), "tokens alice: gave back 200 tokens; 300 tokens used now\n");
    for _ in 0..2 {
        assert_eq!(operator.types(&credit), "tokens alice: gave back 200 tokens; 300 tokens used now\n");
    }
    assert_eq!(operator.ask::<u64>(&["XLEN", STREAM]), 2);
}

#[test]
fn a_reservation_outlives_a_reset_and_is_settled_exactly() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    operator.spends("alice", &[("tokens", 500)]);
    let open = operator.reserves("alice", &[("tokens", 300)]);
    operator.types(&["reset", "alice", "--limit", "tokens", "--yes"]);
    let got = &operator.reads(&["get", "alice", "--limit", "tokens"])[0];
    assert_eq!((&got["used"], &got["held"], &got["remaining"]), (&json!(0), &json!(300), &json!(99_700)));
    operator.settles(&open, &[120]);
    let got = &operator.reads(&["get", "alice", "--limit", "tokens"])[0];
    assert_eq!((&got["used"], &got["held"]), (&json!(120), &json!(0)));
    assert_eq!(sums(&operator.reads_export(&[])), used(&operator.reads(&["list", "--limit", "tokens"])));
}

/// The lease of the request ends, an operator resets the budget, and its settlement comes all the same.
#[test]
fn a_request_that_is_settled_late_after_a_reset_leaves_sums_that_agree() {
    let mut limits = limits("86400s");
    limits[1]["reserve"]["lease"] = "1s".into();
    let Some(operator) = Operator::of(&configuration(&limits, &ledger())) else { return };
    operator.spends("alice", &[("tokens", 10)]);
    let open = operator.reserves("alice", &[("tokens", 300)]);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    operator.spends("alice", &[("tokens", 1)]);
    assert_eq!(operator.reads(&["list", "--limit", "tokens"])[0]["used"], 311);
    operator.types(&["reset", "alice", "--limit", "tokens", "--yes"]);
    operator.settles(&open, &[120]);
    let records = operator.reads_export(&[]);
    let sources: Vec<_> = records.iter().map(|it| it["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["usage", "lost", "usage", "reset", "usage"]);
    assert_eq!(sums(&records), used(&operator.reads(&["list", "--limit", "tokens"])));
}

#[test]
fn all_windows_of_a_limit_are_given_back_together() {
    let mut limits = limits("86400s");
    limits[1] = json!({"name": "tokens", "descriptor": limits[0]["descriptor"], "charge": "total_tokens", "windows": [
        {"quota": {"max_tokens": 10_000, "unit": "day"}},
        {"sliding_window": {"max_tokens": 9_000, "window": "86400s"}},
        {"token_bucket": {"max_tokens": 8_000, "fill_interval": "86400s"}},
    ]});
    let Some(operator) = Operator::of(&configuration(&limits, &ledger())) else { return };
    let open = operator.reserves("alice", &[("tokens", 400)]);
    let own = open.check.reservations(&open.verdict).unwrap();
    assert_eq!(own.as_slice().len(), 3);
    operator.run(&own.settle_call(&|_| 400, false, None, &operator.scripts));
    let given = operator.types(&["credit", "alice", "100", "--limit", "tokens", "--yes"]);
    let expected = ["tokens", "tokens:1", "tokens:2"]
        .map(|name| format!("{name} alice: gave back 100 tokens; 300 tokens used now\n"));
    assert_eq!(given, expected.concat());
    let given = operator.types(&["reset", "alice", "--limit", "tokens", "--yes"]);
    assert_eq!(given.matches("gave back 300 tokens; 0 tokens used now").count(), 3, "{given}");
}

#[test]
fn without_a_ledger_a_credit_is_given_all_the_same() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &json!({}))) else { return };
    operator.spends("alice", &[("tokens", 500)]);
    let before: u64 = operator.ask(&["XLEN", STREAM]);
    let credit = operator.types(&["credit", "alice", "200", "--limit", "tokens", "--yes"]);
    assert_eq!(credit, "tokens alice: gave back 200 tokens; 300 tokens used now\n");
    assert_eq!(operator.ask::<u64>(&["XLEN", STREAM]), before);
}

#[test]
fn a_ledger_that_refuses_the_entry_leaves_the_budget_as_it_is() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    operator.spends("alice", &[("tokens", 500)]);
    operator.ask::<()>(&["DEL", STREAM]);
    operator.ask::<()>(&["SET", STREAM, "no stream"]);
    let refused = operator.is_told(&["credit", "alice", "200", "--limit", "tokens", "--yes"]);
    assert!(refused.contains("WRONGTYPE"), "{refused}");
    assert_eq!(operator.reads(&["get", "alice", "--limit", "tokens"])[0]["used"], 500);
}

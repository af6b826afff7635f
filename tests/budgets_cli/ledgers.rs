//! Windows: the present one, the one before it, and earlier ones from the ledger.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use weir_filter::limit::rfc_3339;
use weir_filter::units::Micros;

use crate::{Operator, STREAM, configuration, ledger, limits};

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

/// Waits until a window of 2 s has just begun, and returns its start in Redis' seconds.
fn begin(operator: &Operator) -> u64 {
    loop {
        let (seconds, micros): (u64, u64) = operator.ask(&["TIME"]);
        if seconds % 2 == 0 && micros < 300_000 {
            return seconds;
        }
        sleep(Duration::from_millis(20));
    }
}

fn date(seconds: u64) -> String {
    rfc_3339(Micros(seconds * SECOND)).trim_end_matches('Z').to_owned()
}

fn used(operator: &Operator, window: &str) -> Vec<(Value, Value, Value)> {
    let rows = operator.reads(&["list", "--limit", "tokens", "--window", window]);
    rows.into_iter()
        .filter(|row| row["key"] != "early")
        .map(|row| (row["key"].clone(), row["used"].clone(), row["at_least"].clone()))
        .collect()
}

fn rows(expected: &[(&str, u64)], at_least: bool) -> Vec<(Value, Value, Value)> {
    expected.iter().map(|(key, used)| (json!(key), json!(used), json!(at_least))).collect()
}

#[test]
fn a_window_is_shown_while_it_is_the_present_the_last_and_an_earlier_one() {
    let Some(operator) = Operator::of(&configuration(&limits("2s"), &ledger())) else { return };
    // The ledger begins before the window.
    operator.spends("early", &[("tokens", 7)]);
    sleep(Duration::from_secs(2));
    let start = begin(&operator);
    operator.spends("alice", &[("tokens", 500)]);
    operator.spends("bob", &[("tokens", 900)]);
    operator.spends("alice", &[("tokens", 50)]);
    // Settled in the next window: what was estimated counts in the window of the request.
    let open = operator.reserves("carol", &[("tokens", 40)]);
    let all = rows(&[("bob", 900), ("alice", 550), ("carol", 0)], false);
    assert_eq!(used(&operator, "current"), all);
    let (now, _): (u64, u64) = operator.ask(&["TIME"]);
    assert!(now < start + 2, "the machine was too slow");
    sleep(Duration::from_secs(start + 2 - now));
    operator.settles(&open, &[45]);
    operator.types(&["credit", "bob", "100", "--limit", "tokens", "--window", "previous", "--yes"]);
    let all = rows(&[("bob", 800), ("alice", 550), ("carol", 40)], false);
    assert_eq!(used(&operator, "previous"), all);
    assert_eq!(used(&operator, &date(start)), all, "from the state");
    assert_eq!(used(&operator, "current"), rows(&[("carol", 5), ("alice", 0), ("bob", 0)], false));
    sleep(Duration::from_secs(2));
    assert_eq!(used(&operator, &date(start)), all, "from the ledger");
    let got = operator.types(&["get", "bob", "--limit", "tokens", "--window", &date(start)]);
    let span = format!("{}Z to {}Z (tokens)", date(start), date(start + 2));
    assert_eq!(
        got,
        format!("limit      tokens\nkey        bob (weir:tokens:bob)\nwindow     {span}\nused       800 tokens\n")
    );

    // Without the first entries, sums are lower bounds, which is told.
    let entries: Vec<(String, Vec<String>)> = operator.ask(&["XRANGE", STREAM, "-", "+"]);
    operator.ask::<()>(&["XTRIM", STREAM, "MINID", &entries[2].0]);
    let all = rows(&[("bob", 800), ("alice", 50), ("carol", 40)], true);
    assert_eq!(used(&operator, &date(start)), all);
    let (table, notes) = operator.tries(&["list", "--limit", "tokens", "--window", &date(start)]).unwrap();
    assert!(table.contains("tokens: at least 890 tokens by 3 keys"), "{table}");
    assert!(notes.contains("after the start of the window: its sums are lower bounds"), "{notes}");
    operator.ask::<()>(&["DEL", STREAM]);
    let (_, notes) = operator.tries(&["list", "--limit", "tokens", "--window", &date(start)]).unwrap();
    assert_eq!(notes, "the ledger is empty\n");
}

#[test]
fn a_month_of_the_past_is_read_by_its_name() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    // 2026-09-01T00:00Z, and an entry of 2026-10-02 that has settled a request of September.
    let september = 1_788_220_800_000_u64;
    let entry = |millis: u64, key: &str, amount: &str, charged: &str| {
        let id = format!("{millis}-0");
        let add =
            ["XADD", STREAM, &id, "charged", charged, "id", "1", "source", "usage", "key", key, "amounts", amount];
        operator.ask::<String>(&add);
    };
    let own = format!("{}", september * 1_000);
    entry(september - 1_000, "weir:money:alice#budgetmonth0", "9", "1785542400000000:9");
    entry(september + 1_000, "weir:money:alice#budgetmonth0", "1250000000", &format!("{own}:1250000000"));
    entry(september + 2_000, "weir:tokens:alice#budgetfixed86400000000", "77", &format!("{own}:77"));
    entry(september + 31 * 86_400_000, "weir:money:bob#budgetmonth0", "300", &format!("{own}:300"));
    let (table, notes) = operator.tries(&["list", "--window", "2026-09"]).unwrap();
    for expected in ["money: 1.2500003 USD by 2 keys", "1.25 USD", "0.0000003 USD", "2026-09-01T00:00:00Z"] {
        assert!(table.contains(expected), "{table}");
    }
    assert!(!table.contains("tokens") && notes.is_empty(), "{table}{notes}");
    let got = operator.reads(&["get", "alice", "--limit", "money", "--window", "2026-09"]);
    assert_eq!((&got[0]["used"], &got[0]["used_usd"]), (&json!(1_250_000_000), &json!("1.25")));
    assert_eq!(got[0]["to"], "2026-10-01T00:00:00Z");
}

#[test]
fn a_budget_is_shown_with_what_is_left_of_it() {
    let Some(operator) = Operator::of(&configuration(&limits("86400s"), &ledger())) else { return };
    operator.spends("alice", &[("money", 8_500_000_000)]);
    operator.reserves("alice", &[("money", 250_000_000)]);
    let got = operator.types(&["get", "alice", "--limit", "money"]);
    let lines: Vec<&str> = got.lines().collect();
    assert_eq!(lines[..2], ["limit      money", "key        alice (weir:money:alice)"]);
    let expected =
        ["budget     10.00 USD", "used       8.50 USD (85.0 %)", "held       0.25 USD", "remaining  1.25 USD"];
    assert_eq!(lines[3..7], expected);
    assert!(lines[7].starts_with("resets at  20"), "{got}");
    assert_eq!(lines[8], "soft limit 80 % (passed)");
    let fresh = operator.reads(&["get", "bob", "--limit", "money"]);
    assert_eq!((&fresh[0]["used"], &fresh[0]["remaining_usd"]), (&json!(0), &json!("10.00")));
    assert_eq!((&fresh[0]["soft_limit"], &fresh[0]["soft_limit_passed"]), (&json!(0.8), &json!(false)));
    operator.types(&["get", "alice", "--limit", "money", "--window", "previous"]);
}

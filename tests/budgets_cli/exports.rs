//! Exports: formats, and consumer groups that are interrupted.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};
use weir_harness::budgets::Budgets;

use crate::{Operator, STREAM, configuration, ledger, limits, objects, sums, used};

impl Operator {
    /// The records of an export, as JSON.
    pub(crate) fn reads_export(&self, words: &[&str]) -> Vec<Value> {
        objects(&self.types(&[&["export"], words].concat()))
    }

    /// Runs an export whose output breaks after so many lines, and returns the lines before.
    fn is_interrupted(&self, words: &[&str], lines: usize) -> String {
        let mut out = Breaking { written: Vec::new(), lines };
        let access = ["--redis", &self.server.url(), "--config", self.config.path().to_str().unwrap()];
        let export = Budgets::parse(&[&["export"], words, &access].concat()).unwrap();
        export.perform(&mut out, &mut Vec::new()).expect_err("the output breaks");
        String::from_utf8(out.written).unwrap()
    }
}

/// Output that fails after a number of lines.
struct Breaking {
    written: Vec<u8>,
    lines: usize,
}

impl Write for Breaking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.iter().filter(|byte| **byte == b'\n').count() >= self.lines {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn operator() -> Option<Operator> {
    Operator::of(&configuration(&limits("86400s"), &ledger()))
}

fn ids(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// Adds a decision to the stream, as workers do.
fn decides(operator: &Operator) {
    operator.ask::<String>(&[
        "XADD",
        STREAM,
        "*",
        "limit",
        "money",
        "key",
        "weir:money:alice",
        "decision",
        "denied",
        "remaining",
        "0",
        "retry_after_us",
        "1",
    ]);
}

#[test]
fn each_format_has_the_same_records() {
    let Some(operator) = operator() else { return };
    decides(&operator);
    operator.spends("alice", &[("money", 14_850), ("tokens", 33)]);
    operator.spends("bob", &[("tokens", 5)]);
    operator.types(&["credit", "bob", "2", "--limit", "tokens", "--yes", "--reason", "a, \"b\""]);
    let records = operator.reads_export(&[]);
    assert_eq!(records.len(), 4, "one for each budget of an entry, and none for a decision");
    let first = &records[0];
    let start = first["windows"][0]["start"].as_str().unwrap();
    assert!(start.ends_with("-01T00:00:00Z"), "{first}");
    for (name, value) in [
        ("limit", json!("money")),
        ("key", json!("alice")),
        ("unit", json!("nano_usd")),
        ("amount", json!(14_850)),
        ("charged", json!(14_850)),
        ("reserved", json!(14_850)),
        ("outcome", json!("within")),
        ("source", json!("usage")),
        ("model", json!("any, \"odd\"")),
        ("windows", json!([{"start": start, "charged": 14_850}])),
        ("status", Value::Null),
    ] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    assert_eq!(sums(&records), used(&operator.reads(&["list"])));
    assert_eq!(operator.reads_export(&["--limit", "money"]), records[..1]);
    assert_eq!(operator.reads_export(&["--since", "1h"]), records);
    assert_eq!(operator.reads_export(&["--since", "2099-01-01T00:00Z"]), [Value::Null; 0]);

    let events = operator.reads_export(&["--format", "cloudevents"]);
    assert_eq!(ids(&events), ids(&records));
    for (event, record) in events.iter().zip(&records) {
        let head = ["specversion", "source", "type", "subject", "datacontenttype"].map(|name| event[name].clone());
        let expected =
            ["1.0", "weir/weir%3Aledger", "weir.budget.charge", record["key"].as_str().unwrap(), "application/json"];
        assert_eq!(head, expected.map(|text| json!(text)));
        assert_eq!((&event["time"], &event["data"]["charged"]), (&record["time"], &record["charged"]));
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_millisecond() > 0);
    }

    let table = operator.types(&["export", "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        for name in ["id", "limit", "key", "amount", "charged", "model", "note", "status"] {
            let cell = row.get(header.iter().position(|its| its == name).unwrap()).unwrap();
            let expected = record[name].as_str().map_or_else(|| record[name].to_string(), str::to_owned);
            assert_eq!(cell, if expected == "null" { "" } else { &expected }, "{name}");
        }
    }
    assert_eq!(operator.types(&["export", "--format", "csv", "--no-header"]), table.split_once('\n').unwrap().1);
}

/// The stream has an entry of the passed soft limit, which the script that settles has written.
#[test]
fn a_passed_soft_limit_is_no_record() {
    let Some(operator) = operator() else { return };
    operator.spends("alice", &[("money", 9_000_000_000)]);
    decides(&operator);
    assert_eq!(operator.ask::<u64>(&["XLEN", STREAM]), 3, "the event, the settlement and the decision");
    for words in [&["export"][..], &["export", "--group", "billing"]] {
        let (records, notes) = operator.tries(words).unwrap();
        let sources: Vec<Value> = objects(&records).iter().map(|record| record["source"].clone()).collect();
        assert_eq!((sources, &notes[..]), (vec![json!("usage")], ""), "{words:?}");
    }
}

#[test]
fn a_group_gets_each_entry_once_and_again_what_was_not_written() {
    let Some(operator) = operator() else { return };
    for nth in 1..=30 {
        operator.spends("alice", &[("tokens", nth)]);
        decides(&operator);
    }
    let all = ids(&operator.reads_export(&[]));
    let before = ids(&objects(&operator.is_interrupted(&["--group", "billing"], 10)));
    assert_eq!(before, all[..10]);
    assert_eq!(operator.ask::<(u64, Value2, Value2, Value2)>(&["XPENDING", STREAM, "billing"]).0, 60);
    // A record that was written before the output broke comes again, with the same name.
    assert_eq!(ids(&operator.reads_export(&["--group", "billing"])), all);
    assert_eq!(operator.reads_export(&["--group", "billing"]), [Value::Null; 0]);
    operator.spends("alice", &[("tokens", 7)]);
    assert_eq!(operator.reads_export(&["--group", "billing"])[0]["amount"], 7);
    assert_eq!(operator.reads_export(&["--group", "other"]).len(), 31, "another group begins at the start");
    assert_eq!(operator.ask::<(u64, Value2, Value2, Value2)>(&["XPENDING", STREAM, "billing"]).0, 0);
}

type Value2 = redis::Value;

#[test]
fn what_a_consumer_that_is_gone_has_not_written_is_taken_over() {
    let Some(operator) = operator() else { return };
    for nth in 1..=5 {
        operator.spends("alice", &[("tokens", nth)]);
    }
    operator.is_interrupted(&["--group", "billing", "--consumer", "one"], 2);
    let two = ["--group", "billing", "--consumer", "two"];
    assert_eq!(operator.reads_export(&two).len(), 0, "the other may still be running");
    let entries: Vec<(String, Vec<String>)> = operator.ask(&["XRANGE", STREAM, "-", "+"]);
    for (id, _) in &entries {
        operator.ask::<redis::Value>(&["XCLAIM", STREAM, "billing", "one", "0", id, "IDLE", "61000", "JUSTID"]);
    }
    let amounts: BTreeSet<u64> = operator.reads_export(&two).iter().map(|it| it["amount"].as_u64().unwrap()).collect();
    assert_eq!(amounts, (1..=5).collect());
}

#[test]
fn entries_that_were_trimmed_are_counted() {
    let Some(operator) = operator() else { return };
    for nth in 1..=20 {
        operator.spends("alice", &[("tokens", nth)]);
    }
    let group = ["export", "--group", "billing"];
    let trim = |length: &str| operator.ask::<u64>(&["XTRIM", STREAM, "MAXLEN", length]);
    let version: String = operator.ask(&["INFO", "server"]);
    let counts = !version.contains("redis_version:6");
    trim("18");
    let (out, notes) = operator.tries(&group).unwrap();
    assert_eq!(objects(&out).len(), 18);
    let lost = |count: u64| {
        format!(
            "lost: {count} entries of the ledger were trimmed before group \"billing\" has read them; expected a \
                 larger events.max_len, or an export more often\n"
        )
    };
    assert_eq!(notes, if counts { lost(2) } else { String::new() });
    let again = operator.tries(&group).unwrap().1;
    assert!(!counts || again.is_empty(), "told once: {again}");
    for nth in 1..=20 {
        operator.spends("alice", &[("tokens", nth)]);
    }
    operator.is_interrupted(&["--group", "billing"], 1);
    trim("5");
    let (out, notes) = operator.tries(&group).unwrap();
    assert_eq!(objects(&out).len(), 5);
    assert!(notes.contains("lost: 15 entries of the ledger were trimmed before they were acknowledged"), "{notes}");
    for nth in 1..=10 {
        operator.spends("alice", &[("tokens", nth)]);
    }
    trim("3");
    let notes = operator.tries(&group).unwrap().1;
    let unknown = "lost: entries of the ledger may have been trimmed before group \"billing\" has read them; this Redis does \
                   not know how many\n";
    assert_eq!(notes, if counts { lost(7) } else { unknown.to_owned() });
}

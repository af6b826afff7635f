//! The ACL of an operator of budgets in docs/src/operations.md: every command works with its permissions, and needs each.

use serde_json::json;
use weir_provision::redis::RedisOptions;

use crate::{Operator, STREAM, configuration, ledger, limits, types};

const PAGE: &str = include_str!("../../docs/src/operations.md");
const COMMANDS: [&[&str]; 7] = [
    &["list"],
    &["list", "--window", "2026-09"],
    &["get", "alice", "--limit", "money"],
    &["credit", "alice", "1", "--limit", "money", "--yes"],
    &["reset", "alice", "--limit", "tokens", "--yes"],
    &["export"],
    &["export", "--group", "billing"],
];

#[test]
fn every_command_works_with_the_documented_acl_and_each_permission_is_needed() {
    let mut limits = limits("86400s");
    for limit in limits.as_array_mut().unwrap() {
        limit["reserve"]["lease"] = json!("1s");
    }
    let Some(operator) = Operator::on(&configuration(&limits, &ledger()), RedisOptions::default()) else { return };
    let url = operator.server.url().replace("redis://", "redis://billing:open-sesame@");
    let prepare = || {
        operator.ask::<()>(&["FLUSHALL"]);
        // A request that is lost, which commands find.
        operator.reserves("alice", &[("money", 1_000_000_000), ("tokens", 50)]);
        // Marks of settlements that came before their requests, which are over.
        for key in ["weir:money:alice#budgetmonth0", "weir:tokens:alice#budgetfixed86400000000"] {
            operator.ask::<()>(&["HSET", key, "0123456789abcdef", "D0 0 0 1 ", "n", "1 "]);
            operator.ask::<()>(&["PEXPIRE", key, "60000"]);
        }
        operator.spends("bob", &[("money", 2_000_000_000), ("tokens", 50)]);
        operator.ask::<()>(&["SCRIPT", "FLUSH"]);
    };
    let refused = || COMMANDS.iter().filter_map(|words| types(words, &url, &operator.config).err()).collect::<Vec<_>>();
    let set = |permissions: &[String]| {
        let user = ["ACL", "SETUSER", "billing", "reset", "on", ">open-sesame", "~weir:*"].map(str::to_owned);
        let command = [&user[..], permissions].concat();
        operator.ask::<()>(&command.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let all = permissions();
    assert!(all.len() > 10, "{all:?}");
    set(&all);
    prepare();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(refused(), [""; 0]);
    assert!(operator.ask::<u64>(&["XLEN", STREAM]) >= 3);
    for permission in &all {
        let others: Vec<String> = all.iter().filter(|other| *other != permission).cloned().collect();
        set(&others);
        prepare();
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let errors = refused();
        assert!(!errors.is_empty(), "no command needs {permission}");
    }
}

/// The permissions of the operator of budgets.
fn permissions() -> Vec<String> {
    let (_, rest) = PAGE.split_once("ACL SETUSER billing ").expect("the page has this user");
    let (list, _) = rest.split_once("```").expect("the list ends");
    list.split_whitespace().filter(|word| word.starts_with('+')).map(str::to_owned).collect()
}

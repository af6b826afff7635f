//! The files of dashboards: identifiers, places, units, variables, and expressions that parse.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use weir::or_skip;
use weir_provision::prometheus;

use crate::expressions::{all_rules, dashboards, panels, targets, with_all};

/// Units that panels have, by their names in Grafana.
const UNITS: [&str; 6] = ["reqps", "percentunit", "ops", "µs", "short", "currencyUSD"];

#[test]
fn dashboards_and_panels_have_identifiers_of_their_own() {
    let boards = dashboards();
    let names: Vec<&str> = boards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["budgets", "limit", "overview", "redis"]);
    let uids: BTreeSet<&str> = boards.iter().map(|(_, board)| board["uid"].as_str().expect("a uid")).collect();
    assert_eq!(uids.len(), boards.len(), "{uids:?}");
    for (name, board) in &boards {
        let ids: BTreeSet<u64> = panels(board).iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
        assert_eq!(ids.len(), panels(board).len(), "{name}: {ids:?}");
    }
}

#[test]
fn panels_do_not_overlap_and_have_a_unit_a_description_and_the_data_source_of_the_variable() {
    for (name, board) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in panels(&board) {
            let place = format!("{name}: {}", panel["title"].as_str().expect("a title"));
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{place}: description");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
            let unit = panel.pointer("/fieldConfig/defaults/unit").and_then(Value::as_str).unwrap_or_default();
            assert!(UNITS.contains(&unit), "{place}: unit {unit:?}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|part| panel["gridPos"][part].as_u64().expect("a place"));
            assert!(x + w <= 24, "{place}: beyond the right border");
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            assert!(cells.into_iter().all(|cell| taken.insert(cell)), "{place}: overlaps another panel");
            let names: BTreeSet<&str> = targets(panel).into_iter().map(|(_, legend)| legend).collect();
            assert_eq!(names.len(), targets(panel).len(), "{place}: lines of the same name");
        }
    }
}

/// Variables are declared, and each declared one is used by an expression.
#[test]
fn variables_are_declared_and_used() {
    for (name, board) in dashboards() {
        let list = board.pointer("/templating/list").and_then(Value::as_array).expect("variables");
        let declared: BTreeSet<&str> = list.iter().map(|it| it["name"].as_str().expect("a name")).collect();
        let text = board["panels"].to_string();
        let mut used = BTreeSet::new();
        for (at, _) in text.match_indices('$') {
            let rest = text[at + 1..].trim_start_matches('{');
            let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
            if !rest.starts_with("__") {
                used.insert(&rest[..end]);
            }
        }
        assert_eq!(declared, used, "{name}");
    }
}

/// promtool parses each expression as a rule. All metrics of Weir in them are recorded by the rules.
#[test]
fn expressions_parse_and_read_what_the_rules_record() {
    let Some(promtool) = or_skip(prometheus::promtool()) else { return };
    let recorded: BTreeSet<String> =
        all_rules().into_iter().filter(|rule| !rule.is_alert).map(|rule| rule.name).collect();
    let mut rules = Vec::new();
    for (name, board) in dashboards() {
        for (expr, _) in panels(&board).iter().flat_map(targets) {
            for part in expr.split("weir:").skip(1) {
                let end = part.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(part.len());
                let metric = format!("weir:{}", &part[..end]);
                assert!(recorded.contains(&metric), "{name}: no rule records {metric}");
            }
            let record = format!("board:{name}:{}", rules.len());
            rules.push(serde_json::json!({"record": record, "expr": with_all(expr, "1m")}));
        }
    }
    assert!(rules.len() > 30, "only {} expressions", rules.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    let groups = serde_json::json!({"groups": [{"name": "dashboards", "rules": rules}]});
    std::fs::write(&file, groups.to_string()).unwrap();
    let output = Command::new(promtool).args(["check", "rules"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

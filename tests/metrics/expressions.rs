//! Expressions of the rules and of the dashboards, with the variables of Grafana replaced.

use std::fs;

use serde_json::Value;

use crate::{folder, rules};

/// Rule of the file of rules.
#[derive(Debug)]
pub struct Rule {
    /// Name of the alert or of the recorded metric.
    pub name: String,
    pub expr: String,
    pub is_alert: bool,
}

/// Returns all rules.
pub fn all_rules() -> Vec<Rule> {
    let file: Value = serde_saphyr::from_str(&rules()).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).map(|rule| {
        let is_alert = rule.get("alert").is_some();
        let name = rule[if is_alert { "alert" } else { "record" }].as_str().unwrap().to_owned();
        Rule { name, expr: rule["expr"].as_str().unwrap().to_owned(), is_alert }
    });
    rules.collect()
}

/// Returns the dashboards, by the names of their files without an extension.
pub fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(folder().join("dashboards")).unwrap().map(|file| file.unwrap().path());
    let mut boards: Vec<(String, Value)> = files
        .map(|file| {
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let board = serde_json::from_str(&fs::read_to_string(&file).unwrap());
            (name, board.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        })
        .collect();
    boards.sort_by(|one, other| one.0.cmp(&other.0));
    boards
}

/// Returns the panels of a dashboard.
pub fn panels(board: &Value) -> &[Value] {
    board["panels"].as_array().expect("panels")
}

/// Returns the expressions of a panel, each with the names of its lines.
pub fn targets(panel: &Value) -> Vec<(&str, &str)> {
    let targets = panel["targets"].as_array().expect("targets").iter();
    targets.map(|it| (it["expr"].as_str().expect("an expression"), it["legendFormat"].as_str().unwrap_or(""))).collect()
}

/// Replaces the variables of Grafana: all values of each, and this interval of rates.
pub fn with_all(expr: &str, rate_interval: &str) -> String {
    let replaced = expr.replace("$__rate_interval", rate_interval);
    ["$instance", "$limit", "$cluster"].iter().fold(replaced, |expr, variable| expr.replace(variable, ".*"))
}

//! Every expression of the rules and of the dashboards has series once a Prometheus has scraped real Envoys under load,
//! the same ones for all forms of names, and counts what clients were answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    expressions::{all_rules, dashboards, panels, targets, with_all},
    fleet::{FORMS, Fleet, Form},
    picture,
    prometheus::{Series, Span, query, range, value},
    rules,
};

/// Time of the load, unless `WEIR_METRICS_SECONDS` says another.
const SECONDS: u64 = 30;
/// Time within which counters are in Prometheus.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);
/// Metrics of Weir and its VMs that no rule records: sums of others.
const SUMS: [&str; 2] = ["weir_requests_failed", "_vm_reload"];
/// Alerts that rightly do not fire in a run without crashes of VMs and with a short outage.
const QUIET: [&str; 2] = ["WeirVmReloads", "WeirSettlementsDropped"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expressions_have_series_of_all_forms_of_names() {
    let seconds = std::env::var("WEIR_METRICS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let interval = (seconds / 120).max(1);
    let Some(fleet) = Fleet::start(interval).await else { return };
    let from = value(&fleet.prometheus, "time()").await;
    let answered = fleet.run(Duration::from_secs(seconds)).await;
    counts_what_clients_were_answered(&fleet, &answered).await;
    let span = Span { from, until: value(&fleet.prometheus, "time()").await, step: interval as f64 };

    records_every_metric(&fleet).await;
    records_the_same_for_all_forms(&fleet).await;
    for rule in all_rules().iter().filter(|rule| !QUIET.contains(&rule.name.as_str())) {
        let series = range(&fleet.prometheus, &rule.expr, span).await;
        assert!(!series.is_empty(), "{}: no series of {}", rule.name, rule.expr);
    }
    let rates = format!("{}s", 10 * interval);
    for (name, board) in dashboards() {
        let mut drawn = Vec::new();
        for panel in panels(&board) {
            let mut lines = Vec::new();
            for (expr, legend) in targets(panel) {
                let series = range(&fleet.prometheus, &with_all(expr, &rates), span).await;
                assert!(!series.is_empty(), "{name}, {}: no series of {expr}", panel["title"]);
                lines.extend(series.into_iter().map(|it| named(it, legend)));
            }
            drawn.push((panel, lines));
        }
        if let Some(folder) = std::env::var_os("WEIR_PICTURES") {
            draw(&PathBuf::from(folder), &name, &board, &drawn, span);
        }
    }
}

/// The sum over the decisions is the number of requests that clients sent and were answered, in each proxy.
async fn counts_what_clients_were_answered(fleet: &Fleet, answered: &[(Form, usize)]) {
    let deadline = tokio::time::Instant::now() + REPORTED_WITHIN;
    loop {
        let counted = by_instance(query(&fleet.prometheus, "sum by (instance) (weir:requests)").await);
        let missing: Vec<_> = answered
            .iter()
            .map(|(form, sent)| (form.name, *sent as f64, counted.get(form.name).copied().unwrap_or(-1.0)))
            .filter(|(_, sent, counted)| sent != counted)
            .collect();
        if missing.is_empty() {
            println!("requests counted in each proxy: {answered:?}");
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "name, requests answered and counted: {missing:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// The selectors of the rules match every metric of Weir that Envoys have.
async fn records_every_metric(fleet: &Fleet) {
    let names = async |selector: &str| -> BTreeSet<String> {
        let series = query(&fleet.prometheus, &format!("count by (__name__) ({selector})")).await;
        series.into_iter().map(|it| it.labels["__name__"].clone()).collect()
    };
    let mut read = BTreeSet::new();
    for selector in rules().split('{').filter(|part| part.starts_with("__name__")) {
        let (selector, _) = selector.split_once('}').expect("an end");
        read.extend(names(&format!("{{{selector}}}")).await);
    }
    let all = names(r#"{__name__=~"(envoy_.+_)?weir_.+"}"#).await;
    let is_read = |name: &&String| !read.contains(*name) && !SUMS.iter().any(|sum| name.ends_with(sum));
    let unread: Vec<&String> = all.iter().filter(is_read).collect();
    assert!(unread.is_empty(), "metrics that no rule records: {unread:?}");
    assert!(all.len() > 60, "only {} metrics: {all:?}", all.len());
}

/// Each recorded series has as many siblings as there are proxies, with the same labels but `instance`.
async fn records_the_same_for_all_forms(fleet: &Fleet) {
    for metric in all_rules().iter().filter(|rule| !rule.is_alert).map(|rule| &rule.name) {
        let labels = "weir_decision, weir_limit, weir_cause, weir_source, weir_trouble, weir_usage, weir_result, le";
        let counted = query(&fleet.prometheus, &format!("count by ({labels}) ({metric})")).await;
        assert!(!counted.is_empty(), "{metric} is not recorded");
        for series in counted {
            assert_eq!(series.points[0].1, FORMS.len() as f64, "proxies with {metric}{:?}", series.labels);
        }
        let kept = query(&fleet.prometheus, metric).await;
        let odd: Vec<_> = kept.iter().filter(|it| it.labels.keys().any(|name| name.contains("cluster"))).collect();
        assert!(odd.is_empty(), "{metric}: {odd:?}");
    }
}

fn by_instance(series: Vec<Series>) -> BTreeMap<String, f64> {
    series.into_iter().map(|it| (it.labels["instance"].clone(), it.points[0].1)).collect()
}

/// Name of a series as the legend of its panel has it, and the series.
fn named(series: Series, legend: &str) -> (String, Series) {
    let name = series
        .labels
        .iter()
        .fold(legend.to_owned(), |name, (label, value)| name.replace(&format!("{{{{{label}}}}}"), value));
    (name, series)
}

fn draw(folder: &Path, name: &str, board: &Value, drawn: &[(&Value, Vec<(String, Series)>)], span: Span) {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join(format!("{name}.svg"));
    fs::write(&file, picture::of(board, drawn, span)).unwrap();
    println!("{}", file.display());
}

//! Client of the API of a Prometheus.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::Value;
use weir_provision::{client, prometheus::PrometheusServer};

const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Labels of a series, the metric's name among them.
pub type Labels = BTreeMap<String, String>;

/// Time in Unix seconds, and value.
pub type Point = (f64, f64);

/// Series of a query.
#[derive(Debug, Clone)]
pub struct Series {
    pub labels: Labels,
    pub points: Vec<Point>,
}

/// Time of a query, in Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: f64,
    pub until: f64,
    pub step: f64,
}

/// Returns the series of an expression, now.
///
/// # Panics
/// If Prometheus refuses the expression.
pub async fn query(server: &PrometheusServer, expr: &str) -> Vec<Series> {
    ask(server, &format!("/api/v1/query?query={}", encoded(expr))).await
}

/// Returns the only value of an expression.
///
/// # Panics
/// If there is none, or more than one.
pub async fn value(server: &PrometheusServer, expr: &str) -> f64 {
    let series = query(server, expr).await;
    assert_eq!(series.len(), 1, "{expr}: {series:?}");
    series[0].points[0].1
}

/// Returns the series of an expression over a time. Those without a number are left out.
///
/// # Panics
/// If Prometheus refuses the expression.
pub async fn range(server: &PrometheusServer, expr: &str, span: Span) -> Vec<Series> {
    let Span { from, until, step } = span;
    let path = format!("/api/v1/query_range?query={}&start={from}&end={until}&step={step}", encoded(expr));
    let mut series = ask(server, &path).await;
    series.retain(|it| it.points.iter().any(|(_, value)| value.is_finite()));
    series
}

async fn ask(server: &PrometheusServer, path: &str) -> Vec<Series> {
    let answer = client::get(server.addr(), path, ANSWER_WITHIN).await.expect("Prometheus answers");
    let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(json["status"], "success", "{path}: {json}");
    if json["data"]["resultType"] == "scalar" {
        return vec![Series { labels: Labels::new(), points: vec![point(&json["data"]["result"])] }];
    }
    json["data"]["result"].as_array().expect("a list").iter().map(series).collect()
}

fn series(json: &Value) -> Series {
    let labels = json["metric"].as_object().expect("labels").iter();
    let labels = labels.map(|(name, value)| (name.clone(), value.as_str().expect("a label").to_owned())).collect();
    let points = match json.get("values") {
        Some(values) => values.as_array().expect("values").iter().map(point).collect(),
        None => vec![point(&json["value"])],
    };
    Series { labels, points }
}

fn point(json: &Value) -> Point {
    let value = json[1].as_str().expect("a number as text");
    (json[0].as_f64().expect("a time"), value.parse().expect("a number"))
}

/// Encodes a part of a URL's query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a text"),
        }
        encoded
    })
}

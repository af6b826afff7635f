//! Counters, gauges and histograms of a host and of its modules, and their output as in Envoy's admin listener.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regex_lite::Regex;

use crate::log_lines::printable;
use crate::stats_tags::{StatsTags, Tagged};

/// Upper bounds of histogram buckets; Envoy's defaults.
const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Metrics of a host, by name. Callers keep the handle of a metric, so that a request looks up no name.
#[derive(Default)]
pub(crate) struct Registry {
    metrics: Mutex<BTreeMap<String, Metric>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone)]
pub(crate) enum Metric {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

#[derive(Default)]
pub(crate) struct Histogram {
    sum: AtomicU64,
    /// Number of values in each bucket: a bucket for each bound, then a bucket for values beyond all bounds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
}

/// Snapshot of the values of all metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Counters and gauges by Envoy's name; names defined by modules begin with `wasmcustom.`.
    pub values: BTreeMap<String, u64>,
    /// Number of recorded values of each histogram.
    pub histograms: BTreeMap<String, u64>,
}

impl Stats {
    /// Returns the value of a counter or gauge; 0 for an unknown name.
    #[must_use]
    pub fn value(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }
}

impl Registry {
    /// Returns the metric with this name and creates it if it does not exist; `None` if it has another kind.
    pub(crate) fn metric(&self, name: &str, kind: Kind) -> Option<Metric> {
        let mut metrics = self.held();
        let metric = metrics.entry(name.to_owned()).or_insert_with(|| match kind {
            Kind::Counter => Metric::Counter(Arc::default()),
            Kind::Gauge => Metric::Gauge(Arc::default()),
            Kind::Histogram => Metric::Histogram(Arc::default()),
        });
        (metric.kind() == kind).then(|| metric.clone())
    }

    /// Whether there is a metric with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.held().contains_key(name)
    }

    /// Returns a counter of the host. Names of the host never collide with names of modules.
    pub(crate) fn counter(&self, name: &str) -> Arc<Counter> {
        match self.metric(name, Kind::Counter) {
            Some(Metric::Counter(counter)) => counter,
            _ => Arc::default(),
        }
    }

    /// Returns a gauge of the host.
    pub(crate) fn gauge(&self, name: &str) -> Arc<Gauge> {
        match self.metric(name, Kind::Gauge) {
            Some(Metric::Gauge(gauge)) => gauge,
            _ => Arc::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = Stats::default();
        for (name, metric) in self.held().iter() {
            match metric {
                Metric::Counter(counter) => stats.values.insert(name.clone(), counter.value()),
                Metric::Gauge(gauge) => stats.values.insert(name.clone(), gauge.value()),
                Metric::Histogram(histogram) => stats.histograms.insert(name.clone(), histogram.count()),
            };
        }
        stats
    }

    /// Returns the text of `/stats`: one `name: value` per line.
    pub(crate) fn text(&self, filter: Option<&Regex>) -> String {
        let mut text = String::new();
        for (name, metric) in self.held().iter().filter(|(name, _)| filter.is_none_or(|filter| filter.is_match(name))) {
            let name = printable(name);
            // Writing to a string cannot fail.
            let _ = match metric {
                Metric::Counter(counter) => writeln!(text, "{name}: {}", counter.value()),
                Metric::Gauge(gauge) => writeln!(text, "{name}: {}", gauge.value()),
                Metric::Histogram(histogram) => {
                    writeln!(text, "{name}: count {} sum {}", histogram.count(), histogram.sum())
                }
            };
        }
        text
    }

    /// Returns the text of `/stats/prometheus`: Envoy's names and labels; names of modules have no prefix.
    pub(crate) fn prometheus(&self, tags: &StatsTags) -> String {
        let mut families: BTreeMap<String, (&str, String)> = BTreeMap::new();
        for (name, metric) in self.held().iter() {
            let (name, labels) = prometheus_name(tags.tagged(name));
            let kind = match metric {
                Metric::Counter(_) => "counter",
                Metric::Gauge(_) => "gauge",
                Metric::Histogram(_) => "histogram",
            };
            let (_, lines) = families.entry(name.clone()).or_insert((kind, String::new()));
            let _ = match metric {
                Metric::Counter(counter) => writeln!(lines, "{name}{{{labels}}} {}", counter.value()),
                Metric::Gauge(gauge) => writeln!(lines, "{name}{{{labels}}} {}", gauge.value()),
                Metric::Histogram(histogram) => write!(lines, "{}", histogram.prometheus(&name, &labels)),
            };
        }
        let family = |(name, (kind, lines)): (&String, &(&str, String))| format!("# TYPE {name} {kind}\n{lines}\n");
        families.iter().map(family).collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metric {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn shift(&self, offset: i64) {
        self.0.fetch_add(offset.cast_unsigned(), Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        let index = BUCKETS.iter().position(|bound| value as f64 <= *bound).unwrap_or(BUCKETS.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    fn prometheus(&self, name: &str, labels: &str) -> String {
        let mut text = String::new();
        let mut below = 0;
        let separator = if labels.is_empty() { "" } else { "," };
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {below}");
        }
        let (sum, count) = (self.sum(), self.count());
        let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}");
        text
    }
}

/// Returns the Prometheus name and labels of a metric; names of modules have no prefix.
fn prometheus_name(tagged: Tagged) -> (String, String) {
    let name = match tagged.name.strip_prefix("wasmcustom.") {
        Some(custom) => sanitized(custom),
        None => format!("envoy_{}", sanitized(&tagged.name)),
    };
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let label = |(name, value): &(String, String)| format!("{}=\"{}\"", sanitized(name), escaped(value));
    (name, tagged.labels.iter().map(label).collect::<Vec<_>>().join(","))
}

fn sanitized(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_metric_is_printed_as_envoy_prints_it() {
        let registry = Registry::default();
        registry.counter("wasmcustom.weir.limit.per-user.admitted").add(3);
        registry.counter("http.ingress.downstream_rq_total").add(5);
        registry.counter("http.ingress.downstream_rq_2xx").add(4);
        assert!(registry.text(None).contains("wasmcustom.weir.limit.per-user.admitted: 3\n"));
        assert_eq!(registry.text(Regex::new("rq_tot.l$").ok().as_ref()), "http.ingress.downstream_rq_total: 5\n");
        let prometheus = registry.prometheus(&StatsTags::default());
        assert!(prometheus.contains("# TYPE weir_limit_per_user_admitted counter\nweir_limit_per_user_admitted{} 3\n"));
        assert!(
            prometheus.contains("envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"ingress\"} 5\n"),
            "{prometheus}"
        );
        let class = "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"ingress\"} 4\n";
        assert!(prometheus.contains(class), "{prometheus}");
    }

    #[test]
    fn a_histogram_counts_its_values_cumulatively() {
        let registry = Registry::default();
        if let Some(Metric::Histogram(histogram)) = registry.metric("wasmcustom.wait", Kind::Histogram) {
            [1, 7, 7, 4_000_000].into_iter().for_each(|value| histogram.record(value));
        }
        let text = registry.prometheus(&StatsTags::default());
        assert!(text.contains("wait_bucket{le=\"1\"} 1\n"), "{text}");
        assert!(text.contains("wait_bucket{le=\"10\"} 3\n"), "{text}");
        assert!(text.contains("wait_bucket{le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.contains("wait_sum{} 4000015\n"), "{text}");
    }

    #[test]
    fn a_name_keeps_its_first_kind() {
        let registry = Registry::default();
        assert!(registry.metric("a", Kind::Counter).is_some());
        assert!(registry.metric("a", Kind::Gauge).is_none());
    }
}

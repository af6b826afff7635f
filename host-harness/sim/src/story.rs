//! Story of a broken guarantee: the configuration, the faults and the requests that show it.

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};
use weir_filter::units::Micros;

use crate::history::{History, Record};
use crate::judge::Broken;
use crate::plan::Plan;

/// Lines of a story, at most.
const MOST_LINES: usize = 80;

/// Broken guarantee, with the part of a simulation that shows it.
#[derive(Debug, Clone)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// The guarantee.
    pub broken: Broken,
    /// Plugin configuration.
    pub configuration: String,
    /// Workers that have requests.
    pub workers: usize,
    /// Lines of the history: times since the start, faults and requests.
    pub lines: Vec<String>,
}

impl Story {
    pub(crate) fn new(seed: u64, plan: &Plan, broken: Broken, history: Option<&History>) -> Self {
        let mut lines: Vec<(Micros, String)> =
            plan.faults.iter().map(|fault| (fault.from, format!("fault: {fault}"))).collect();
        let records = history.map(|history| history.records.as_slice()).unwrap_or_default();
        for (place, record) in records.iter().enumerate() {
            let mark = if broken.records.contains(&place) { " <" } else { "" };
            lines.push((record.began, format!("{}{mark}", line(record, plan))));
        }
        if history.is_none() {
            let asked = |request: &crate::plan::Arrival| (request.at, format!("worker {}: a request", request.place));
            lines.extend(plan.requests.iter().map(asked));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut places: Vec<usize> = plan.requests.iter().map(|request| request.place).collect();
        places.sort_unstable();
        places.dedup();
        let lines = lines.into_iter().map(|(at, line)| format!("{:>10.6} s  {line}", at.0 as f64 / 1e6)).collect();
        Self { seed, broken, configuration: plan.config.json(), workers: places.len(), lines }
    }

    /// The story as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed,
            "guarantee": self.broken.guarantee.name(),
            "detail": self.broken.detail,
            "workers": self.workers,
            "configuration": serde_json::from_str::<Value>(&self.configuration).unwrap_or_default(),
            "history": self.lines,
        })
    }
}

fn line(record: &Record, plan: &Plan) -> String {
    let request = &plan.requests[record.request];
    let limits: Vec<&str> = plan
        .config
        .limits
        .iter()
        .enumerate()
        .filter(|(place, _)| request.limits >> place & 1 == 1)
        .map(|(_, limit)| limit.name.as_str())
        .collect();
    let times = format!("decided after {} us, ended after {} us", record.wait().0, record.ended.minus(record.began).0);
    format!(
        "worker {}: k{}, cost {}, {}: {}; {times}",
        request.place,
        request.key,
        request.cost,
        limits.join("+"),
        record.end
    )
}

impl Display for Story {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.broken)?;
        writeln!(f, "  configuration: {}", self.configuration)?;
        writeln!(f, "  shrunken history, of {} workers; `<` marks the requests that show it:", self.workers)?;
        self.lines.iter().take(MOST_LINES).try_for_each(|line| writeln!(f, "  {line}"))?;
        match self.lines.len().checked_sub(MOST_LINES) {
            Some(more) if more > 0 => writeln!(f, "  … and {more} lines more (--format json has all)"),
            _ => Ok(()),
        }
    }
}

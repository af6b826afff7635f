//! `--fault 'CLUSTER: FAULT [p=0.1] [after=BYTES]'`: faults between the host and a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_filter::units::Micros;
use weir_host::Stats;
use weir_host::fault::{Fault, FaultProxy, Faults, InjectError, KINDS, Rule, Target, inject};

/// Longest time of a fault.
const LONGEST: Micros = Micros::from_secs(3600);

/// Fault of one cluster, from the command line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClusterFault {
    cluster: String,
    rule: Rule,
}

/// Error of a fault on the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}, found {found}")]
pub(super) struct FaultError {
    /// Column in the text, from 1.
    column: usize,
    expected: String,
    found: String,
}

/// Clusters with faults.
#[derive(Default)]
pub(super) struct Injected(Vec<InjectedCluster>);

/// Cluster with the proxies that inject its faults.
struct InjectedCluster {
    name: String,
    /// Whether the proxies' ports are closed.
    refuses: bool,
    proxies: Vec<FaultProxy>,
}

/// Word of the text with its column, from 1.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    column: usize,
}

impl ClusterFault {
    /// Parses `redis: delay=20ms p=0.1`.
    pub(super) fn parse(text: &str) -> Result<Self, FaultError> {
        let whole = Word { text, column: 1 };
        let Some((cluster, rest)) = text.rsplit_once(':') else {
            return Err(whole.refused("`CLUSTER: FAULT` such as `redis: delay=20ms p=0.1`"));
        };
        if cluster.trim().is_empty() {
            return Err(whole.refused("the name of a cluster before `:`"));
        }
        let words = words(rest, cluster.len() + 1);
        let Some((kind, options)) = words.split_first() else {
            let end = Word { text: "", column: text.chars().count() + 1 };
            return Err(end.refused(&kinds()));
        };
        if let Some(word) = words.iter().find(|word| word.text.contains(',')) {
            return Err(word.refused("options separated by spaces, without commas"));
        }
        let fault = kind.fault()?;
        let mut rule = Rule::from(fault);
        for (index, option) in options.iter().enumerate() {
            if options.iter().take(index).any(|earlier| earlier.name() == option.name()) {
                return Err(option.refused(&format!("`{}` once", option.name())));
            }
            rule = option.applied_to(rule, fault)?;
        }
        Ok(Self { cluster: cluster.trim().to_owned(), rule })
    }
}

impl<'a> Word<'a> {
    /// Returns the word up to `=`.
    fn name(self) -> &'a str {
        self.text.split('=').next().unwrap_or_default()
    }

    fn fault(self) -> Result<Fault, FaultError> {
        let (name, value) = self.text.split_once('=').unwrap_or((self.text, ""));
        let fault = match name {
            "delay" => Fault::Delay(self.time(value)?),
            "drop" => Fault::Drop,
            "reset" => Fault::Reset,
            "lose-reply" => Fault::LoseReply,
            "split" => Fault::Split,
            "garbage" => Fault::Garbage,
            "giant" => Fault::Giant,
            "half-close" => Fault::HalfClose,
            "refuse" => Fault::Refuse,
            "slow-open" => Fault::SlowOpen(self.time(value)?),
            _ => return Err(self.refused(&kinds())),
        };
        let takes_value = matches!(fault, Fault::Delay(_) | Fault::SlowOpen(_));
        if takes_value || name == self.text {
            Ok(fault)
        } else {
            Err(self.refused(&format!("`{name}` without a value")))
        }
    }

    fn applied_to(self, rule: Rule, fault: Fault) -> Result<Rule, FaultError> {
        let (name, value) = self.text.split_once('=').unwrap_or((self.text, ""));
        match name {
            "p" if !fault.takes_probability() => {
                Err(self.refused("no `p` for `refuse`: a closed port refuses every connection; `reset` takes `p`"))
            }
            "p" => {
                let p = value.parse().ok().filter(|p| (0.0..=1.0).contains(p));
                Ok(rule.with_probability(p.ok_or_else(|| self.refused("`p` from 0 to 1 such as `p=0.1`"))?))
            }
            "after" if !fault.takes_after() => Err(self.refused(&format!(
                "no `after` for `{}`: only drop, reset, garbage and half-close can strike within a reply",
                fault.name()
            ))),
            "after" => {
                let bytes = value.parse().ok();
                Ok(rule.after(bytes.ok_or_else(|| self.refused("`after` as a number of bytes such as `after=100`"))?))
            }
            _ => Err(self.refused("`p=NUMBER` or `after=BYTES`")),
        }
    }

    fn time(self, value: &str) -> Result<Duration, FaultError> {
        match Micros::parse(value) {
            Ok(Micros(micros)) if micros > 0 && micros <= LONGEST.0 => Ok(Duration::from_micros(micros)),
            _ => Err(self.refused(&format!("a time > 0s and ≤ 1h such as `{}=20ms`", self.name()))),
        }
    }

    fn refused(self, expected: &str) -> FaultError {
        let found = if self.text.is_empty() { "the end".to_owned() } else { format!("`{}`", self.text) };
        FaultError { column: self.column, expected: expected.to_owned(), found }
    }
}

/// Splits at white space; `offset` is the number of bytes before `text`.
fn words(text: &str, offset: usize) -> Vec<Word<'_>> {
    let start = text.as_ptr() as usize;
    let column = |word: &str| offset + (word.as_ptr() as usize - start) + 1;
    text.split_whitespace().map(|text| Word { text, column: column(text) }).collect()
}

fn kinds() -> String {
    format!("a fault: {}", KINDS.map(|kind| format!("`{kind}`")).join(", "))
}

/// Puts proxies with the faults in front of their clusters. Has to be called in a tokio runtime.
pub(super) async fn inject_all(
    target: &mut Target<'_>,
    faults: &[ClusterFault],
    seed: u64,
) -> Result<Injected, InjectError> {
    let mut by_cluster: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    for fault in faults {
        by_cluster.entry(&fault.cluster).or_default().push(fault.rule);
    }
    let mut injected = Vec::new();
    for (cluster, rules) in by_cluster {
        let refuses = rules.contains(&Fault::Refuse.into());
        let faults: Faults = rules.into_iter().collect();
        let proxies = inject(target, cluster, &faults, seed).await?;
        injected.push(InjectedCluster { name: cluster.to_owned(), refuses, proxies });
    }
    Ok(Injected(injected))
}

impl Injected {
    /// Returns a line for each cluster with the number of times that each fault has struck. Refused connections are
    /// counted by the embedded host, as in its `stats`: a closed port does not see them.
    pub(super) fn summary(&self, stats: Option<&Stats>) -> Vec<String> {
        let line = |InjectedCluster { name, refuses, proxies }: &InjectedCluster| {
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for (kind, count) in proxies.iter().flat_map(FaultProxy::struck) {
                *sums.entry(kind).or_default() += count;
            }
            let refused = stats.map_or(0, |stats| stats.value(&format!("cluster.{name}.upstream_cx_connect_fail")));
            if *refuses && refused > 0 {
                *sums.entry(Fault::Refuse.name()).or_default() += refused;
            }
            let mut counts: Vec<String> = sums.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            if *refuses && stats.is_none() {
                counts.push(format!("{} (counted by Envoy)", Fault::Refuse.name()));
            }
            let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            format!("faults of cluster `{name}`: {counts}")
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str, rule: impl Into<Rule>) {
        let parsed = ClusterFault::parse(text).unwrap();
        assert_eq!(parsed, ClusterFault { cluster: "redis".to_owned(), rule: rule.into() }, "{text}");
    }

    #[test]
    fn a_fault_has_a_kind_and_options() {
        fault("redis: reset", Fault::Reset);
        fault("redis:drop", Fault::Drop);
        fault("redis: delay=20ms p=0.1", Rule::from(Fault::Delay(Duration::from_millis(20))).with_probability(0.1));
        fault("redis: half-close after=100 p=0.5", Rule::from(Fault::HalfClose).with_probability(0.5).after(100));
        fault("redis: slow-open=1s", Fault::SlowOpen(Duration::from_secs(1)));
    }

    #[test]
    fn the_name_of_a_cluster_may_have_colons() {
        assert_eq!(ClusterFault::parse("outbound|6379||a:b: split").unwrap().cluster, "outbound|6379||a:b");
    }

    #[test]
    fn an_error_names_the_place_and_what_was_expected() {
        let why = |text| ClusterFault::parse(text).unwrap_err().to_string();
        assert_eq!(
            why("redis"),
            "column 1: expected `CLUSTER: FAULT` such as `redis: delay=20ms p=0.1`, found `redis`"
        );
        assert_eq!(why("redis: split p=2"), "column 14: expected `p` from 0 to 1 such as `p=0.1`, found `p=2`");
        assert_eq!(
            why("redis: delay=soon"),
            "column 8: expected a time > 0s and ≤ 1h such as `delay=20ms`, found `delay=soon`"
        );
        assert!(why("redis: slow-open=999999999d").contains("expected a time > 0s and ≤ 1h such as `slow-open=20ms`"));
        assert_eq!(
            why("redis: delay=20ms, p=1"),
            "column 8: expected options separated by spaces, without commas, found `delay=20ms,`"
        );
        assert_eq!(why("redis: drop p=0 p=1"), "column 17: expected `p` once, found `p=1`");
        assert_eq!(why("redis: drop q=1"), "column 13: expected `p=NUMBER` or `after=BYTES`, found `q=1`");
        assert_eq!(why("redis: drop=1"), "column 8: expected `drop` without a value, found `drop=1`");
        assert!(why("redis: dely=20ms").starts_with("column 8: expected a fault: `delay=TIME`, `drop`, "));
        assert!(why("redis: ").ends_with("found the end"));
        assert!(why(": drop").starts_with("column 1: expected the name of a cluster"));
        assert!(why("redis: refuse p=0.5").contains("`reset` takes `p`"));
        assert!(why("redis: split after=3").contains("no `after` for `split`"));
    }
}

//! Names of Weir's counters in the text format of Prometheus, in all forms that Envoy gives them.
//!
//! `weir.limit.NAME.denied` is `weir_limit_NAME_denied`, up to Envoy 1.38 perhaps behind `envoy_cluster_wasmcustom_`;
//! with the tags of the documentation it is `weir_limit_denied{weir_limit="NAME"}`.

use std::collections::BTreeMap;

use crate::limits::live::LimitName;

/// Counters of a limit, as their names end. A name that another's ends with comes later.
pub(super) const OF_LIMIT: [&str; 6] = ["admitted", "shadow_denied", "denied", "failed", "marked", "near"];
/// Counters of all requests.
pub(super) const OF_REQUESTS: [&str; 4] = ["admitted", "denied", "failed", "rejected"];
/// Texts that Envoy puts in front of the counters of modules.
const FRONTS: [&str; 4] = ["envoy_cluster_wasmcustom_", "envoy_wasmcustom_", "wasmcustom_", ""];
const TAG: &str = "weir_limit=\"";

/// Names of the counters of all limits.
#[derive(Debug)]
pub(super) struct Names {
    prefixes: Vec<String>,
    /// Counters by name without front. `None`: counters of several limits have this name.
    plain: BTreeMap<String, Option<(LimitName, usize)>>,
    /// Limits by the prefix and the value of the tag. `None`: several limits.
    tagged: BTreeMap<(String, String), Option<LimitName>>,
}

/// Values of counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) limits: BTreeMap<LimitName, [u64; OF_LIMIT.len()]>,
    pub(super) requests: [u64; OF_REQUESTS.len()],
    /// Number of workers that are connected to Redis.
    pub(super) connected: u64,
    /// Whether the text has any counter of Weir.
    pub(super) is_of_weir: bool,
}

impl Names {
    /// The names for each limiter's `stat_prefix` and limits.
    pub(super) fn of(limiters: &[(String, Vec<LimitName>)]) -> Self {
        let mut names = Self { prefixes: Vec::new(), plain: BTreeMap::new(), tagged: BTreeMap::new() };
        for (prefix, limits) in limiters {
            let prefix = sanitized(prefix);
            for limit in limits {
                let tag = (prefix.clone(), limit.1.clone());
                let of_tag = names.tagged.entry(tag).or_insert_with(|| Some(limit.clone()));
                if of_tag.as_ref() != Some(limit) {
                    *of_tag = None;
                }
                for (kind, end) in OF_LIMIT.iter().enumerate() {
                    let name = format!("{prefix}_limit_{}_{end}", sanitized(&limit.1));
                    let counter = (limit.clone(), kind);
                    let of_name = names.plain.entry(name).or_insert_with(|| Some(counter.clone()));
                    if of_name.as_ref() != Some(&counter) {
                        *of_name = None;
                    }
                }
            }
            if !names.prefixes.contains(&prefix) {
                names.prefixes.push(prefix);
            }
        }
        names
    }

    /// The only `stat_prefix`, by which Envoy can leave out other metrics.
    pub(super) fn only_prefix(&self) -> Option<&str> {
        match &self.prefixes[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Reads the counters in a text; those of several clusters are added up.
    pub(super) fn read(&self, text: &str) -> Counts {
        let mut counts = Counts::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            self.add(line, &mut counts);
        }
        counts
    }

    fn add(&self, line: &str, counts: &mut Counts) -> Option<()> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at_checked(end)?;
        let (labels, value) = rest.rsplit_once('}').unwrap_or(("", rest));
        let value = number(value.split_whitespace().next()?)?;
        let front = FRONTS.iter().find(|front| name.starts_with(**front))?;
        let name = name.strip_prefix(front)?;
        let (prefix, rest) = self
            .prefixes
            .iter()
            .find_map(|prefix| Some((prefix, name.strip_prefix(prefix.as_str())?.strip_prefix('_')?)))?;
        counts.is_of_weir = true;
        if rest == "redis_connected" {
            counts.connected = counts.connected.saturating_add(value);
        } else if let Some(kind) = rest.strip_prefix("requests_") {
            let kind = OF_REQUESTS.iter().position(|it| *it == kind)?;
            let sum = counts.requests.get_mut(kind)?;
            *sum = sum.saturating_add(value);
        } else {
            let (limit, kind) = match labels.split_once(TAG) {
                Some((_, value)) => {
                    let kind = OF_LIMIT.iter().position(|end| rest.strip_prefix("limit_") == Some(end))?;
                    let limit = value.split('"').next()?.to_owned();
                    (self.tagged.get(&(prefix.clone(), limit))?.clone()?, kind)
                }
                None => self.plain.get(name)?.clone()?,
            };
            let sum = counts.limits.entry(limit).or_default().get_mut(kind)?;
            *sum = sum.saturating_add(value);
        }
        Some(())
    }
}

/// A name as Prometheus can have it.
fn sanitized(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() || it == '_' { it } else { '_' }).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter; the cast saturates")]
fn number(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| text.parse::<f64>().ok().filter(|it| it.is_finite()).map(|it| it as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str) -> LimitName {
        ("weir:".to_owned(), name.to_owned())
    }

    fn names(limits: &[&str]) -> Names {
        Names::of(&[("weir".to_owned(), limits.iter().map(|name| limit(name)).collect())])
    }

    #[test]
    fn all_forms_of_a_counter_are_read() {
        let names = names(&["per_user", "per-route"]);
        for line in [
            "weir_limit_per_user_denied{} 7",
            "weir_limit_per_user_denied 7",
            "weir_limit_per_user_denied{envoy_cluster_name=\"redis\"} 7 1795132800000",
            "envoy_cluster_wasmcustom_weir_limit_per_user_denied{envoy_cluster_name=\"redis\"} 7",
            "weir_limit_denied{weir_limit=\"per_user\"} 7",
            "envoy_cluster_wasmcustom_weir_limit_denied{envoy_cluster_name=\"redis\",weir_limit=\"per_user\"} 7.0",
        ] {
            let counts = names.read(line);
            assert_eq!(counts.limits.get(&limit("per_user")), Some(&[0, 0, 7, 0, 0, 0]), "{line}");
        }
        let counts = names.read("weir_limit_per_route_shadow_denied{} 3\nweir_requests_failed{} 2\n");
        assert_eq!((counts.limits[&limit("per-route")][1], counts.requests), (3, [0, 0, 2, 0]));
        assert!(names.read("weir_redis_connected{} 2").is_of_weir);
        for other in ["envoy_server_live{} 1", "weird_limit_per_user_denied 7", "# TYPE weir counter", "", "weir"] {
            assert_eq!(names.read(other), Counts::default(), "{other}");
        }
    }

    #[test]
    fn the_counters_of_several_clusters_are_added_up() {
        let line = |cluster| format!("weir_limit_per_user_admitted{{envoy_cluster_name=\"{cluster}\"}} 5\n");
        let counts = names(&["per_user"]).read(&[line("a"), line("b")].concat());
        assert_eq!(counts.limits[&limit("per_user")][0], 10);
    }

    #[test]
    fn a_name_of_two_limits_counts_for_neither_unless_a_tag_tells_them_apart() {
        let names = names(&["a-b", "a_b"]);
        assert!(names.read("weir_limit_a_b_denied{} 1").limits.is_empty());
        assert_eq!(names.read("weir_limit_denied{weir_limit=\"a-b\"} 1").limits[&limit("a-b")][2], 1);
        let shadowed = super::tests::names(&["a", "a_shadow"]);
        assert!(shadowed.read("weir_limit_a_shadow_denied{} 1").limits.is_empty());
    }
}

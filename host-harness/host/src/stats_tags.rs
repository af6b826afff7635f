//! Tags of metrics: parts of a name that become labels in Prometheus' form.
//!
//! Envoy's default tags and those of a bootstrap's `stats_config`, applied in Envoy's order. The default tags are those
//! of the host's own metrics, and the two that a module's metric can have: the class and the code of a response.

use std::ops::Range;

use regex_lite::Regex;

/// Default tags: name, and a pattern with the removed part and the value in it.
const DEFAULTS: [(&str, &str); 4] = [
    ("envoy.response_code", r"_rq(_(\d{3}))$"),
    ("envoy.response_code_class", r"_rq_((\d))xx$"),
    ("envoy.cluster_name", r"^cluster\.(([^.]+)\.)"),
    ("envoy.http_conn_manager_prefix", r"^http\.(([^.]+)\.)"),
];

/// Extractors of tags, in the order of their labels.
#[derive(Debug, Clone)]
pub struct StatsTags {
    extractors: Vec<Extractor>,
}

/// Rule of one tag.
#[derive(Debug, Clone)]
pub(crate) struct Extractor {
    name: String,
    rule: Rule,
    /// First part of the names to which the rule applies; `None`: all names.
    prefix: Option<String>,
}

#[derive(Debug, Clone)]
enum Rule {
    Fixed(String),
    Regex(Regex),
}

/// Name and labels of a metric.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) name: String,
    /// Names and values.
    pub(crate) labels: Vec<(String, String)>,
}

impl Default for StatsTags {
    fn default() -> Self {
        Self::new(true, Vec::new())
    }
}

impl StatsTags {
    /// Extractors of a configuration. As in Envoy, those of all names come first, and the default tags before others.
    pub(crate) fn new(has_defaults: bool, configured: Vec<Extractor>) -> Self {
        let defaults = DEFAULTS.iter().filter(|_| has_defaults).filter_map(|(name, _)| Extractor::default_of(name));
        let mut extractors: Vec<Extractor> = defaults.chain(configured).collect();
        extractors.sort_by_key(|extractor| extractor.prefix.is_some());
        Self { extractors }
    }

    /// Returns the name of a metric without the parts that are tags, and the tags.
    pub(crate) fn tagged(&self, name: &str) -> Tagged {
        let (mut labels, mut removed) = (Vec::new(), Vec::new());
        for extractor in &self.extractors {
            if let Some((value, part)) = extractor.value(name) {
                labels.push((extractor.name.clone(), value));
                removed.extend(part);
            }
        }
        let kept = name.char_indices().filter(|(at, _)| !removed.iter().any(|part: &Range<usize>| part.contains(at)));
        Tagged { name: kept.map(|(_, character)| character).collect(), labels }
    }
}

impl Extractor {
    pub(crate) fn fixed(name: String, value: String) -> Self {
        Self { name, rule: Rule::Fixed(value), prefix: None }
    }

    /// Rule with a pattern; `None` if it is no regular expression with at least one group.
    pub(crate) fn regex(name: String, pattern: &str) -> Option<Self> {
        let regex = Regex::new(pattern).ok().filter(|regex| regex.captures_len() > 1)?;
        Some(Self { name, rule: Rule::Regex(regex), prefix: prefix_of(pattern) })
    }

    /// Default tag with this name.
    pub(crate) fn default_of(name: &str) -> Option<Self> {
        let (_, pattern) = DEFAULTS.iter().find(|(known, _)| *known == name)?;
        Self::regex(name.to_owned(), pattern)
    }

    /// Returns the value of the tag, and the part of the name that it replaces.
    fn value(&self, name: &str) -> Option<(String, Option<Range<usize>>)> {
        let regex = match &self.rule {
            Rule::Fixed(value) => return Some((value.clone(), None)),
            Rule::Regex(regex) => regex,
        };
        let is_apart = |prefix: &String| name.split('.').next() != Some(prefix);
        if self.prefix.as_ref().is_some_and(is_apart) {
            return None;
        }
        let found = regex.captures(name)?;
        let removed = found.get(1).map(|part| part.range());
        let value = if regex.captures_len() > 2 { found.get(2) } else { found.get(1) };
        Some((value.map_or("", |value| value.as_str()).to_owned(), removed))
    }
}

/// Returns the first part of the names that a pattern can match, if it begins with one: `^http\.`.
fn prefix_of(pattern: &str) -> Option<String> {
    let rest = pattern.strip_prefix('^')?;
    let end = rest.find(|character: char| !character.is_ascii_alphanumeric() && character != '_')?;
    let (prefix, rest) = rest.split_at_checked(end)?;
    let is_whole = rest.starts_with(r"\.") || rest == "$";
    (!prefix.is_empty() && is_whole).then(|| prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tags: &StatsTags, name: &str) -> (String, String) {
        let Tagged { name, labels } = tags.tagged(name);
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (name, labels.join(","))
    }

    fn of(name: &str, labels: &str) -> (String, String) {
        (name.to_owned(), labels.to_owned())
    }

    fn regex(name: &str, pattern: &str) -> Extractor {
        Extractor::regex(name.to_owned(), pattern).expect("a regular expression with a group")
    }

    #[test]
    fn default_tags_are_the_owner_and_the_status() {
        let tags = StatsTags::default();
        let class = "envoy.response_code_class=2,envoy.http_conn_manager_prefix=in";
        assert_eq!(tagged(&tags, "http.in.downstream_rq_2xx"), of("http.downstream_rq_xx", class));
        assert_eq!(tagged(&tags, "cluster.a.b.rq"), of("cluster.b.rq", "envoy.cluster_name=a"));
        assert_eq!(tagged(&tags, "wasmcustom.my_rq_404"), of("wasmcustom.my_rq", "envoy.response_code=404"));
        let none = StatsTags::new(false, Vec::new());
        assert_eq!(tagged(&none, "cluster.a.rq"), of("cluster.a.rq", ""));
    }

    #[test]
    fn one_group_is_part_and_value_and_of_two_the_second_is_the_value() {
        let one = regex("one", r"limit\.(\w+)\.");
        let two = regex("two", r"(\.tenant_(\w+))$");
        let tags = StatsTags::new(true, vec![two, one, Extractor::fixed("zone".to_owned(), "eu".to_owned())]);
        let labels = "two=acme,one=users,zone=eu";
        assert_eq!(tagged(&tags, "wasmcustom.limit.users.hits.tenant_acme"), of("wasmcustom.limit..hits", labels));
    }

    #[test]
    fn a_rule_for_names_of_one_prefix_comes_last() {
        let narrow = regex("narrow", r"^wasmcustom\.((\w+)\.)");
        let tags = StatsTags::new(false, vec![narrow, regex("wide", "(h)its")]);
        assert_eq!(tagged(&tags, "wasmcustom.a.hits"), of("wasmcustom.its", "wide=h,narrow=a"));
        assert_eq!(tagged(&tags, "other.a"), of("other.a", ""));
        assert!(Extractor::regex("x".to_owned(), "no group").is_none());
    }
}

//! Changes of overrides that a page asks for, as arguments of `weir limits`.

use serde::Deserialize;

/// Change of the override of a limit or a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    action: Action,
    pub(super) key_prefix: String,
    pub(super) limit: String,
    /// Key in the filter's form; `None` for the whole limit.
    pub(super) key: Option<String>,
    /// `unlimited`, `blocked`, `shadow` or `off`.
    word: Option<String>,
    max: Option<String>,
    times: Option<String>,
    rate: Option<String>,
    burst: Option<String>,
    quota: Option<String>,
    /// Time until it ends, such as `10m`.
    lasting: Option<String>,
    reason: Option<String>,
    by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Set,
    Unset,
}

impl Change {
    /// The arguments after `weir limits`. No text of the page is taken as an option.
    pub(super) fn arguments(&self) -> Vec<String> {
        let is_set = self.action == Action::Set;
        let mut arguments = vec![if is_set { "set" } else { "unset" }.to_owned()];
        if self.key.is_some() {
            arguments.push("--encoded".to_owned());
        }
        let options = [
            ("max", &self.max),
            ("times", &self.times),
            ("rate", &self.rate),
            ("burst", &self.burst),
            ("quota", &self.quota),
            ("for", &self.lasting),
            ("reason", &self.reason),
            ("by", &self.by),
        ];
        for (name, value) in options.into_iter().filter(|_| is_set) {
            arguments.extend(value.as_ref().map(|value| format!("--{name}={value}")));
        }
        arguments.extend(["--".to_owned(), self.limit.clone()]);
        arguments.extend(self.key.clone());
        arguments.extend(self.word.clone().filter(|_| is_set));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(json: &str) -> Vec<String> {
        serde_json::from_str::<Change>(json).unwrap().arguments()
    }

    #[test]
    fn a_change_is_a_command_of_weir_limits() {
        let set = r#"{"action": "set", "key_prefix": "weir:", "limit": "per_user", "key": "alice", "word": "blocked",
            "lasting": "10m", "reason": "abuse"}"#;
        assert_eq!(
            arguments(set),
            ["set", "--encoded", "--for=10m", "--reason=abuse", "--", "per_user", "alice", "blocked"]
        );
        let unset = r#"{"action": "unset", "key_prefix": "weir:", "limit": "per_user", "key": null, "reason": "x"}"#;
        assert_eq!(arguments(unset), ["unset", "--", "per_user"]);
    }

    #[test]
    fn no_text_of_a_page_becomes_an_option() {
        let set = r#"{"action": "set", "key_prefix": "", "limit": "--redis=redis://evil", "key": "--config=/etc/passwd",
            "max": "1 --redis=x"}"#;
        assert_eq!(
            arguments(set),
            ["set", "--encoded", "--max=1 --redis=x", "--", "--redis=redis://evil", "--config=/etc/passwd"]
        );
    }
}

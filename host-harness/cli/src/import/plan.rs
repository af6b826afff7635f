//! Middle form of an import: configurations of the filter, with the origin of each limit.

use super::condition::Condition;
use super::finding::Place;
use super::source::Entry;

/// Configuration of one limiter.
#[derive(Debug, Clone, Default)]
pub(super) struct Configuration {
    /// Comment lines at its top: origin and target.
    pub(super) title: Vec<String>,
    pub(super) settings: Settings,
    pub(super) limits: Vec<Limit>,
}

/// Settings of a limiter; what is `None` has Weir's default.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) timeout: Option<String>,
    pub(super) denies_on_failure: bool,
    pub(super) status_on_error: Option<u64>,
    pub(super) shadow_mode: bool,
    pub(super) status: Option<u64>,
    pub(super) grpc_status: Option<&'static str>,
    /// `response.headers`; `None` for Weir's own.
    pub(super) headers: Option<Vec<&'static str>>,
    /// Whether denied requests get an empty body.
    pub(super) is_body_empty: bool,
}

/// Limit of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) name: String,
    /// Place that findings about the limit name.
    pub(super) place: Place,
    /// Comment lines above the limit.
    pub(super) comments: Vec<String>,
    pub(super) when: Condition,
    /// The limit does not apply where one of these holds.
    pub(super) exempt: Vec<Condition>,
    pub(super) descriptor: Vec<Entry>,
    pub(super) rates: Vec<Rate>,
    pub(super) hits_addend: u64,
    pub(super) shadow_mode: bool,
}

/// Number of requests in a window that begins at a multiple of its length since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) max_requests: u64,
    pub(super) seconds: u64,
}

/// Names of limits: letters, digits, `_`, `.` and `-`, at most 64 bytes, each for one identity.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// The name of a limit. The same identity always has the same name, and so the same buckets.
    pub(super) fn of(&mut self, identity: &str, wanted: &str) -> String {
        if let Some((_, name)) = self.0.iter().find(|(known, _)| known == identity) {
            return name.clone();
        }
        let is_allowed = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
        let clean: String = wanted.chars().map(|it| if is_allowed(it) { it } else { '_' }).take(56).collect();
        let clean = if clean.is_empty() { "limit".to_owned() } else { clean };
        let mut name = clean.clone();
        let mut number = 2_u32;
        while self.0.iter().any(|(_, known)| *known == name) {
            name = format!("{clean}-{number}");
            number = number.saturating_add(1);
        }
        self.0.push((identity.to_owned(), name.clone()));
        name
    }
}

impl Rate {
    /// The rates that matter: of several with one window, the strictest.
    pub(super) fn strictest(rates: Vec<Self>) -> Vec<Self> {
        let mut kept: Vec<Self> = Vec::new();
        for rate in rates {
            match kept.iter_mut().find(|known| known.seconds == rate.seconds) {
                Some(known) => known.max_requests = known.max_requests.min(rate.max_requests),
                None => kept.push(rate),
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_same_for_one_identity() {
        let mut names = Names::default();
        assert_eq!(names.of("a", "per user/x"), "per_user_x");
        assert_eq!(names.of("b", "per_user_x"), "per_user_x-2");
        assert_eq!(names.of("a", "other"), "per_user_x");
        assert_eq!(names.of("c", ""), "limit");
        assert!(names.of("d", &"x".repeat(99)).len() <= 64);
    }

    #[test]
    fn of_two_rates_with_one_window_the_strictest_counts() {
        let rate = |max_requests, seconds| Rate { max_requests, seconds };
        assert_eq!(Rate::strictest(vec![rate(5, 60), rate(9, 3600), rate(3, 60)]), [rate(3, 60), rate(9, 3600)]);
    }
}

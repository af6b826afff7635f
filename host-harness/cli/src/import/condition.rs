//! Conditions on a request, with the simplifications that constants allow.

use super::source::Source;

/// Condition on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Never,
    /// A value of the request passes a test; a missing value passes none.
    Value(Source, Test),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

/// Test of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    /// The whole value matches.
    Regex(String),
    /// An address is in one of the ranges.
    Within(Vec<String>),
}

impl Condition {
    pub(super) fn all(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for condition in conditions {
            match condition {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(inner) => inner.into_iter().for_each(|inner| add(&mut kept, inner)),
                other => add(&mut kept, other),
            }
        }
        if has_complements(&kept) {
            return Self::Never;
        }
        match kept.len() {
            0 => Self::Always,
            1 => kept.remove(0),
            _ => Self::All(kept),
        }
    }

    pub(super) fn any(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for condition in conditions {
            match condition {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::Any(inner) => inner.into_iter().for_each(|inner| add(&mut kept, inner)),
                other => add(&mut kept, other),
            }
        }
        if has_complements(&kept) {
            return Self::Always;
        }
        match kept.len() {
            0 => Self::Never,
            1 => kept.remove(0),
            _ => Self::factored(kept),
        }
    }

    /// Alternatives, with the parts that all of them have before them.
    fn factored(alternatives: Vec<Self>) -> Self {
        let parts: Vec<Vec<Self>> = alternatives.iter().map(Self::parts).collect();
        let is_common = |part: &Self| parts.iter().all(|parts| parts.contains(part));
        let common: Vec<Self> = parts.iter().take(1).flatten().filter(|part| is_common(part)).cloned().collect();
        if common.is_empty() {
            return Self::Any(alternatives);
        }
        let rest = alternatives.iter().map(|alternative| alternative.without(&common));
        let rest = Self::any(rest.collect::<Vec<_>>());
        Self::all(common.into_iter().chain([rest]))
    }

    /// The condition without parts that are known to hold.
    pub(super) fn without(&self, known: &[Self]) -> Self {
        Self::all(self.parts().into_iter().filter(|part| !known.contains(part)))
    }

    pub(super) fn not(condition: Self) -> Self {
        match condition {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// The parts that must all hold; none for a condition that always holds.
    pub(super) fn parts(&self) -> Vec<Self> {
        match self {
            Self::Always => Vec::new(),
            Self::All(parts) => parts.clone(),
            other => vec![other.clone()],
        }
    }
}

fn add(kept: &mut Vec<Condition>, condition: Condition) {
    if !kept.contains(&condition) {
        kept.push(condition);
    }
}

/// Whether a condition and its negation are both there.
fn has_complements(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| match condition {
        Condition::Not(inner) => conditions.contains(inner),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::Condition::{All, Always, Never, Value};
    use super::*;

    fn host(text: &str) -> Condition {
        Value(Source::Host, Test::Exact(text.to_owned()))
    }

    #[test]
    fn constants_vanish() {
        assert_eq!(Condition::all([Always, host("a")]), host("a"));
        assert_eq!(Condition::all([Never, host("a")]), Never);
        assert_eq!(Condition::all([]), Always);
        assert_eq!(Condition::any([Always, host("a")]), Always);
        assert_eq!(Condition::any([Never, host("a")]), host("a"));
        assert_eq!(Condition::any([]), Never);
        assert_eq!(Condition::any([host("a"), Condition::not(host("a"))]), Always);
        assert_eq!(Condition::all([host("a"), host("b"), Condition::not(host("a"))]), Never);
        assert_eq!(Condition::not(Condition::not(host("a"))), host("a"));
    }

    #[test]
    fn nested_lists_are_one_and_repetitions_are_dropped() {
        let nested = Condition::all([Condition::all([host("a"), host("b")]), host("a")]);
        assert_eq!(nested, All(vec![host("a"), host("b")]));
        assert_eq!(nested.parts(), [host("a"), host("b")]);
        assert_eq!(Always.parts(), []);
    }

    #[test]
    fn common_parts_of_alternatives_stand_before_them() {
        let pair = |one, other| Condition::all([host(one), host(other)]);
        let factored = Condition::all([host("a"), Condition::Any(vec![host("b"), host("c")])]);
        assert_eq!(Condition::any([pair("a", "b"), pair("c", "a")]), factored);
        assert_eq!(Condition::any([pair("a", "b"), host("a")]), host("a"));
        assert_eq!(pair("a", "b").without(&[host("a"), host("c")]), host("b"));
    }
}

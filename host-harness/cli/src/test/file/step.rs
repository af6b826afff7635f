//! Step of a test: requests with what is expected of them, or something that happens in between.

use weir_filter::units::Micros;

use super::expect::{Expect, expect};
use super::request::{MAX_REQUESTS, REQUEST_FIELDS, Requests, requests};
use crate::documents::{Position, Value};
use crate::limits::Limits;
use crate::reader::{Fields, Reader};

/// Kinds of steps: a step has exactly one of these fields.
const KINDS: [&str; 4] = ["request", "advance", "redis", "limits"];
/// Commands of `weir limits` that a step may run.
const COMMANDS: [&str; 3] = ["set", "unset", "reset"];
/// Longest time by which a step advances the clock: 100 years.
const MAX_ADVANCE: Micros = Micros::from_secs(100 * 366 * 86_400);

/// Step of a test.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) place: Position,
    pub(crate) action: Action,
}

/// Action of a step.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Sends requests.
    Request(Box<Requests>, Box<Expect>),
    /// Moves the clock on.
    Advance(Micros),
    /// Stops, starts or empties Redis.
    Redis(RedisState),
    /// Changes overrides: the words after `weir limits`.
    Limits(Vec<String>),
}

/// Change of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisState {
    /// Accepts no connection. The data survives.
    Down,
    /// Runs again.
    Up,
    /// Has no keys.
    Flushed,
}

pub(super) fn steps(list: Reader<'_>) -> Option<Vec<Step>> {
    let steps: Vec<Option<Step>> = list.list()?.map(step).collect();
    if steps.is_empty() {
        return list.expected("at least one step");
    }
    let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
    let total = steps.iter().fold(0_u64, |sum, step| match &step.action {
        Action::Request(requests, _) => sum.saturating_add(requests.count),
        _ => sum,
    });
    if total > MAX_REQUESTS {
        return list.refuse(format!("expected at most {MAX_REQUESTS} requests in a test, found {total}"));
    }
    Some(steps)
}

fn step(node: Reader<'_>) -> Option<Step> {
    let all: Vec<&str> = KINDS.iter().chain(&REQUEST_FIELDS).chain(&["expect"]).copied().collect();
    let fields = node.fields(&all)?;
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| fields.key(kind).is_some()).collect();
    let action = match kinds.as_slice() {
        ["request"] => {
            let (requests, expect) = (requests(&fields), expect(fields.take("expect")));
            Action::Request(Box::new(requests?), Box::new(expect?))
        }
        [kind] => {
            others(&fields, kind)?;
            let value = fields.take(kind)?;
            match *kind {
                "advance" => advance(value)?,
                "redis" => redis(value)?,
                _ => limits(value)?,
            }
        }
        [] if fields.has_unknown() => return None,
        _ => {
            let found = if kinds.is_empty() { "none of them".to_owned() } else { kinds.join(" and ") };
            return node.refuse(format!("expected one of {} in a step, found {found}", KINDS.join(", ")));
        }
    };
    Some(Step { place: node.place(), action })
}

/// Refuses the fields of requests in another step.
fn others(fields: &Fields<'_>, kind: &str) -> Option<()> {
    let mut alone = Some(());
    for name in REQUEST_FIELDS.into_iter().chain(["expect"]) {
        if let Some(place) = fields.key(name) {
            fields.owner().mistakes.add(place, format!("`{name}` belongs to a step with `request`, not with `{kind}`"));
            alone = None;
        }
    }
    alone
}

fn advance(node: Reader<'_>) -> Option<Action> {
    let span = node.duration()?;
    if span > MAX_ADVANCE {
        return node.expected("a duration of at most 100 years");
    }
    Some(Action::Advance(span))
}

fn redis(node: Reader<'_>) -> Option<Action> {
    Some(Action::Redis(match node.exact_text() {
        Some("down") => RedisState::Down,
        Some("up") => RedisState::Up,
        Some("flushed") => RedisState::Flushed,
        _ => return node.expected("down, up or flushed"),
    }))
}

/// The words of a command, as a text or a list. The command line's own parser accepts them.
fn limits(node: Reader<'_>) -> Option<Action> {
    let words = match &node.node.value {
        Value::List(_) => node.list()?.map(|word| word.text("a word")).collect::<Option<Vec<_>>>()?,
        _ => match split(&node.text("a command such as `set per_user alice --max 10`")?) {
            Some(words) => words,
            None => return node.refuse("expected a closing quote"),
        },
    };
    if !words.first().is_some_and(|word| COMMANDS.contains(&word.as_str())) {
        return node.expected("set, unset or reset, with the words of `weir limits`");
    }
    let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    match Limits::parse(&arguments) {
        Ok(_) => Some(Action::Limits(words)),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            node.refuse(format!("`weir limits {}`: {first}", words.join(" ")))
        }
    }
}

/// Splits a text into words at white space outside quotes. `None` where a quote is not closed.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in text.chars() {
        match (quote, character) {
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = |text| split(text).unwrap();
        assert_eq!(words("set per_user  alice --max 10"), ["set", "per_user", "alice", "--max", "10"]);
        assert_eq!(words(r#"set a '{"is": "off"}' "" b"c d"e"#), ["set", "a", r#"{"is": "off"}"#, "", "bc de"]);
        assert_eq!(split("set 'a"), None);
        assert_eq!(words(""), [""; 0]);
    }
}

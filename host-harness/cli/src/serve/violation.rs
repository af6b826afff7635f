//! Place of a violation of Envoy's rules, from the text of its error.
//!
//! The text names a message and a field for each step: `BootstrapValidationError.StaticResources: … | caused by
//! StaticResourcesValidationError.Clusters[0]: … | caused by ClusterValidationError.Name: …`. Below a `typed_config`, the
//! steps begin anew with the message in it.

use weir_host::documents::{At, Message, Position, Source};

const MARK: &str = "ValidationError.";

/// Step to a field, in the form `ClusterName[0]`.
struct Step<'a> {
    message: &'a str,
    field: &'a str,
}

/// The place of a violation in a source. `None` if the text names none, or several places fit it.
pub(super) fn place(cause: &str, source: &Source) -> Option<Position> {
    let words = cause.split(|it: char| it.is_whitespace() || it == '(');
    let steps = words.filter_map(|word| {
        let (message, field) = word.split_once(MARK)?;
        Some(Step { message, field: field.trim_end_matches(':') })
    });
    let steps: Vec<Step<'_>> = steps.collect();
    let first = steps.first()?;
    let root = At::root(source.documents.first()?);
    let mut starts = Vec::new();
    match first.message {
        "Bootstrap" => starts.push(root),
        name => typed(&root, name, &mut starts),
    }
    let mut found = starts.iter().filter_map(|start| follow(start, &steps));
    let place = found.next()?;
    found.next().is_none().then_some(place)
}

/// The messages of any type with this last step of their name.
fn typed<'a>(at: &At<'a>, name: &str, found: &mut Vec<At<'a>>) {
    found.extend(Message::of(at).filter(|it| it.short_name() == name).map(|it| it.body));
    at.children().iter().for_each(|at| typed(at, name, found));
}

/// The place of the last step's field, or of the message that lacks it.
fn follow(start: &At<'_>, steps: &[Step<'_>]) -> Option<Position> {
    let (last, before) = steps.split_last()?;
    let around = before.iter().try_fold(start.clone(), |at, step| step.field_of(&at))?;
    Some(last.field_of(&around).map_or(around.key, |at| at.key))
}

impl Step<'_> {
    /// The value of the field; of a list the item.
    fn field_of<'a>(&self, at: &At<'a>) -> Option<At<'a>> {
        let (name, index) = self.field.split_once('[').map_or((self.field, None), |(name, rest)| (name, Some(rest)));
        let is_it = |key: &str| key.replace('_', "").eq_ignore_ascii_case(name);
        let (_, value) = at.entries().find(|(key, _)| is_it(key))?;
        let Some(index) = index.and_then(|rest| rest.strip_suffix(']')) else { return Some(value) };
        match index.parse::<usize>() {
            Ok(index) if !value.is_object() || value.field(&index.to_string()).is_none() => {
                value.items().into_iter().nth(index)
            }
            _ => value.spelled(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "static_resources:
  clusters:
  - {name: a}
  - name: ''
    metadata: {}
  listeners:
    filter_chains:
    - filters:
      - typed_config: {'@type': type.googleapis.com/a.Proxy, stat_prefix: ''}
      - typed_config: {'@type': type.googleapis.com/a.Twice}
      - typed_config: {'@type': type.googleapis.com/a.Twice}
";

    fn place_of(cause: &str) -> Option<(usize, usize)> {
        let source = Source::parse(FILE, "a.yaml".to_owned());
        place(cause, &source).map(|place| (place.line, place.column))
    }

    #[test]
    fn the_steps_of_an_error_lead_to_a_place() {
        let in_resources = "failed (BootstrapValidationError.StaticResources: embedded message failed validation | caused by \
                            StaticResourcesValidationError.";
        let at = |rest: &str| place_of(&format!("{in_resources}{rest}"));
        let cluster = "Clusters[1]: embedded message failed validation | caused by ClusterValidationError.";
        assert_eq!(at(&format!("{cluster}Name: value length must be at least 1 characters)")), Some((4, 5)));
        assert_eq!(at(&format!("{cluster}LoadAssignment: value is required)")), Some((4, 5)), "that of the message");
        assert_eq!(at("Clusters[7]: x | caused by ClusterValidationError.Name: x)"), None);
        assert_eq!(at("Listeners[0]: x | caused by ListenerValidationError.FilterChains[0]: x)"), Some((8, 7)));
        assert_eq!(place_of("failed (ProxyValidationError.StatPrefix: x): y"), Some((9, 62)));
        assert_eq!(place_of("failed (TwiceValidationError.StatPrefix: x): y"), None, "there are two");
        assert_eq!(place_of("no such file"), None);
    }
}

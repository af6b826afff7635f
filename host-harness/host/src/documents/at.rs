//! Cursor over a document: a value with its path, read by protobuf's JSON mapping.
//!
//! Fields are found in snake case and in camel case. One value is accepted where a list is expected, numbers and
//! booleans also as text, wrapped values also as `{value: …}`, and `null` as an absent field: all of this is accepted
//! by some version of Envoy.

use super::node::{Entry, Node, Position, Value};
use super::source::Document;
use super::text::step;

/// Value of a document with its path.
#[derive(Debug, Clone)]
pub struct At<'a> {
    /// The document.
    pub document: &'a Document,
    /// The value.
    pub node: &'a Node,
    /// Position of the field's key; of the value itself in lists and for the whole document.
    pub key: Position,
    /// Path such as `static_resources.clusters[0].name`, spelled as in the file; empty for the whole document of a file.
    pub path: String,
}

impl<'a> At<'a> {
    /// The whole document.
    pub fn root(document: &'a Document) -> Self {
        Self { document, node: &document.root, key: document.root.position, path: document.base.clone() }
    }

    /// Whether the value is the whole document.
    pub fn is_root(&self) -> bool {
        self.path == self.document.base
    }

    /// A field by its name in snake case. An absent field and `null` are `None`.
    pub fn field(&self, name: &str) -> Option<Self> {
        let entry = self.node.entry(name).or_else(|| self.node.entry(&camel_case(name)))?;
        Some(self.at(entry)).filter(|at| !at.is_null())
    }

    /// A field by its key as written. An absent field and `null` are `None`.
    pub fn spelled(&self, key: &str) -> Option<Self> {
        Some(self.at(self.node.entry(key)?)).filter(|at| !at.is_null())
    }

    /// A field of a field, and so on.
    pub fn fields<const N: usize>(&self, names: [&str; N]) -> Option<Self> {
        names.into_iter().try_fold(self.clone(), |at, name| at.field(name))
    }

    /// All fields of an object, with their keys.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let this = self.clone();
        self.node.entries().iter().map(move |entry| (entry.key.as_str(), this.at(entry)))
    }

    /// The items of a list; a value that is no list is its only item.
    pub fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(items) => items.iter().enumerate().map(|(index, node)| self.item(index, node)).collect(),
            Value::Null => Vec::new(),
            _ => vec![self.clone()],
        }
    }

    /// The items of a field; none if the field is absent.
    pub fn each(&self, name: &str) -> Vec<Self> {
        self.field(name).map(|at| at.items()).unwrap_or_default()
    }

    /// The values directly inside this one.
    pub fn children(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(_) => self.items(),
            _ => self.entries().map(|(_, at)| at).collect(),
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a field; empty if the field is absent or no text, as protobuf's default.
    pub fn text_of(&self, name: &str) -> &'a str {
        self.field(name).and_then(|at| at.text()).unwrap_or_default()
    }

    /// A boolean, also as text or wrapped.
    pub fn flag(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(flag) => Some(*flag),
            Value::Text(text) => text.parse().ok(),
            Value::Map(_) => self.field("value")?.flag(),
            _ => None,
        }
    }

    /// Whether a field is true; absent fields are false.
    pub fn is_set(&self, name: &str) -> bool {
        self.field(name).and_then(|at| at.flag()).unwrap_or(false)
    }

    /// An unsigned integer, also as text or wrapped.
    pub fn integer(&self) -> Option<u64> {
        match &self.node.value {
            Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
            Value::Text(text) => text.parse().ok().or_else(|| whole(text.parse().ok()?)),
            Value::Map(_) => self.field("value")?.integer(),
            _ => None,
        }
    }

    /// Index of an enum's value in `names`, which are in upper case and in the order of their numbers. The value may be
    /// its name in any case, or its number, also as text.
    pub fn one_of(&self, names: &[&str]) -> Option<usize> {
        let named = self.text().and_then(|text| names.iter().position(|name| name.eq_ignore_ascii_case(text)));
        named.or_else(|| usize::try_from(self.integer()?).ok().filter(|index| *index < names.len()))
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Kind of the value, for error texts; texts are not repeated.
    pub fn kind(&self) -> String {
        match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Number(_) => "a number".to_owned(),
            Value::Text(text) => format!("a string of {} bytes", text.len()),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(_) => "an object".to_owned(),
        }
    }

    /// Path of a field that may be absent.
    pub fn path_of(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => step(name),
            path => format!("{path}.{}", step(name)),
        }
    }

    /// Follows a path such as `limits[2].token_bucket` as far as the document has it. Returns the last value on it.
    pub fn descend(&self, path: &str) -> Self {
        let mut at = self.clone();
        let mut rest = path;
        while !rest.is_empty() {
            let (next, after) = first_step(rest);
            let inner = match next {
                Step::Item(index) => match &at.node.value {
                    Value::List(items) => items.get(index).map(|node| at.item(index, node)),
                    _ => None,
                },
                Step::Field(name) => at.node.entry(&name).map(|entry| at.at(entry)),
            };
            let Some(inner) = inner else { return at };
            (at, rest) = (inner, after);
        }
        at
    }

    fn at(&self, entry: &'a Entry) -> Self {
        Self { document: self.document, node: &entry.value, key: entry.position, path: self.path_of(&entry.key) }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { document: self.document, node, key: node.position, path: format!("{}[{index}]", self.path) }
    }
}

enum Step {
    Field(String),
    Item(usize),
}

/// Splits the first step off a path: `name`, `[2]`, or `["a name in quotes"]`.
fn first_step(path: &str) -> (Step, &str) {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some(inner) = path.strip_prefix('[') {
        let (index, rest) = inner.split_once(']').unwrap_or((inner, ""));
        if let Ok(index) = index.parse() {
            return (Step::Item(index), rest);
        }
        let (name, rest) = inner.rsplit_once(']').unwrap_or((inner, ""));
        return (Step::Field(serde_json::from_str(name).unwrap_or_default()), rest);
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    (Step::Field(name.to_owned()), rest)
}

/// Returns protobuf's JSON name of a field: `rootId` of `root_id`.
pub fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        name + &initial.to_ascii_uppercase() + rest
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within bounds")]
fn whole(double: f64) -> Option<u64> {
    (double.fract() == 0.0 && (0.0..1e15).contains(&double)).then_some(double as u64)
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn on(text: &str, test: impl Fn(At<'_>)) {
        let source = Source::parse(text, "test.yaml".to_owned());
        assert!(source.error.is_none(), "{:?}", source.error);
        test(At::root(&source.documents[0]));
    }

    #[test]
    fn fields_have_two_spellings_and_lists_may_be_one_value() {
        on("static_resources: {listeners: {rootId: limiter, vm_id: null}}", |root| {
            let listeners = root.field("static_resources").unwrap().each("listeners");
            assert_eq!(listeners.len(), 1);
            assert_eq!(listeners[0].text_of("root_id"), "limiter");
            assert_eq!(listeners[0].field("root_id").unwrap().path, "static_resources.listeners.rootId");
            assert!(listeners[0].field("vm_id").is_none());
        });
    }

    #[test]
    fn numbers_booleans_and_enums_have_several_forms() {
        on("[7, '7', {value: 7}, 7.0, 0.7e1]", |root| {
            assert!(root.items().iter().all(|at| at.integer() == Some(7)));
        });
        on("[true, 'true', {value: true}]", |root| {
            assert!(root.items().iter().all(|at| at.flag() == Some(true)));
        });
        on("[FAIL_RELOAD, fail_reload, 1, '1']", |root| {
            assert!(root.items().iter().all(|at| at.one_of(&["UNSPECIFIED", "FAIL_RELOAD"]) == Some(1)));
        });
        on("[OTHER, fail-reload, 2, '2', -1, []]", |root| {
            assert!(root.items().iter().all(|at| at.one_of(&["UNSPECIFIED", "FAIL_RELOAD"]).is_none()));
        });
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_goes() {
        on("limits:\n- name: a\n  'x y': {b: 1}\n", |root| {
            assert_eq!(root.descend("limits[0].name").path, "limits[0].name");
            assert_eq!(root.descend("limits[0].token_bucket.max_tokens").path, "limits[0]");
            assert_eq!(root.descend(r#"limits[0]["x y"].b"#).path, "limits[0].x y.b");
            assert_eq!(root.descend("limits[7].name").path, "limits");
            assert_eq!(root.descend("configuration").path, "");
        });
    }
}

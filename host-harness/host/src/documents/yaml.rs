//! Builder of trees from the events of the YAML parser.
//!
//! Aliases are replaced by copies of their anchors, as in yaml-cpp. The number of values and their nesting are bounded,
//! so that a small text cannot expand to a large tree. Keys with the tag `!ignore` are left out, as in Envoy.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::node::{Entry, Node, Position, Value};
use super::{json, merge, scalar};

/// Most values in a text, with all aliases replaced.
const MAX_VALUES: usize = 1_000_000;
/// Deepest nesting, with the scalar in the innermost of 100 lists and objects: protobuf's parser, and so Envoy, stops
/// there.
const MAX_DEPTH: usize = 101;
/// Longest key, in characters.
const MAX_KEY: usize = 65_536;
const BARE_TEXT: &str = "a text without quotes, which JSON does not have";

/// Language of a text, with the types of its scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// YAML as Envoy reads it: scalars by the rules of yaml-cpp, and no merge keys.
    Envoy,
    /// JSON as Envoy reads it: protobuf's, with trailing commas, single quotes, and names without quotes.
    Json,
    /// YAML 1.2 with its core schema, and with merge keys: for files that Envoy does not read.
    Core,
}

/// Error of a text that is no YAML. It contains no text of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) found: &'static str,
}

/// Reads all documents of a text. An empty text has none.
///
/// # Errors
/// The first error of the text, together with the documents before it.
pub(super) fn documents(text: &str, dialect: Dialect) -> (Vec<Node>, Option<SyntaxError>) {
    if dialect == Dialect::Json
        && let Some((position, found)) = json::stray(text)
    {
        return (Vec::new(), Some(SyntaxError { position, found }));
    }
    let mut builder = Builder { dialect, documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), values: 0 };
    for event in Parser::new_from_str_with_options(text, options()) {
        let done = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(syntax_error(&error)),
        };
        if let Err(error) = done {
            return (builder.documents, Some(error));
        }
    }
    (builder.documents, None)
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.simple_key_max_lookahead = MAX_KEY;
    options
}

struct Builder {
    dialect: Dialect,
    documents: Vec<Node>,
    /// Collections around the next value, the outermost first.
    open: Vec<Collection>,
    anchors: HashMap<usize, Anchor>,
    values: usize,
}

struct Collection {
    node: Node,
    anchor: usize,
    /// Key of a map whose value is next.
    key: Option<Key>,
}

struct Key {
    text: String,
    position: Position,
    is_ignored: bool,
}

/// Anchored value, with the number of its values and of its levels. A collection has one only when it is closed: an
/// alias inside it would be endless.
struct Anchor {
    node: Node,
    values: usize,
    depth: usize,
}

type Taken = Result<(), SyntaxError>;

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Taken {
        let position = position(&span.start);
        if self.dialect == Dialect::Json
            && let Some(found) = json::refused(&event, self.documents.len())
        {
            return Err(SyntaxError { position, found });
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quotes = quotes(style).filter(|_| span.start.line() == span.end.line());
                return self.scalar(&text, (style, quotes), anchor, tag, position);
            }
            Event::SequenceStart(_, anchor, _) => return self.start(Value::List(Vec::new()), anchor, position),
            Event::MappingStart(_, anchor, _) => return self.start(Value::Map(Vec::new()), anchor, position),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Collection { mut node, anchor, .. }) = self.open.pop() {
                    if self.dialect == Dialect::Core {
                        merge::resolve(&mut node);
                    }
                    self.value(node, anchor);
                }
            }
            Event::Alias(id) => return self.alias(id, position),
            Event::DocumentStart(..) => self.anchors.clear(),
            _ => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        (style, quotes): (ScalarStyle, Option<char>),
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        position: Position,
    ) -> Taken {
        self.count(1, 1, position)?;
        let (is_plain, is_block) = (style == ScalarStyle::Plain, style == ScalarStyle::Literal);
        // The tag `!` alone marks text, as quotes do.
        let mark = tag.as_deref().map(|tag| (tag.handle(), tag.suffix()));
        let is_text = matches!(mark, Some(("!", "") | ("", "!")));
        if self.awaits_key() {
            if self.dialect == Dialect::Json && is_plain && !json::is_bare_name(text) {
                return Err(SyntaxError { position, found: BARE_TEXT });
            }
            let is_ignored = matches!(mark, Some(("!", "ignore")));
            self.anchor(anchor, &Node { position, value: Value::Text(text.to_owned()), is_block, quotes });
            self.key(text.to_owned(), position, is_ignored);
            return Ok(());
        }
        let value = match self.dialect {
            _ if is_text => Value::Text(text.to_owned()),
            Dialect::Envoy => scalar::of_yaml(text, is_plain, mark.is_some()),
            Dialect::Json => scalar::of_json(text, is_plain).ok_or(SyntaxError { position, found: BARE_TEXT })?,
            Dialect::Core => scalar::of_core(text, is_plain && mark.is_none()),
        };
        self.value(Node { position, value, is_block, quotes }, anchor);
        Ok(())
    }

    fn alias(&mut self, id: usize, position: Position) -> Taken {
        let Some(Anchor { node, values, depth }) = self.anchors.get(&id) else {
            return Err(SyntaxError { position, found: "an alias inside its own anchor" });
        };
        let (node, values, depth) = (node.clone(), *values, *depth);
        self.count(values, depth, position)?;
        match (self.awaits_key(), node.value) {
            (false, value) => self.value(Node { value, ..node }, 0),
            (true, Value::Text(text)) => self.key(text, position, false),
            (true, _) => return Err(no_key(position)),
        }
        Ok(())
    }

    fn start(&mut self, value: Value, anchor: usize, position: Position) -> Taken {
        if self.awaits_key() {
            return Err(no_key(position));
        }
        self.count(1, 1, position)?;
        self.open.push(Collection { node: Node { position, value, is_block: false, quotes: None }, anchor, key: None });
        Ok(())
    }

    /// Adds a complete value to the collection around it, or to the documents.
    fn value(&mut self, node: Node, anchor: usize) {
        self.anchor(anchor, &node);
        let Some(Collection { node: around, key, .. }) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        match (&mut around.value, key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some(Key { text, position, is_ignored: false })) => {
                entries.push(Entry { key: text, position, value: node });
            }
            _ => {}
        }
    }

    fn key(&mut self, text: String, position: Position, is_ignored: bool) {
        if let Some(collection) = self.open.last_mut() {
            collection.key = Some(Key { text, position, is_ignored });
        }
    }

    /// Whether the next value is a key.
    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Collection { node: Node { value: Value::Map(_), .. }, key: None, .. }))
    }

    /// Keeps an anchored value for its aliases. The anchor 0 is none.
    fn anchor(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            let (values, depth) = node.size_and_depth();
            self.anchors.insert(anchor, Anchor { node: node.clone(), values, depth });
        }
    }

    fn count(&mut self, values: usize, depth: usize, position: Position) -> Taken {
        self.values += values;
        if self.values > MAX_VALUES {
            return Err(SyntaxError { position, found: "more than a million values" });
        }
        if self.open.len() + depth > MAX_DEPTH {
            return Err(SyntaxError { position, found: "more than 100 levels of nesting" });
        }
        Ok(())
    }
}

/// Returns the quotes of a style.
fn quotes(style: ScalarStyle) -> Option<char> {
    match style {
        ScalarStyle::SingleQuoted => Some('\''),
        ScalarStyle::DoubleQuoted => Some('"'),
        _ => None,
    }
}

fn no_key(position: Position) -> SyntaxError {
    SyntaxError { position, found: "a list or an object as a key" }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// Kind and position of an error, without the parser's own text, which may quote the document.
fn syntax_error(error: &ScanError) -> SyntaxError {
    let found = match error.kind() {
        ErrorKind::UnknownAnchor => "an alias without an anchor",
        ErrorKind::UnexpectedEof
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnexpectedEofBlockSequence
        | ErrorKind::UnexpectedEofBlockMapping => "an unexpected end of the document",
        _ => "a syntax error",
    };
    SyntaxError { position: position(error.marker()), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<String> {
        let (documents, error) = documents(text, Dialect::Envoy);
        assert_eq!(error, None, "{text}");
        documents.iter().map(|node| node.to_json().to_string()).collect()
    }

    fn refused(text: &str) -> (usize, usize, &'static str) {
        let (_, error) = documents(text, Dialect::Envoy);
        let SyntaxError { position, found } = error.expect("an error");
        (position.line, position.column, found)
    }

    #[test]
    fn documents_are_read_as_by_yaml_cpp() {
        assert_eq!(json("a: 1\n---\n- b\n- yes\n"), [r#"{"a":1}"#, r#"["b",true]"#]);
        assert_eq!(json("a: &x {b: [1]}\nc: *x\n"), [r#"{"a":{"b":[1]},"c":{"b":[1]}}"#]);
        assert_eq!(json("a: &x {b: 1}\nc: {<<: *x}\n"), [r#"{"a":{"b":1},"c":{"<<":{"b":1}}}"#]);
        assert_eq!(json("&k a: 1\n*k : 2\n"), [r#"{"a":2}"#], "the last key holds");
        assert_eq!(json("!ignore a: &x [1]\nb: *x\n"), [r#"{"b":[1]}"#]);
        assert_eq!(json("a: ! 5\nb: !!str 5\nc: '5'\nd: |\n  5\n"), [r#"{"a":"5","b":5,"c":"5","d":"5\n"}"#]);
        assert_eq!(json(""), [""; 0]);
        assert_eq!(json("{\n\t\"a\": [1,\n\t2]\n}\n"), [r#"{"a":[1,2]}"#]);
    }

    #[test]
    fn every_value_and_every_key_has_its_position() {
        let (documents, _) = documents("a:\n- b: [x, 'y']\n  c: |\n    z\n", Dialect::Envoy);
        let list = documents[0].entry("a").expect("a");
        let at = |position: Position| (position.line, position.column);
        let Value::List(items) = &list.value.value else { panic!("{list:?}") };
        let (b, c) = (items[0].entry("b").expect("b"), items[0].entry("c").expect("c"));
        let Value::List(inner) = &b.value.value else { panic!("{b:?}") };
        assert_eq!((at(list.position), at(items[0].position)), ((1, 1), (2, 3)));
        assert_eq!((at(b.position), at(inner[1].position)), ((2, 3), (2, 10)));
        assert_eq!((at(c.position), at(c.value.position)), ((3, 3), (4, 5)));
    }

    #[test]
    fn a_text_that_is_no_yaml_is_refused_with_its_place() {
        assert_eq!(refused("a: 1\nb: [1, 2\n"), (2, 4, "a syntax error"));
        assert_eq!(refused("a: *x\n"), (1, 4, "an alias without an anchor"));
        assert_eq!(refused("a: &x [*x]\n"), (1, 8, "an alias inside its own anchor"));
        assert_eq!(refused("? [a]\n: b\n"), (1, 3, "a list or an object as a key"));
        assert_eq!(refused("a: b: c\n").0, 1);
    }

    #[test]
    fn a_small_text_cannot_become_a_large_tree() {
        let mut text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
        }
        assert_eq!(refused(&text).2, "more than a million values");
        let deep = format!("a: {}{}\n", "[".repeat(200), "]".repeat(200));
        assert_eq!(refused(&deep).2, "more than 100 levels of nesting");
    }
}

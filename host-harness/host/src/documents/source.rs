//! Source of documents: a file or standard input.

use std::io;
use std::path::Path;

use super::at::At;
use super::encoding;
use super::format::{BYTE_ORDER_MARK, Format};
use super::given::{STDIN, read_given};
use super::node::{Node, Position};
use super::yaml::{self, Dialect, SyntaxError};

/// File or standard input, with the documents in it.
#[derive(Debug)]
pub struct Source {
    /// Path as given; `stdin` for standard input.
    pub origin: String,
    /// Documents before the error, if there is one.
    pub documents: Vec<Document>,
    /// The error that ended the reading.
    pub error: Option<SourceError>,
    /// Whether Envoy expects JSON in a file with this name, and the text is YAML.
    pub is_misnamed: bool,
}

/// Document of a source.
#[derive(Debug, Clone)]
pub struct Document {
    /// Path of the file as given; `stdin` for standard input.
    pub origin: String,
    /// Path of the document in another one, as that of a text in a manifest; empty for a document of a file.
    pub base: String,
    /// Value of the document.
    pub root: Node,
}

/// Error of a source. It contains no text of the documents.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The text is not UTF-8; in a file of YAML, neither UTF-16 nor UTF-32.
    #[error("has another encoding than UTF-8")]
    Encoding,
    /// The file has a form of protobuf that is not read here.
    #[error("{found}")]
    Protobuf {
        /// The form, such as "protobuf's text format".
        found: &'static str,
    },
    /// The text is not YAML, or not JSON in a file that Envoy reads as JSON.
    #[error("{found}")]
    Syntax {
        /// Place of the error.
        position: Position,
        /// Kind of the error.
        found: &'static str,
    },
}

impl Source {
    /// Reads a file or a pipe of at most 64 MiB, or standard input for `-`.
    pub fn load(path: &Path) -> Self {
        Self::of_given(path, read_given(path))
    }

    /// Parses what was read of a file, or of standard input for `-`.
    pub fn of_given(path: &Path, bytes: io::Result<Vec<u8>>) -> Self {
        let is_stdin = path.as_os_str() == STDIN;
        Self::of_bytes(bytes, if is_stdin { "stdin".to_owned() } else { path.display().to_string() })
    }

    /// Whether the text is JSON, by its name, or by its text if the name does not tell.
    pub fn is_json(&self) -> bool {
        Format::of(&self.origin) != Format::Yaml && !self.is_misnamed
    }

    /// Reads a file that another file refers to: a regular one, since a device or a pipe may have no end.
    pub fn load_regular(path: &Path) -> Self {
        Self::of_bytes(super::read_regular(path), path.display().to_string())
    }

    /// Parses the bytes of a file, or keeps the error of reading it; `origin` is the file's name.
    pub fn of_bytes(bytes: io::Result<Vec<u8>>, origin: String) -> Self {
        let unread =
            |origin: String, error| Self { origin, documents: Vec::new(), error: Some(error), is_misnamed: false };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return unread(origin, SourceError::Unreadable(error)),
        };
        if let Some(found) = Format::of(&origin).protobuf() {
            return unread(origin, SourceError::Protobuf { found });
        }
        let is_yaml = Format::of(&origin) == Format::Yaml;
        match if is_yaml { encoding::decode(bytes) } else { String::from_utf8(bytes).ok() } {
            Some(text) => Self::parse(&text, origin),
            None => unread(origin, SourceError::Encoding),
        }
    }

    /// Parses a text; `origin` names it in findings, and tells the language by its end, as for Envoy. A text with another
    /// name is read as JSON, and as YAML if it is none: it may not be Envoy's.
    pub fn parse(text: &str, origin: String) -> Self {
        match Format::of(&origin) {
            Format::Json => Self::parse_json(text, origin),
            Format::Other => {
                let json = Self::parse_json(text, origin.clone());
                match json.error {
                    None => json,
                    Some(_) => Self { is_misnamed: true, ..Self::parse_as(text, origin, Dialect::Envoy) },
                }
            }
            _ => Self::parse_as(text, origin, Dialect::Envoy),
        }
    }

    fn parse_json(text: &str, origin: String) -> Self {
        let mut source = Self::parse_as(text, origin, Dialect::Json);
        if text.starts_with(BYTE_ORDER_MARK) {
            let found = "a byte order mark, which JSON does not have";
            source.error = Some(SourceError::Syntax { position: Position::START, found });
        }
        source
    }

    /// Parses a text in a given language.
    pub fn parse_as(text: &str, origin: String, dialect: Dialect) -> Self {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let (roots, error) = yaml::documents(text, dialect);
        let error = error.map(|SyntaxError { position, found }| SourceError::Syntax { position, found });
        let documents =
            roots.into_iter().map(|root| Document { origin: origin.clone(), base: String::new(), root }).collect();
        Self { origin, documents, error, is_misnamed: false }
    }

    /// Parses a text in a document as a source of its own. Values have the lines and columns of the file if the text is
    /// a literal block, or in quotes on one line; otherwise those of the text. Paths begin with that of the text. A value
    /// that is no text is an empty source.
    pub fn parse_inside(at: &At<'_>) -> Self {
        let text = at.text().unwrap_or_default();
        let mut source = Self::parse_as(text, at.document.origin.clone(), Dialect::Envoy);
        let (start, is_block) = (at.node.position, at.node.is_block);
        // Columns of the characters of a quoted text behind its start: some are escaped, and so two.
        let columns = at.node.quotes.filter(|_| !text.contains('\n')).map(|quotes| columns(text, quotes));
        let moved = |Position { line, column }: Position| match &columns {
            _ if is_block => Position { line: start.line + line - 1, column: start.column + column - 1 },
            Some(columns) => {
                let offset = columns.get(column - 1).or(columns.last()).copied().unwrap_or_default();
                Position { column: start.column + offset, ..start }
            }
            None => start,
        };
        for document in &mut source.documents {
            document.base.clone_from(&at.path);
            document.root.shift(&moved);
        }
        if let Some(SourceError::Syntax { position, .. }) = &mut source.error {
            *position = moved(*position);
        }
        source
    }

    /// The only document.
    ///
    /// # Errors
    /// If the text has an error, no document, or more than one.
    pub fn only(&self) -> Result<&Document, (Position, String)> {
        if let Some(error) = &self.error {
            return Err((error.position(), error.to_string()));
        }
        match self.documents.as_slice() {
            [document] => Ok(document),
            [] => Err((Position::START, "no document".to_owned())),
            [_, second, ..] => Err((second.root.position, "more than one document".to_owned())),
        }
    }
}

/// Columns of the characters of a text in quotes, counted from the opening quote; the last one is that of its end.
fn columns(text: &str, quotes: char) -> Vec<usize> {
    let mut column = 1;
    let starts = text.chars().map(|character| {
        let is_escaped = character == quotes || quotes == '"' && (character == '\\' || character.is_control());
        let start = column;
        column += 1 + usize::from(is_escaped);
        start
    });
    let mut columns: Vec<usize> = starts.collect();
    columns.push(column);
    columns
}

impl SourceError {
    /// Place of the error; the start of the file if it has no other place.
    pub fn position(&self) -> Position {
        match self {
            Self::Syntax { position, .. } => *position,
            Self::Unreadable(_) | Self::Encoding | Self::Protobuf { .. } => Position::START,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_a_text_have_their_places_in_the_file() {
        for text in [
            "a: '{\"b\": \"it''s\", \"c\": 5}'\n",
            "a: \"{\\\"b\\\": 1, \\\"c\\\": 5}\"\n",
            "a: |\n  {\"b\": 1,\n   \"c\": 5}\n",
            "{\"a\": \"{\\\"c\\\": 5}\"}\n",
        ] {
            let source = Source::parse(text, "a.yaml".to_owned());
            let inner = Source::parse_inside(&At::root(&source.documents[0]).field("a").unwrap());
            let Position { line, column } = At::root(&inner.documents[0]).field("c").unwrap().node.position;
            let found = text.lines().nth(line - 1).unwrap().chars().nth(column - 1);
            assert_eq!(found, Some('5'), "{text}: {line}:{column}");
            assert_eq!(At::root(&inner.documents[0]).field("c").unwrap().path, "a.c");
        }
        let folded = Source::parse("a: \"{b:\n  5}\"\n", "a.yaml".to_owned());
        let inner = Source::parse_inside(&At::root(&folded.documents[0]).field("a").unwrap());
        let at = At::root(&inner.documents[0]).field("b").unwrap().node.position;
        assert_eq!(at, Position { line: 1, column: 4 }, "that of the text");
    }

    #[test]
    fn a_file_that_another_refers_to_is_a_regular_one() {
        // `-` is not standard input here.
        for path in ["-", "/dev/zero"] {
            let source = Source::load_regular(Path::new(path));
            assert!(matches!(source.error, Some(SourceError::Unreadable(_))) && source.origin == path);
        }
    }
}

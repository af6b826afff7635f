//! Texts and YAML errors as messages repeat them: without what may be a password.

/// The longest text that an error repeats, in characters.
const MAX_SHOWN: usize = 120;

/// Whether a text may be a URL or an address with a password in it.
fn may_hold_password(text: &str) -> bool {
    text.contains('@') || text.contains("://")
}

/// A text in quotes; of a long one, and of one that may hold a password, the length.
pub(super) fn quoted(text: &str) -> String {
    let is_shown = !may_hold_password(text) && text.chars().nth(MAX_SHOWN).is_none();
    if is_shown { format!("{text:?}") } else { hidden(text) }
}

/// A name in backticks; of one that may hold a password, the length.
pub(super) fn named(name: &str) -> String {
    if may_hold_password(name) { hidden(name) } else { format!("`{name}`") }
}

/// A text of which only the length is told.
pub(super) fn hidden(text: &str) -> String {
    format!("a string of {} bytes", text.len())
}

/// A step of a path. A name that may hold a password is told by its length.
pub(super) fn step(name: &str) -> String {
    if may_hold_password(name) && name != "@type" {
        format!("[a name of {} bytes]", name.len())
    } else {
        name.to_owned()
    }
}

/// The place of a YAML error and what kind of error it is, without the parser's own words: these quote the document.
pub(crate) fn yaml_error(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let what = match error.without_snippet() {
        Error::Eof { .. } => "an end that comes too soon",
        Error::MultipleDocuments { .. } => "more than one document",
        Error::DuplicateMappingKey { .. } => "a name that is twice in one mapping",
        Error::UnknownAnchor { .. } => "an alias of no anchor",
        _ => "an error in the syntax",
    };
    match error.location() {
        Some(location) => format!("found {what} at line {}, column {}", location.line(), location.column()),
        None => format!("found {what}"),
    }
}

//! Rendering of texts and YAML errors in error texts, without possible passwords.

/// Maximum length of a text that an error repeats, in characters.
const MAX_SHOWN: usize = 120;

/// Whether a text may be a URL or an address with a password in it.
fn may_hold_password(text: &str) -> bool {
    text.contains('@') || text.contains("://")
}

/// Returns a text in quotes, or only its length if the text is too long or may hold a password.
pub(super) fn quoted(text: &str) -> String {
    let is_shown = !may_hold_password(text) && text.chars().nth(MAX_SHOWN).is_none();
    if is_shown { format!("{text:?}") } else { hidden(text) }
}

/// Returns a name in backticks, or only its length if the name may hold a password.
pub(super) fn named(name: &str) -> String {
    if may_hold_password(name) { hidden(name) } else { format!("`{name}`") }
}

/// Returns only the length of a text.
pub(super) fn hidden(text: &str) -> String {
    format!("a string of {} bytes", text.len())
}

/// Returns a step of a path: the name, or only its length if the name may hold a password.
pub(super) fn step(name: &str) -> String {
    if may_hold_password(name) && name != "@type" {
        format!("[a name of {} bytes]", name.len())
    } else {
        name.to_owned()
    }
}

/// Returns kind and position of a YAML error, without the parser's own text, which quotes the document.
pub(crate) fn yaml_error(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let what = match error.without_snippet() {
        Error::Eof { .. } => "an unexpected end of the document",
        Error::MultipleDocuments { .. } => "more than one document",
        Error::DuplicateMappingKey { .. } => "a duplicate key in a mapping",
        Error::UnknownAnchor { .. } => "an alias without an anchor",
        _ => "a syntax error",
    };
    match error.location() {
        Some(location) => format!("found {what} at line {}, column {}", location.line(), location.column()),
        None => format!("found {what}"),
    }
}

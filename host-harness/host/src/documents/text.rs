//! Texts of a document in error texts, without possible passwords.

/// Maximum length of a text that an error repeats, in characters.
const MAX_SHOWN: usize = 120;

/// Whether a text may be a URL or an address with a password in it.
fn may_hold_password(text: &str) -> bool {
    text.contains('@') || text.contains("://")
}

/// Returns a text in quotes, or only its length if the text is long or may hold a password.
pub fn quoted(text: &str) -> String {
    let is_shown = !may_hold_password(text) && text.chars().nth(MAX_SHOWN).is_none();
    if is_shown { format!("{text:?}") } else { hidden(text) }
}

/// Returns a name in backticks, or only its length if the name may hold a password.
pub(crate) fn named(name: &str) -> String {
    if may_hold_password(name) { hidden(name) } else { format!("`{name}`") }
}

/// Returns only the length of a text.
pub(crate) fn hidden(text: &str) -> String {
    format!("a string of {} bytes", text.len())
}

/// Returns a step of a path: the key, or only its length if the key is long or may hold a password.
pub fn step(key: &str) -> String {
    let is_shown = !may_hold_password(key) && key.chars().nth(MAX_SHOWN).is_none() && !key.contains(char::is_control);
    if is_shown || key == "@type" { key.to_owned() } else { format!("[a name of {} bytes]", key.len()) }
}

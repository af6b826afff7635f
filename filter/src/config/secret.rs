//! Secrets of the configuration, inline or in the environment: passwords, and the key of hashes.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;

use super::error::{Expected, Found, Notice, Problem};
use super::reader::Node;
use super::report::Read;
use super::shown::hidden;
use crate::descriptor::HashKey;
use crate::redis::Secret;

/// Maximum length of an inline secret in bytes.
const MAX_INLINE: usize = 4_096;
const HASH_KEY: &str = "a key of 16 to 64 bytes that are not all white space";

/// Reads a secret: `{env: NAME}` or `{inline: "…"}`, where `expected` describes the inline text. The node is secret:
/// errors show no value in it.
#[inline(never)]
pub(super) fn read(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>, expected: &'static str) -> Read<Secret> {
    let (source, node) = node.one_field(&["env", "inline"])?;
    if source == "inline" {
        let text = node.text_matching(expected, |text| text.len() <= MAX_INLINE && !text.trim_ascii().is_empty())?;
        return Ok(Secret::new(trimmed(node, text, None)));
    }
    let name = node.text_matching("the name of an environment variable", is_variable_name)?;
    let value = env(name).filter(|value| !value.trim_ascii().is_empty());
    let value = value.ok_or_else(|| node.fail(Problem::Environment))?;
    Ok(Secret::new(trimmed(node, &value, Some(name))))
}

/// Reads the key of the hashes of values.
pub(super) fn hash_key(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Read<Arc<HashKey>> {
    let node = node.secret();
    let secret = read(node, env, HASH_KEY)?;
    let found = || Found::Value(hidden(secret.expose()));
    let wrong_length = || node.fail(Problem::Unexpected { expected: Expected::The(HASH_KEY), found: found() });
    HashKey::new(secret.expose().as_bytes()).map(Arc::new).ok_or_else(wrong_length)
}

/// Returns a username or a secret without the white space around it, and reports a notice if there is any. Such white
/// space is only there by mistake, and a secret made from a file most often ends in the file's newline.
#[inline(never)]
pub(super) fn trimmed<'a>(node: &Node<'_>, text: &'a str, variable: Option<&str>) -> &'a str {
    let trimmed = text.trim_ascii();
    if trimmed.len() < text.len() {
        let cut_off = text.as_bytes().strip_prefix(trimmed.as_bytes()).unwrap_or(b" ");
        let is_newline_at_end = cut_off.iter().all(|byte| b"\r\n".contains(byte));
        node.notice(Notice::Trimmed { variable: variable.map(str::to_owned), is_newline_at_end });
    }
    trimmed
}

/// Whether `text` is a name that shells accept (POSIX, "Environment Variables"). A password here by mistake mostly is
/// not.
fn is_variable_name(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

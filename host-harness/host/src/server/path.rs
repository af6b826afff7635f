//! Path normalization by the connection manager, before the first filter.
//!
//! Envoy's `path_with_escaped_slashes_action`, `normalize_path` (RFC 3986, as browsers implement it) and
//! `merge_slashes`, in this order. The query string is not changed.

use crate::bootstrap::{EscapedSlashes, PathNormalization};

/// Result of path normalization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// The request continues with this path.
    Forward(String),
    /// The request gets a 307 response with this path as location.
    Redirect(String),
    /// The request gets a 400 response.
    Reject,
}

pub(crate) fn normalize(original: &str, settings: PathNormalization) -> Normalized {
    let (path, query) = original.split_at(original.find('?').unwrap_or(original.len()));
    let mut path = path.to_owned();
    let mut is_redirect = false;
    if settings.escaped_slashes != EscapedSlashes::Keep {
        let unescaped = unescape_slashes(&path);
        match settings.escaped_slashes {
            _ if unescaped == path => {}
            EscapedSlashes::Reject => return Normalized::Reject,
            EscapedSlashes::Redirect => is_redirect = true,
            EscapedSlashes::Forward | EscapedSlashes::Keep => {}
        }
        path = unescaped;
    }
    if settings.normalize {
        match canonical(path.as_bytes()) {
            Some(canonical) => path = canonical,
            None => return Normalized::Reject,
        }
    }
    if settings.merge_slashes && path.contains("//") {
        path = merge_slashes(&path);
    }
    path.push_str(query);
    if is_redirect { Normalized::Redirect(path) } else { Normalized::Forward(path) }
}

fn unescape_slashes(path: &str) -> String {
    let path = path.replace("%2F", "/").replace("%2f", "/");
    path.replace("%5C", "\\").replace("%5c", "\\")
}

fn merge_slashes(path: &str) -> String {
    let edge = |is_there: bool| if is_there { "/" } else { "" };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    [edge(path.starts_with('/')), &parts.join("/"), edge(path.ends_with('/'))].concat()
}

/// Returns the canonical path; `None` if the path has a zero byte.
///
/// Dot segments are removed, backslashes become slashes, escaped unreserved characters are unescaped, and characters
/// that are invalid in a path are escaped.
fn canonical(path: &[u8]) -> Option<String> {
    let mut canonical = String::with_capacity(path.len());
    if !path.first().is_some_and(|first| is_slash(*first)) {
        canonical.push('/');
    }
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after_dot) = without_dot(rest) {
            rest = if canonical.ends_with('/') {
                dot(after_dot, &mut canonical)
            } else {
                plain_dot(after_dot, &mut canonical)
            };
            continue;
        }
        rest = after;
        match byte {
            b'\\' => canonical.push('/'),
            b'%' => match escaped(after) {
                Some(0) => return None,
                Some(unreserved) if is_unreserved(unreserved) => {
                    canonical.push(char::from(unreserved));
                    rest = after.get(2..).unwrap_or_default();
                }
                // Other escapes, and a percent sign that is not an escape, stay unchanged.
                _ => canonical.push('%'),
            },
            0 => return None,
            byte if is_escaped(byte) => canonical.push_str(&format!("%{byte:02X}")),
            byte => canonical.push(char::from(byte)),
        }
    }
    Some(canonical)
}

/// Handles a dot at the start of a segment: removes `.` and `..` segments. Returns the rest of the path.
fn dot<'a>(after: &'a [u8], canonical: &mut String) -> &'a [u8] {
    let end_of_segment = |rest: &'a [u8]| match rest.split_first() {
        None => Some(rest),
        Some((slash, after)) if is_slash(*slash) => Some(after),
        Some(_) => None,
    };
    if let Some(rest) = end_of_segment(after) {
        return rest;
    }
    if let Some(rest) = without_dot(after).and_then(end_of_segment) {
        if canonical.len() > 1 {
            canonical.pop();
            canonical.truncate(canonical.rfind('/').map_or(0, |slash| slash + 1));
        }
        return rest;
    }
    plain_dot(after, canonical)
}

fn plain_dot<'a>(after: &'a [u8], canonical: &mut String) -> &'a [u8] {
    canonical.push('.');
    after
}

/// Returns the rest after a dot, plain or escaped; `None` if there is no dot.
fn without_dot(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b"%2e")).or_else(|| rest.strip_prefix(b"%2E"))
}

/// Returns the byte of two hexadecimal digits.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_~".contains(&byte)
}

fn is_escaped(byte: u8) -> bool {
    !byte.is_ascii_graphic() || b"\"#<>?^`{|}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PathNormalization =
        PathNormalization { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Forward };

    fn forwarded(path: &str, settings: PathNormalization) -> String {
        match normalize(path, settings) {
            Normalized::Forward(path) => path,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn equivalent_paths_have_one_canonical_form() {
        for path in [
            "/login",
            "//login",
            "/./login",
            "/a/../login",
            "/%2e/login",
            "/a/%2E%2e/login",
            "/%6cogin",
            "\\login",
            "/\\/login",
            "///a/..//login",
            "/%2Flogin",
            "/a%5c..%5clogin",
            "/../../login",
        ] {
            assert_eq!(forwarded(path, ALL), "/login", "{path}");
            assert_eq!(forwarded(&format!("{path}?next=//a/../b%2F"), ALL), "/login?next=//a/../b%2F", "{path}");
        }
        for (path, expected) in [
            ("/login/", "/login/"),
            ("/login%2F", "/login/"),
            ("/login/.", "/login/"),
            ("/LOGIN", "/LOGIN"),
            ("/login;x", "/login;x"),
            ("/login%3Bx", "/login%3Bx"),
            ("/login?", "/login?"),
            ("/a b\"<>^`{|}é", "/a%20b%22%3C%3E%5E%60%7B%7C%7D%C3%A9"),
            ("/%zz%", "/%zz%"),
            ("/a.b/..c/...", "/a.b/..c/..."),
            ("/.well-known", "/.well-known"),
            ("", "/"),
        ] {
            assert_eq!(forwarded(path, ALL), expected, "{path}");
        }
        assert_eq!(normalize("/a%00", ALL), Normalized::Reject);
    }

    #[test]
    fn each_setting_changes_its_part_of_the_path() {
        let none = PathNormalization::default();
        let path = "//a/../login%2Fx";
        assert_eq!(forwarded(path, none), path);
        assert_eq!(forwarded(path, PathNormalization { normalize: true, ..none }), "//login%2Fx");
        assert_eq!(forwarded(path, PathNormalization { merge_slashes: true, ..none }), "/a/../login%2Fx");
        let escaped = |escaped_slashes| normalize(path, PathNormalization { escaped_slashes, ..none });
        assert_eq!(escaped(EscapedSlashes::Forward), Normalized::Forward("//a/../login/x".to_owned()));
        assert_eq!(escaped(EscapedSlashes::Redirect), Normalized::Redirect("//a/../login/x".to_owned()));
        assert_eq!(escaped(EscapedSlashes::Reject), Normalized::Reject);
        let redirect = PathNormalization { escaped_slashes: EscapedSlashes::Redirect, ..ALL };
        assert_eq!(normalize(path, redirect), Normalized::Redirect("/login/x".to_owned()));
        assert_eq!(normalize("//login", redirect), Normalized::Forward("/login".to_owned()));
    }
}

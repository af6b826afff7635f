//! Path patterns: match the request path and extract values from it.
//!
//! The path is `:path` up to the query string or fragment, as the client sent it or as the proxy has normalised it. Let
//! Envoy normalise it (`normalize_path`), or `/%61` and `/a` are two different paths.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;

use super::budget::{Charge, Exhausted};

/// Work of reading one byte of a path.
const PATH_BYTE: usize = 8;

/// Pattern of paths, and the value of a matching path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// Every path; the value is the path.
    Any,
    /// This path only; the value is the path.
    Exact(String),
    /// All paths with this prefix; the value is the prefix, so that they share a bucket.
    Prefix(String),
    /// All paths that match this template.
    Template(PathTemplate),
}

/// Template of paths such as `/users/{id}/posts`.
///
/// `{name}` and `*` match one segment that is not empty, `**` at the end any number of segments. The value of a path is
/// its segments at the names, joined by slashes: one bucket for each user. Without names the value is the template: one
/// bucket for all matching paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
    is_open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Anything,
    Named,
}

impl PathPattern {
    /// Returns the value of `path`, if it matches. `charge` charges the work before it is done.
    pub(super) fn value<'a>(&'a self, path: &'a [u8], charge: Charge<'_>) -> Result<Option<Cow<'a, [u8]>>, Exhausted> {
        Ok(match self {
            Self::Any => Some(Cow::Borrowed(path)),
            Self::Exact(exact) => (path == exact.as_bytes()).then_some(Cow::Borrowed(exact.as_bytes())),
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()).then_some(Cow::Borrowed(prefix.as_bytes())),
            Self::Template(template) => return template.value(path, charge),
        })
    }
}

impl PathTemplate {
    /// Parses a template. `None` if it does not start with a slash, or has a query string, a fragment, a `**` that is
    /// not at the end, or braces or stars that are only part of a segment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
        let is_open = segments.last() == Some(&"**");
        if is_open {
            segments.pop();
        }
        let segments = segments.into_iter().map(segment).collect::<Option<_>>()?;
        Some(Self { text: text.to_owned(), segments, is_open })
    }

    fn value<'a>(&'a self, path: &'a [u8], charge: Charge<'_>) -> Result<Option<Cow<'a, [u8]>>, Exhausted> {
        let Some(rest) = path.strip_prefix(b"/") else { return Ok(None) };
        let mut rest = Some(rest);
        let mut named: Vec<&[u8]> = Vec::new();
        for segment in &self.segments {
            let Some(path) = rest else { return Ok(None) };
            charge(PATH_BYTE)?;
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            charge(end.saturating_mul(PATH_BYTE))?;
            let (part, behind) = path.split_at_checked(end).unwrap_or((path, &[]));
            let fits = match segment {
                Segment::Literal(text) => part == text.as_bytes(),
                Segment::Anything | Segment::Named => !part.is_empty(),
            };
            if !fits {
                return Ok(None);
            }
            if *segment == Segment::Named {
                named.push(part);
            }
            rest = behind.split_first().map(|(_, behind)| behind);
        }
        if !self.is_open && rest.is_some() {
            return Ok(None);
        }
        Ok(Some(match named.as_slice() {
            [] => Cow::Borrowed(self.text.as_bytes()),
            [part] => Cow::Borrowed(part),
            parts => Cow::Owned(parts.join(&b"/"[..])),
        }))
    }
}

fn segment(text: &str) -> Option<Segment> {
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return is_name.then_some(Segment::Named);
    }
    match text {
        "*" => Some(Segment::Anything),
        _ => (!text.contains(['{', '}', '*', '?', '#'])).then(|| Segment::Literal(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(template: &str, path: &str) -> Option<String> {
        let template = PathTemplate::parse(template).unwrap_or_else(|| panic!("{template}"));
        let value = template.value(path.as_bytes(), &|_| Ok(())).unwrap();
        value.map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn the_value_of_a_template_is_the_segments_at_its_names() {
        assert_eq!(value("/users/{id}/posts", "/users/7/posts").as_deref(), Some("7"));
        assert_eq!(value("/{tenant}/*/{id}", "/acme/users/7").as_deref(), Some("acme/7"));
        assert_eq!(value("/users/{id}/**", "/users/7/posts/3/comments").as_deref(), Some("7"));
        assert_eq!(value("/users/{id}/**", "/users/7").as_deref(), Some("7"));
    }

    #[test]
    fn the_value_of_a_template_without_names_is_the_template() {
        assert_eq!(value("/users/*/posts", "/users/7/posts").as_deref(), Some("/users/*/posts"));
        assert_eq!(value("/**", "/").as_deref(), Some("/**"));
        assert_eq!(value("/", "/").as_deref(), Some("/"));
    }

    #[test]
    fn other_paths_do_not_match() {
        for path in [
            "",
            "/",
            "/users",
            "/users/7",
            "/users//posts",
            "/users/7/posts/",
            "/users/7/post",
            "/Users/7/posts",
            "users/7/posts",
        ] {
            assert_eq!(value("/users/{id}/posts", path), None, "{path}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["", "users", "/{}", "/{a", "/a}", "/x{a}", "/{a-b}", "/**/a", "/a*", "/a?b", "/a#b", "/{a=**}"] {
            assert_eq!(PathTemplate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_paths_under_a_prefix_share_its_value() {
        let value = |pattern: &PathPattern, path: &str| {
            let value = pattern.value(path.as_bytes(), &|_| Ok(())).unwrap();
            value.map(|value| String::from_utf8(value.into_owned()).unwrap())
        };
        let api = PathPattern::Prefix("/api/".to_owned());
        assert_eq!(value(&api, "/api/users").as_deref(), Some("/api/"));
        assert_eq!(value(&api, "/apis"), None);
        let health = PathPattern::Exact("/health".to_owned());
        assert_eq!(value(&health, "/health").as_deref(), Some("/health"));
        assert_eq!(value(&health, "/health/"), None);
    }

    proptest! {
        #[test]
        fn two_paths_share_a_value_only_if_they_share_the_named_segments(
            one in ("[ab/]{1,3}", "[ab]{1,2}"), other in ("[ab/]{1,3}", "[ab]{1,2}"),
        ) {
            let value = |(a, b): &(String, String)| value("/x/{a}/y/{b}", &format!("/x/{a}/y/{b}"));
            let (ours, theirs) = (value(&one), value(&other));
            prop_assert!(ours.is_none() || (ours == theirs) == (one == other));
        }
    }
}

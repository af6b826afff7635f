//! Paths: what they are matched by, and what is taken of them.
//!
//! A path is what the client sent, or as the proxy has normalised it, up to the query string or fragment. Have
//! Envoy normalise it (`normalize_path`), or `/%61` and `/a` are two.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;

use super::attributes::Attributes;

/// Which paths have a value, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// Every path: itself.
    Any,
    /// This path alone: itself.
    Exact(String),
    /// All paths that start with this: the prefix, so that they share it.
    Prefix(String),
    /// All paths of this form.
    Template(PathTemplate),
}

/// A form of paths such as `/users/{id}/posts`.
///
/// `{name}` and `*` stand for one segment that is not empty, `**` at the end for any number of them. The value
/// of a path is its segments at the places of the names, with slashes between: one bucket for each user. Without
/// names it is the template: one bucket for all such paths.
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
    /// The value that `path` has, if it matches.
    #[must_use]
    pub fn value<'a>(&'a self, path: &[u8]) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Any => Some(Cow::Owned(path.to_vec())),
            Self::Exact(exact) => (path == exact.as_bytes()).then_some(Cow::Borrowed(exact.as_bytes())),
            Self::Prefix(prefix) => path.starts_with(prefix.as_bytes()).then_some(Cow::Borrowed(prefix.as_bytes())),
            Self::Template(template) => template.value(path),
        }
    }
}

impl PathTemplate {
    /// Reads a template. `None` where it does not start with a slash, has a query string or fragment, a `**`
    /// that is not at the end, or braces or stars in another place.
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

    fn value(&self, path: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut parts = path.strip_prefix(b"/")?.split(|byte| *byte == b'/');
        let mut value: Option<Vec<u8>> = None;
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(text) => (part == text.as_bytes()).then_some(())?,
                _ => (!part.is_empty()).then_some(())?,
            }
            if *segment == Segment::Named {
                value = Some(value.map_or_else(|| part.to_vec(), |value| [&value, &b"/"[..], part].concat()));
            }
        }
        let is_complete = self.is_open || parts.next().is_none();
        is_complete.then(|| value.map_or(Cow::Borrowed(self.text.as_bytes()), Cow::Owned))
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

/// A request's path, up to its query string or fragment.
pub(super) fn path(request: &dyn Attributes) -> Option<Vec<u8>> {
    let mut path = request.header(":path")?;
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    path.truncate(end);
    Some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(template: &str, path: &str) -> Option<String> {
        let template = PathTemplate::parse(template).unwrap_or_else(|| panic!("{template}"));
        template.value(path.as_bytes()).map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn a_templates_value_is_what_stands_at_its_names() {
        assert_eq!(value("/users/{id}/posts", "/users/7/posts").as_deref(), Some("7"));
        assert_eq!(value("/{tenant}/*/{id}", "/acme/users/7").as_deref(), Some("acme/7"));
        assert_eq!(value("/users/{id}/**", "/users/7/posts/3/comments").as_deref(), Some("7"));
        assert_eq!(value("/users/{id}/**", "/users/7").as_deref(), Some("7"));
    }

    #[test]
    fn without_names_its_value_is_the_template() {
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
    fn what_is_no_template_is_refused() {
        for text in ["", "users", "/{}", "/{a", "/a}", "/x{a}", "/{a-b}", "/**/a", "/a*", "/a?b", "/a#b", "/{a=**}"] {
            assert_eq!(PathTemplate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_paths_under_a_prefix_share_its_value() {
        let api = PathPattern::Prefix("/api/".to_owned());
        assert_eq!(api.value(b"/api/users").as_deref(), Some(&b"/api/"[..]));
        assert_eq!(api.value(b"/apis"), None);
        let health = PathPattern::Exact("/health".to_owned());
        assert_eq!(health.value(b"/health").as_deref(), Some(&b"/health"[..]));
        assert_eq!(health.value(b"/health/"), None);
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

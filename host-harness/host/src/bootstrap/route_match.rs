//! Matches of routes: paths, headers and query parameters.

use regex_lite::Regex;

use super::document::{Fields, Node};
use super::support;
use crate::http::Headers;

/// Match of a request's path; case-sensitive.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Prefix of the path without its query.
    Prefix(String),
    /// Exact path without its query.
    Exact(String),
    /// Prefix of the path without its query, at the end of a segment.
    Segments(String),
    /// Regular expression for the whole path without its query.
    Regex(Regex),
}

/// Further conditions of a route; all have to hold.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    ignores_case: bool,
    is_grpc: bool,
    headers: Vec<HeaderMatch>,
    query: Vec<QueryMatch>,
}

#[derive(Debug, Clone)]
struct HeaderMatch {
    name: String,
    value: ValueMatch,
    is_inverted: bool,
    takes_missing_as_empty: bool,
}

#[derive(Debug, Clone)]
struct QueryMatch {
    name: String,
    value: ValueMatch,
}

#[derive(Debug, Clone)]
enum ValueMatch {
    Present(bool),
    Text { kind: TextMatch, ignores_case: bool },
    Range(i64, i64),
}

#[derive(Debug, Clone)]
enum TextMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl PathMatch {
    /// Whether a request's `:path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let bare = || path.split(['?', '#']).next().unwrap_or(path);
        match self {
            Self::Prefix(prefix) => bare().starts_with(prefix.as_str()),
            Self::Exact(exact) => bare() == exact.as_str(),
            Self::Segments(prefix) => {
                bare().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) => regex.is_match(bare()),
        }
    }

    /// Length of the matched part of a path, which `prefix_rewrite` replaces.
    pub(crate) fn matched_len(&self, path: &str) -> usize {
        match self {
            Self::Prefix(text) | Self::Exact(text) | Self::Segments(text) => text.len(),
            Self::Regex(_) => path.split('?').next().unwrap_or(path).len(),
        }
    }
}

impl Conditions {
    /// Whether a request with this path matches, `path` being the route's match.
    pub(crate) fn hold(&self, path: &PathMatch, headers: &Headers) -> bool {
        let of_request = headers.text(":path").unwrap_or("/");
        let is_path = match path {
            PathMatch::Regex(_) => path.matches(of_request),
            _ if self.ignores_case => path.matches(&of_request.to_ascii_lowercase()),
            _ => path.matches(of_request),
        };
        is_path
            && (!self.is_grpc || headers.is_grpc())
            && self.headers.iter().all(|header| header.matches(headers))
            && self.query.iter().all(|parameter| parameter.matches(of_request))
    }
}

impl HeaderMatch {
    fn matches(&self, headers: &Headers) -> bool {
        let value = headers.joined(self.name.as_bytes());
        if let ValueMatch::Present(expected) = self.value {
            let is_present = value.is_some() || self.takes_missing_as_empty;
            return (is_present == expected) != self.is_inverted;
        }
        match value {
            None if !self.takes_missing_as_empty => false,
            value => self.value.matches(&String::from_utf8_lossy(&value.unwrap_or_default())) != self.is_inverted,
        }
    }
}

impl QueryMatch {
    fn matches(&self, path: &str) -> bool {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or(query);
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let value = pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value).next();
        match (&self.value, value) {
            (ValueMatch::Present(expected), value) => value.is_some() == *expected,
            (text, Some(value)) => text.matches(value),
            (_, None) => false,
        }
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present(expected) => *expected,
            Self::Range(start, end) => value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number)),
            Self::Text { kind, ignores_case: true } => kind.matches(&value.to_ascii_lowercase()),
            Self::Text { kind, ignores_case: false } => kind.matches(value),
        }
    }
}

impl TextMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Contains(text) => value.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Parses a path match alone.
pub(super) fn path_match(node: &Node<'_>) -> Option<PathMatch> {
    let mut fields = node.message(&support::ROUTE_MATCH)?;
    let path = path(&mut fields);
    fields.finish();
    path
}

/// Parses a route's match.
pub(super) fn route_match(node: &Node<'_>) -> Option<(PathMatch, Conditions)> {
    let mut fields = node.message(&support::ROUTE_MATCH)?;
    let path = path(&mut fields);
    let case_sensitive = fields.take("case_sensitive").map_or(Some(true), |node| node.boolean());
    let grpc = fields.take("grpc").map(|node| node.fields().map(Fields::finish));
    let headers = fields.take("headers").map(|node| node.each(header_match)).unwrap_or_default();
    let query = fields.take("query_parameters").map(|node| node.each(query_match)).unwrap_or_default();
    fields.finish();
    let ignores_case = !case_sensitive?;
    let path = match path? {
        PathMatch::Prefix(text) if ignores_case => PathMatch::Prefix(text.to_ascii_lowercase()),
        PathMatch::Exact(text) if ignores_case => PathMatch::Exact(text.to_ascii_lowercase()),
        PathMatch::Segments(text) if ignores_case => PathMatch::Segments(text.to_ascii_lowercase()),
        path => path,
    };
    (grpc != Some(None)).then_some(())?;
    let headers = headers.into_iter().collect::<Option<_>>()?;
    let query = query.into_iter().collect::<Option<_>>()?;
    Some((path, Conditions { ignores_case, is_grpc: grpc.is_some(), headers, query }))
}

fn path(fields: &mut Fields<'_>) -> Option<PathMatch> {
    let prefix = fields.take("prefix").map(|node| node.string().map(PathMatch::Prefix));
    let exact = fields.take("path").map(|node| node.string().map(PathMatch::Exact));
    let segments = fields.take("path_separated_prefix").map(|node| node.string().map(PathMatch::Segments));
    let regex = fields.take("safe_regex").map(|node| whole_regex(&node).map(PathMatch::Regex));
    let mut given = [prefix, exact, segments, regex].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(path), None) => path,
        _ => fields.owner().expected("one of `prefix`, `path`, `path_separated_prefix` and `safe_regex`"),
    }
}

/// Parses a regular expression that has to match a whole text.
fn whole_regex(node: &Node<'_>) -> Option<Regex> {
    let mut fields = node.message(&support::REGEX)?;
    let text = fields.require("regex").map(|node| (node.string(), node));
    fields.finish();
    let (text, place) = text?;
    match Regex::new(&format!(r"\A(?:{})\z", text?)) {
        Ok(regex) => Some(regex),
        Err(_) => {
            place.unsupported("not a regular expression that the embedded host supports");
            None
        }
    }
}

fn header_match(node: &Node<'_>) -> Option<HeaderMatch> {
    let mut fields = node.message(&support::HEADER_MATCH)?;
    let name = fields.require("name").and_then(|node| node.string());
    let present = fields.take("present_match").map(|node| node.boolean().map(ValueMatch::Present));
    let text = fields.take("string_match").map(|node| text_match(&node));
    let range = fields.take("range_match").map(|node| range(&node));
    let of = |field: Option<Node<'_>>, kind: fn(String) -> TextMatch| {
        field.map(|node| node.string().map(|text| ValueMatch::Text { kind: kind(text), ignores_case: false }))
    };
    let exact = of(fields.take("exact_match"), TextMatch::Exact);
    let prefix = of(fields.take("prefix_match"), TextMatch::Prefix);
    let suffix = of(fields.take("suffix_match"), TextMatch::Suffix);
    let contains = of(fields.take("contains_match"), TextMatch::Contains);
    let regex = fields.take("safe_regex_match").map(|node| {
        whole_regex(&node).map(|regex| ValueMatch::Text { kind: TextMatch::Regex(regex), ignores_case: false })
    });
    let is_inverted = fields.take("invert_match").map_or(Some(false), |node| node.boolean());
    let as_empty = fields.take("treat_missing_header_as_empty").map_or(Some(false), |node| node.boolean());
    fields.finish();
    let mut given = [present, text, range, exact, prefix, suffix, contains, regex].into_iter().flatten();
    let value = match (given.next(), given.next()) {
        (None, _) => Some(ValueMatch::Present(true)),
        (Some(value), None) => value,
        _ => node.expected("one match"),
    };
    Some(HeaderMatch {
        name: name?.to_ascii_lowercase(),
        value: value?,
        is_inverted: is_inverted?,
        takes_missing_as_empty: as_empty?,
    })
}

fn query_match(node: &Node<'_>) -> Option<QueryMatch> {
    let mut fields = node.message(&support::QUERY_MATCH)?;
    let name = fields.require("name").and_then(|node| node.string());
    let text = fields.take("string_match").map(|node| text_match(&node));
    let present = fields.take("present_match").map(|node| node.boolean().map(ValueMatch::Present));
    fields.finish();
    let value = match (text, present) {
        (Some(value), None) | (None, Some(value)) => value,
        (None, None) => Some(ValueMatch::Present(true)),
        _ => node.expected("one of `string_match` and `present_match`"),
    };
    Some(QueryMatch { name: name?, value: value? })
}

fn text_match(node: &Node<'_>) -> Option<ValueMatch> {
    let mut fields = node.message(&support::TEXT_MATCH)?;
    let exact = fields.take("exact").map(|node| node.string().map(TextMatch::Exact));
    let prefix = fields.take("prefix").map(|node| node.string().map(TextMatch::Prefix));
    let suffix = fields.take("suffix").map(|node| node.string().map(TextMatch::Suffix));
    let contains = fields.take("contains").map(|node| node.string().map(TextMatch::Contains));
    let regex = fields.take("safe_regex").map(|node| whole_regex(&node).map(TextMatch::Regex));
    let ignores_case = fields.take("ignore_case").map_or(Some(false), |node| node.boolean());
    fields.finish();
    let mut given = [exact, prefix, suffix, contains, regex].into_iter().flatten();
    let kind = match (given.next(), given.next()) {
        (Some(kind), None) => kind,
        _ => node.expected("one of `exact`, `prefix`, `suffix`, `contains` and `safe_regex`"),
    };
    let (ignores_case, kind) = (ignores_case?, kind?);
    let kind = match kind {
        TextMatch::Exact(text) if ignores_case => TextMatch::Exact(text.to_ascii_lowercase()),
        TextMatch::Prefix(text) if ignores_case => TextMatch::Prefix(text.to_ascii_lowercase()),
        TextMatch::Suffix(text) if ignores_case => TextMatch::Suffix(text.to_ascii_lowercase()),
        TextMatch::Contains(text) if ignores_case => TextMatch::Contains(text.to_ascii_lowercase()),
        kind => kind,
    };
    // A regular expression has its own flag for case.
    let ignores_case = ignores_case && !matches!(kind, TextMatch::Regex(_));
    Some(ValueMatch::Text { kind, ignores_case })
}

fn range(node: &Node<'_>) -> Option<ValueMatch> {
    let mut fields = node.message(&support::RANGE)?;
    let mut bound = |name: &str| fields.take(name).map_or(Some(0), |node| node.signed("a whole number"));
    let (start, end) = (bound("start"), bound("end"));
    fields.finish();
    Some(ValueMatch::Range(start?, end?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_does_not_reach_into_the_query() {
        let prefix = PathMatch::Prefix("/q?x".to_owned());
        assert!(!prefix.matches("/q?x=1"));
        assert!(PathMatch::Prefix("/q".to_owned()).matches("/q?x=1"));
    }
}

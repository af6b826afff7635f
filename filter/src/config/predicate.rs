//! Predicates: the items of a limit's `when`, and of the lists of exemptions.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::error::Problem;
use super::reader::{Node, refuse_duplicates};
use super::report::Read;
use super::source;
use crate::descriptor::{self, PathPattern, Predicate, Regex, Source, StringMatch};

/// Kinds of exemptions: all kinds of predicates, and `descriptor_value` last.
pub(super) const EXEMPTIONS: &[&str] = &[
    "path",
    "method",
    "header",
    "query_parameter",
    "cookie",
    "host",
    "remote_address",
    "dynamic_metadata",
    "all",
    "any",
    "not",
    "descriptor_value",
];
const MATCHES: &[&str] = &["exact", "prefix", "suffix", "contains", "regex"];
const VALUE_MATCHES: &[&str] = &["exact", "prefix", "suffix", "contains", "regex", "present"];
const PATH_MATCHES: &[&str] = &["exact", "prefix", "suffix", "contains", "regex", "template"];
const MAX_TEXT: usize = 1_024;
/// Longest text of `contains`: the search compares it at each byte of a value.
const MAX_CONTAINED: usize = 128;
const MAX_METHODS: usize = 16;
const MAX_PREDICATES: usize = 32;
/// Deepest nesting of `all`, `any` and `not`.
const MAX_DEPTH: usize = 8;

/// Reads a list of predicates.
pub(super) fn read_all(node: &Node<'_>) -> Read<Vec<Predicate>> {
    list(node, 0..=MAX_PREDICATES, 0)
}

/// Reads a predicate that is not nested in another.
pub(super) fn read(kind: &str, node: &Node<'_>) -> Read<Predicate> {
    of_kind(kind, node, 0)
}

/// Kinds of predicates.
pub(super) fn kinds() -> &'static [&'static str] {
    EXEMPTIONS.split_last().map_or(EXEMPTIONS, |(_, predicates)| predicates)
}

fn list(node: &Node<'_>, len: core::ops::RangeInclusive<usize>, depth: usize) -> Read<Vec<Predicate>> {
    node.each(len, |node| nested(node, depth))
}

fn nested(node: &Node<'_>, depth: usize) -> Read<Predicate> {
    if depth > MAX_DEPTH {
        return Err(node.expected("all, any and not nested at most 8 deep"));
    }
    let (kind, node) = node.one_field(kinds())?;
    of_kind(kind, node, depth)
}

fn of_kind(kind: &str, node: &Node<'_>, depth: usize) -> Read<Predicate> {
    let deeper = depth.saturating_add(1);
    match kind {
        "path" => path(node),
        "method" => methods(node),
        "host" => {
            let (kind, node) = node.one_field(MATCHES)?;
            let is_of_host: fn(&str) -> bool = match kind {
                "exact" => descriptor::is_host,
                "suffix" => |text| is_lower_case(text) && !text.ends_with('.'),
                _ => is_lower_case,
            };
            let value = match kind {
                "regex" => string_match(kind, node),
                _ => node
                    .text_matching("a host in lower case, without a port", is_of_host)
                    .and_then(|_| string_match(kind, node)),
            };
            Ok(Predicate::Matches { source: Source::Host, value: value? })
        }
        "remote_address" => {
            let fields = node.object(&["cidrs", "trusted_hops", "trusted_cidrs"])?;
            let cidrs = fields.required("cidrs", "a list of ranges of addresses").and_then(|node| source::cidrs(node));
            let trusted = source::trusted(fields);
            Ok(Predicate::RemoteAddress { trusted: trusted?, cidrs: cidrs? })
        }
        "all" => list(node, 1..=MAX_PREDICATES, deeper).map(Predicate::All),
        "any" => list(node, 1..=MAX_PREDICATES, deeper).map(Predicate::Any),
        "not" => nested(node, deeper).map(|predicate| Predicate::Not(Box::new(predicate))),
        _ => valued(kind, node),
    }
}

fn is_lower_case(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn path(node: &Node<'_>) -> Read<Predicate> {
    let (kind, node) = node.one_field(PATH_MATCHES)?;
    match kind {
        "template" => return source::path_pattern(kind, node).map(|path| Predicate::Present(Source::Path(path))),
        "regex" => {}
        "exact" | "prefix" => drop(source::path_text(node)?),
        _ => drop(node.text_matching("a part of a path, without a query string", source::is_of_path)?),
    }
    string_match(kind, node).map(|value| Predicate::Matches { source: Source::Path(PathPattern::Any), value })
}

/// Reads one method or a list: `GET` or `[GET, HEAD]`.
fn methods(node: &Node<'_>) -> Read<Predicate> {
    if node.is_text() {
        return Ok(Predicate::Method(vec![method(node)?.to_owned()]));
    }
    let nodes = node.list(1..=MAX_METHODS)?;
    let methods: Vec<Read<&str>> = nodes.iter().map(method).collect();
    let keys: Vec<(&str, &Node<'_>)> =
        methods.iter().zip(nodes).filter_map(|(method, node)| Some(((*method).ok()?, node))).collect();
    refuse_duplicates(&keys)?;
    methods.into_iter().map(|method| method.map(str::to_owned)).collect::<Read<_>>().map(Predicate::Method)
}

/// Reads a method in capitals. Methods are case-sensitive (RFC 9110, §9.1): `get` would never match.
fn method<'a>(node: &Node<'a>) -> Read<&'a str> {
    node.text_matching("a method in capitals such as \"GET\"", |text| {
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
    })
}

/// Reads a predicate on a header, a query parameter, a cookie or metadata: its name, and the match for its value.
fn valued(kind: &str, node: &Node<'_>) -> Read<Predicate> {
    let fields = node.object(match kind {
        "dynamic_metadata" => &["metadata_key", "exact", "prefix", "suffix", "contains", "regex", "present"],
        _ => &["name", "repeated", "exact", "prefix", "suffix", "contains", "regex", "present"],
    })?;
    let source = source::read(kind, fields);
    // A predicate holds or does not hold: only a key or a cost can reject a request.
    fields.optional("repeated", |node| node.one_of(&[("first", ()), ("last", ()), ("joined", ())]))?;
    let (kind, node) = fields.exactly_one(VALUE_MATCHES)?;
    if kind == "present" {
        let present = node.boolean();
        let predicate = Predicate::Present(source?);
        return Ok(if present? { predicate } else { Predicate::Not(Box::new(predicate)) });
    }
    // The value may be a client's key or token.
    let value = string_match(kind, node.secret());
    Ok(Predicate::Matches { source: source?, value: value? })
}

fn string_match(kind: &str, node: &Node<'_>) -> Read<StringMatch> {
    let text = || node.text(1..=MAX_TEXT).map(str::to_owned);
    match kind {
        "exact" => node.text(0..=MAX_TEXT).map(|text| StringMatch::Exact(text.to_owned())),
        "prefix" => text().map(StringMatch::Prefix),
        "suffix" => text().map(StringMatch::Suffix),
        "contains" => node.text(1..=MAX_CONTAINED).map(|text| StringMatch::Contains(text.to_owned())),
        _ => match Regex::new(&text()?) {
            Ok(regex) => Ok(StringMatch::Regex(Box::new(regex))),
            Err(error) => Err(node.fail(Problem::Regex(error))),
        },
    }
}

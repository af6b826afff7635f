//! A limit's `when`: the predicates that must all hold.

use super::descriptor::header_name;
use super::error::Expected;
use super::reader::{Node, Object, refuse_duplicates};
use crate::descriptor::{Predicate, StringMatch};

const PREDICATES: &[&str] = &["path", "method", "header", "not"];
const MATCHES: &[&str] = &["exact", "prefix", "suffix"];
const HEADER_MATCHES: &[&str] = &["exact", "prefix", "suffix", "present"];
const MAX_TEXT: usize = 1_024;
const MAX_METHODS: usize = 16;

pub(super) fn read(node: &Node<'_>) -> Option<Predicate> {
    let (kind, node) = node.one_field(PREDICATES)?;
    match kind {
        "path" => path(&node),
        "method" => methods(&node),
        "header" => header(&node),
        // As deep as JSON itself may be nested: the parser allows 128.
        _ => read(&node).map(|predicate| Predicate::Not(Box::new(predicate))),
    }
}

fn path(node: &Node<'_>) -> Option<Predicate> {
    let (kind, node) = node.one_field(MATCHES)?;
    let text = match kind {
        "suffix" => node.text_such("the end of a path, without a query string", is_of_path)?,
        _ => node.text_such("a path such as \"/api\", without a query string", |text| {
            text.starts_with('/') && is_of_path(text)
        })?,
    };
    Some(Predicate::Path(string_match(kind, text)))
}

/// Predicates see the path without its query string and fragment: text with either never matches.
fn is_of_path(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.contains(['?', '#'])
}

/// `GET` or `[GET, HEAD]`.
fn methods(node: &Node<'_>) -> Option<Predicate> {
    if node.is_text() {
        return Some(Predicate::Method(vec![method(node)?.to_owned()]));
    }
    let nodes = node.list(1..=MAX_METHODS)?;
    let methods: Vec<Option<&str>> = nodes.iter().map(method).collect();
    let keys: Vec<(&str, &Node<'_>)> =
        methods.iter().zip(&nodes).filter_map(|(method, node)| Some(((*method)?, node))).collect();
    refuse_duplicates(&keys)?;
    methods.into_iter().map(|method| method.map(str::to_owned)).collect::<Option<_>>().map(Predicate::Method)
}

/// Methods are case-sensitive (RFC 9110, §9.1): `get` would never match.
fn method<'a>(node: &Node<'a>) -> Option<&'a str> {
    node.text_such("a method in capitals such as \"GET\"", |text| {
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
    })
}

fn header(node: &Node<'_>) -> Option<Predicate> {
    let fields = node.object(&["name", "exact", "prefix", "suffix", "present"])?;
    let name = header_name(&fields);
    let (kind, node) = header_match(node, &fields)?;
    if kind == "present" {
        let present = node.boolean();
        let predicate = Predicate::HeaderPresent { name: name? };
        return Some(if present? { predicate } else { Predicate::Not(Box::new(predicate)) });
    }
    let text = node.text(if kind == "exact" { 0..=MAX_TEXT } else { 1..=MAX_TEXT });
    Some(Predicate::Header { name: name?, value: string_match(kind, text?) })
}

/// The one field beside `name`.
fn header_match<'a>(node: &Node<'a>, fields: &Object<'a>) -> Option<(&'static str, Node<'a>)> {
    let mut matches = HEADER_MATCHES.iter().filter_map(|kind| Some((*kind, fields.field(kind)?)));
    match (matches.next(), matches.next()) {
        (Some(only), None) => Some(only),
        _ => node.unexpected(Expected::The("name and exactly one of exact, prefix, suffix, present")),
    }
}

fn string_match(kind: &str, text: &str) -> StringMatch {
    let text = text.to_owned();
    match kind {
        "exact" => StringMatch::Exact(text),
        "prefix" => StringMatch::Prefix(text),
        _ => StringMatch::Suffix(text),
    }
}

//! Header changes of routes, virtual hosts and route tables: parser, and their values for a stream.

use std::sync::Arc;

use super::access_log::format;
use super::document::{Fields, Node};
use super::support;
use crate::access_log::Format;
use crate::http::{HeaderChange, Stream};

/// Header changes at one level.
#[derive(Debug, Clone, Default)]
pub struct HeaderMutations {
    request: Arc<[Mutation]>,
    response: Arc<[Mutation]>,
}

#[derive(Debug, Clone)]
enum Mutation {
    Remove(String),
    Add { name: String, value: Format, action: Append, keeps_empty: bool },
}

#[derive(Debug, Clone, Copy)]
enum Append {
    Always,
    IfAbsent,
    Overwrite,
    IfPresent,
}

/// Names of the fields of [`HeaderMutations`].
pub(super) const FIELDS: [&str; 4] =
    ["request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove"];

impl HeaderMutations {
    /// Changes of a request.
    pub(crate) fn of_request(&self, stream: &Stream) -> Vec<HeaderChange> {
        changes(&self.request, stream)
    }

    /// Changes of a response.
    pub(crate) fn of_response(&self, stream: &Stream) -> Vec<HeaderChange> {
        changes(&self.response, stream)
    }
}

fn changes(mutations: &[Mutation], stream: &Stream) -> Vec<HeaderChange> {
    let change = |mutation: &Mutation| match mutation {
        Mutation::Remove(name) => Some(HeaderChange::Remove(name.clone())),
        Mutation::Add { name, value, action, keeps_empty } => {
            let (name, value) = (name.clone(), value.render(stream));
            if value.is_empty() && !keeps_empty {
                return None;
            }
            Some(match action {
                Append::Always => HeaderChange::Append(name, value),
                Append::IfAbsent => HeaderChange::AddIfAbsent(name, value),
                Append::Overwrite => HeaderChange::Set(name, value),
                Append::IfPresent => HeaderChange::SetIfPresent(name, value),
            })
        }
    };
    mutations.iter().filter_map(change).collect()
}

/// Takes the header changes of a message.
pub(super) fn header_mutations(fields: &mut Fields<'_>) -> Option<HeaderMutations> {
    let [add_request, remove_request, add_response, remove_response] = FIELDS.map(|name| fields.take(name));
    let request = level(add_request, remove_request);
    let response = level(add_response, remove_response);
    Some(HeaderMutations { request: request?.into(), response: response?.into() })
}

/// Parses changes; removals come first, as in Envoy.
fn level(add: Option<Node<'_>>, remove: Option<Node<'_>>) -> Option<Vec<Mutation>> {
    let remove = remove.map(|node| node.each(removal)).unwrap_or_default();
    let add = add.map(|node| node.each(addition)).unwrap_or_default();
    remove.into_iter().chain(add).collect()
}

fn removal(node: &Node<'_>) -> Option<Mutation> {
    changeable(node).map(Mutation::Remove)
}

fn addition(node: &Node<'_>) -> Option<Mutation> {
    let mut fields = node.message(&support::HEADER_OPTION)?;
    let header = fields.require("header");
    let action = fields.take("append_action").map_or(Some(Append::Always), |node| {
        node.one_of(&[
            ("APPEND_IF_EXISTS_OR_ADD", Append::Always),
            ("ADD_IF_ABSENT", Append::IfAbsent),
            ("OVERWRITE_IF_EXISTS_OR_ADD", Append::Overwrite),
            ("OVERWRITE_IF_EXISTS", Append::IfPresent),
        ])
    });
    let appends = fields.take("append").map_or(Some(true), |node| node.boolean());
    let keeps_empty = fields.take("keep_empty_value").map_or(Some(false), |node| node.boolean());
    fields.finish();
    let mut fields = header?.message(&support::HEADER_VALUE)?;
    let name = fields.require("key").and_then(|node| changeable(&node));
    let value = fields.take("value").map_or_else(|| Format::parse("", true).ok(), |node| format(&node, true));
    fields.finish();
    let action = if appends? { action? } else { Append::Overwrite };
    Some(Mutation::Add { name: name?, value: value?, action, keeps_empty: keeps_empty? })
}

/// Name of a header that routes can change; Envoy refuses pseudo-headers and `host`.
fn changeable(node: &Node<'_>) -> Option<String> {
    let name = node.string()?.to_ascii_lowercase();
    if name.is_empty() || name.starts_with(':') || name == "host" {
        return node.expected("the name of a header other than `host` and those with `:`");
    }
    Some(name)
}

//! Chains of HTTP filters.

use crate::documents::{At, Message};

/// Message of an entry in `typed_per_filter_config` that can disable a filter.
pub(super) const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// HTTP filters in request order.
pub(crate) struct Chain<'a> {
    pub(crate) kind: ChainKind<'a>,
    pub(crate) filters: Vec<Filter<'a>>,
}

/// Owner of a chain.
pub(crate) enum ChainKind<'a> {
    /// An HTTP connection manager.
    Listener {
        /// The connection manager's message.
        manager: At<'a>,
        /// The listener around it, if it is in the same document.
        listener: Option<At<'a>>,
    },
    /// A cluster, by its index: upstream filters.
    Cluster(usize),
    /// A router: upstream filters of all its clusters.
    Router,
    /// The chains of listeners that a control plane makes, into which a manifest puts one filter.
    Inserted,
    /// Another message with a field `http_filters`.
    Other,
}

/// Filter of a chain.
pub(crate) struct Filter<'a> {
    pub(crate) at: At<'a>,
    pub(crate) name: &'a str,
    /// Whether only routes can enable the filter.
    pub(crate) is_disabled: bool,
    /// The filter's message first, then all messages in it. Empty if the filter comes from somewhere else.
    pub(crate) messages: Vec<Message<'a>>,
    /// The message in a file of extensions.
    pub(crate) resource: Option<At<'a>>,
}

impl<'a> Filter<'a> {
    /// A filter with the message `typed_config`, which may be that of a file of extensions, `resource`.
    pub(super) fn new(at: At<'a>, typed_config: Option<&At<'a>>, resource: Option<At<'a>>) -> Self {
        let mut messages = Vec::new();
        if let Some(config) = typed_config {
            collect(config, &mut messages);
        }
        Self { name: at.text_of("name"), is_disabled: at.is_set("disabled"), messages, resource, at }
    }

    /// Whether the filter's message is not in the files.
    pub(crate) fn is_unknown(&self) -> bool {
        self.messages.is_empty()
    }
}

/// All messages in a value, from the outside to the inside. Upstream filters of a router are a chain of their own.
fn collect<'a>(at: &At<'a>, messages: &mut Vec<Message<'a>>) {
    match Message::of(at) {
        Some(message) => {
            let is_router = message.short_name() == "Router";
            let inner = message.body.clone();
            messages.push(message);
            if !is_router {
                inner.children().iter().for_each(|at| collect(at, messages));
            }
        }
        None => at.children().iter().for_each(|at| collect(at, messages)),
    }
}

/// Whether an entry of `typed_per_filter_config` disables its filter.
pub(super) fn disables(entry: &At<'_>) -> bool {
    Message::of(entry).is_some_and(|message| message.name == FILTER_CONFIG && message.body.is_set("disabled"))
}

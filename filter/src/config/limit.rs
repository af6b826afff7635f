//! Limits: for each item of `limits` its predicates, its descriptor, its algorithms and its settings.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::Expected;
use super::reader::{Node, refuse_duplicates};
use super::response::{self, ResponseConfig};
use super::{algorithm, descriptor, hits_addend, lease, predicate};
use crate::descriptor::{
    Attributes, BadRequest, Descriptor, Entry, HitsAddend, JsonPointer, Predicate, RequestBody, Source,
};
use crate::limit::Algorithms;
use crate::units::Tokens;

const FIELDS: &[&str] = &[
    "name",
    "when",
    "exempt",
    "descriptor",
    "token_bucket",
    "sliding_window",
    "fixed_window",
    "quota",
    "concurrency",
    "windows",
    "max_delay",
    "lease",
    "hits_addend",
    "shadow_mode",
    "failure_mode",
    "response",
];
const MAX_LIMITS: usize = 32;
const MAX_EXEMPTIONS: usize = 256;

/// Limit as configured, with the whole filter's defaults resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Name in keys, metrics and headers: 1 to 64 of `[A-Za-z0-9_.-]`, unique among all limits.
    pub name: String,
    /// Predicates that must all hold for a request, for the limit to apply to it.
    pub when: Vec<Predicate>,
    /// Predicates of which none may hold. Exempt values of the descriptor are in the descriptor.
    pub exempt: Vec<Predicate>,
    /// Descriptor, which selects the bucket that a request spends from.
    pub descriptor: Descriptor,
    /// Algorithms by which the limit admits.
    pub windows: Algorithms,
    /// Most tokens that a worker leases ahead. 0: Redis decides each request.
    pub max_lease: Tokens,
    /// Tokens that a request spends.
    pub hits_addend: HitsAddend,
    /// Whether the limit decides and counts, but never denies: its own setting or the whole filter's.
    pub shadow_mode: bool,
    /// Failure mode for requests that Redis does not decide: the limit's own, else the filter's. Always
    /// [`Allow`](FailureMode::Allow) in shadow mode, which never denies.
    pub failure_mode: FailureMode,
    /// Local reply to its denials. `None` for the filter's.
    pub response: Option<Box<ResponseConfig>>,
}

impl Limit {
    /// Whether the limit applies to a request by its predicates. A predicate in `when` that cannot be decided counts as
    /// true, one in `exempt` as false.
    #[must_use]
    pub fn concerns(&self, request: &dyn Attributes) -> bool {
        self.when.iter().all(|predicate| predicate.may_hold(request))
            && !self.exempt.iter().any(|predicate| predicate.holds(request))
    }

    /// Returns the tokens that a request spends.
    ///
    /// # Errors
    /// Where the request must state its cost but does not, and the configuration rejects it. No error where the limit is
    /// not `enforced`, as in shadow mode.
    pub fn cost(&self, request: &dyn Attributes, enforced: bool) -> Result<Tokens, BadRequest> {
        self.hits_addend.cost(request, enforced)
    }

    /// Name of the window with index `window` in headers and logs: the limit's name, with `:1` and so on from the
    /// second window on.
    #[must_use]
    pub fn window_name(&self, window: usize) -> Cow<'_, str> {
        match window {
            0 => Cow::Borrowed(&self.name),
            later => Cow::Owned(format!("{}:{later}", self.name)),
        }
    }

    /// Visits the JSON pointers that the limit reads in a request's body, for its key or its cost.
    pub(super) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        let sources = self.descriptor.entries().iter().map(|entry| &entry.source).chain(self.hits_addend.source());
        sources.filter_map(Source::json_pointer).for_each(visit);
    }

    /// Whether the limit reads request bodies.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        let mut reads_body = false;
        self.visit_pointers(&mut |_| reads_body = true);
        reads_body
    }

    /// Whether a value in `body` that the limit reads is unreadable: for its key, and if `with_cost` for its cost.
    pub(crate) fn cannot_read(&self, body: &RequestBody, with_cost: bool) -> bool {
        let entries = self.descriptor.entries().iter().map(|entry| &entry.source);
        let mut sources = entries.chain(self.hits_addend.source().filter(|_| with_cost));
        sources.any(|source| source.is_unreadable(body))
    }
}

/// Failure mode, for requests that Redis does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureMode {
    /// Admits the request.
    Allow,
    /// Denies the request with the status on error.
    Deny,
}

/// Defaults for each limit, from the whole filter's configuration. `None` where a value has an error, which is reported
/// already.
pub(super) struct Defaults<'a> {
    pub(super) key_prefix: &'a str,
    pub(super) failure_mode: Option<FailureMode>,
    pub(super) shadow_mode: Option<bool>,
    pub(super) response: &'a ResponseConfig,
}

/// Exemption from a limit.
enum Exemption<'a> {
    Requests(Predicate),
    /// Values of the descriptor's entries.
    Values(Vec<&'a str>),
}

/// Reads the list of limits, whose names must differ.
pub(super) fn read_all(node: &Node<'_>, defaults: &Defaults<'_>) -> Option<Vec<Limit>> {
    let nodes = node.list(1..=MAX_LIMITS)?;
    let limits: Vec<Option<Limit>> = nodes.iter().map(|node| read(node, defaults)).collect();
    // Names of limits with other errors count too.
    let named: Vec<(&str, Node<'_>)> = nodes.iter().filter_map(Node::name).collect();
    let keys: Vec<(&str, &Node<'_>)> = named.iter().map(|(name, node)| (*name, node)).collect();
    refuse_duplicates(&keys)?;
    limits.into_iter().collect()
}

fn read(node: &Node<'_>, defaults: &Defaults<'_>) -> Option<Limit> {
    let fields = node.object(FIELDS)?;
    let name = fields.required("name", "a name for the limit").and_then(|node| {
        node.text_matching("1 to 64 letters, digits, underscores, dots and hyphens", |text| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        })
    });
    let when = fields.or("when", Vec::new(), predicate::read_all);
    let entries = fields
        .required("descriptor", "a list of entries (none: one bucket for all)")
        .and_then(|node| descriptor::read(&node));
    let exempt = fields
        .or("exempt", Vec::new(), |node| node.each(0..=MAX_EXEMPTIONS, |node| exemption(node, entries.as_deref())));
    let windows = algorithm::read(&fields);
    let lease = fields.optional("lease", lease::read);
    let hits_addend = fields.or("hits_addend", HitsAddend::Constant(Tokens(1)), hits_addend::read);
    let shadow_mode = fields.or("shadow_mode", false, Node::boolean);
    let own_failure_mode = fields.optional("failure_mode", failure_mode);
    let response = fields.optional("response", |node| response::read(node, defaults.response));
    let lease = lease::of(windows, lease?)?;
    let shadow_mode = shadow_mode? || defaults.shadow_mode?;
    let own_failure_mode = own_failure_mode?.or(defaults.failure_mode)?;
    let name = name?;
    let mut descriptor = Descriptor::new(defaults.key_prefix, name, entries?);
    let mut exempt_requests = Vec::new();
    for exemption in exempt? {
        match exemption {
            Exemption::Requests(predicate) => exempt_requests.push(predicate),
            Exemption::Values(values) => descriptor = descriptor.exempting(&values),
        }
    }
    Some(Limit {
        name: name.to_owned(),
        when: when?,
        exempt: exempt_requests,
        descriptor,
        windows: lease.windows,
        max_lease: lease.max,
        hits_addend: hits_addend?,
        shadow_mode,
        failure_mode: if shadow_mode { FailureMode::Allow } else { own_failure_mode },
        response: response?.map(Box::new),
    })
}

pub(super) fn failure_mode(node: &Node<'_>) -> Option<FailureMode> {
    node.one_of(&[("allow", FailureMode::Allow), ("deny", FailureMode::Deny)], &["local"])
}

/// Reads an exemption: a predicate, or one value for each of the descriptor's `entries`, which are `None` where they
/// have an error.
fn exemption<'a>(node: &Node<'a>, entries: Option<&[Entry]>) -> Option<Exemption<'a>> {
    let (kind, node) = node.one_field(predicate::EXEMPTIONS)?;
    if kind != "descriptor_value" {
        return predicate::read(kind, &node).map(Exemption::Requests);
    }
    // The value may be an API key.
    let node = node.secret();
    let values = match node.is_text() {
        true => vec![node.text(0..=descriptor::MAX_VALUE)?],
        false => node.each(1..=16, |node| node.text(0..=descriptor::MAX_VALUE))?,
    };
    match entries {
        Some(entries) if entries.len() != values.len() => {
            node.unexpected(Expected::The("one value for each entry of the descriptor"))
        }
        _ => Some(Exemption::Values(values)),
    }
}

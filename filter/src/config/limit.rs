//! One item of `limits`: which requests it concerns, whose bucket they spend from, and how that admits.

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

/// A limit as configured, with the whole filter's defaults resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name in keys, metrics and headers: 1 to 64 of `[A-Za-z0-9_.-]`, no other limit's.
    pub name: String,
    /// It concerns the requests for which all of these hold ...
    pub when: Vec<Predicate>,
    /// ... and none of these. Exempt values are the descriptor's.
    pub exempt: Vec<Predicate>,
    /// Which bucket such a request spends from.
    pub descriptor: Descriptor,
    /// How it admits.
    pub windows: Algorithms,
    /// Tokens that a worker takes ahead at most. 0: each request is decided by Redis.
    pub max_lease: Tokens,
    /// How many tokens such a request spends.
    pub hits_addend: HitsAddend,
    /// Whether it, or the whole filter, decides and counts but never denies.
    pub shadow_mode: bool,
    /// What becomes of a request when Redis does not decide: its own mode or else the filter's. Always
    /// [`Allow`](FailureMode::Allow) in shadow mode, which never denies.
    pub failure_mode: FailureMode,
    /// What its denials are answered, where that is not what the filter's are.
    pub response: Option<Box<ResponseConfig>>,
}

impl Limit {
    /// Whether this limit concerns a request, as far as its predicates say. It does where they cannot say so.
    #[must_use]
    pub fn concerns(&self, request: &dyn Attributes) -> bool {
        self.when.iter().all(|predicate| predicate.may_hold(request))
            && !self.exempt.iter().any(|predicate| predicate.holds(request))
    }

    /// What a request spends.
    ///
    /// # Errors
    /// Where the request is to say so and does not, and such ones are to be rejected. Never where the limit is not
    /// `enforced`, as in shadow mode.
    pub fn cost(&self, request: &dyn Attributes, enforced: bool) -> Result<Tokens, BadRequest> {
        self.hits_addend.cost(request, enforced)
    }

    /// The name of its window of this place, as headers and logs tell it: its own, and `:1` and so on from the second.
    #[must_use]
    pub fn window_name(&self, window: usize) -> Cow<'_, str> {
        match window {
            0 => Cow::Borrowed(&self.name),
            later => Cow::Owned(format!("{}:{later}", self.name)),
        }
    }

    /// Visits the places where it reads a request's body, for its key or its cost.
    pub(super) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        let sources = self.descriptor.entries().iter().map(|entry| &entry.source).chain(self.hits_addend.source());
        sources.filter_map(Source::json_pointer).for_each(visit);
    }

    /// Whether it reads request bodies.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        let mut reads_body = false;
        self.visit_pointers(&mut |_| reads_body = true);
        reads_body
    }

    /// Whether it cannot read all that it is to read of a body: for its key, or also for its cost.
    pub(crate) fn cannot_read(&self, body: &RequestBody, with_cost: bool) -> bool {
        let entries = self.descriptor.entries().iter().map(|entry| &entry.source);
        let mut sources = entries.chain(self.hits_addend.source().filter(|_| with_cost));
        sources.any(|source| source.is_unreadable(body))
    }
}

/// What becomes of a request when Redis does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureMode {
    /// It is admitted.
    Allow,
    /// It is answered with the status on error.
    Deny,
}

/// What the whole filter's configuration says of each limit. `None` where it is wrong, and already reported.
pub(super) struct Defaults<'a> {
    pub(super) key_prefix: &'a str,
    pub(super) failure_mode: Option<FailureMode>,
    pub(super) shadow_mode: Option<bool>,
    pub(super) response: &'a ResponseConfig,
}

/// What is exempt from a limit.
enum Exemption<'a> {
    Requests(Predicate),
    /// Of the descriptor's entries.
    Values(Vec<&'a str>),
}

/// The list of limits, with different names.
pub(super) fn read_all(node: &Node<'_>, defaults: &Defaults<'_>) -> Option<Vec<Limit>> {
    let nodes = node.list(1..=MAX_LIMITS)?;
    let limits: Vec<Option<Limit>> = nodes.iter().map(|node| read(node, defaults)).collect();
    // A limit that is wrong elsewhere still has its name.
    let named: Vec<(&str, Node<'_>)> = nodes.iter().filter_map(Node::name).collect();
    let keys: Vec<(&str, &Node<'_>)> = named.iter().map(|(name, node)| (*name, node)).collect();
    refuse_duplicates(&keys)?;
    limits.into_iter().collect()
}

fn read(node: &Node<'_>, defaults: &Defaults<'_>) -> Option<Limit> {
    let fields = node.object(FIELDS)?;
    let name = fields.required("name", "a name for the limit").and_then(|node| {
        node.text_such("1 to 64 letters, digits, underscores, dots and hyphens", |text| {
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

/// A predicate, or one value for each of the descriptor's entries. `None` in place of these where they are wrong.
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

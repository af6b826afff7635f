//! Limits: for each item of `limits` its predicates, its descriptor, its algorithms and its settings.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::reader::{Node, Object, refuse_duplicates};
use super::report::Read;
use super::{algorithm, charge, descriptor, hits_addend, lease, on_exceed, predicate, response, source};
use crate::descriptor::{Descriptor, Entry, HashKey, HashTag, HitsAddend, Predicate};
use crate::limit::{FailureMode, Limit, RequestWindows};
use crate::redis::Topology;
use crate::response::ResponseConfig;
use crate::units::Tokens;

const FIELDS: &[&str] = &[
    "name",
    "when",
    "exempt",
    "descriptor",
    "hash_tag",
    "token_bucket",
    "sliding_window",
    "fixed_window",
    "quota",
    "concurrency",
    "windows",
    "max_delay",
    "lease",
    "hits_addend",
    "charge",
    "reserve",
    "on_missing_usage",
    "on_disconnect",
    "soft_limit",
    "shadow_mode",
    "on_exceed",
    "near_limit",
    "failure_mode",
    "response",
];
const MAX_LIMITS: usize = 32;
const MAX_EXEMPTIONS: usize = 256;

/// Defaults for each limit, from the whole filter's configuration.
pub(super) struct Defaults<'a> {
    pub(super) key_prefix: &'a str,
    pub(super) topology: Topology,
    /// Key of the hashes of values, if the configuration has one.
    pub(super) hash_key: Read<Option<&'a Arc<HashKey>>>,
    pub(super) failure_mode: Read<FailureMode>,
    pub(super) shadow_mode: Read<bool>,
    pub(super) response: &'a ResponseConfig,
}

/// Limit, with the settings of its own responses.
pub(super) type Configured = (Limit, Option<Box<ResponseConfig>>);

/// Exemption from a limit.
enum Exemption<'a> {
    Requests(Predicate),
    /// Values of the descriptor's entries.
    Values(Vec<&'a str>),
}

/// Reads the list of limits, whose names must differ.
pub(super) fn read_all(node: &Node<'_>, defaults: &Defaults<'_>) -> Read<Vec<Configured>> {
    let nodes = node.list(1..=MAX_LIMITS)?;
    let limits: Vec<Read<Configured>> = nodes.iter().map(|node| read(node, defaults)).collect();
    // Names of limits with other errors count too.
    let named: Vec<(&str, &Node<'_>)> = nodes.iter().filter_map(Node::name).collect();
    refuse_duplicates(&named)?;
    limits.into_iter().collect()
}

fn read(node: &Node<'_>, defaults: &Defaults<'_>) -> Read<Configured> {
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
        .and_then(|node| descriptor::read(node, defaults.hash_key));
    let exempt = fields.or("exempt", Vec::new(), |node| {
        node.each(0..=MAX_EXEMPTIONS, |node| exemption(node, entries.as_deref().ok()))
    });
    let hash_tag = hash_tag(fields, defaults.topology, entries.as_ref().map_or(16, Vec::len));
    let windows = algorithm::read(fields);
    let lease = fields.optional("lease", lease::read);
    let hits_addend = fields.or("hits_addend", HitsAddend::Constant(Tokens(1)), hits_addend::read);
    let charge = charge::read(fields);
    let shadow_mode = fields.or("shadow_mode", false, Node::boolean);
    let mark = fields.or("on_exceed", None, on_exceed::read);
    let contradicted = if let Ok(Some(_)) = mark { on_exceed::refuse_beside_mark(fields) } else { Ok(()) };
    let near_limit = fields.optional("near_limit", on_exceed::near_limit);
    let own_failure_mode = fields.optional("failure_mode", failure_mode);
    let response = fields.optional("response", |node| response::read(node, defaults.response));
    let (windows, charge) = (windows?, charge?);
    charge::check(fields, charge.as_deref(), &windows)?;
    let soft_limit = charge.as_ref().and_then(|charge| charge.soft_limit);
    let algorithm::Windows { algorithms, numbers, .. } = windows;
    let reserving = charge.as_deref().and_then(|charge| algorithms.reserving(charge));
    let algorithms = reserving.unwrap_or(algorithms);
    let lease = lease::of(algorithms, lease?)?;
    contradicted?;
    let mark = mark?.map(Arc::new);
    let shadow_mode = shadow_mode? || defaults.shadow_mode?;
    let denies = !shadow_mode && mark.is_none();
    let own_failure_mode = own_failure_mode?.map_or(defaults.failure_mode, Ok)?;
    let name = name?;
    let mut descriptor = Descriptor::tagged(defaults.key_prefix, name, entries?, hash_tag?);
    let mut exempt_requests = Vec::new();
    for exemption in exempt? {
        match exemption {
            Exemption::Requests(predicate) => exempt_requests.push(predicate),
            Exemption::Values(values) => descriptor = descriptor.exempting(&values),
        }
    }
    let failure_mode = match own_failure_mode {
        _ if !denies => FailureMode::Allow,
        // Nobody knows which slots other workers hold.
        FailureMode::Local if lease.windows.has_slots() || charge.is_some() => FailureMode::Deny,
        mode => mode,
    };
    let request_windows = (!numbers.is_empty()).then(|| Box::new(RequestWindows::new(lease.windows.clone(), numbers)));
    let limit = Limit {
        name: name.to_owned(),
        when: when?,
        exempt: exempt_requests,
        descriptor,
        windows: request_windows.as_ref().map_or(lease.windows, |windows| windows.defaults()),
        request_windows,
        max_lease: lease.max,
        hits_addend: hits_addend?,
        charge,
        shadow_mode,
        mark,
        near_limit: near_limit?.or(soft_limit),
        failure_mode,
    };
    Ok((limit, response?.map(Box::new)))
}

pub(super) fn failure_mode(node: &Node<'_>) -> Read<FailureMode> {
    let modes = [("allow", FailureMode::Allow), ("deny", FailureMode::Deny), ("local", FailureMode::Local)];
    node.one_of(&modes)
}

/// Reads the place of the hash tag. `entries` is the number of the descriptor's entries.
fn hash_tag(fields: Object<'_>, topology: Topology, entries: usize) -> Read<HashTag> {
    let by_default = if topology == Topology::Cluster { HashTag::Bucket } else { HashTag::None };
    fields.or("hash_tag", by_default, |node| {
        let Some(last) = entries.checked_sub(1).filter(|_| topology == Topology::Cluster) else {
            return Err(node.expected("none without redis.topology: cluster, or without entries"));
        };
        let last = u64::try_from(last).unwrap_or(u64::MAX);
        let entry = node.object(&["entry"])?.required("entry", "the index of an entry of the descriptor")?;
        entry.integer_as(0..=last, |index| usize::try_from(index).ok().map(HashTag::Entry))
    })
}

/// Reads an exemption: a predicate, or one value for each of the descriptor's `entries`, which are `None` where they
/// have an error.
fn exemption<'a>(node: &Node<'a>, entries: Option<&[Entry]>) -> Read<Exemption<'a>> {
    let (kind, node) = node.one_field(predicate::EXEMPTIONS)?;
    if kind != "descriptor_value" {
        return predicate::read(kind, node).map(Exemption::Requests);
    }
    // The value may be an API key.
    let node = node.secret();
    let values = match node.is_text() {
        true => vec![node.text(0..=source::MAX_VALUE)?],
        false => node.each(1..=16, |node| node.text(0..=source::MAX_VALUE))?,
    };
    match entries {
        Some(entries) if entries.len() != values.len() => {
            Err(node.expected("one value for each entry of the descriptor"))
        }
        _ => Ok(Exemption::Values(values)),
    }
}

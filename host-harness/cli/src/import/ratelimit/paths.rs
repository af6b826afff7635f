//! Paths through a domain's tree: which limit a descriptor gets, as conditions on the request.
//!
//! On each level, ratelimit takes the node with the entry's value, otherwise the first pattern that matches, otherwise
//! the node without a value; it never goes back. The last entry's node has the limit, whatever its depth.

use super::tree::{Node, NodeLimit};
use crate::import::condition::Condition;
use crate::import::envoy::{Action, ActionValue};
use crate::import::finding::Place;
use crate::import::source::{Entry, fits};

/// Limit that a descriptor can get.
#[derive(Debug, Clone)]
pub(super) struct Path<'a> {
    pub(super) nodes: Vec<&'a Node>,
    pub(super) limit: &'a NodeLimit,
    pub(super) condition: Condition,
    /// Entries whose values the counter keeps apart.
    pub(super) descriptor: Vec<Entry>,
    /// Whether siblings take requests away from it.
    pub(super) has_siblings: bool,
}

/// Node whose value has no predicate.
#[derive(Debug, Clone)]
pub(super) struct Incomparable {
    pub(super) place: Place,
    pub(super) source: String,
}

/// All paths of a descriptor with these actions, and the nodes that cannot be told apart.
pub(super) fn paths<'a>(nodes: &'a [Node], actions: &[Action]) -> (Vec<Path<'a>>, Vec<Incomparable>) {
    let mut walk = Walk { found: Vec::new(), incomparable: Vec::new() };
    let start = State { nodes: Vec::new(), condition: Condition::Always, descriptor: Vec::new(), has_siblings: false };
    walk.level(nodes, actions, &start);
    (walk.found, walk.incomparable)
}

struct Walk<'a> {
    found: Vec<Path<'a>>,
    incomparable: Vec<Incomparable>,
}

#[derive(Clone)]
struct State<'a> {
    nodes: Vec<&'a Node>,
    condition: Condition,
    descriptor: Vec<Entry>,
    has_siblings: bool,
}

impl<'a> Walk<'a> {
    fn level(&mut self, nodes: &'a [Node], actions: &[Action], state: &State<'a>) {
        let Some((action, rest)) = actions.split_first() else { return };
        let with_key: Vec<&Node> = nodes.iter().filter(|node| node.key == action.key).collect();
        match &action.value {
            ActionValue::Constant(value) => {
                let node = of_value(&with_key, value);
                node.into_iter().for_each(|node| self.enter(node, rest, state, Condition::Always, None));
            }
            ActionValue::OfRequest(entry) => self.choices(&with_key, entry, rest, state),
        }
    }

    /// Each node that a value of the request can lead to, without the requests of the nodes before it.
    fn choices(&mut self, nodes: &[&'a Node], entry: &Entry, rest: &[Action], state: &State<'a>) {
        let mut before: Vec<(Option<&str>, Condition)> = Vec::new();
        let mut is_open = false;
        for node in in_order(nodes) {
            let is_exact = node.value.as_ref().is_some_and(|value| !value.contains('*'));
            let own = match &node.value {
                None => Some(Condition::Always),
                Some(value) if value.contains('*') => entry.matches(value),
                Some(value) => entry.equals(value),
            };
            // Requests of a value that is not compared would count for the nodes behind it.
            let own = own.filter(|_| is_exact || !is_open);
            let Some(own) = own else {
                is_open = true;
                let (place, source) = (node.place.clone(), entry.source.name());
                self.incomparable.push(Incomparable { place, source });
                continue;
            };
            // An exact value takes requests only from patterns that match it.
            let overlaps = |value: &Option<&str>| match (value, &node.value) {
                (Some(value), Some(own)) if !value.contains('*') => own.contains('*') && fits(own, value),
                _ => true,
            };
            let taken = before.iter().filter(|(value, _)| overlaps(value)).map(|(_, condition)| condition.clone());
            let taken: Vec<Condition> = taken.collect();
            let taken = if is_exact { Vec::new() } else { taken };
            let has_siblings = !taken.is_empty();
            let free = Condition::not(Condition::any(taken));
            let descriptor = (!is_exact && !node.shares_threshold).then_some(entry);
            let inner = State { has_siblings: state.has_siblings || has_siblings, ..state.clone() };
            self.enter(node, rest, &inner, Condition::all([own.clone(), free]), descriptor);
            before.push((node.value.as_deref(), own));
        }
    }

    fn enter(
        &mut self,
        node: &'a Node,
        rest: &[Action],
        state: &State<'a>,
        condition: Condition,
        entry: Option<&Entry>,
    ) {
        let mut state = state.clone();
        state.nodes.push(node);
        state.condition = Condition::all([state.condition, condition]);
        state.descriptor.extend(entry.cloned());
        if !rest.is_empty() {
            return self.level(&node.nodes, rest, &state);
        }
        if let Some(limit) = node.limit.as_ref().filter(|_| state.condition != Condition::Never) {
            let State { nodes, condition, descriptor, has_siblings } = state;
            self.found.push(Path { nodes, limit, condition, descriptor, has_siblings });
        }
    }
}

/// Exact values first, then patterns in the order of the file, then the node without a value.
fn in_order<'a>(nodes: &[&'a Node]) -> Vec<&'a Node> {
    let rank = |node: &Node| node.value.as_ref().map_or(2, |value| u8::from(value.contains('*')));
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|node| rank(node));
    nodes
}

fn of_value<'a>(nodes: &[&'a Node], value: &str) -> Option<&'a Node> {
    let exact = nodes.iter().find(|node| node.value.as_deref() == Some(value));
    let pattern =
        || nodes.iter().find(|node| node.value.as_ref().is_some_and(|it| it.contains('*') && fits(it, value)));
    exact.or_else(pattern).or_else(|| nodes.iter().find(|node| node.value.is_none())).copied()
}

//! Envoy's side: ratelimit filters, and the `rate_limits` of routes that say where descriptors come from.
//!
//! | module | contents |
//! |---|---|
//! | `walk` | connection managers, route configurations and EnvoyFilters in documents |
//! | `routes` | virtual hosts and routes as conditions |
//! | `virtual_service` | routes of Istio's VirtualServices |
//! | `domains` | domains of virtual hosts as conditions |
//! | `actions` | items of `rate_limits` |
//! | `filter` | settings of the ratelimit filter |
//! | `matcher` | matchers of headers, query parameters and texts |

mod actions;
mod domains;
mod filter;
mod matcher;
mod routes;
mod virtual_service;
mod walk;

use super::condition::Condition;
use super::finding::Place;
use super::plan::Settings;
use super::source::Entry;

pub(super) use self::virtual_service::read as read_virtual_service;
pub(super) use self::walk::read;

/// All of Envoy's side.
#[derive(Debug, Default)]
pub(super) struct Envoy {
    pub(super) filters: Vec<Filter>,
    pub(super) rules: Vec<Rule>,
    /// Routes of VirtualServices with their requests; the error says what in a match has no counterpart.
    named_routes: Vec<(String, Result<Condition, String>)>,
    /// Lists of virtual hosts in EnvoyFilters, by the names of the hosts.
    patched_hosts: Vec<(String, usize)>,
    /// Requests of routes in EnvoyFilters whose lists replace those of their virtual host, by its name.
    patched_routes: Vec<(String, Condition)>,
    /// Number of connection managers.
    scopes: usize,
    /// Number of lists of `rate_limits`.
    lists: usize,
}

/// Ratelimit filter.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) place: Place,
    pub(super) domain: String,
    pub(super) stage: u64,
    pub(super) settings: Settings,
    /// The filter's connection manager, if it is known.
    pub(super) scope: Option<usize>,
    /// Requests that the filter asks about.
    pub(super) requests: Condition,
    /// Whether the filter has `rate_limits` of its own, which replace those of routes.
    pub(super) has_own_rules: bool,
}

/// Item of `rate_limits`.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) place: Place,
    /// Connection manager of the routes; `None` if it is not in the same file.
    pub(super) scope: Option<usize>,
    /// Whether the rule is one of the filter's own.
    pub(super) is_of_filter: bool,
    /// Number of the list with the rule.
    pub(super) list: usize,
    /// Place in its list.
    pub(super) index: usize,
    pub(super) stage: u64,
    /// Domain of a route's own, in place of the filter's.
    pub(super) domain: Option<String>,
    /// Requests of the route.
    pub(super) condition: Condition,
    pub(super) variants: Vec<Variant>,
    pub(super) hits_addend: u64,
}

/// Descriptor of a rule, for the requests of a condition.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) condition: Condition,
    pub(super) actions: Vec<Action>,
}

/// Entry of a descriptor: a key with a value.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) key: String,
    pub(super) value: ActionValue,
}

/// Value of a descriptor's entry.
#[derive(Debug, Clone)]
pub(super) enum ActionValue {
    Constant(String),
    OfRequest(Entry),
}

impl Envoy {
    /// The rules that a filter uses.
    pub(super) fn rules_of(&self, filter: &Filter) -> impl Iterator<Item = &Rule> {
        let (stage, scope, has_own) = (filter.stage, filter.scope, filter.has_own_rules);
        self.rules.iter().filter(move |rule| {
            let is_in_scope = rule.scope == scope || rule.scope.is_none() && !rule.is_of_filter || scope.is_none();
            rule.stage == stage && is_in_scope && rule.is_of_filter == has_own
        })
    }

    /// Takes the requests of routes with lists of their own from those of their virtual hosts, once all is read.
    pub(super) fn settle(&mut self) {
        for (host, list) in std::mem::take(&mut self.patched_hosts) {
            let own = self.patched_routes.iter().filter(|(of, _)| *of == host || of.is_empty() || host.is_empty());
            let taken = Condition::not(Condition::any(own.map(|(_, condition)| condition.clone())));
            for rule in self.rules.iter_mut().filter(|rule| rule.list == list) {
                rule.condition = Condition::all([rule.condition.clone(), taken.clone()]);
            }
        }
    }

    fn next_scope(&mut self) -> usize {
        self.scopes = self.scopes.saturating_add(1);
        self.scopes
    }

    fn next_list(&mut self) -> usize {
        self.lists = self.lists.saturating_add(1);
        self.lists
    }
}

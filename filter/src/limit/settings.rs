//! Limit as configured: the requests that it applies to, its buckets, and its algorithms.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::algorithms::Algorithms;
use super::charge::Charge;
use super::check::Outcome;
use super::near_limit::NearLimit;
use super::request_windows::RequestWindows;
use crate::descriptor::{
    Attributes, BadRequest, Descriptor, HitsAddend, JsonPointer, OnUnreadable, Predicate, RequestBody, Source,
};
use crate::units::Tokens;

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
    /// Algorithms by which the limit admits; where requests carry their numbers, the algorithms of a request that
    /// carries none.
    pub windows: Algorithms,
    /// Algorithms whose numbers each request carries. `None` where all numbers are those of the configuration.
    pub request_windows: Option<Box<RequestWindows>>,
    /// Most tokens that a worker leases ahead. 0: Redis decides each request.
    pub max_lease: Tokens,
    /// Tokens that a request spends.
    pub hits_addend: HitsAddend,
    /// Charge of what responses cost, in place of [`hits_addend`](Self::hits_addend). `None`: the limit counts requests.
    pub charge: Option<Box<Charge>>,
    /// Whether the limit decides and counts, but enforces nothing: its own shadow mode, or the whole filter's.
    pub shadow_mode: bool,
    /// Mark of requests beyond the limit, which are passed on. In shadow mode, only the client's own header of this name
    /// is removed.
    pub mark: Option<Arc<Mark>>,
    /// Share of the limit from which admitted requests are counted as near it. `None`: they are not counted.
    pub near_limit: Option<NearLimit>,
    /// Failure mode for requests that Redis does not decide: the limit's own, else the filter's. Always
    /// [`Allow`](FailureMode::Allow) where the limit never [denies](Self::denies), and never
    /// [`Local`](FailureMode::Local) where it limits requests in flight.
    pub failure_mode: FailureMode,
}

impl Limit {
    /// Whether the limit applies to a request by its predicates. A predicate in `when` that cannot be decided counts as
    /// true, one in `exempt` as false.
    #[must_use]
    pub fn concerns(&self, request: &dyn Attributes) -> bool {
        self.when.iter().all(|predicate| predicate.may_hold(request))
            && !self.exempt.iter().any(|predicate| predicate.holds(request))
    }

    /// Whether the limit denies requests beyond it: not in shadow mode, and not where it marks them.
    #[must_use]
    pub fn denies(&self) -> bool {
        !self.shadow_mode && self.mark.is_none()
    }

    /// Mark that requests beyond the limit get. `None` where they are denied, and in shadow mode.
    #[must_use]
    pub fn mark_in_force(&self) -> Option<&Arc<Mark>> {
        self.mark.as_ref().filter(|_| !self.shadow_mode)
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

    /// Name of the outcome's window among `limits`: see [`window_name`](Self::window_name).
    #[must_use]
    pub fn name_of<'a>(limits: &'a [Self], outcome: &Outcome) -> Cow<'a, str> {
        limits.get(outcome.limit).map_or(Cow::Borrowed(""), |limit| limit.window_name(outcome.window))
    }

    /// Visits the JSON pointers that the limit reads in a request's body, for its key or its cost.
    pub(crate) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        let sources = self.descriptor.entries().iter().map(|entry| &entry.source).chain(self.hits_addend.source());
        sources.filter_map(Source::json_pointer).for_each(visit);
    }

    /// Treatment of a request with this body, of which values that the limit reads may be unreadable. `by_default` is
    /// the whole filter's.
    #[inline(never)]
    pub(crate) fn on_unreadable(&self, body: &RequestBody, by_default: OnUnreadable) -> OnUnreadable {
        let entries = self.descriptor.entries().iter().filter_map(|entry| entry.treatment_of(body, by_default));
        // A cost that cannot be read has its own default.
        let rejects_cost = by_default == OnUnreadable::Reject
            && self.hits_addend.source().is_some_and(|source| source.is_unreadable(body));
        let of_cost = rejects_cost.then_some(OnUnreadable::Reject);
        entries.chain(of_cost).max().unwrap_or(OnUnreadable::Default)
    }
}

/// Request header by which the upstream recognizes a request beyond a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Name in lower case. A client's own header of this name is removed.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Failure mode, for requests that Redis does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureMode {
    /// Admits the request.
    Allow,
    /// Denies the request with the status on error.
    Deny,
    /// Decides the request in the worker's memory, by its share of the limit.
    Local,
}

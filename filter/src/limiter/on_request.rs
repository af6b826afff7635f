//! Bucket checks of a request: the limits that apply, their keys and costs, and the overrides in force.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::estimates::Estimates;
use crate::config::Config;
use crate::descriptor::{Attributes, BadRequest, OnUnreadable};
use crate::limit::{Algorithm, Algorithms, BucketCheck, Limit, Outcome, RequestNumbers, RequestWindows, Zero};
use crate::overrides::{KeyOverrides, KnownOverride, Override, Overrides, Ruling};
use crate::units::{Micros, Tokens};

/// Checks of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestChecks {
    /// The buckets that Redis is to check, possibly none, and the denials of limits in shadow mode that deny every
    /// request, which need no check by Redis.
    Buckets(Vec<BucketCheck>, Vec<LocalDenial>),
    /// The request is denied without Redis: an override blocks it, or a limit of zero.
    Blocked(Box<LocalDenial>),
    /// An override decides for a limit without Redis, but Redis may know another by now: first `asks` is sent, which
    /// spends nothing, then [`checks_again`] has the checks of all limits.
    Probe {
        /// A check for each limit that is to be asked about.
        asks: Vec<BucketCheck>,
        /// The checks of the other limits.
        rest: Vec<BucketCheck>,
        /// The denials of limits in shadow mode that need no check by Redis.
        shadows: Vec<LocalDenial>,
    },
}

/// Denial that does not depend on Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalDenial {
    pub(super) check: BucketCheck,
    pub(super) outcome: Outcome,
}

/// Overrides that are known.
pub(super) struct KnownOverrides<'a> {
    /// Overrides of limits, and those of keys that an earlier version wrote.
    pub(super) of_limits: Option<&'a Overrides>,
    /// Overrides of keys. `None` where keys have none.
    pub(super) of_keys: Option<&'a mut KeyOverrides>,
    /// Whether Redis is asked about a key where an override that decides without Redis may be outdated.
    pub(super) probes: bool,
}

/// Numbers of limits that a request carries.
pub(super) type CarriedNumbers = Vec<LimitNumbers>;

/// Numbers of one limit that a request carries.
#[derive(Debug)]
pub(super) struct LimitNumbers {
    /// Index of the limit.
    limit: usize,
    values: RequestNumbers,
    /// The limit's windows with these numbers.
    windows: Algorithms,
}

/// Override that is in force for a limit's key, and what is known of the key.
struct InForce {
    overridden: Option<Override>,
    applied: Option<Rc<[u8]>>,
    /// Whether Redis is to be asked before the override decides without it.
    is_outdated: bool,
}

impl KnownOverrides<'_> {
    /// Whether no override is known: so for most requests.
    fn is_empty(&self) -> bool {
        self.of_limits.is_none_or(Overrides::is_empty) && self.of_keys.as_ref().is_none_or(|keys| keys.is_empty())
    }

    /// Returns what is known of a limit's key. Redis is also asked before a number that the request carries blocks it.
    #[inline(never)]
    fn of(&mut self, now: Micros, own: &OwnWindows<'_>, key: &[u8]) -> Option<Box<InForce>> {
        let known = match &mut self.of_keys {
            Some(keys) => keys.of(now, key),
            None => KnownOverride { is_recent: true, ..KnownOverride::default() },
        };
        let general = || self.of_limits.and_then(|overrides| overrides.of(now, &own.limit.name, key));
        let overridden = known.in_force.or_else(general);
        let is_outdated = self.probes && (overridden.is_some() || own.is_zero()) && !known.is_recent;
        Some(Box::new(InForce { overridden, applied: known.text, is_outdated }))
    }
}

/// Returns the override in force, if any.
fn overridden(in_force: Option<&InForce>) -> Option<&Override> {
    in_force.and_then(|in_force| in_force.overridden.as_ref())
}

/// Checks of the limits seen so far.
#[derive(Default)]
struct Checks {
    buckets: Vec<BucketCheck>,
    shadows: Vec<LocalDenial>,
    asks: Vec<BucketCheck>,
}

impl Checks {
    /// Adds the buckets of a limit. Returns the denial where the limit blocks the request without Redis.
    fn add(
        &mut self,
        now: Micros,
        own: &OwnWindows<'_>,
        (key, cost): (Vec<u8>, Tokens),
        in_force: Option<Box<InForce>>,
        (windows, enforced): (Cow<'_, Algorithms>, bool),
    ) -> Option<Box<LocalDenial>> {
        let index = own.index;
        let blocking = own.blocking(&windows, overridden(in_force.as_deref()), now);
        let applied = match in_force {
            Some(in_force) if blocking.is_some() && in_force.is_outdated => {
                self.ask(index, key, cost, in_force.applied);
                return None;
            }
            Some(in_force) => in_force.applied,
            None => None,
        };
        let mut checks = windows.checks(index, key, cost, enforced);
        if let Some((window, wait)) = blocking
            && let Some(check) = checks.nth(window)
        {
            let denial = LocalDenial { outcome: check.blocked(wait), check };
            if enforced {
                return Some(Box::new(denial));
            }
            self.shadows.push(denial);
            return None;
        }
        match applied {
            None => self.buckets.extend(checks),
            Some(_) => self.buckets.extend(checks.map(|check| BucketCheck { applied: applied.clone(), ..check })),
        }
        None
    }

    /// Adds a check that asks Redis for the override of a key, and spends nothing: a bucket without tokens, in shadow
    /// mode.
    fn ask(&mut self, index: usize, key: Vec<u8>, cost: Tokens, applied: Option<Rc<[u8]>>) {
        let key = [&key, b"#none".as_slice()].concat();
        let algorithm = Algorithm::NoTokens;
        self.asks.push(BucketCheck { limit: index, window: 0, key, algorithm, cost, enforced: false, applied });
    }

    /// Sets the part of the cost of a limit that is the request's own tokens.
    #[inline(never)]
    fn set_floor(&mut self, limit: usize, floor: u64) {
        self.buckets.iter_mut().filter(|check| check.limit == limit).for_each(|check| check.set_floor(floor));
    }

    fn finish(self) -> RequestChecks {
        if self.asks.is_empty() {
            RequestChecks::Buckets(self.buckets, self.shadows)
        } else {
            RequestChecks::Probe { asks: self.asks, rest: self.buckets, shadows: self.shadows }
        }
    }
}

/// Returns the bucket checks of the limits that apply to a request. Adds the numbers that the request carries to
/// `carried`, and what it is estimated to cost to `estimates`.
///
/// # Errors
/// If a value that a limit reads is missing, malformed or repeated, and the configuration rejects those requests; or if
/// an enforced limit would have to read more than the maximum.
pub(super) fn checks_of(
    config: &Config,
    mut overrides: KnownOverrides<'_>,
    now: Micros,
    request: &dyn Attributes,
    carried: &mut CarriedNumbers,
    estimates: &mut Estimates,
) -> Result<RequestChecks, BadRequest> {
    let mut checks = Checks::default();
    let is_any_known = !overrides.is_empty();
    let is_unreadable = request.body().is_unreadable();
    for (index, limit) in config.concerning(request) {
        let charge = limit.charge.as_ref().zip(config.usage.as_ref());
        if charge.is_some_and(|(_, usage)| !estimates.charges(usage, request)) {
            continue;
        }
        let unreadable = match is_unreadable {
            true => limit.on_unreadable(request.body(), config.body.on_unreadable),
            false => OnUnreadable::Default,
        };
        if unreadable == OnUnreadable::Skip {
            continue;
        }
        let Some(key) = limit.descriptor.bucket_key(request) else {
            accept(request, limit.denies())?;
            continue;
        };
        if let Some(windows) = &limit.request_windows {
            carried.push(read(index, windows, request));
        }
        let own = OwnWindows::of(index, limit, carried);
        let found = if is_any_known || own.is_zero() { overrides.of(now, &own, &key) } else { None };
        let Some((windows, enforced)) = own.in_force(overridden(found.as_deref())) else {
            if let Some(outdated) = found.filter(|found| found.is_outdated) {
                let cost = limit.cost(request, false).unwrap_or(Tokens(1));
                checks.ask(index, key, cost, outdated.applied);
            }
            accept(request, false)?;
            continue;
        };
        if unreadable == OnUnreadable::Reject && enforced {
            return Err(BadRequest::Body);
        }
        let (cost, floor) = match charge {
            None => (limit.cost(request, enforced)?, 0),
            Some((charge, usage)) => {
                let held = estimates.add((index, charge), usage, request, enforced)?;
                (Tokens(held.estimate), held.floor)
            }
        };
        accept(request, enforced)?;
        if let Some(denial) = checks.add(now, &own, (key, cost), found, (windows, enforced)) {
            return Ok(RequestChecks::Blocked(denial));
        }
        if floor > 0 {
            checks.set_floor(index, floor);
        }
    }
    Ok(checks.finish())
}

/// Returns the checks of the limits of `earlier` checks of a request, which carries the numbers `carried`, after Redis
/// has told other overrides.
pub(super) fn checks_again<'a>(
    config: &Config,
    mut overrides: KnownOverrides<'_>,
    now: Micros,
    earlier: impl Iterator<Item = &'a BucketCheck>,
    carried: &CarriedNumbers,
) -> RequestChecks {
    // The first check of each limit, in the order of the limits. `sort` would be another 4 KB of wasm.
    let mut limits: Vec<&BucketCheck> = Vec::new();
    for check in earlier {
        if let Err(place) = limits.binary_search_by_key(&check.limit, |known| known.limit) {
            limits.insert(place, check);
        }
    }
    let mut checks = Checks::default();
    for earlier in limits {
        let Some(limit) = config.limits.get(earlier.limit) else { continue };
        let key = earlier.limit_key();
        let own = OwnWindows::of(earlier.limit, limit, carried);
        let found = overrides.of(now, &own, key);
        let Some((windows, enforced)) = own.in_force(overridden(found.as_deref())) else {
            if let Some(outdated) = found.filter(|found| found.is_outdated) {
                checks.ask(earlier.limit, key.to_vec(), earlier.cost, outdated.applied);
            }
            continue;
        };
        if let Some(denial) = checks.add(now, &own, (key.to_vec(), earlier.cost), found, (windows, enforced)) {
            return RequestChecks::Blocked(denial);
        }
        if earlier.floor() > 0 {
            checks.set_floor(earlier.limit, earlier.floor());
        }
    }
    checks.finish()
}

/// Takes the rejection that reading the request recorded, if any. It is an error only where the limit is enforced.
fn accept(request: &dyn Attributes, is_enforced: bool) -> Result<(), BadRequest> {
    request.memo().take_rejection().filter(|_| is_enforced).map_or(Ok(()), Err)
}

/// Windows of a limit for one request, without overrides.
#[derive(Clone, Copy)]
struct OwnWindows<'a> {
    index: usize,
    limit: &'a Limit,
    /// The windows with the numbers that the request carries. `None`: the configured windows.
    carried: Option<&'a LimitNumbers>,
}

impl<'a> OwnWindows<'a> {
    #[inline]
    fn of(index: usize, limit: &'a Limit, carried: &'a CarriedNumbers) -> Self {
        let carried = match &limit.request_windows {
            None => None,
            Some(_) => carried.iter().find(|numbers| numbers.limit == index),
        };
        Self { index, limit, carried }
    }

    /// Whether a number that the request carries is zero, and so blocks it.
    #[inline]
    fn is_zero(&self) -> bool {
        self.carried.is_some() && self.windows().blocking().is_some()
    }

    #[inline]
    fn windows(&self) -> &Algorithms {
        match &self.carried {
            None => &self.limit.windows,
            Some(numbers) => &numbers.windows,
        }
    }

    /// Returns the limit's algorithms with overrides applied, and whether the limit is enforced. `None` if an override
    /// switches the limit off.
    #[inline]
    fn in_force(&self, overridden: Option<&Override>) -> Option<(Cow<'_, Algorithms>, bool)> {
        let own = || Cow::Borrowed(self.windows());
        match overridden.map(|overridden| &overridden.ruling) {
            None | Some(Ruling::Blocked) => Some((own(), self.limit.denies())),
            Some(Ruling::Unlimited | Ruling::Off) => None,
            Some(Ruling::Shadow) => Some((own(), false)),
            Some(ruling @ (Ruling::Algorithms(_) | Ruling::Scaled(_))) => {
                Some((self.overridden(ruling), self.limit.denies()))
            }
        }
    }

    /// Returns the algorithms with the numbers of a ruling. Where it replaces the number of a token bucket, a number of
    /// zero that the request carries does not block.
    #[inline(never)]
    fn overridden(&self, ruling: &Ruling) -> Cow<'_, Algorithms> {
        match (&self.carried, self.limit.request_windows.as_deref()) {
            (Some(LimitNumbers { values, .. }), Some(windows)) if self.is_zero() && ruling.replaces_tokens() => {
                Cow::Owned(ruling.applied_to(&windows.with(values, Zero::IsReplaced)).into_owned())
            }
            _ => ruling.applied_to(self.windows()),
        }
    }

    /// Returns the index of the window that denies every request, if any, and for how long if that is known. `windows`
    /// are those in force.
    #[inline]
    fn blocking(
        &self,
        windows: &Algorithms,
        overridden: Option<&Override>,
        now: Micros,
    ) -> Option<(usize, Option<Micros>)> {
        let index = windows.blocking();
        let Some(Override { ruling, until }) = overridden else { return index.map(|index| (index, None)) };
        let is_blocked = index.is_some() || *ruling == Ruling::Blocked;
        // A limit of zero still blocks after the override has expired.
        let wait = until.map(|until| until.minus(now)).filter(|_| self.windows().blocking().is_none());
        is_blocked.then(|| (index.unwrap_or(0), wait))
    }
}

/// Reads the numbers of a limit that a request carries.
#[inline(never)]
fn read(limit: usize, windows: &RequestWindows, request: &dyn Attributes) -> LimitNumbers {
    let values = windows.read(request);
    LimitNumbers { limit, windows: windows.with(&values, Zero::Blocks), values }
}

#[cfg(test)]
mod tests;

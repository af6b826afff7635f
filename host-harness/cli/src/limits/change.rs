//! Commands that change Redis: `set`, `unset` and `reset`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use weir_filter::limit::Algorithms;
use weir_filter::overrides::MAX_ENTRIES;
use weir_filter::units::{Micros, Tokens};

use super::configured::{Configured, Target};
use super::error::LimitsError;
use super::found::{Found, State};
use super::in_force;
use super::render::ruling_and_rest;
use super::store::Store;
use super::wanted::Wanted;

/// Override that `set` writes.
pub(super) struct Plan {
    value: String,
    /// Its end in Unix seconds.
    until: Option<u64>,
    /// The override as text.
    pub(super) text: String,
    /// The override that it replaces, as text.
    pub(super) replaced: Option<String>,
}

impl Plan {
    /// Reads Redis' time and the override of the target, and changes nothing.
    pub(super) fn of(store: &mut Store, target: &Target, wanted: &Wanted<'_>) -> Result<Self, LimitsError> {
        let now = store.time(&target.place())?;
        let (value, until) = wanted.value(now)?;
        let replaced = store.own(target)?.filter(|found| !found.is_over());
        let mut set = Found::read(value.as_bytes(), now);
        if let (State::InForce { left, .. }, Some(lasting)) = (&mut set.state, wanted.lasting()) {
            *left = Some(lasting);
        }
        let text = |found: &Found| ruling_and_rest(found, Some(&target.limit));
        Ok(Self { text: text(&set), replaced: replaced.as_ref().map(text), value, until })
    }
}

pub(super) fn set(
    store: &mut Store,
    target: &Target,
    wanted: &Wanted<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LimitsError> {
    let plan = Plan::of(store, target, wanted)?;
    store.sweep(&target.limit.key_prefix)?;
    let total = store.set(target, &plan.value, plan.until)?;
    writeln!(out, "{target}: {}", plan.text)?;
    if let Some(replaced) = plan.replaced {
        writeln!(notes, "replaced: {replaced}")?;
    }
    target.note_reach(notes)?;
    note_place(store, notes)?;
    if total > MAX_ENTRIES as u64 {
        writeln!(
            out,
            "the hash has {total} overrides, of which a worker keeps {MAX_ENTRIES}; `weir limits migrate` moves those of keys"
        )?;
    }
    Ok(())
}

pub(super) fn unset(
    store: &mut Store,
    configured: &Configured,
    target: &Target,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LimitsError> {
    let was_set = store.unset(target)?;
    store.sweep(&target.limit.key_prefix)?;
    if !was_set && configured.is_missing(&target.limit) {
        return Err(configured.unknown_limit(&target.limit.name));
    }
    writeln!(out, "{target}: {}", if was_set { "no override any more" } else { "there was no override" })?;
    if was_set {
        target.note_reach(notes)?;
    }
    Ok(note_place(store, notes)?)
}

pub(super) fn reset(
    store: &mut Store,
    target: &Target,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LimitsError> {
    let overridden = in_force(store, target)?;
    let configured = target.limit.windows_under(None)?;
    let windows = target.limit.windows_under(overridden.as_ref().and_then(|(found, _)| found.ruling()))?;
    let both: [&Algorithms; 2] = [&configured, &windows];
    let check = both.into_iter().flat_map(|windows| windows.checks(0, target.key(), Tokens(0), true));
    let periods: BTreeMap<Vec<u8>, Option<Micros>> =
        check.map(|check| (check.key.clone(), check.blocked(None).period)).collect();
    let was_there = store.reset(&periods)?;
    writeln!(
        out,
        "{target}: {}",
        if was_there { "deleted, so it is full" } else { "there is no such bucket: it is full" }
    )?;
    Ok(note_place(store, notes)?)
}

/// Notes the Redis that the command writes to.
pub(crate) fn note_place(store: &Store, notes: &mut dyn Write) -> io::Result<()> {
    writeln!(notes, "redis: {}", store.place())
}

impl Target {
    /// Notes that the key is taken as given where the limit's configuration is unknown.
    pub(super) fn note_form(&self, encoded: bool, notes: &mut dyn Write) -> io::Result<()> {
        if self.limit.shape.is_some() || !self.is_key() || encoded {
            return Ok(());
        }
        let limit = &self.limit.name;
        writeln!(
            notes,
            "warning: no configuration of limit `{limit}`: the key is taken as it is, without the limit's `hash` and \
             `lowercase`; give --config FILE if it has any"
        )
    }

    /// Notes who gets the change of an override, and when, unless requests of the key read it themselves.
    pub(super) fn note_reach(&self, notes: &mut dyn Write) -> io::Result<()> {
        let when = "workers read it within overrides.refresh_interval";
        match self.is_key() {
            true if self.limit.reads_keys() => Ok(()),
            false if !self.limit.has_one_bucket() => {
                writeln!(notes, "for every key of the limit but those with overrides of their own; {when}")
            }
            _ => writeln!(notes, "{when}"),
        }
    }
}

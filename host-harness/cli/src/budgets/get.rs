//! `weir budgets get`: what one key has spent.

use std::io::Write;

use serde_json::{Value, json};
use weir_filter::limit::{Algorithm, BucketCheck, NearLimit, rfc_3339};
use weir_filter::units::{Micros, Tokens};

use super::Form;
use super::amount::{Unit, Usd};
use super::charged::{ledger_of, soft_limit, unit};
use super::error::BudgetsError;
use super::list::{amounts, cut_note, name, percent, place, remaining};
use super::period::WindowChoice;
use super::sums::{PastWindow, Sums};
use crate::limits::LimitsError;
use crate::limits::configured::Target;
use crate::limits::found::Found;
use crate::limits::in_force;
use crate::limits::render::{key_json, line, override_json, ruling_and_rest};
use crate::limits::span::span;
use crate::limits::store::Store;

/// A key's budget in one window.
struct Shown {
    name: String,
    unit: Unit,
    now: Micros,
    window: Option<[Micros; 2]>,
    used: i64,
    /// `None` of a past window, from the ledger.
    rest: Option<Rest>,
    /// Note about a sum of the ledger that may lack entries.
    cut: Option<String>,
}

/// Amounts that the state of a budget has beside the amount used.
struct Rest {
    held: u64,
    most: u64,
    /// Whether the window is the present one.
    is_current: bool,
    soft_limit: Option<NearLimit>,
}

/// Budgets of a key that an operator's command is about: those of the override in force, if there is one.
pub(super) fn checks(store: &mut Store, target: &Target) -> Result<(Vec<BucketCheck>, Option<Found>), LimitsError> {
    let found = in_force(store, target)?.map(|(found, _)| found);
    let windows = target.limit.windows_under(found.as_ref().and_then(Found::ruling))?;
    let checks = windows.checks(0, target.key(), Tokens(1), true);
    Ok((checks.filter(|check| matches!(check.algorithm, Algorithm::Budget(_))).collect(), found))
}

/// Shows the budgets of a key in a window.
pub(super) fn run(
    store: &mut Store,
    target: &Target,
    window: &WindowChoice,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), BudgetsError> {
    let (checks, found) = checks(store, target)?;
    let all = read(store, target, &checks, window)?;
    if form == Form::Json {
        return all.iter().try_for_each(|shown| Ok(writeln!(out, "{}", shown.json(target, found.as_ref()))?));
    }
    line(out, "limit", &target.limit.name)?;
    line(out, "key", &format!("{} ({})", target.shown_key(), target.key().escape_ascii()))?;
    if let Some(found) = &found {
        line(out, "override", &ruling_and_rest(found, Some(&target.limit)))?;
    }
    all.iter().try_for_each(|shown| shown.write(out))
}

fn read(
    store: &mut Store,
    target: &Target,
    checks: &[BucketCheck],
    window: &WindowChoice,
) -> Result<Vec<Shown>, BudgetsError> {
    let (mut all, mut refused) = (Vec::new(), None);
    let now = store.time(target.key())?;
    for (check, level) in checks.iter().zip(store.levels(checks)?) {
        let not_a_bucket = || LimitsError::NotABucket { key: check.key.escape_ascii().to_string() };
        let level = level.ok_or_else(not_a_bucket)?;
        let place = match place(&target.limit, check, window, now) {
            Ok(place) => place,
            Err(error) => {
                refused = refused.or(Some(error));
                continue;
            }
        };
        let mut shown = Shown {
            name: name(&target.limit, check.window),
            unit: unit(&target.limit),
            now,
            window: None,
            used: 0,
            rest: None,
            cut: None,
        };
        match place {
            Some(past) => shown.sum(store, target, past)?,
            None => {
                let amounts = amounts(check, &level, window);
                shown.used = i64::try_from(amounts.map_or(0, |amounts| amounts.used)).unwrap_or(i64::MAX);
                shown.window = amounts.map_or_else(|| nothing(check, window, now), |amounts| amounts.span);
                shown.rest = Some(Rest {
                    held: amounts.map_or(0, |amounts| amounts.held),
                    most: check.algorithm.limit().0,
                    is_current: shown.window == level.window.span,
                    soft_limit: soft_limit(&target.limit),
                });
            }
        }
        all.push(shown);
    }
    match refused {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// The window of which nothing is kept, since nothing was charged.
fn nothing(check: &BucketCheck, window: &WindowChoice, now: Micros) -> Option<[Micros; 2]> {
    let Algorithm::Budget(budget) = check.algorithm else { return None };
    match window {
        WindowChoice::Current => budget.window_at(now),
        WindowChoice::Previous => budget.window_at(now).and_then(|[start, _]| budget.window_at(start.minus(Micros(1)))),
        WindowChoice::At(date) => date.of(&budget).ok(),
    }
}

impl Shown {
    fn sum(&mut self, store: &mut Store, target: &Target, past: PastWindow<'_>) -> Result<(), BudgetsError> {
        let windows = [past];
        let [past] = &windows;
        let sums = Sums::read(store, &ledger_of(&[&target.limit])?, &windows)?;
        self.used = sums.of_keys.get(&(0, target.field().into_owned())).copied().unwrap_or(0);
        self.window = Some(past.span);
        self.cut = past.is_cut(&sums).then(|| cut_note(&sums));
        Ok(())
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), BudgetsError> {
        let unit = self.unit;
        let Self { name, window, used, rest, .. } = self;
        if let Some([start, end]) = window {
            line(out, "window", &format!("{} to {} ({name})", rfc_3339(*start), rfc_3339(*end)))?;
        } else {
            line(out, "window", &format!("token bucket ({name})"))?;
        }
        let Some(Rest { held, most, is_current, soft_limit }) = rest else {
            line(out, "used", &unit.shown(*used))?;
            if let Some(note) = &self.cut {
                line(out, "note", note)?;
            }
            return Ok(());
        };
        line(out, "budget", &unit.shown(*most))?;
        line(out, "used", &format!("{} ({})", unit.shown(*used), percent(*used, *most)))?;
        line(out, "held", &unit.shown(*held))?;
        if !is_current {
            return Ok(());
        }
        let remaining = self.remaining(*held, *most);
        line(out, "remaining", &unit.shown(remaining))?;
        if let Some([_, end]) = window {
            line(out, "resets at", &format!("{} (in {})", rfc_3339(*end), span(end.minus(self.now))))?;
        }
        if let Some(soft_limit) = soft_limit {
            let millionths = soft_limit.millionths();
            let is_passed = soft_limit.leaves_less(remaining, *most);
            let state = if is_passed { "passed" } else { "not passed" };
            line(out, "soft limit", &format!("{} % ({state})", millionths as f64 / 10_000.0))?;
        }
        Ok(())
    }

    fn remaining(&self, held: u64, most: u64) -> u64 {
        remaining(self.used, held, most)
    }

    fn json(&self, target: &Target, found: Option<&Found>) -> Value {
        let [from, to] = self.window.map_or([None, None], |span| span.map(|at| Some(rfc_3339(at))));
        let rest = self.rest.as_ref();
        let current = rest.filter(|rest| rest.is_current);
        let remaining = current.map(|rest| self.remaining(rest.held, rest.most));
        let usd = |amount: i128| (self.unit == Unit::NanoUsd).then(|| Usd(amount).to_string());
        json!({
            "key_prefix": target.limit.key_prefix,
            "limit": self.name,
            "key": key_json(&target.field()),
            "unit": self.unit.name(),
            "from": from,
            "to": to,
            "used": self.used,
            "used_usd": usd(self.used.into()),
            "held": rest.map(|rest| rest.held),
            "max": rest.map(|rest| rest.most),
            "remaining": remaining,
            "remaining_usd": remaining.and_then(|remaining| usd(remaining.into())),
            "soft_limit": current.and_then(|rest| rest.soft_limit).map(|soft| soft.millionths() as f64 / 1_000_000.0),
            "soft_limit_passed": current.and_then(|rest| {
                Some(rest.soft_limit?.leaves_less(self.remaining(rest.held, rest.most), rest.most))
            }),
            "at_least": self.cut.is_some(),
            "override": found.map(|found| override_json(found, Some(&target.limit))),
        })
    }
}

//! `weir budgets credit` and `reset`: give back what a key has spent.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write};

use redis::{FromRedisValue as _, Value};
use weir_filter::limit::{
    Algorithm, BucketCheck, BudgetLevel, CreditAmount, Ledger, SlotOwner, credit_call, credit_script,
};
use weir_filter::units::Micros;

use super::charged::{ledger, unit};
use super::error::BudgetsError;
use super::get::checks;
use super::list::{amounts, name, place};
use super::period::WindowChoice;
use crate::limits::LimitsError;
use crate::limits::change::note_place;
use crate::limits::configured::Target;
use crate::limits::store::Store;

// Options of changes. Not a doc comment: clap would use it as the help of the commands.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Window whose spending is given back: current or previous.
    #[arg(long, value_name = "WINDOW", default_value = "current")]
    window: WindowChoice,
    /// Do not ask whether to make the change.
    #[arg(long, short)]
    yes: bool,
    /// Name of the change: 32 hexadecimal digits. A change of the same name is made once, for a day; the default is random.
    #[arg(long, value_name = "ID", value_parser = Name::parse)]
    id: Option<Name>,
    /// Reason, for the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Name of the operator, for the ledger.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Name of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name([u8; 16]);

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        let name = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let is_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = name.filter(|_| is_digits).map(|name| Self(name.to_be_bytes()));
        name.ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
    }

    fn random() -> io::Result<Self> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        Ok(Self(name))
    }

    fn text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Gives back what was spent of a key's budgets.
pub(super) fn run(
    store: &mut Store,
    target: &Target,
    amount: CreditAmount,
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), BudgetsError> {
    let (checks, _) = checks(store, target)?;
    let before = levels(store, &checks)?;
    let since = since(store, target, &checks, options)?;
    note_place(store, notes)?;
    options.confirm(&change(target, amount, &checks, &before, &options.window), notes)?;
    let name = options.id.map_or_else(Name::random, Ok)?;
    let given = give_back(store, target, amount, &checks, &since, (options, name))?;
    let after = levels(store, &checks)?;
    for ((check, given), after) in checks.iter().zip(given).zip(after) {
        writeln!(out, "{}", told(target, check, amount, given, &after, &options.window))?;
    }
    Ok(())
}

fn levels(store: &mut Store, checks: &[BucketCheck]) -> Result<Vec<BudgetLevel>, BudgetsError> {
    let read = store.levels(checks)?;
    let level = |(check, level): (&BucketCheck, Option<BudgetLevel>)| {
        level.ok_or_else(|| LimitsError::NotABucket { key: check.key.escape_ascii().to_string() }.into())
    };
    checks.iter().zip(read).map(level).collect()
}

/// The start of each budget's window, by the budget's key; none of the present window.
fn since(
    store: &mut Store,
    target: &Target,
    checks: &[BucketCheck],
    options: &Options,
) -> Result<BTreeMap<Vec<u8>, Micros>, BudgetsError> {
    let now = store.time(target.key())?;
    let mut since = BTreeMap::new();
    for check in checks {
        let Algorithm::Budget(budget) = check.algorithm else { continue };
        if let Some(past) = place(&target.limit, check, &options.window, now)? {
            let expected = "the current or the previous window".to_owned();
            let found = weir_filter::limit::rfc_3339(past.span[0]);
            return Err(BudgetsError::OtherWindow { limit: target.limit.name.clone(), expected, found });
        }
        let current = budget.window_at(now).map(|[start, _]| start);
        let start = match &options.window {
            WindowChoice::Current => None,
            WindowChoice::Previous => {
                current.and_then(|start| budget.window_at(start.minus(Micros(1)))).map(|[start, _]| start)
            }
            WindowChoice::At(date) => date.of(&budget).ok().map(|[start, _]| start),
        };
        if let Some(start) = start.filter(|start| Some(*start) != current) {
            since.insert(check.key.clone(), start);
        }
    }
    Ok(since)
}

fn give_back(
    store: &mut Store,
    target: &Target,
    amount: CreditAmount,
    checks: &[BucketCheck],
    since: &BTreeMap<Vec<u8>, Micros>,
    (options, own): (&Options, Name),
) -> Result<Vec<u64>, BudgetsError> {
    let stream = ledger(&target.limit);
    let names: Vec<String> = checks.iter().map(|check| name(&target.limit, check.window)).collect();
    let source = if amount == CreditAmount::All { "reset" } else { "credit" };
    let mut fields = vec![("id", own.text().into_bytes()), ("source", source.into())];
    fields.extend(checks.iter().map(|check| ("key", check.key.clone())));
    fields.push(("limits", names.join(" ").into_bytes()));
    for (field, text) in [("reason", &options.reason), ("by", &options.by)] {
        fields.extend(text.iter().map(|text| (field, text.clone().into_bytes())));
    }
    let ledger =
        stream.as_ref().map(|stream| Ledger { stream: stream.key.as_bytes(), max_len: stream.max_len, fields });
    let owner = SlotOwner::of_bytes(&own.0).unwrap_or_default();
    let start = |check: &BucketCheck| since.get(&check.key).copied();
    let call = credit_call(&credit_script(), checks, owner, amount, &start, ledger.as_ref());
    let mut wire = Vec::new();
    call.encode_with_source(&mut wire);
    let reply = store.ask(target.key(), |redis| redis.req_packed_command(&wire).and_then(Value::extract_error));
    let reply = reply.map_err(|source| match source.is_unreachable() {
        true => BudgetsError::Unknown { source, id: own.text() },
        false => source.into(),
    })?;
    let given = Vec::<String>::from_redis_value(reply).ok();
    let given = given.and_then(|given| given.iter().map(|text| text.parse().ok()).collect::<Option<Vec<u64>>>());
    let expected = "an amount for each budget";
    given.filter(|given| given.len() == checks.len()).ok_or(BudgetsError::Reply { address: store.place(), expected })
}

/// The change as text, for the question to the operator.
fn change(
    target: &Target,
    amount: CreditAmount,
    checks: &[BucketCheck],
    before: &[BudgetLevel],
    window: &WindowChoice,
) -> String {
    let unit = unit(&target.limit);
    let what = match amount {
        CreditAmount::Most(amount) => format!("give back {} to {target}", unit.shown(amount)),
        CreditAmount::All => format!("give back all that {target} has spent"),
    };
    let used = checks.iter().zip(before).map(|(check, level)| {
        let used = amounts(check, level, window).map_or(0, |amounts| amounts.used);
        format!("{}: {} used", name(&target.limit, check.window), unit.shown(used))
    });
    format!("{what} ({})", used.collect::<Vec<_>>().join("; "))
}

fn told(
    target: &Target,
    check: &BucketCheck,
    amount: CreditAmount,
    given: u64,
    after: &BudgetLevel,
    window: &WindowChoice,
) -> String {
    let unit = unit(&target.limit);
    let less = match amount {
        CreditAmount::Most(amount) if given < amount => format!(" of {}, as no more was spent", unit.shown(amount)),
        _ => String::new(),
    };
    let used = amounts(check, after, window).map_or(0, |amounts| amounts.used);
    let name = name(&target.limit, check.window);
    let key = target.shown_key();
    format!("{name} {key}: gave back {}{less}; {} used now", unit.shown(given), unit.shown(used))
}

impl Options {
    /// Asks the operator, unless they have said yes.
    fn confirm(&self, change: &str, notes: &mut dyn Write) -> Result<(), BudgetsError> {
        if self.yes {
            return Ok(());
        }
        let input = io::stdin();
        if !input.is_terminal() {
            return Err(BudgetsError::Unasked { change: change.to_owned() });
        }
        write!(notes, "{change}? [y/N] ")?;
        notes.flush()?;
        let mut answer = String::new();
        input.lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(BudgetsError::Declined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(Name::parse(text).map(Name::text).as_deref(), Ok(text));
        for text in ["", "1", "00112233445566778899aabbccddeefg", "+0112233445566778899aabbccddeeff"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}

//! `weir limits migrate`: moves overrides of keys from the hash of earlier versions to strings beside the buckets.

use std::io::Write;

use super::configured::Configured;
use super::error::LimitsError;
use super::found::State;
use super::list::names;
use super::render::key_of;
use super::store::Store;
use super::stored::Moved;

/// Number of malformed overrides that are shown with their errors.
const SHOWN: u64 = 100;

#[derive(Default)]
struct Counts {
    moved: u64,
    over: u64,
    malformed: u64,
    changed: u64,
}

/// Moves the overrides of all keys.
pub(super) fn run(store: &mut Store, configured: &Configured, out: &mut dyn Write) -> Result<(), LimitsError> {
    let mut counts = Counts::default();
    for prefix in &configured.prefixes {
        store.each_field(prefix, |store, page, now| {
            for pair in page.iter().filter(|(field, _)| field.contains(&b':')) {
                let found = store.units.read(prefix, &pair.0, &pair.1, now);
                match &found.state {
                    State::Over => {
                        store.remove_if_same(prefix, pair)?;
                        counts.over += 1;
                    }
                    State::Malformed(error) => {
                        counts.malformed += 1;
                        if counts.malformed <= SHOWN {
                            let name = names(&pair.0).escape_ascii();
                            writeln!(out, "left {name} {}: {error}", key_of(&pair.0))?;
                        }
                    }
                    State::InForce { .. } => match store.migrate(prefix, pair, found.until())? {
                        Moved::Moved => counts.moved += 1,
                        Moved::Changed => counts.changed += 1,
                    },
                }
            }
            Ok(())
        })?;
    }
    let Counts { moved, over, malformed, changed } = counts;
    writeln!(out, "{moved} overrides of keys moved, {over} expired ones removed, {malformed} malformed ones left")?;
    if changed > 0 {
        writeln!(out, "{changed} were changed meanwhile and are left; run it again")?;
    }
    Ok(())
}

//! Reads the overrides again and again, over the connection that the checks have.
//!
//! It is asleep until the worker's first request, so that a context that serves none never connects. From then on,
//! every interval is a round: the hash is read page by page, one call at a time, and what was read takes the place of
//! what was known when the last page has come. A round that fails changes nothing.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::mem;

use siphasher::sip::SipHasher13;

use super::page::{MalformedPage, Page, Position, SCRIPT};
use super::setting::{MAX_FIELD, Setting, SettingError};
use super::{Entry, MAX_ENTRIES, Overrides, hash_key};
use crate::descriptor::key_hash;
use crate::redis::{Call, Failure, Reply, Script, script};
use crate::units::Micros;

/// Pages of one round. Reached only where most of a hash's fields were deleted, and then next to empty.
const MAX_PAGES: u32 = 2_000;
/// Malformed entries that are warned about one by one.
const MAX_NAMED: usize = 64;
/// Until a call without an answer is given up. Its budget is less, unless `redis.timeout` is longer than 3 s.
const GIVE_UP: Micros = Micros::from_secs(30);
/// While nothing is known yet, a round that failed is tried again after this part of the interval.
const FIRST_RETRY: u64 = 10;

/// One worker's reader of the overrides.
#[derive(Debug)]
pub struct Refresh {
    script: Arc<Script>,
    key_prefix: String,
    hash_key: String,
    interval: Micros,
    seed: u64,
    serial: u32,
    phase: Phase,
    overrides: Overrides,
    is_loaded: bool,
    round: Round,
    /// What has been warned about, and is still there as far as is known.
    warned: Vec<u64>,
    unnamed: u64,
    is_truncated: bool,
}

#[derive(Debug)]
enum Phase {
    Asleep,
    /// A call is due at this instant.
    Due(Micros, Position),
    Asked {
        give_up_at: Micros,
    },
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Round {
    overrides: Overrides,
    pages: u32,
    malformed: Vec<u64>,
    unnamed: u64,
}

/// Something that came of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Others than before are in force: what was concluded from those no longer holds.
    Changed,
    /// To be counted, and to be logged as a warning: it is not told again until it changes.
    Ignored(Ignored),
}

/// What an operator meant and does not get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// An entry that is none.
    #[error("an override is ignored, of a field whose hash is {field_hash}: {expected}; `weir limits list` shows it")]
    Malformed {
        /// The hash of its field, which may be a client's key: see [`key_hash`].
        field_hash: String,
        /// The value that was expected in place of its own.
        expected: String,
    },
    /// An empty field, or one longer than any key.
    #[error(
        "an override is ignored, of a field whose hash is {field_hash}: expected a limit's name or a key of 1 to \
         {MAX_FIELD} bytes"
    )]
    Field {
        /// The hash of the field, or of its beginning.
        field_hash: String,
    },
    /// Many more malformed entries.
    #[error("{0} more overrides are ignored: expected settings, found none")]
    Others(u64),
    /// More overrides than a worker keeps.
    #[error("some overrides are ignored: expected at most {MAX_ENTRIES}, found {found}")]
    TooMany {
        /// Fields in the hash.
        found: u64,
    },
    /// A reply that is no page. Told each time.
    #[error("overrides are not refreshed: {0}")]
    Reply(#[from] MalformedPage),
}

impl Refresh {
    /// Knows of no overrides yet, and is asleep. `interval` is from the end of a round to the start of the next, less
    /// up to a quarter; `seed` decides by how much, so that workers do not march in step: give each another.
    #[must_use]
    pub fn new(key_prefix: &str, interval: Micros, seed: u64) -> Self {
        Self {
            script: Arc::new(script!(SCRIPT)),
            hash_key: hash_key(key_prefix),
            interval,
            seed,
            serial: 0,
            phase: Phase::Asleep,
            overrides: Overrides::new(key_prefix),
            is_loaded: false,
            round: Round::default(),
            warned: Vec::new(),
            unnamed: 0,
            is_truncated: false,
            key_prefix: key_prefix.to_owned(),
        }
    }

    /// A request has come: the first one wakes it up.
    pub fn wake(&mut self, now: Micros) {
        if matches!(self.phase, Phase::Asleep) {
            self.phase = Phase::Due(now, Position::start());
        }
    }

    /// The overrides as they are known now.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether a whole round has succeeded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// The call that is due, if one is. What comes of it, or why it could not be made, goes to
    /// [`handle`](Self::handle).
    pub fn due(&mut self, now: Micros) -> Option<Call> {
        if let Phase::Asked { give_up_at } = self.phase
            && now >= give_up_at
        {
            self.phase = Phase::Due(now, Position::start());
        }
        let Phase::Due(at, position) = &self.phase else { return None };
        if now < *at {
            return None;
        }
        if *position == Position::start() {
            self.round = Round { overrides: Overrides::new(&self.key_prefix), ..Round::default() };
        }
        self.serial = self.serial.wrapping_add(1);
        let call = position.call(&self.script, &self.hash_key, self.serial);
        self.phase = Phase::Asked { give_up_at: now.plus(GIVE_UP) };
        Some(call)
    }

    /// When [`due`](Self::due) has something to do, if at all.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        match self.phase {
            Phase::Asleep => None,
            Phase::Due(at, _) => Some(at.max(now)),
            Phase::Asked { give_up_at } => Some(give_up_at.max(now)),
        }
    }

    /// What came of the call that was due.
    pub fn handle(&mut self, now: Micros, result: Result<Reply, Failure>) -> Vec<Event> {
        if !matches!(self.phase, Phase::Asked { .. }) {
            return Vec::new();
        }
        match result.map(Page::read) {
            // Of a call that was given up.
            Ok(Ok(page)) if page.serial != self.serial => Vec::new(),
            Ok(Ok(page)) => self.take(now, page),
            Ok(Err(malformed)) => {
                self.fail(now);
                vec![Event::Ignored(malformed.into())]
            }
            Err(_) => {
                self.fail(now);
                Vec::new()
            }
        }
    }

    fn fail(&mut self, now: Micros) {
        let parts = if self.is_loaded { 1 } else { FIRST_RETRY };
        self.rest(now, Micros(self.interval.0.checked_div(parts).unwrap_or_default()));
    }

    fn rest(&mut self, now: Micros, span: Micros) {
        self.round = Round::default();
        let slack = (span.0 / 4).saturating_add(1);
        let stray = mixed(self.seed, self.serial).checked_rem(slack).unwrap_or_default();
        self.phase = Phase::Due(now.plus(span.minus(Micros(stray))), Position::start());
    }

    fn take(&mut self, now: Micros, page: Page) -> Vec<Event> {
        let mut events = Vec::new();
        for (field, value) in page.entries {
            if self.round.overrides.len() >= MAX_ENTRIES {
                break;
            }
            match read(&field, &value) {
                Ok(setting) if setting.is_over(page.now) => {}
                Ok(setting) => {
                    let until = setting.until.map(|until| now.plus(Micros::from_secs(until).minus(page.now)));
                    self.round.overrides.entries.insert(field.into_boxed_slice(), Entry { setting, until });
                }
                Err(ignored) => events.extend(self.once(&field, &value, ignored).map(Event::Ignored)),
            }
        }
        self.round.pages = self.round.pages.saturating_add(1);
        let is_full = self.round.overrides.len() >= MAX_ENTRIES || self.round.pages >= MAX_PAGES;
        match page.next {
            Some(next) if !is_full => self.phase = Phase::Due(now, next),
            next => {
                // A full round whose last page this was has seen everything.
                let is_truncated = is_full && (next.is_some() || page.total > MAX_ENTRIES as u64);
                self.finish(now, is_truncated.then_some(page.total), &mut events);
            }
        }
        events
    }

    /// The warning, unless it was given before. Redis may tell of an entry twice in one round.
    fn once(&mut self, field: &[u8], value: &[u8], ignored: Ignored) -> Option<Ignored> {
        let mut hasher = SipHasher13::new();
        (field, value).hash(&mut hasher);
        let content = hasher.finish();
        let is_room = self.round.malformed.len() < MAX_NAMED && self.warned.len() < MAX_NAMED.saturating_mul(2);
        let is_known = self.warned.contains(&content);
        if !is_known && !is_room {
            self.round.unnamed = self.round.unnamed.saturating_add(1);
            return None;
        }
        if !self.round.malformed.contains(&content) {
            self.round.malformed.push(content);
        }
        if is_known {
            return None;
        }
        self.warned.push(content);
        Some(ignored)
    }

    /// `truncated_of` is how many there are, where not all were kept.
    fn finish(&mut self, now: Micros, truncated_of: Option<u64>, events: &mut Vec<Event>) {
        let Round { overrides, malformed, unnamed, .. } = mem::take(&mut self.round);
        if unnamed > self.unnamed {
            events.push(Event::Ignored(Ignored::Others(unnamed.saturating_sub(self.unnamed))));
        }
        if let Some(found) = truncated_of.filter(|_| !self.is_truncated) {
            events.push(Event::Ignored(Ignored::TooMany { found }));
        }
        if !overrides.says_the_same_as(&self.overrides) {
            events.push(Event::Changed);
        }
        self.warned = malformed;
        self.unnamed = unnamed;
        self.is_truncated = truncated_of.is_some();
        self.overrides = overrides;
        self.is_loaded = true;
        self.rest(now, self.interval);
    }
}

fn read(field: &[u8], value: &[u8]) -> Result<Setting, Ignored> {
    if field.is_empty() || field.len() > MAX_FIELD {
        return Err(Ignored::Field { field_hash: key_hash(field) });
    }
    let malformed =
        |problem: SettingError| Ignored::Malformed { field_hash: key_hash(field), expected: problem.expected() };
    Setting::parse(value).map_err(malformed)
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mixed(seed: u64, step: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(step).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;

//! Refresh: reads the overrides at an interval, over the connection of the checks.
//!
//! Refreshing starts with the worker's first request, so that a context without requests never connects. From then on,
//! one round runs per interval: it reads the hash page by page, one call at a time, and replaces the known overrides
//! once the last page has arrived. Where models have prices, the hash of prices follows. A failed round changes nothing.

mod prices;

use alloc::borrow::ToOwned;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::mem;

use siphasher::sip::SipHasher13;

use self::prices::PriceRefresh;
use super::announced::Announced;
use super::in_force::{Entry, MAX_ENTRIES, Overrides};
use super::page::{MalformedPage, Page, Position, SCRIPT, hash_key};
use super::prices::{MAX_PRICES, PriceTable};
use super::setting::{MAX_FIELD, Setting, SettingError};
use super::units::Units;
use crate::descriptor::key_hash;
use crate::redis::{Call, Failure, Reply, Script, script};
use crate::units::{Micros, Random};
use crate::usage::ModelPrice;

/// Pages of one round, at most. Reached only where most of a hash's fields were deleted, so that pages are nearly
/// empty.
const MAX_PAGES: u32 = 2_000;
/// Malformed entries that get a warning of their own, at most.
const MAX_NAMED: usize = 64;
/// Time after which a call without a reply is given up. The call's own timeout is shorter, unless `redis.timeout` is
/// longer than 3 s.
const GIVE_UP: Micros = Micros::from_secs(30);
/// Before the first successful round, a failed round is repeated after the interval divided by this number.
const FIRST_RETRY: u64 = 10;

/// Reads the overrides for one worker.
#[derive(Debug)]
pub struct Refresh {
    script: Arc<Script>,
    key_prefix: String,
    units: Rc<Units>,
    hash_key: String,
    interval: Micros,
    jitter: Random,
    serial: u32,
    phase: Phase,
    overrides: Overrides,
    is_loaded: bool,
    round: Round,
    /// Hashes of the malformed entries of the last round that have been warned about.
    warned: Vec<u64>,
    /// Malformed entries of the last round without a warning of their own.
    unnamed: u64,
    /// Whether the last round left out overrides beyond [`MAX_ENTRIES`].
    is_truncated: bool,
    /// Redis' time at the start of the last successful round: what was announced before it is known.
    heard_until: Micros,
    /// Prices. `None` where models have none.
    prices: Option<PriceRefresh>,
}

#[derive(Debug)]
enum Phase {
    /// No request has arrived yet.
    Idle,
    /// A call is due at this instant.
    Due(Micros, Position),
    /// A call waits for its reply.
    InFlight { give_up_at: Micros },
}

/// Results of the current round so far.
#[derive(Debug, Default)]
struct Round {
    overrides: Overrides,
    pages: u32,
    malformed: Vec<u64>,
    unnamed: u64,
    /// Redis' time at its first page.
    began: Option<Micros>,
}

/// Effect of a page on the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The overrides in force have changed: results derived from the old ones are stale.
    Changed,
    /// The override of a key has changed.
    KeyChanged {
        /// Redis' time of the page.
        redis_time: Micros,
        /// Limit and key.
        key: Vec<u8>,
        /// Text of the override, empty if it was removed.
        text: Vec<u8>,
    },
    /// The prices of models that are set at run time have changed: these are all.
    Prices(Vec<ModelPrice>),
    /// Counted, and logged as a warning: not reported again until it changes.
    Ignored(Ignored),
}

/// Overrides that are ignored, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// An entry with a malformed value.
    #[error("override ignored (field hash {field_hash}): {expected}; `weir limits list` shows the override")]
    Malformed {
        /// Hash of the entry's field, which may be a client's key: see [`key_hash`].
        field_hash: String,
        /// Text of the error, without the value.
        expected: String,
    },
    /// An empty field, or a field longer than any key.
    #[error("override ignored (field hash {field_hash}): expected a limit's name or a key of 1 to {MAX_FIELD} bytes")]
    Field {
        /// Hash of the field, or of its first bytes where the field is too long.
        field_hash: String,
    },
    /// A malformed price, and why.
    #[error("price ignored: {0}")]
    Price(String),
    /// More prices than a worker keeps.
    #[error("some prices ignored: expected at most {MAX_PRICES} with 64 KiB in all, found {found}")]
    TooManyPrices {
        /// Number of fields in the hash.
        found: u64,
    },
    /// Number of malformed entries beyond those with a warning of their own.
    #[error("{0} more overrides ignored: malformed values")]
    Others(u64),
    /// More overrides than a worker keeps.
    #[error("some overrides ignored: expected at most {MAX_ENTRIES}, found {found}")]
    TooMany {
        /// Number of fields in the hash.
        found: u64,
    },
    /// A malformed page. Reported every time.
    #[error("overrides not refreshed: {0}")]
    Reply(#[from] MalformedPage),
}

impl Refresh {
    /// Creates an idle reader without overrides. `interval` is the time from the end of a round to the start of the
    /// next, less a jitter of up to a quarter. `seed` varies the jitter: give each worker a different seed, so that
    /// workers do not read at the same time.
    #[must_use]
    #[inline(never)]
    pub fn new(key_prefix: &str, interval: Micros, seed: u64) -> Self {
        Self {
            script: Arc::new(script!(SCRIPT)),
            units: Rc::default(),
            hash_key: hash_key(key_prefix),
            interval,
            jitter: Random::new(seed),
            serial: 0,
            phase: Phase::Idle,
            overrides: Overrides::new(key_prefix),
            is_loaded: false,
            round: Round::default(),
            warned: Vec::new(),
            unnamed: 0,
            is_truncated: false,
            heard_until: Micros::ZERO,
            prices: None,
            key_prefix: key_prefix.to_owned(),
        }
    }

    /// Ignores overrides whose numbers are of other units than their limits'.
    #[must_use]
    pub fn with_units(self, units: Rc<Units>) -> Self {
        Self { units, ..self }
    }

    /// Handles a request: the first one starts the first round.
    pub fn wake(&mut self, now: Micros) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Due(now, Position::start());
        }
    }

    /// Returns the overrides of the last successful round.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Returns whether a round has succeeded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// Returns the call that is due, if any. Pass its reply or failure to [`handle`](Self::handle).
    pub fn due(&mut self, now: Micros) -> Option<Call> {
        if let Phase::InFlight { give_up_at } = self.phase
            && now >= give_up_at
        {
            self.phase = Phase::Due(now, Position::start());
        }
        let Phase::Due(at, position) = &self.phase else { return None };
        if now < *at {
            return None;
        }
        let prices = self.prices.as_ref().filter(|prices| prices.is_reading);
        if *position == Position::start() && prices.is_none() {
            self.round = Round { overrides: Overrides::new(&self.key_prefix), ..Round::default() };
        }
        self.serial = self.serial.wrapping_add(1);
        let hash_key = prices.map_or(&self.hash_key, |prices| &prices.hash_key);
        let call = position.call(&self.script, hash_key, self.serial);
        self.phase = Phase::InFlight { give_up_at: now.plus(GIVE_UP) };
        Some(call)
    }

    /// Returns the time at which [`due`](Self::due) has work, if any.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        match self.phase {
            Phase::Idle => None,
            Phase::Due(at, _) => Some(at.max(now)),
            Phase::InFlight { give_up_at } => Some(give_up_at.max(now)),
        }
    }

    /// Handles the reply or the failure of the call that was due.
    pub fn handle(&mut self, now: Micros, result: Result<Reply, Failure>) -> Vec<Event> {
        if !matches!(self.phase, Phase::InFlight { .. }) {
            return Vec::new();
        }
        match result.map(Page::read) {
            // The reply to a call that was given up.
            Ok(Ok(page)) if page.serial != self.serial => Vec::new(),
            Ok(Ok(page)) if self.prices.as_ref().is_some_and(|prices| prices.is_reading) => self.take_prices(now, page),
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
        self.schedule(now, Micros(self.interval.0.checked_div(parts).unwrap_or_default()));
    }

    fn schedule(&mut self, now: Micros, span: Micros) {
        self.round = Round::default();
        if let Some(prices) = &mut self.prices {
            (prices.read, prices.is_reading) = (PriceTable::default(), false);
        }
        let slack = (span.0 / 4).saturating_add(1);
        let jitter = self.jitter.below(slack);
        self.phase = Phase::Due(now.plus(span.minus(Micros(jitter))), Position::start());
    }

    fn take(&mut self, now: Micros, page: Page) -> Vec<Event> {
        let mut events = Vec::new();
        self.round.began.get_or_insert(page.now);
        for (field, value) in page.entries {
            if Announced::is_field(&field) {
                events.extend(self.announced(page.now, &field, &value));
                continue;
            }
            if self.round.overrides.len() >= MAX_ENTRIES {
                break;
            }
            match read(&field, &value, &self.units) {
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
                // A round that fills up on its last page has read every field.
                let is_truncated = is_full && (next.is_some() || page.total > MAX_ENTRIES as u64);
                self.finish(now, is_truncated.then_some(page.total), &mut events);
            }
        }
        events
    }

    /// Returns an announced change, unless the last round has read it.
    fn announced(&self, redis_time: Micros, field: &[u8], value: &[u8]) -> Option<Event> {
        let change = Announced::read(field, value).filter(|change| change.at >= self.heard_until)?;
        Some(Event::KeyChanged { redis_time, key: change.key.to_vec(), text: change.text.to_vec() })
    }

    /// Returns the warning unless it was given before. HSCAN may return an entry twice in one round.
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

    /// Ends a round: replaces the overrides. `truncated_of` is the number of fields in the hash, where not all were
    /// kept.
    fn finish(&mut self, now: Micros, truncated_of: Option<u64>, events: &mut Vec<Event>) {
        let overrides = mem::take(&mut self.round.overrides);
        self.heard_until = self.round.began.unwrap_or(self.heard_until);
        if let Some(found) = truncated_of.filter(|_| !self.is_truncated) {
            events.push(Event::Ignored(Ignored::TooMany { found }));
        }
        if !overrides.has_same_settings_as(&self.overrides) {
            events.push(Event::Changed);
        }
        self.is_truncated = truncated_of.is_some();
        self.overrides = overrides;
        self.is_loaded = true;
        match &mut self.prices {
            Some(prices) => {
                prices.is_reading = true;
                self.round.pages = 0;
                self.phase = Phase::Due(now, Position::start());
            }
            None => self.conclude(now, events),
        }
    }

    /// Ends a round whose last page has arrived.
    fn conclude(&mut self, now: Micros, events: &mut Vec<Event>) {
        let Round { malformed, unnamed, .. } = mem::take(&mut self.round);
        if unnamed > self.unnamed {
            events.push(Event::Ignored(Ignored::Others(unnamed.saturating_sub(self.unnamed))));
        }
        self.warned = malformed;
        self.unnamed = unnamed;
        self.schedule(now, self.interval);
    }
}

pub(super) fn read(field: &[u8], value: &[u8], units: &Units) -> Result<Setting, Ignored> {
    if field.is_empty() || field.len() > MAX_FIELD {
        return Err(Ignored::Field { field_hash: key_hash(field) });
    }
    let malformed =
        |problem: SettingError| Ignored::Malformed { field_hash: key_hash(field), expected: problem.expected() };
    match units.of_field(field) {
        Some(unit) => Setting::parse_for(value, unit).map_err(malformed),
        None => Setting::parse(value).map_err(malformed),
    }
}

#[cfg(test)]
mod tests;

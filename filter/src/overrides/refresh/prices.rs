//! Prices of models in a round: the pages behind those of the overrides.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use super::{Event, Ignored, MAX_PAGES, Page, Phase, Refresh};
use crate::overrides::prices::{PriceTable, prices_key};
use crate::units::Micros;

/// Prices of the last successful round, and those of the current one.
#[derive(Debug)]
pub(super) struct PriceRefresh {
    pub(super) hash_key: String,
    known: PriceTable,
    pub(super) read: PriceTable,
    /// Whether the round has come to the prices.
    pub(super) is_reading: bool,
    is_truncated: bool,
}

impl Refresh {
    /// Makes each round read the prices of models, too.
    #[must_use]
    pub fn with_prices(self) -> Self {
        let prices = PriceRefresh {
            hash_key: prices_key(&self.key_prefix),
            known: PriceTable::default(),
            read: PriceTable::default(),
            is_reading: false,
            is_truncated: false,
        };
        Self { prices: Some(prices), ..self }
    }

    /// Takes a page of prices.
    #[inline(never)]
    pub(super) fn take_prices(&mut self, now: Micros, page: Page) -> Vec<Event> {
        let (mut events, mut is_full) = (Vec::new(), false);
        for (field, value) in page.entries {
            let Some(prices) = self.prices.as_mut() else { break };
            if !prices.read.has_room(&field, &value) {
                is_full = true;
                break;
            }
            if let Err(problem) = prices.read.add(field.clone(), &value) {
                events.extend(self.once(&field, &value, Ignored::Price(problem)).map(Event::Ignored));
            }
        }
        self.round.pages = self.round.pages.saturating_add(1);
        is_full |= self.round.pages >= MAX_PAGES;
        match (page.next, &mut self.prices) {
            (Some(next), _) if !is_full => self.phase = Phase::Due(now, next),
            (_, Some(prices)) => {
                if is_full && !prices.is_truncated {
                    events.push(Event::Ignored(Ignored::TooManyPrices { found: page.total }));
                }
                prices.is_truncated = is_full;
                let read = mem::take(&mut prices.read);
                if !read.is_same_as(&prices.known) {
                    events.push(Event::Prices(read.models()));
                }
                prices.known = read;
                self.conclude(now, &mut events);
            }
            _ => {}
        }
        events
    }
}

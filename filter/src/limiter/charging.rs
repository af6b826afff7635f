//! Requests whose limits charge what their responses cost: from the estimates to the amounts.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::estimates::{Facts, LimitEstimate, additions};
use super::filter_state::Entry;
use super::{Limiter, RequestId};
use crate::config::{Config, UsageConfig};
use crate::descriptor::Attributes;
use crate::limit::{Ending, LedgerEntry, Seen, UsageSource};
use crate::table::Table;
use crate::usage::{Field, Framing, ModelPrice, NanoUsd, Numbers, Paths, Prices, Reader, Readings, Usage};

/// Requests of one worker that limits charge.
#[derive(Debug)]
pub(super) struct Charging {
    paths: Paths,
    /// Prices of the configuration.
    prices: Option<Arc<Prices>>,
    requests: Table<Box<ChargedRequest>>,
}

/// Request that limits charge.
#[derive(Debug)]
pub(super) struct ChargedRequest {
    facts: Facts,
    limits: Vec<LimitEstimate>,
    /// Prices at the time of the request.
    prices: Option<Arc<Prices>>,
    head: Option<ResponseHead>,
    reader: Option<Reader>,
    /// Usage that the response has told so far.
    told: Option<Usage>,
    is_whole: bool,
}

/// Head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status.
    pub status: u16,
    /// Whether the response is from the upstream, and not from the proxy.
    pub is_upstream: bool,
    /// Format of the body. `None` where it is not read.
    pub framing: Option<Framing>,
    /// Whether the body is compressed.
    pub is_encoded: bool,
    /// Tokens that headers tell.
    pub tokens: Numbers,
    /// Number of headers that should tell tokens and are malformed.
    pub malformed: u32,
}

/// Amounts of a request at its end.
#[derive(Debug)]
pub(super) struct Amounts {
    /// Indexes of limits, each with what the request has cost it.
    pub(super) of_limits: Vec<(usize, u64)>,
    pub(super) ending: Ending,
    /// Events and numbers of the response that are malformed.
    pub(super) malformed: u32,
    pub(super) ledger: LedgerEntry,
}

impl Limiter {
    /// Whether limits charge what the response to the request costs.
    #[must_use]
    pub fn is_charged(&self, request: RequestId) -> bool {
        self.charging.as_ref().is_some_and(|charging| charging.contains(request))
    }

    /// Sets the prices of models that are set at run time, in place of configured ones of the same names, for the requests
    /// from now on.
    pub(super) fn set_prices(&mut self, models: &[ModelPrice]) {
        if let Some((charging, usage)) = self.charging.as_ref().zip(self.config.usage.as_mut()) {
            usage.prices = charging.prices.as_ref().map(|prices| Arc::new(prices.with(models)));
        }
    }

    /// Returns the members that are to be added to a request's body, each with a comma before it; empty if none.
    #[must_use]
    pub fn additions(&self, request: &dyn Attributes) -> String {
        additions(&self.config, request)
    }

    /// Headers in which responses tell tokens.
    #[must_use]
    pub fn token_headers(&self) -> Option<Arc<[(String, Field)]>> {
        self.config.usage.as_ref().map(|usage| Arc::clone(usage.format.headers()))
    }

    /// Handles the head of the response to a request that is [charged](Self::is_charged).
    pub fn response_begins(&mut self, request: RequestId, head: ResponseHead) {
        if let Some(charging) = &mut self.charging {
            charging.begin(request, head);
        }
    }

    /// Handles the next bytes of a response's body, which passes on; `bytes` returns them, and is called only if the body
    /// is read. Returns names and values for the access log where the response has told other usage than before: it may be
    /// cut off.
    pub fn response_body<B: AsRef<[u8]>>(
        &mut self,
        request: RequestId,
        bytes: impl FnOnce() -> B,
    ) -> Option<Vec<(&'static str, String)>> {
        let charging = self.charging.as_mut()?;
        let charged = charging.requests.get_mut(request.0)?;
        let reader = charged.reader.as_mut()?;
        let before = reader.readings().told();
        reader.push(&charging.paths, bytes().as_ref());
        if reader.readings().told() == before { None } else { charged.tells(&self.config) }
    }

    /// Handles the end of a whole response to a request that is charged. Returns names and values for its access log.
    pub fn response_is_whole(&mut self, request: RequestId) -> Vec<(&'static str, String)> {
        self.charging.as_mut().and_then(|charging| charging.complete(request, &self.config)).unwrap_or_default()
    }
}

impl Charging {
    pub(super) fn new(usage: &UsageConfig) -> Self {
        Self { paths: Paths::of(&usage.format), prices: usage.prices.clone(), requests: Table::new() }
    }

    pub(super) fn arrive(&mut self, request: RequestId, (facts, limits): (Facts, Vec<LimitEstimate>), config: &Config) {
        let prices = config.usage.as_ref().and_then(|usage| usage.prices.clone());
        let charged = ChargedRequest { facts, limits, prices, head: None, reader: None, told: None, is_whole: false };
        self.requests.insert(request.0, Box::new(charged));
    }

    pub(super) fn contains(&self, request: RequestId) -> bool {
        self.requests.contains(request.0)
    }

    /// Handles the head of a response.
    pub(super) fn begin(&mut self, request: RequestId, head: ResponseHead) {
        if let Some(charged) = self.requests.get_mut(request.0) {
            charged.reader = head.framing.filter(|_| head.is_read()).map(Reader::new);
            charged.head = Some(head);
        }
    }

    /// Handles the end of a whole response. Returns the request's amounts for its access log.
    pub(super) fn complete(&mut self, request: RequestId, config: &Config) -> Option<Vec<Entry>> {
        let charged = self.requests.get_mut(request.0)?;
        charged.is_whole = true;
        Some(charged.amounts(config).entries())
    }

    /// Removes a request that has ended, and returns its amounts.
    pub(super) fn end(&mut self, request: RequestId, config: &Config) -> Option<Amounts> {
        self.requests.remove(request.0).map(|charged| charged.amounts(config))
    }
}

impl ResponseHead {
    fn is_read(&self) -> bool {
        self.is_served() && !self.is_encoded
    }

    fn is_served(&self) -> bool {
        self.is_upstream && (200..300).contains(&self.status)
    }
}

impl ChargedRequest {
    /// Returns the request's amounts so far where the response has told other usage than before.
    #[inline(never)]
    fn tells(&mut self, config: &Config) -> Option<Vec<Entry>> {
        let usage = self.reader.as_ref()?.readings().usage().filter(|usage| self.told != Some(*usage))?;
        self.told = Some(usage);
        Some(self.amounts(config).entries())
    }

    fn ending(&self) -> Ending {
        let Some(head) = self.head else { return Ending::Unserved };
        let readings = self.reader.as_ref().map(Reader::readings);
        match head {
            _ if head.is_upstream && head.status == 101 => Ending::Upgraded,
            _ if !head.is_served() => Ending::Unserved,
            _ if readings.is_some_and(|readings| readings.has_error) => Ending::Failed,
            _ if !self.is_whole => Ending::CutOff,
            _ if readings.is_none() => Ending::Opaque,
            _ if readings.is_some_and(|readings| readings.is_pending) => Ending::Background,
            _ => Ending::Complete,
        }
    }

    fn amounts(&self, config: &Config) -> Amounts {
        let ending = self.ending();
        let readings = self.reader.as_ref().map(Reader::readings);
        let of_headers = Readings::from(self.head.map_or([None; _], |head| head.tokens));
        let told = readings.filter(|readings| readings.usage().is_some()).unwrap_or(&of_headers);
        let seen = Seen {
            usage: told.usage(),
            has_output: told.has_output(),
            text_bytes: self.reader.as_ref().map_or(0, Reader::text_bytes),
        };
        let model = readings.and_then(|readings| readings.model.as_deref()).unwrap_or(&self.facts.model);
        let tier = readings.and_then(|readings| readings.service_tier.as_deref());
        // The provider's cost is that of all that it tells.
        let of_provider = |usage: &Usage| told.cost.filter(|_| Some(*usage) == seen.usage);
        let cost = |usage: &Usage| match &self.prices {
            _ if let Some(cost) = of_provider(usage) => cost,
            Some(prices) => prices.cost_at([model, &self.facts.model], tier, usage),
            None => NanoUsd::default(),
        };
        let (mut of_limits, mut first) = (Vec::new(), None);
        for estimate in &self.limits {
            let charge = config.limits.get(estimate.limit).and_then(|limit| limit.charge.as_ref());
            let Some(charge) = charge else { continue };
            let (amount, source) = charge.amount(ending, estimate.held, estimate.input, &seen, &cost);
            of_limits.push((estimate.limit, amount));
            first = first.or(Some((source, *estimate)));
        }
        let (source, usage) = match first {
            Some((source @ UsageSource::Usage, _)) => (source, seen.usage.unwrap_or_default()),
            Some((source @ UsageSource::Seen, estimate)) => (source, seen.tokens(estimate.input)),
            Some((source @ UsageSource::Estimate, LimitEstimate { input, output, .. })) => {
                (source, Usage { input, output, ..Usage::default() })
            }
            _ => (UsageSource::Zero, Usage::default()),
        };
        Amounts {
            of_limits,
            ending,
            malformed: self.malformed(),
            ledger: LedgerEntry {
                model: model.to_string(),
                usage,
                cost: self.prices.as_ref().map(|_| cost(&usage)),
                source,
                status: self.head.map_or(0, |head| head.status),
            },
        }
    }
}

impl ChargedRequest {
    /// Number of events and numbers of the response that are malformed.
    fn malformed(&self) -> u32 {
        let of_head = self.head.filter(ResponseHead::is_served).map_or(0, |head| head.malformed);
        let readings = self.reader.as_ref().map(Reader::readings);
        readings.map_or(of_head, |of| of_head.saturating_add(of.malformed).saturating_add(of.unreadable))
    }
}

impl Amounts {
    /// Entries of the filter state: `weir.input_tokens`, those of caches included, `weir.output_tokens`,
    /// `weir.cost_nano_usd` where there are prices, and `weir.usage_source`.
    fn entries(&self) -> Vec<Entry> {
        let LedgerEntry { usage, cost, source, .. } = &self.ledger;
        let number = |number: u64| number.to_string();
        let mut entries = vec![
            ("weir.input_tokens", number(usage.total().saturating_sub(usage.output))),
            ("weir.output_tokens", number(usage.output)),
            ("weir.usage_source", String::from(source.name())),
        ];
        entries.extend(cost.map(|cost| ("weir.cost_nano_usd", number(cost.0))));
        entries
    }

    /// Returns what the request has cost a limit.
    pub(super) fn of(&self, limit: usize) -> u64 {
        self.of_limits.iter().find(|(of, _)| *of == limit).map_or(0, |(_, amount)| *amount)
    }
}

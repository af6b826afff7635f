//! Estimates of what a request will cost, from its headers and its body.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Config, INCLUDE_USAGE, IncludeUsage, SERVICE_TIER, UsageConfig};
use crate::descriptor::{Attributes, BadRequest, BodySize, JsonPointer, RequestBody, Source};
use crate::limit::{Charge, Charged, Held, InputEstimate, MAX_AMOUNT, OutputEstimate};
use crate::pairs;
use crate::usage::{NanoUsd, Usage};

/// Parts of a path behind which a model's name follows: Gemini's, Azure's and Bedrock's.
const BEFORE_MODEL: [&str; 3] = ["/models/", "/deployments/", "/model/"];

/// Estimates of one request, for each of its limits that charge it.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    is_charged: Option<bool>,
    facts: Option<Facts>,
    limits: Vec<LimitEstimate>,
}

/// Facts about a request that its cost depends on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Model that the request names, empty if none.
    pub(super) model: String,
    tier: Option<String>,
    size: BodySize,
}

/// Estimate of one limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitEstimate {
    /// The limit's index.
    pub(super) limit: usize,
    /// Amounts of the limit.
    pub(super) held: Held,
    /// Tokens of the request.
    pub(super) input: u64,
    /// Tokens of the response.
    pub(super) output: u64,
}

impl Estimates {
    /// Whether limits charge the request.
    pub(super) fn charges(&mut self, usage: &UsageConfig, request: &dyn Attributes) -> bool {
        *self.is_charged.get_or_insert_with(|| usage.concerns(request))
    }

    /// Adds the estimate of the limit with index `limit`.
    ///
    /// # Errors
    /// If the configuration rejects the request, and the limit is enforced.
    #[inline(never)]
    pub(super) fn add(
        &mut self,
        (limit, charge): (usize, &Charge),
        usage: &UsageConfig,
        request: &dyn Attributes,
        enforced: bool,
    ) -> Result<Held, BadRequest> {
        let facts = self.facts.get_or_insert_with(|| Facts::of(usage, request));
        if enforced {
            facts.accept(charge, usage, request)?;
        }
        let (input, output) = match &charge.reserve {
            None => (0, 0),
            Some(reserve) => (input(&reserve.input, &facts.size, request), output(&reserve.output, request.body())),
        };
        let price = |tokens: &Usage| match &usage.prices {
            Some(prices) => prices.bound(&facts.model, facts.tier.as_deref(), tokens),
            None => NanoUsd::default(),
        };
        let held = charge.of.held(input, output, &price);
        self.limits.push(LimitEstimate { limit, held, input, output });
        Ok(held)
    }

    /// Returns what the request says, and the estimates. `None` if no limit charges it.
    pub(super) fn finish(self) -> Option<(Facts, Vec<LimitEstimate>)> {
        self.facts.map(|facts| (facts, self.limits))
    }
}

impl Facts {
    fn of(usage: &UsageConfig, request: &dyn Attributes) -> Self {
        let body = request.body();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let model = match usage.model.value(request) {
            Some(model) => text(&model),
            None => model_of_path(&text(&request.header(":path").unwrap_or_default())).to_string(),
        };
        let tier = body.value(&JsonPointer::member(SERVICE_TIER)).map(text);
        let length = request.header("content-length").and_then(|length| number(&length)).unwrap_or(0);
        let seen = body.size().unwrap_or_default();
        Self { model, tier, size: BodySize { bytes: seen.bytes.max(length), ..seen } }
    }

    fn accept(&self, charge: &Charge, usage: &UsageConfig, request: &dyn Attributes) -> Result<(), BadRequest> {
        let body = request.body();
        // A limit in tokens has no prices of models, but a model may have limits of its own.
        if has_several(&usage.model, request) {
            return Err(BadRequest::Models);
        }
        let is_priced = || usage.prices.as_ref().is_some_and(|prices| prices.knows(&self.model));
        if charge.of == Charged::Cost && !is_priced() {
            return Err(BadRequest::UnknownModel);
        }
        if usage.include_usage == IncludeUsage::Reject && lacks_usage(body) {
            return Err(BadRequest::IncludeUsage);
        }
        Ok(())
    }
}

/// Returns the members that are to be added to a request's body, each with a comma before it; empty if none.
pub(super) fn additions(config: &Config, request: &dyn Attributes) -> String {
    let (mut members, body) = (String::new(), request.body());
    let Some(usage) = config.usage.as_ref().filter(|usage| body.is_whole() && usage.concerns(request)) else {
        return members;
    };
    let mut maximum: Option<(&str, u64)> = None;
    let mut is_charged = false;
    for charge in config.concerning(request).filter_map(|(_, limit)| limit.charge.as_ref()) {
        is_charged = true;
        let output = charge.reserve.as_ref().map(|reserve| &reserve.output).filter(|output| output.enforce);
        let is_stated = |pointers: &[JsonPointer]| pointers.iter().any(|pointer| body.value(pointer).is_some());
        if let Some(output) = output.filter(|output| !is_stated(&output.pointers))
            && let Some(key) = output.pointers.first().and_then(JsonPointer::as_member)
            && maximum.is_none_or(|(_, least)| output.default < least)
        {
            maximum = Some((key, output.default));
        }
    }
    if let Some((key, tokens)) = maximum {
        for part in [",\"", key, "\":", &tokens.to_string()] {
            members.push_str(part);
        }
    }
    let path = request.header(":path").unwrap_or_default();
    let is_completion = path.split(|byte| *byte == b'?').next().is_some_and(|path| path.ends_with(b"/completions"));
    if is_charged && usage.include_usage == IncludeUsage::Inject && is_completion && lacks_usage(body) {
        members.push_str(",\"stream_options\":{\"include_usage\":true}");
    }
    members
}

/// Whether a body asks for a stream without its usage.
fn lacks_usage(body: &RequestBody) -> bool {
    let is = |pointer: &JsonPointer| body.values(pointer).any(|value| value == b"true");
    is(&JsonPointer::member("stream")) && !JsonPointer::parse(INCLUDE_USAGE).is_some_and(|pointer| is(&pointer))
}

/// Returns the model that a path names: `gemini-2.0-flash` in `/v1beta/models/gemini-2.0-flash:generateContent`.
fn model_of_path(path: &str) -> &str {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let rest = BEFORE_MODEL.iter().find_map(|before| after(path, before)).unwrap_or_default();
    let name = rest.split('/').next().unwrap_or_default();
    match name.rsplit_once(':') {
        // A version is no method.
        Some((model, method)) if method.bytes().all(|byte| byte.is_ascii_alphabetic()) => model,
        _ => name,
    }
}

/// Returns what is in `path` after the first `part`. `str::split_once` would add 12 KB to the wasm: a search in linear
/// time, and its panics.
fn after<'a>(path: &'a str, part: &str) -> Option<&'a str> {
    let start = path.as_bytes().windows(part.len()).position(|window| window == part.as_bytes())?;
    path.get(start.saturating_add(part.len())..)
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Returns all values of a part of a request. Upstreams differ in which of them they read.
fn values<'a>(source: &'a Source, request: &'a dyn Attributes) -> Vec<&'a [u8]> {
    match source {
        Source::RequestHeader { name, .. } => pairs::values(request.headers(), name.as_bytes()).collect(),
        Source::RequestBody(pointer) => request.body().values(pointer).collect(),
        _ => Vec::new(),
    }
}

/// Whether a part of a request has several different values.
fn has_several(source: &Source, request: &dyn Attributes) -> bool {
    let values = values(source, request);
    values.iter().any(|value| values.first() != Some(value))
}

/// Returns the largest number that a part of a request states. Whatever is no number may be one to the upstream.
fn stated(source: &Source, request: &dyn Attributes) -> Option<u64> {
    if source.is_unreadable(request.body()) {
        return Some(u64::MAX);
    }
    let values = values(source, request).into_iter().flat_map(|values| values.split(|byte| *byte == b','));
    values.map(|value| number(value).unwrap_or(u64::MAX)).max()
}

/// Returns the tokens of a request with a body of this size.
fn input(estimate: &InputEstimate, size: &BodySize, request: &dyn Attributes) -> u64 {
    match *estimate {
        InputEstimate::Constant(tokens) => tokens,
        InputEstimate::Stated(ref source) => match stated(source, request) {
            Some(tokens) => tokens.min(MAX_AMOUNT),
            None => input(&InputEstimate::BY_DEFAULT, size, request),
        },
        InputEstimate::Bytes { per_token, per_image, plus } => {
            // A bound, as one token for each byte is, takes no string for an image.
            let (text, images) = match per_token {
                0 | 1 => (size.bytes, 0),
                _ => (size.bytes.saturating_sub(size.image_bytes), size.images.saturating_mul(per_image)),
            };
            text.div_ceil(per_token.max(1)).saturating_add(images).saturating_add(plus).min(MAX_AMOUNT)
        }
    }
}

/// Returns the tokens of the response: the greatest maximum that any place states, for each of the answers.
fn output(estimate: &OutputEstimate, body: &RequestBody) -> u64 {
    let mut stated = None;
    for pointer in &estimate.pointers {
        if body.is_unreadable_at(pointer) {
            stated = Some(u64::MAX);
        }
        // Whatever is no number may be one to the upstream.
        let numbers = body.values(pointer).map(|value| number(value).unwrap_or(u64::MAX));
        stated = numbers.max().max(stated);
    }
    let max = if estimate.enforce { MAX_AMOUNT } else { estimate.max };
    let times = estimate.times.as_ref().and_then(|pointer| body.values(pointer).filter_map(number).max()).unwrap_or(1);
    stated.map_or(estimate.default, |stated| stated.min(max)).saturating_mul(times.max(1)).min(MAX_AMOUNT)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
mod tests;

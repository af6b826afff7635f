//! Estimates of what a request will cost, from its headers and its body.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::config::{Config, INCLUDE_USAGE, IncludeUsage, SERVICE_TIER, UsageConfig};
use crate::descriptor::{Attributes, BadRequest, BodySize, JsonPointer, RequestBody};
use crate::limit::{Charge, Charged, Held, InputEstimate, MAX_AMOUNT, OutputEstimate};
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
            facts.accept(charge, usage, request.body())?;
        }
        let (input, output) = match &charge.reserve {
            None => (0, 0),
            Some(reserve) => (input(reserve.input, &facts.size), output(&reserve.output, request.body())),
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
        let model = match body.value(&usage.model) {
            Some(model) => text(model),
            None => model_of_path(&text(&request.header(":path").unwrap_or_default())).to_string(),
        };
        let tier = body.value(&JsonPointer::member(SERVICE_TIER)).map(text);
        let length = request.header("content-length").and_then(|length| number(&length)).unwrap_or(0);
        let seen = body.size().unwrap_or_default();
        Self { model, tier, size: BodySize { bytes: seen.bytes.max(length), ..seen } }
    }

    fn accept(&self, charge: &Charge, usage: &UsageConfig, body: &RequestBody) -> Result<(), BadRequest> {
        // A limit in tokens has no prices of models, but a model may have limits of its own.
        if body.values(&usage.model).nth(1).is_some() {
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

/// Returns the tokens of a request with a body of this size.
fn input(estimate: InputEstimate, size: &BodySize) -> u64 {
    match estimate {
        InputEstimate::Constant(tokens) => tokens,
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
mod tests {
    use super::*;
    use crate::config;
    use crate::descriptor::{JsonScanner, Request};

    fn usage() -> UsageConfig {
        UsageConfig::default()
    }

    /// The default charge of tokens.
    fn charge() -> Charge {
        let json = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "a", "descriptor": [],
            "charge": "total_tokens", "fixed_window": {"max_tokens": 1000000, "window": "60s"}}]}"#;
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        *config.limits[0].charge.clone().unwrap()
    }

    fn body(json: &str) -> RequestBody {
        let mut pointers = vec![usage().model];
        charge().visit_pointers(&mut |pointer| pointers.push(pointer.clone()));
        let all = (1 << pointers.len()) - 1;
        let mut scanner = JsonScanner::new(&pointers.into(), all).adding(all);
        scanner.measure(json.as_bytes());
        scanner.push(json.as_bytes());
        scanner.into_values().into()
    }

    fn estimated(request: &Request) -> Result<(u64, u64), BadRequest> {
        let mut estimates = Estimates::default();
        estimates.add((0, &charge()), &usage(), request, true)?;
        let (_, limits) = estimates.finish().unwrap();
        Ok((limits[0].input, limits[0].output))
    }

    #[test]
    fn a_maximum_is_never_read_as_less_than_its_largest_reading() {
        for (members, tokens) in [
            ("", 2_048),
            (r#", "max_tokens": 10"#, 10),
            (r#", "max_tokens": "10""#, 10),
            (r#", "max_tokens": 1, "max_tokens": 7, "max_tokens": 5"#, 7),
            (r#", "max_completion_tokens": 3, "max_tokens": 9"#, 9),
            (r#", "max_tokens": null"#, 2_048),
            (r#", "max_tokens": 8, "max_tokens": null"#, 8),
            (r#", "max_tokens": -1"#, 32_000),
            (r#", "max_tokens": 1.5"#, 32_000),
            (r#", "max_tokens": 1e309"#, 32_000),
            (r#", "max_tokens": 33000"#, 32_000),
            (r#", "max_tokens": 99999999999999999999"#, 32_000),
            (r#", "max_tokens": 10, "n": 3"#, 30),
            (r#", "max_tokens": 10, "n": 3, "n": 1"#, 30),
            (r#", "max_tokens": 10, "n": 0"#, 10),
            (r#", "n": 2"#, 4_096),
            (r#", "generationConfig": {"maxOutputTokens": 77}"#, 77),
            (r#", "generationConfig": {"maxOutputTokens": 77}, "generationConfig": {}"#, 77),
        ] {
            let json = format!(r#"{{"model": "m"{members}}}"#);
            let request = Request::default().body(body(&json));
            let bytes = u64::try_from(json.len()).unwrap();
            assert_eq!(estimated(&request), Ok((bytes.div_ceil(3), tokens)), "{members}");
        }
    }

    #[test]
    fn an_unreadable_body_has_the_greatest_estimate() {
        let request = Request::default().header("content-length", "3000").body(RequestBody::Unreadable);
        assert_eq!(estimated(&request), Ok((1_000, 32_000)));
    }

    /// Configuration of a charge with an enforced maximum, and of usage that is injected.
    fn rewriting() -> Config {
        let json = r#"{"redis": {"cluster": "redis"}, "usage": {"include_usage": "inject"}, "limits": [{"name": "a",
            "descriptor": [], "charge": "total_tokens", "fixed_window": {"max_tokens": 1000000, "window": "60s"},
            "reserve": {"output": {"json_pointers": ["/max_tokens"], "default": 50, "enforce": true}}}]}"#;
        config::parse(json.as_bytes(), &|_| None).unwrap()
    }

    #[test]
    fn members_are_added_where_they_are_missing() {
        let config = rewriting();
        let request = |method: &str, path: &str, json: &str| {
            let pointers = config.body.pointers();
            let mut scanner = JsonScanner::new(pointers, u32::MAX).adding(config.body.of_charges());
            scanner.push(json.as_bytes());
            Request::default().header(":method", method).header(":path", path).body(scanner.into_values().into())
        };
        let chat = "/v1/chat/completions?x";
        let usage = r#","stream_options":{"include_usage":true}"#;
        for (method, path, json, expected) in [
            ("POST", chat, "{}", r#","max_tokens":50"#.to_owned()),
            ("POST", chat, r#"{"max_tokens": 9000}"#, String::new()),
            ("POST", chat, r#"{"max_tokens": null}"#, r#","max_tokens":50"#.to_owned()),
            ("POST", chat, r#"{"stream": true, "max_tokens": 1}"#, usage.to_owned()),
            ("POST", chat, r#"{"stream": true}"#, [r#","max_tokens":50"#, usage].concat()),
            (
                "POST",
                chat,
                r#"{"stream": true, "max_tokens": 1, "stream_options": {"include_usage": false}}"#,
                usage.to_owned(),
            ),
            (
                "POST",
                chat,
                r#"{"stream": true, "max_tokens": 1, "stream_options": {"include_usage": true}}"#,
                String::new(),
            ),
            ("POST", "/v1/messages", r#"{"stream": true, "max_tokens": 1}"#, String::new()),
            ("POST", chat, r#"{"stream": true"#, String::new()),
            ("PUT", chat, "{}", String::new()),
        ] {
            assert_eq!(additions(&config, &request(method, path, json)), expected, "{method} {path} {json}");
        }
    }

    #[test]
    fn of_the_maxima_of_several_limits_the_least_is_added() {
        for defaults in [[50, 40], [40, 50]] {
            let limit = |name: &str, default: u64| {
                format!(
                    r#"{{"name": "{name}", "descriptor": [], "charge": "total_tokens",
                    "fixed_window": {{"max_tokens": 1000, "window": "60s"}},
                    "reserve": {{"output": {{"json_pointers": ["/max_tokens"], "default": {default}, "enforce": true}}}}}}"#
                )
            };
            let limits = [limit("a", defaults[0]), limit("b", defaults[1])].join(", ");
            let json = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{limits}]}}"#);
            let config = config::parse(json.as_bytes(), &|_| None).unwrap();
            let request = Request::default().header(":method", "POST").body(body("{}"));
            assert_eq!(additions(&config, &request), r#","max_tokens":40"#);
        }
    }

    #[test]
    fn an_enforced_maximum_has_no_bound() {
        let charge = rewriting().limits[0].charge.clone().unwrap();
        let estimate = &charge.reserve.as_ref().unwrap().output;
        assert_eq!(output(estimate, &body(r#"{"max_tokens": 90000}"#)), 90_000);
        assert_eq!(output(estimate, &RequestBody::Unreadable), MAX_AMOUNT);
    }

    #[test]
    fn a_request_with_two_models_is_rejected() {
        let request = |json: &str| Request::default().body(body(json));
        assert_eq!(estimated(&request(r#"{"model": "a", "model": "b"}"#)), Err(BadRequest::Models));
        assert!(estimated(&request(r#"{"model": "a", "model": "a"}"#)).is_ok());
    }

    #[test]
    fn a_bound_counts_the_bytes_of_images_too() {
        let size = BodySize { bytes: 10_001, images: 2, image_bytes: 9_000 };
        let bytes = |per_token| InputEstimate::Bytes { per_token, per_image: 100, plus: 7 };
        assert_eq!([bytes(1), bytes(3)].map(|estimate| input(estimate, &size)), [10_008, 334 + 200 + 7]);
        assert_eq!(input(InputEstimate::Constant(5), &size), 5);
    }

    #[test]
    fn a_path_may_name_the_model() {
        for (path, model) in [
            ("/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", "gemini-2.0-flash"),
            ("/openai/deployments/gpt-4o/chat/completions?api-version=1", "gpt-4o"),
            ("/model/anthropic.claude-3-haiku-20240307-v1:0/converse", "anthropic.claude-3-haiku-20240307-v1:0"),
            ("/v1/chat/completions", ""),
            ("/v1/models", ""),
        ] {
            assert_eq!(model_of_path(path), model);
        }
        let facts = Facts::of(&usage(), &Request::default().header(":path", "/model/x/invoke").body(body("{}")));
        assert_eq!(facts.model, "x");
    }
}

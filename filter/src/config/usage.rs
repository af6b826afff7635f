//! Section `usage`: how the usage of responses is read, and what tokens cost.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::Value;

use super::error::ConfigErrors;
use super::number::scaled;
use super::predicate;
use super::reader::{Node, Object, refuse_duplicates};
use super::report::{Read, Report};
use super::{source, usage_format};
use crate::descriptor::{Attributes, JsonPointer, Predicate, Source};
use crate::limit::{Charged, Limit};
use crate::usage::{Format, ModelPrice, Price, Prices, Rates, TierFactor, UnknownModel};

const FIELDS: &[&str] = &[
    "format",
    "when",
    "include_usage",
    "strip_accept_encoding",
    "model",
    "prices",
    "service_tiers",
    "unknown_model",
    "provider_cost",
];
const RATES: &[&str] = &["input", "cached_input", "cache_write", "cache_write_1h", "output"];
const MAX_PRICES: usize = 256;
const MAX_TIERS: usize = 16;
const MAX_NAME: usize = 128;
/// Member of requests and responses that names the service tier.
pub(crate) const SERVICE_TIER: &str = "service_tier";
/// Place at which clients of OpenAI's API ask for the usage of a stream.
pub(crate) const INCLUDE_USAGE: &str = "/stream_options/include_usage";

/// Settings for reading what responses cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageConfig {
    /// Places and headers in which responses tell usage.
    pub format: Format,
    /// Predicates that must all hold for a request, for limits to charge it. By default its method is `POST`.
    pub when: Option<Vec<Predicate>>,
    /// Treatment of streams of OpenAI's API whose client does not ask for their usage.
    pub include_usage: IncludeUsage,
    /// Whether requests lose their `accept-encoding`: a compressed response tells nothing.
    pub strip_accept_encoding: bool,
    /// Source of the model's name in requests. The path may name it as well.
    pub model: Source,
    /// Prices. `None` where nothing has a price.
    pub prices: Option<Arc<Prices>>,
}

/// Treatment of streams whose client does not ask for their usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeUsage {
    /// Requests pass on as they are.
    Leave,
    /// Requests get the member that asks for usage.
    Inject,
    /// Requests are rejected.
    Reject,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self {
            format: Format::default(),
            when: None,
            include_usage: IncludeUsage::Leave,
            strip_accept_encoding: true,
            model: model_by_default(),
            prices: None,
        }
    }
}

impl UsageConfig {
    /// Returns the settings where any of `limits`, which were read from `node`, has a charge.
    pub(super) fn beside(self, limits: &[Limit], node: Option<&Node<'_>>) -> Read<Option<Box<Self>>> {
        let charged = || limits.iter().filter_map(|limit| limit.charge.as_ref());
        let has_cost = charged().any(|charge| charge.of == Charged::Cost);
        match (node.filter(|_| has_cost), &self.prices) {
            (Some(node), None) => return Err(node.expected("usage.prices beside charge: cost")),
            (Some(node), Some(prices)) => defaults_fit(node, limits, prices)?,
            (None, _) => {}
        }
        Ok(charged().next().map(|_| Box::new(self)))
    }

    /// Visits the JSON pointers at which requests that limits charge are read.
    pub(super) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        self.model.json_pointer().into_iter().for_each(&mut *visit);
        if self.prices.as_ref().is_some_and(|prices| !prices.tiers.is_empty()) {
            visit(&JsonPointer::member(SERVICE_TIER));
        }
        if self.include_usage != IncludeUsage::Leave {
            visit(&JsonPointer::member("stream"));
            JsonPointer::parse(INCLUDE_USAGE).iter().for_each(visit);
        }
    }

    /// Whether limits charge a request.
    pub(crate) fn concerns(&self, request: &dyn Attributes) -> bool {
        let is_count = || {
            let path = request.header(":path").unwrap_or_default();
            let ends = |end: &[u8]| path.split(|byte| *byte == b'?').next().is_some_and(|path| path.ends_with(end));
            ends(b"/count_tokens") || ends(b":countTokens")
        };
        match &self.when {
            Some(when) => when.iter().all(|predicate| predicate.may_hold(request)),
            None => request.header(":method").as_deref() == Some(b"POST") && !is_count(),
        }
    }
}

/// Refuses estimates for requests without a maximum that exceed a whole limit of money, at the dearest model.
fn defaults_fit(node: &Node<'_>, limits: &[Limit], prices: &Prices) -> Read<()> {
    let mut result = Ok(());
    for (limit, node) in limits.iter().zip(node.list(0..=usize::MAX)?) {
        let Some(charge) = limit.charge.as_deref().filter(|charge| charge.of == Charged::Cost) else { continue };
        let Some(reserve) = &charge.reserve else { continue };
        // No model has this name: it costs what the dearest one does.
        let estimate = charge.of.held(0, reserve.output.default, &|usage| prices.bound("", None, usage)).estimate;
        if limit.windows.algorithms().any(|algorithm| (1..estimate).contains(&algorithm.limit().0)) {
            let expected =
                "a reserve.output.default whose cost at the dearest model is at most the limit, by default 2048";
            result = Err(node.expected(expected));
        }
    }
    result
}

pub(super) fn read(node: &Node<'_>) -> Read<UsageConfig> {
    let fields = node.object(FIELDS)?;
    let format = fields.or("format", Format::default(), usage_format::read);
    let prefers_cost = fields.or("provider_cost", false, |node| node.one_of(&[("ignore", false), ("prefer", true)]));
    let when = fields.optional("when", predicate::read_all);
    let include_usage = fields.or("include_usage", IncludeUsage::Leave, |node| {
        let kinds =
            [("leave", IncludeUsage::Leave), ("inject", IncludeUsage::Inject), ("reject", IncludeUsage::Reject)];
        node.one_of(&kinds)
    });
    let strip_accept_encoding = fields.or("strip_accept_encoding", true, Node::boolean);
    let model = fields.optional("model", |node| {
        let (kind, node) = node.one_field(&["request_body", "request_header", "path"])?;
        stated(kind, node)
    });
    let prices = fields.optional("prices", |node| {
        let nodes = node.list(1..=MAX_PRICES)?;
        let prices = nodes.iter().map(price).collect::<Vec<_>>().into_iter().collect::<Read<Vec<ModelPrice>>>()?;
        let keys: Vec<((&str, bool), &Node<'_>)> =
            prices.iter().zip(nodes).map(|(price, node)| ((price.name.as_str(), price.is_exact), node)).collect();
        refuse_duplicates(&keys)?;
        Ok(prices)
    });
    let tiers = fields.or("service_tiers", Vec::new(), |node| node.each(0..=MAX_TIERS, tier));
    let unknown = fields.or("unknown_model", UnknownModel::Reject, |node| {
        node.one_of(&[("reject", UnknownModel::Reject), ("dearest", UnknownModel::Dearest)])
    });
    let (models, tiers, unknown) = (prices?, tiers?, unknown?);
    Ok(UsageConfig {
        format: format?.with_cost(prefers_cost?),
        when: when?,
        include_usage: include_usage?,
        strip_accept_encoding: strip_accept_encoding?,
        model: model?.unwrap_or_else(model_by_default),
        prices: models.map(|models| Arc::new(Prices { models, tiers, unknown })),
    })
}

fn model_by_default() -> Source {
    Source::RequestBody(JsonPointer::member("model"))
}

/// Reads a part of a request: a place in its body, a header, or named segments of its path.
pub(super) fn stated(kind: &'static str, node: &Node<'_>) -> Read<Source> {
    let fields = node.object(match kind {
        "request_body" => &["json_pointer"],
        "request_header" => &["name"],
        _ => &["template"],
    })?;
    if kind == "path" {
        fields.required("template", "a path template such as \"/deployments/{id}/**\"")?;
    }
    source::read(kind, fields)
}

fn price(node: &Node<'_>) -> Read<ModelPrice> {
    let fields =
        node.object(&["model", "input", "cached_input", "cache_write", "cache_write_1h", "output", "above"])?;
    let model = fields.required("model", "a name, such as {prefix: gpt-4o}").and_then(|node| {
        let (kind, node) = node.one_field(&["exact", "prefix"])?;
        Ok((node.text(1..=MAX_NAME)?.to_owned(), kind == "exact"))
    });
    let tariff = tariff(fields);
    let ((name, is_exact), (rates, above)) = (model?, tariff?);
    Ok(ModelPrice { name, is_exact, rates, above })
}

/// Reads the price of a model that an operator has set at run time.
///
/// # Errors
/// All errors of the value at once.
pub(crate) fn run_time_price(name: &str, is_exact: bool, value: &Value) -> Result<ModelPrice, ConfigErrors> {
    let report = Report::default();
    let node = Node::root(value, &report);
    let fields = node.object(&["input", "cached_input", "cache_write", "cache_write_1h", "output", "above"]);
    let tariff = fields.and_then(tariff);
    report.finish(tariff).map(|((rates, above), _)| ModelPrice { name: name.to_owned(), is_exact, rates, above })
}

/// Prices, and those of requests with more tokens than a number.
type Tariff = (Rates, Option<(u64, Rates)>);

fn tariff(fields: Object<'_>) -> Read<Tariff> {
    let rates = rates(fields);
    let above = fields.optional("above", |node| {
        let fields =
            node.object(&["input_tokens", "input", "cached_input", "cache_write", "cache_write_1h", "output"])?;
        let tokens = fields
            .required("input_tokens", "the tokens of a request above which it has these prices")
            .and_then(|node| node.integer(1..=u32::MAX.into()));
        let rates = self::rates(fields);
        Ok((tokens?, rates?))
    });
    Ok((rates?, above?))
}

/// Reads prices by kind of token. Tokens of a cache cost by default what those of the request do, and tokens of a
/// response nothing.
fn rates(fields: Object<'_>) -> Read<Rates> {
    let mut rates = Vec::new();
    for name in RATES {
        let default = match (*name, rates.as_slice()) {
            ("cached_input" | "cache_write", [Ok(input), ..]) => *input,
            ("cache_write_1h", [.., Ok(cache_write)]) => *cache_write,
            _ => Price(0),
        };
        rates.push(match (*name, fields.field(name)) {
            ("input", None) => fields.required("input", "dollars for a million tokens").map(|_| default),
            (_, Some(node)) => dollars(node).map(Price),
            (_, None) => Ok(default),
        });
    }
    match rates.into_iter().collect::<Read<Vec<Price>>>()?.as_slice() {
        &[input, cached_input, cache_write, cache_write_1h, output] => {
            Ok(Rates { input, cached_input, cache_write, cache_write_1h, output })
        }
        _ => Ok(Rates::default()),
    }
}

fn dollars(node: &Node<'_>) -> Read<u64> {
    scaled(node, 1e6, 0..=Price::MAX.0, "dollars from 0 to 1099511 with at most 6 decimals")
}

fn tier(node: &Node<'_>) -> Read<TierFactor> {
    let fields = node.object(&["tier", "factor"])?;
    let tier = fields.required("tier", "the tier as responses name it").and_then(|node| node.text(1..=MAX_NAME));
    let factor = fields
        .required("factor", "a factor of prices such as 0.5")
        .and_then(|node| scaled(node, 1_000.0, 1..=1_000_000, "a factor from 0.001 to 1000 with at most 3 decimals"));
    Ok(TierFactor { tier: tier?.to_owned(), thousandths: factor? })
}

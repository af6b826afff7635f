//! Section `usage`: how the usage of responses is read, and what tokens cost.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::number::scaled;
use super::predicate;
use super::reader::{Node, Object, refuse_duplicates};
use super::report::Read;
use super::source::{POINTER, pointer};
use crate::descriptor::{Attributes, JsonPointer, Predicate};
use crate::limit::{Charged, Limit};
use crate::usage::{ModelPrice, Price, Prices, Rates, TierFactor, UnknownModel};

const FIELDS: &[&str] =
    &["when", "include_usage", "strip_accept_encoding", "model", "prices", "service_tiers", "unknown_model"];
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
    /// Predicates that must all hold for a request, for limits to charge it. By default its method is `POST`.
    pub when: Option<Vec<Predicate>>,
    /// Treatment of streams of OpenAI's API whose client does not ask for their usage.
    pub include_usage: IncludeUsage,
    /// Whether requests lose their `accept-encoding`: a compressed response tells nothing.
    pub strip_accept_encoding: bool,
    /// Place of the model's name in requests. The path may name it as well.
    pub model: JsonPointer,
    /// Prices. `None` where nothing has a price.
    pub prices: Option<Prices>,
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
            when: None,
            include_usage: IncludeUsage::Leave,
            strip_accept_encoding: true,
            model: JsonPointer::member("model"),
            prices: None,
        }
    }
}

impl UsageConfig {
    /// Returns the settings where any of `limits`, which were read from `node`, has a charge.
    pub(super) fn beside(self, limits: &[Limit], node: Option<&Node<'_>>) -> Read<Option<Box<Self>>> {
        let charged = || limits.iter().filter_map(|limit| limit.charge.as_ref());
        match node.filter(|_| self.prices.is_none() && charged().any(|charge| charge.of == Charged::Cost)) {
            Some(node) => Err(node.expected("usage.prices beside charge: cost")),
            None => Ok(charged().next().map(|_| Box::new(self))),
        }
    }

    /// Visits the JSON pointers at which requests that limits charge are read.
    pub(super) fn visit_pointers(&self, visit: &mut dyn FnMut(&JsonPointer)) {
        visit(&self.model);
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

pub(super) fn read(node: &Node<'_>) -> Read<UsageConfig> {
    let fields = node.object(FIELDS)?;
    let when = fields.optional("when", predicate::read_all);
    let include_usage = fields.or("include_usage", IncludeUsage::Leave, |node| {
        let kinds =
            [("leave", IncludeUsage::Leave), ("inject", IncludeUsage::Inject), ("reject", IncludeUsage::Reject)];
        node.one_of(&kinds)
    });
    let strip_accept_encoding = fields.or("strip_accept_encoding", true, Node::boolean);
    let model = fields.optional("model", |node| {
        let (_, node) = node.one_field(&["request_body"])?;
        let fields = node.object(&["json_pointer"])?;
        pointer(fields.required("json_pointer", POINTER)?)
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
        when: when?,
        include_usage: include_usage?,
        strip_accept_encoding: strip_accept_encoding?,
        model: model?.unwrap_or_else(|| JsonPointer::member("model")),
        prices: models.map(|models| Prices { models, tiers, unknown }),
    })
}

fn price(node: &Node<'_>) -> Read<ModelPrice> {
    let fields =
        node.object(&["model", "input", "cached_input", "cache_write", "cache_write_1h", "output", "above"])?;
    let model = fields.required("model", "a name, such as {prefix: gpt-4o}").and_then(|node| {
        let (kind, node) = node.one_field(&["exact", "prefix"])?;
        Ok((node.text(1..=MAX_NAME)?.to_owned(), kind == "exact"))
    });
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
    let (name, is_exact) = model?;
    Ok(ModelPrice { name, is_exact, rates: rates?, above: above? })
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

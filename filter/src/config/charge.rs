//! Charge of a limit: `charge`, `reserve`, and the fields beside them.

use alloc::boxed::Box;

use super::algorithm::Windows;
use super::number::scaled;
use super::on_exceed;
use super::reader::{Node, Object};
use super::report::Read;
use super::source::pointer;
use super::usage;
use crate::descriptor::JsonPointer;
use crate::limit::{
    Algorithm, Charge, Charged, Fallback, InputEstimate, Kind, OnLost, OutputEstimate, Reserve, Weights, WhenShort,
};
use crate::units::Micros;
use crate::usage::NanoUsd;

/// Fields that only a limit with a charge has.
const ONLY_BESIDE: &[&str] = &["reserve", "on_missing_usage", "on_disconnect", "soft_limit"];
/// Fields that no limit with a charge has.
const NEVER_BESIDE: &[&str] = &["hits_addend", "lease", "max_delay"];

/// Greatest estimate of tokens.
const MAX_ESTIMATE: u64 = u32::MAX as u64;
const MAX_BYTES_PER_TOKEN: u64 = 64;
/// Places of the maximum of an answer in requests of the known APIs.
const MAXIMA: [&str; 5] = [
    "/max_completion_tokens",
    "/max_tokens",
    "/max_output_tokens",
    "/generationConfig/maxOutputTokens",
    "/inferenceConfig/maxTokens",
];
const MAX_MAXIMA: usize = 8;
const DEFAULT_OUTPUT: u64 = 2_048;
const DEFAULT_MAX_OUTPUT: u64 = 32_000;
const DEFAULT_LEASE: Micros = Micros::from_secs(60);
const MIN_LEASE: Micros = Micros::from_secs(1);
const MAX_LEASE: Micros = Micros::from_secs(86_400);

/// Reads the charge of a limit. `None` where it has none.
pub(super) fn read(fields: Object<'_>) -> Read<Option<Box<Charge>>> {
    let of = fields.optional("charge", charged);
    let reserve = fields.or("reserve", Some(Section::default()), reserve);
    let on_missing_usage = fields.or("on_missing_usage", Fallback::Estimate, fallback);
    let on_disconnect = fields.or("on_disconnect", Fallback::Seen, fallback);
    let soft_limit = fields.optional("soft_limit", on_exceed::near_limit);
    let (of, reserve) = (of?, reserve?);
    let (on_missing_usage, on_disconnect, soft_limit) = (on_missing_usage?, on_disconnect?, soft_limit?);
    let Some(of) = of else {
        refuse(fields, ONLY_BESIDE, "charge beside it")?;
        return Ok(None);
    };
    refuse(fields, NEVER_BESIDE, "nothing beside charge: its limit counts what responses cost")?;
    let Section { when_short, lease, on_lost, .. } = reserve.clone().unwrap_or_default();
    let reserve = reserve.map(|section| section.reserve);
    Ok(Some(Box::new(Charge { of, reserve, when_short, lease, on_lost, on_missing_usage, on_disconnect, soft_limit })))
}

/// Checks a limit's algorithms against its charge.
pub(super) fn check(fields: Object<'_>, charge: Option<&Charge>, windows: &Windows<'_>) -> Read<()> {
    let Some((node, charge)) = fields.field("charge").zip(charge) else {
        return match windows.in_usd.or(windows.in_tokens) {
            Some(node) => Err(node.expected("a charge beside max_usd and max_tokens")),
            None => Ok(()),
        };
    };
    let is_money = charge.of == Charged::Cost;
    let is_possible = |algorithm: &Algorithm| match algorithm {
        Algorithm::SlidingLog(_) => false,
        Algorithm::NoTokens => true,
        other => !matches!((other.kind(), is_money), (Kind::Concurrency, _) | (Kind::TokenBucket, true)),
    };
    let expected = if !windows.algorithms.algorithms().all(is_possible) {
        match is_money {
            true => "fixed_window, approximate sliding_window or quota beside charge: cost",
            false => "token_bucket, fixed_window, approximate sliding_window or quota beside charge",
        }
    } else if !windows.numbers.is_empty() {
        "no numbers of requests beside charge"
    } else if is_money && !windows.is_all_usd {
        "max_usd beside charge: cost"
    } else if !is_money && windows.in_usd.is_some() {
        "charge: cost beside max_usd"
    } else {
        return default_fits(node, fields, charge, windows);
    };
    Err(node.expected(expected))
}

/// Refuses an estimate for requests without a maximum that exceeds the whole limit.
fn default_fits(node: &Node<'_>, fields: Object<'_>, charge: &Charge, windows: &Windows<'_>) -> Read<()> {
    let (Charged::Tokens(_), Some(reserve)) = (charge.of, &charge.reserve) else { return Ok(()) };
    let estimate = charge.of.held(0, reserve.output.default, &|_| NanoUsd::default()).estimate;
    let is_less = |algorithm: &Algorithm| (1..estimate).contains(&algorithm.limit().0);
    if !windows.algorithms.algorithms().any(is_less) {
        return Ok(());
    }
    let expected = "a reserve.output.default of at most the limit, by default 2048";
    Err(fields.field("reserve").unwrap_or(node).expected(expected))
}

fn refuse(fields: Object<'_>, names: &[&str], expected: &'static str) -> Read<()> {
    let mut result = Ok(());
    for node in names.iter().filter_map(|name| fields.field(name)) {
        result = Err(node.expected(expected));
    }
    result
}

/// Reads what a limit counts.
fn charged(node: &Node<'_>) -> Read<Charged> {
    if !node.is_object() {
        return node.one_of(&[
            ("total_tokens", Charged::Tokens(Weights::all(1_000, 1_000))),
            ("input_tokens", Charged::Tokens(Weights::all(1_000, 0))),
            ("output_tokens", Charged::Tokens(Weights::all(0, 1_000))),
            ("cost", Charged::Cost),
        ]);
    }
    let (_, node) = node.one_field(&["weights"])?;
    let fields = node.object(&["input", "cache_read", "cache_write", "cache_write_1h", "output"])?;
    let weight = |name, default| fields.or(name, default, weight);
    let input = weight("input", 1_000);
    let of_cache = *input.as_ref().unwrap_or(&1_000);
    let (cache_read, cache_write) = (weight("cache_read", of_cache), weight("cache_write", of_cache));
    let cache_write_1h = weight("cache_write_1h", *cache_write.as_ref().unwrap_or(&of_cache));
    let output = weight("output", 1_000);
    Ok(Charged::Tokens(Weights {
        input: input?,
        cache_read: cache_read?,
        cache_write: cache_write?,
        cache_write_1h: cache_write_1h?,
        output: output?,
    }))
}

fn weight(node: &Node<'_>) -> Read<u32> {
    let thousandths = scaled(node, 1_000.0, 0..=1_000_000, "a number from 0 to 1000 with at most 3 decimals")?;
    Ok(u32::try_from(thousandths).unwrap_or(u32::MAX))
}

fn fallback(node: &Node<'_>) -> Read<Fallback> {
    node.one_of(&[("estimate", Fallback::Estimate), ("seen", Fallback::Seen), ("zero", Fallback::Zero)])
}

/// Field `reserve`.
#[derive(Clone)]
struct Section {
    reserve: Reserve,
    when_short: WhenShort,
    lease: Micros,
    on_lost: OnLost,
}

impl Default for Section {
    fn default() -> Self {
        let reserve = Reserve { input: InputEstimate::BY_DEFAULT, output: output_by_default() };
        Self { reserve, when_short: WhenShort::Deny, lease: DEFAULT_LEASE, on_lost: OnLost::Estimate }
    }
}

fn reserve(node: &Node<'_>) -> Read<Option<Section>> {
    if !node.is_object() {
        let expected = "\"none\" or an object such as {output: {default: 2048}}";
        return node.text_matching(expected, |text| text == "none").map(|_| None);
    }
    let fields = node.object(&["input", "output", "when_short", "lease", "on_lost"])?;
    let input = fields.field("input").map_or(Ok(InputEstimate::BY_DEFAULT), input);
    let output = fields.field("output").map_or_else(|| Ok(output_by_default()), output);
    let when_short = fields.or("when_short", WhenShort::Deny, |node| {
        node.one_of(&[("deny", WhenShort::Deny), ("take_rest", WhenShort::TakeRest)])
    });
    let lease = fields.or("lease", DEFAULT_LEASE, |node| node.duration(MIN_LEASE..=MAX_LEASE));
    let on_lost = fields.or("on_lost", OnLost::Estimate, |node| {
        node.one_of(&[("estimate", OnLost::Estimate), ("input", OnLost::Input), ("refund", OnLost::Refund)])
    });
    let reserve = Reserve { input: input?, output: output? };
    Ok(Some(Section { reserve, when_short: when_short?, lease: lease?, on_lost: on_lost? }))
}

fn input(node: &Node<'_>) -> Read<InputEstimate> {
    if !node.is_object() {
        return node.integer(0..=MAX_ESTIMATE).map(InputEstimate::Constant);
    }
    let (kind, node) = node.one_field(&["request_body_bytes", "request_header", "request_body"])?;
    if kind != "request_body_bytes" {
        return usage::stated(kind, node).map(InputEstimate::Stated);
    }
    let fields = node.object(&["bytes_per_token", "per_image", "plus"])?;
    let number = |name, default, range| fields.or(name, default, |node| node.integer(range));
    let per_token = number("bytes_per_token", 3, 1..=MAX_BYTES_PER_TOKEN);
    let per_image = number("per_image", 1_600, 0..=MAX_ESTIMATE);
    let plus = number("plus", 0, 0..=MAX_ESTIMATE);
    Ok(InputEstimate::Bytes { per_token: per_token?, per_image: per_image?, plus: plus? })
}

fn output_by_default() -> OutputEstimate {
    OutputEstimate {
        pointers: MAXIMA.iter().filter_map(|text| JsonPointer::parse(text)).collect(),
        default: DEFAULT_OUTPUT,
        max: DEFAULT_MAX_OUTPUT,
        times: JsonPointer::parse("/n"),
        enforce: false,
    }
}

fn output(node: &Node<'_>) -> Read<OutputEstimate> {
    let fields = node.object(&["json_pointers", "default", "max", "times", "enforce"])?;
    let pointers = fields.optional("json_pointers", |node| node.each(0..=MAX_MAXIMA, pointer));
    let max = fields.or("max", DEFAULT_MAX_OUTPUT, |node| node.integer(0..=MAX_ESTIMATE));
    let most = *max.as_ref().unwrap_or(&MAX_ESTIMATE);
    let default = fields.or("default", DEFAULT_OUTPUT.min(most), |node| node.integer(0..=most));
    let times = fields.optional("times", pointer);
    let enforce = fields.or("enforce", false, Node::boolean);
    let own = output_by_default();
    let (pointers, enforce) = (pointers?.unwrap_or(own.pointers), enforce?);
    if enforce && pointers.first().and_then(JsonPointer::as_member).is_none() {
        let expected = "a first json_pointer to a member of the document, such as /max_tokens, beside enforce";
        return Err(node.expected(expected));
    }
    Ok(OutputEstimate { pointers, default: default?, max: max?, times: times?.or(own.times), enforce })
}

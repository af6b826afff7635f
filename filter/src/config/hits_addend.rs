//! Hits addend of a limit: a constant, or the part of a request that holds the number of tokens it spends.

use super::reader::Node;
use super::report::Read;
use super::source;
use crate::descriptor::{HitsAddend, OnInvalid, RequestHits, Source};
use crate::units::Tokens;

const SOURCES: &[&str] = &["request_header", "query_parameter", "content_length", "request_body"];
const MAX_HITS: u64 = 1_000_000_000;
const DEFAULT_MAX_HITS: u64 = 1_000_000;

pub(super) fn read(node: &Node<'_>) -> Read<HitsAddend> {
    if !node.is_object() {
        return node.integer(0..=MAX_HITS).map(|hits| HitsAddend::Constant(Tokens(hits)));
    }
    let (kind, node) = node.one_field(SOURCES)?;
    let fields = node.object(match kind {
        "content_length" => &["default", "min", "max", "on_missing", "on_invalid"],
        "request_body" => &["json_pointer", "default", "min", "max", "on_missing", "on_invalid"],
        _ => &["name", "repeated", "default", "min", "max", "on_missing", "on_invalid"],
    })?;
    let source = match kind {
        "content_length" => Ok(Source::request_header("content-length")),
        _ => source::read(kind, fields),
    };
    // A request's cost in bytes may exceed a million.
    let default_max = if kind == "content_length" { MAX_HITS } else { DEFAULT_MAX_HITS };
    let max = fields.or("max", default_max, |node| node.integer(1..=MAX_HITS));
    let most = max.unwrap_or(MAX_HITS);
    // A client that may choose 0 would never be limited.
    let min = fields.or("min", 1, |node| node.integer(0..=most));
    let least = min.unwrap_or(0);
    let default = fields.or("default", least.max(1), |node| node.integer(least..=most));
    let on_invalid = fields.or("on_invalid", OnInvalid::Default, on_invalid);
    let on_missing = fields.or("on_missing", on_invalid.unwrap_or(OnInvalid::Default), self::on_invalid);
    Ok(HitsAddend::FromRequest(RequestHits {
        source: source?,
        default: Tokens(default?),
        min: Tokens(min?),
        max: Tokens(max?),
        on_missing: on_missing?,
        on_invalid: on_invalid?,
    }))
}

fn on_invalid(node: &Node<'_>) -> Read<OnInvalid> {
    let kinds = [("default", OnInvalid::Default), ("max", OnInvalid::Max), ("reject", OnInvalid::Reject)];
    node.one_of(&kinds)
}

//! A limit's `hits_addend`: a constant, or where the request says how many tokens it spends.

use alloc::borrow::ToOwned;

use super::reader::Node;
use super::source;
use crate::descriptor::{HitsAddend, OnInvalid, Source};
use crate::units::Tokens;

const SOURCES: &[&str] = &["request_header", "query_parameter", "content_length", "request_body"];
const MAX_HITS: u64 = 1_000_000_000;
const DEFAULT_MAX_HITS: u64 = 1_000_000;

pub(super) fn read(node: &Node<'_>) -> Option<HitsAddend> {
    if !node.is_object() {
        return node.integer(0..=MAX_HITS).map(|hits| HitsAddend::Constant(Tokens(hits)));
    }
    let (kind, node) = node.one_field(SOURCES)?;
    let fields = node.object(match kind {
        "content_length" => &["default", "max", "on_invalid"],
        "request_body" => &["json_pointer", "default", "max", "on_invalid"],
        _ => &["name", "default", "max", "on_invalid"],
    })?;
    let source = match kind {
        "content_length" => Some(Source::RequestHeader { name: "content-length".to_owned() }),
        _ => source::read(kind, &fields),
    };
    // Bytes are many.
    let default_max = if kind == "content_length" { MAX_HITS } else { DEFAULT_MAX_HITS };
    let max = fields.or("max", default_max, |node| node.integer(1..=MAX_HITS));
    let default = fields.or("default", 1, |node| node.integer(0..=max.unwrap_or(MAX_HITS)));
    let on_invalid = fields.or("on_invalid", OnInvalid::Default, |node| {
        node.one_of(&[("default", OnInvalid::Default), ("reject", OnInvalid::Reject)], &[])
    });
    Some(HitsAddend::Said { source: source?, default: Tokens(default?), max: Tokens(max?), on_invalid: on_invalid? })
}

//! Items of `rate_limits`: actions that make the entries of a descriptor.

use super::{Action, ActionValue, Envoy, Rule, Variant, matcher};
use crate::documents::At;
use crate::import::condition::Condition;
use crate::import::finding::{self, Findings, Place};
use crate::import::source::{Entry, Source};

/// Most descriptors of a rule before its last action: each skip_if_absent doubles them.
const MAX_VARIANTS: usize = 32;

/// Routes of a list of `rate_limits`.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) scope: Option<usize>,
    pub(super) is_of_filter: bool,
    pub(super) domain: Option<String>,
    pub(super) condition: Condition,
}

/// Part of a descriptor by one action.
enum Made {
    Entry(Action),
    /// An entry that is left out where the value is missing.
    Optional(Action, Source),
    /// An entry, and the condition without which there is no descriptor.
    If(Condition, Action),
}

/// Adds the rules of a list.
pub(super) fn rules(items: &[At<'_>], site: &Site, envoy: &mut Envoy, findings: &mut Findings) {
    let list = envoy.next_list();
    for (index, at) in items.iter().enumerate() {
        if let Some((variants, hits_addend)) = rule(at, findings) {
            let Site { scope, is_of_filter, domain, condition } = site.clone();
            let stage = at.field("stage").and_then(|at| at.integer()).unwrap_or_default();
            let place = Place::of(at);
            let rule =
                Rule { place, scope, is_of_filter, list, index, stage, domain, condition, variants, hits_addend };
            envoy.rules.push(rule);
        }
    }
}

fn rule(at: &At<'_>, findings: &mut Findings) -> Option<(Vec<Variant>, u64)> {
    if let Some(stage) = at.field("stage").filter(|at| at.integer() != Some(0)) {
        let help =
            "the limits of the filter with this stage have it; with several stages, use one Weir filter for each";
        findings.add(finding::RUNTIME, &stage, "a stage other than 0", help);
    }
    if let Some(key) = at.field("disable_key") {
        let help = "Weir reads no runtime keys; switch limits off with `weir limits set LIMIT off`";
        findings.add(finding::RUNTIME, &key, "disable_key is ignored", help);
    }
    if let Some(limit) = at.field("limit") {
        let help = "a number that the request carries can be `max_requests: {dynamic_metadata: …}`; write it by hand";
        findings.add(finding::OVERRIDE, &limit, "a limit from metadata", help);
        return None;
    }
    if at.is_set("apply_on_stream_done") {
        let help = "Weir decides and counts when a request arrives";
        findings.add(finding::COST, at, "apply_on_stream_done counts at the end of the response", help);
        return None;
    }
    let hits_addend = cost(at, findings)?;
    let mut variants = vec![Variant { condition: Condition::Always, actions: Vec::new() }];
    for action in at.each("actions") {
        match made(&action, findings) {
            Ok(made) if variants.len() <= MAX_VARIANTS => {
                variants = variants.into_iter().flat_map(|variant| extended(variant, &made)).collect();
            }
            Ok(_) => {
                let help = "each makes two limits of one: write those that you need by hand";
                findings.add(finding::ACTION, at, "too many actions with skip_if_absent", help);
                return None;
            }
            Err((what, help)) => {
                findings.add(finding::ACTION, &action, what, help);
                return None;
            }
        }
    }
    variants.retain(|variant| variant.condition != Condition::Never && !variant.actions.is_empty());
    Some((variants, hits_addend))
}

fn cost(at: &At<'_>, findings: &mut Findings) -> Option<u64> {
    let Some(cost) = at.field("hits_addend") else { return Some(1) };
    let number = cost.field("number").and_then(|at| at.integer());
    match number {
        Some(number) if number > 0 => Some(number),
        Some(_) => {
            let help = "a request that spends nothing is never denied by Weir; leave the limit out";
            findings.add(finding::COST, &cost, "hits_addend 0", help);
            None
        }
        None => {
            let help =
                "Weir reads costs from a header, a query parameter or the body (`hits_addend`), not from metadata";
            findings.add(finding::COST, &cost, "a cost that is no number", help);
            None
        }
    }
}

fn extended(variant: Variant, made: &Made) -> Vec<Variant> {
    let with = |action: &Action, condition: Condition| {
        let mut actions = variant.actions.clone();
        actions.push(action.clone());
        Variant { condition: Condition::all([variant.condition.clone(), condition]), actions }
    };
    match made {
        Made::Entry(action) => vec![with(action, Condition::Always)],
        Made::If(condition, action) => vec![with(action, condition.clone())],
        Made::Optional(action, source) => {
            let without = Condition::all([variant.condition.clone(), Condition::not(source.is_present())]);
            vec![with(action, source.is_present()), Variant { condition: without, actions: variant.actions.clone() }]
        }
    }
}

type Refusal = (String, &'static str);

const NO_COUNTERPART: &str = "Weir has no such value; limit by another one, such as a header that a filter before sets";

fn made(at: &At<'_>, findings: &mut Findings) -> Result<Made, Refusal> {
    let Some((kind, body)) = at.entries().next() else { return Err(("an action of no kind".to_owned(), "remove it")) };
    let kind = snake_case(kind);
    let key = |default: &str| match body.text_of("descriptor_key") {
        "" => default.to_owned(),
        key => key.to_owned(),
    };
    let of_request = |key: String, entry| Action { key, value: ActionValue::OfRequest(entry) };
    match kind.as_str() {
        "request_headers" => {
            let source = Source::first_header(body.text_of("header_name"));
            optional(&body, key(""), source, findings)
        }
        "query_parameters" => {
            let source = Source::Query(body.text_of("query_parameter_name").to_owned());
            optional(&body, key(""), source, findings)
        }
        "remote_address" => Ok(Made::Entry(of_request(kind, Entry::of(Source::RemoteAddress)))),
        "masked_remote_address" => {
            let bits = |name: &str, all| body.field(name).and_then(|at| at.integer()).unwrap_or(all);
            let (v4, v6) = (bits("v4_prefix_mask_len", 32), bits("v6_prefix_mask_len", 128));
            Ok(Made::Entry(of_request(kind, Entry::of(Source::MaskedRemoteAddress { v4, v6 }))))
        }
        "destination_cluster" => Ok(Made::Entry(of_request(kind, Entry::of(Source::ClusterName)))),
        "generic_key" => constant(&body, key("generic_key")).map(Made::Entry),
        "header_value_match" => {
            let matched = matcher::all(&body.each("headers"), matcher::header);
            matching(&body, key("header_match"), matched)
        }
        "query_parameter_value_match" => {
            let matched = matcher::all(&body.each("query_parameters"), matcher::query_parameter);
            matching(&body, key("query_match"), matched)
        }
        "metadata" | "dynamic_metadata" => {
            let is_route = body.field("source").is_some_and(|at| at.one_of(&["DYNAMIC", "ROUTE_ENTRY"]) == Some(1));
            if is_route {
                return Err(("metadata of the route (ROUTE_ENTRY)".to_owned(), NO_COUNTERPART));
            }
            let metadata_key = body.field("metadata_key");
            let steps = metadata_key.iter().flat_map(|at| at.each("path"));
            let path: Vec<String> = steps.map(|step| step.text_of("key").to_owned()).collect();
            let name = metadata_key.as_ref().map(|at| at.text_of("key").to_owned()).unwrap_or_default();
            optional(&body, key(""), Source::Metadata { key: name, path }, findings)
        }
        "source_cluster" => Err(("source_cluster".to_owned(), NO_COUNTERPART)),
        "extension" => Err(("an extension, such as a CEL expression".to_owned(), NO_COUNTERPART)),
        other => Err((format!("an action of another kind ({} bytes)", other.len()), NO_COUNTERPART)),
    }
}

/// An entry whose value may be missing: left out, with a default, or without a descriptor at all.
fn optional(body: &At<'_>, key: String, source: Source, findings: &mut Findings) -> Result<Made, Refusal> {
    if key.is_empty() {
        return Err(("an action without descriptor_key".to_owned(), "Envoy refuses it"));
    }
    let default = Some(body.text_of("default_value")).filter(|text| !text.is_empty()).map(str::to_owned);
    let (has_default, skips) = (default.is_some(), body.is_set("skip_if_absent"));
    let action = Action { key, value: ActionValue::OfRequest(Entry { source: source.clone(), default }) };
    if has_default {
        findings.add(finding::ABSENT, body, "a default value, as `default`", "check the limits that have it");
        return Ok(Made::Entry(action));
    }
    if skips {
        let help = "the limit becomes two: one for requests with the value, one for those without";
        findings.add(finding::ABSENT, body, "skip_if_absent leaves an entry out", help);
        return Ok(Made::Optional(action, source));
    }
    Ok(Made::Entry(action))
}

fn constant(body: &At<'_>, key: String) -> Result<Action, Refusal> {
    let value = body.field("descriptor_value").and_then(|at| crate::import::scalar(&at)).unwrap_or_default();
    if value.is_empty() || value.contains('%') {
        let help = "write the entry by hand: Weir's descriptors name their sources themselves";
        return Err(("a descriptor_value that is empty or has substitutions".to_owned(), help));
    }
    Ok(Action { key, value: ActionValue::Constant(value) })
}

fn matching(body: &At<'_>, key: String, matched: matcher::Matched) -> Result<Made, Refusal> {
    let condition = matched.map_err(|what| (what, "Weir's predicates have no such match"))?;
    let is_expected = body.field("expect_match").is_none_or(|at| at.flag() != Some(false));
    let condition = if is_expected { condition } else { Condition::not(condition) };
    Ok(Made::If(condition, constant(body, key)?))
}

fn snake_case(name: &str) -> String {
    let lower = |it: char| {
        let underscore = it.is_ascii_uppercase().then_some('_');
        underscore.into_iter().chain([it.to_ascii_lowercase()])
    };
    name.chars().flat_map(lower).collect()
}

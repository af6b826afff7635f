//! Inventory about a limiter: its configuration, and the rest of the files as this configuration needs them.

use std::cell::RefCell;

use weir_filter::config::{self, Config, IncludeUsage};
use weir_filter::limit::Limit;

use super::configuration::{Findings as _, unwritten};
use super::{environment, hops, kubernetes, marks, order, paths, redis};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;
use crate::files::{ChainKind, Inventory, Plugin, Written};

/// Limiter with a configuration that the filter accepts.
pub(super) struct Limiter<'f, 'a> {
    pub(super) plugin: &'f Plugin<'a>,
    pub(super) config: Config,
    pub(super) written: Written<'a>,
    /// Environment variables that the configuration reads.
    pub(super) variables: Vec<String>,
    /// Everything that was found beside it.
    pub(super) inventory: &'f Inventory<'a>,
}

/// Checks of a limiter with a configuration that the filter accepts.
const CHECKS: [fn(&Limiter<'_, '_>) -> Vec<Finding>; 10] = [
    unseen_body,
    small_buffer,
    corrected,
    redis::findings,
    environment::findings,
    paths::findings,
    hops::findings,
    order::findings,
    kubernetes::claims,
    marks::findings,
];

/// All findings about a limiter. What is around it is only judged if the filter accepts its configuration.
pub(super) fn findings(plugin: &Plugin<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
    let written = match Written::of(plugin) {
        Ok(written) => written,
        Err(error) => return vec![unwritten(&error)],
    };
    let variables = RefCell::new(Vec::new());
    let read = |name: &str| {
        variables.borrow_mut().push(name.to_owned());
        environment::variable(plugin, name)
    };
    match config::parse(&written.bytes, &read) {
        Ok(config) => {
            let limiter = Limiter { plugin, config, written, variables: variables.into_inner(), inventory };
            CHECKS.iter().flat_map(|check| check(&limiter)).collect()
        }
        Err(errors) => errors.iter().map(|error| written.finding(error)).collect(),
    }
}

/// Findings about a limiter's configuration without the files of Envoy around it.
pub(super) fn alone(root: At<'_>) -> Vec<Finding> {
    let written = Written::alone(root);
    match config::parse(&written.bytes, &environment::anywhere) {
        Ok(config) => notices(&written, &config),
        Err(errors) => errors.iter().map(|error| written.finding(error)).collect(),
    }
}

fn corrected(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    notices(&limiter.written, &limiter.config)
}

/// Values that the filter corrects and logs when it starts.
fn notices(written: &Written<'_>, config: &Config) -> Vec<Finding> {
    let finding = |notice: &config::ConfigNotice| {
        written.at_path(&notice.path, |at| {
            let (found, help) = ("white space around it", "remove the white space, most often a newline at the end");
            let text = notice.notice.to_string();
            let found = if text.contains("newline") { "a newline at its end" } else { found };
            let of = text.strip_prefix("the value of ").and_then(|rest| rest.split(' ').next());
            let value = of.map_or("the value".to_owned(), |name| format!("the value of {name}"));
            Finding::at(rules::CORRECTED, at, format!("{value} without white space around it"), found, help)
        })
    };
    config.notices.iter().map(finding).collect()
}

fn unseen_body(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let config = &limiter.config;
    let reading = (0..config.limits.len()).filter(|limit| config.body.is_read_by(*limit));
    let limits: Vec<String> = reading.map(|index| format!("limits[{index}]")).collect();
    if limits.is_empty() || limiter.plugin.at.is_set("allow_on_headers_stop_iteration") {
        return Vec::new();
    }
    if let Some(declaration) = &limiter.plugin.declaration {
        return limits.first().map(|first| kubernetes::unseen_body(limiter, declaration, first)).into_iter().collect();
    }
    let enforces = |limit: &Limit| {
        let reserve = limit.charge.as_ref().and_then(|charge| charge.reserve.as_ref());
        reserve.is_some_and(|reserve| reserve.output.enforce)
    };
    let is_injected = config.usage.as_ref().is_some_and(|usage| usage.include_usage == IncludeUsage::Inject);
    let unwritten = match (is_injected, config.limits.iter().any(enforces)) {
        (true, true) => "; usage.include_usage: inject and reserve.output.enforce would add nothing to bodies",
        (true, false) => "; usage.include_usage: inject would add nothing to bodies",
        (false, true) => "; reserve.output.enforce would add nothing to bodies",
        (false, false) => "",
    };
    let help = format!(
        "write `allow_on_headers_stop_iteration: true`: the body is read by {}, and Envoy shows no body to a filter \
         that holds the headers: requests under these limits would be held until request_body.timeout{unwritten}",
        limits.join(", ")
    );
    let field = "allow_on_headers_stop_iteration";
    vec![Finding::at_field(rules::UNSEEN_BODY, &limiter.plugin.at, field, "true", "it unset or false", help)]
}

/// A listener that buffers less of a body than the limiter wants to read.
fn small_buffer(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let limit = limiter.inventory.chain_of(limiter.plugin).and_then(|(chain, _)| match &chain.kind {
        ChainKind::Listener { listener, .. } => listener.as_ref()?.field("per_connection_buffer_limit_bytes"),
        _ => None,
    });
    let max_bytes = limiter.config.body.max_bytes;
    let reads = (0..limiter.config.limits.len()).any(|limit| limiter.config.body.is_read_by(limit));
    let Some((at, bytes)) = limit.and_then(|at| Some((at.clone(), at.integer()?))) else { return Vec::new() };
    let is_small = usize::try_from(bytes).is_ok_and(|bytes| bytes < max_bytes);
    // The filter's least size of a proxy's buffer.
    let help = if bytes < 1_024 {
        "raise it to at least 1024 bytes: of a body that does not fit, no value is read, after request_body.timeout"
    } else {
        "raise it, or lower request_body.max_bytes: values behind the first bytes that Envoy keeps are unreadable"
    };
    let expected = format!("at least {max_bytes} bytes, the limiter's request_body.max_bytes");
    let finding = || Finding::at(rules::BUFFER, &at, expected, format!("{bytes} bytes"), help);
    (reads && is_small).then(finding).into_iter().collect()
}

//! `weir check` as a process: its findings about the files in `envoy/`, about changed copies of them, and about small
//! files of every kind that Envoy takes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

mod catalog;
mod configuration;
mod discovery;
mod documents;
mod environment;
mod finder;
mod kinds;
mod kubernetes;
mod modules;
mod order;
mod outputs;
mod real_envoy;
mod redis;
mod rules;
mod secrets;
mod support;
mod types;
mod values;
mod warnings;

/// A plugin's `PluginConfig` in `envoy/quickstart.yaml` and `envoy/callout.yaml`.
const LIMITER: &str =
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.config";
const BY_USER: &str = "- request_header: {name: x-user-id}";
const BUCKET: &str = "token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 60s}";
const QUICKSTART: &str = include_str!("../../../../envoy/quickstart.yaml");
const CALLOUT: &str = include_str!("../../../../envoy/callout.yaml");

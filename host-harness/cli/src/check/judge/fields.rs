//! Fields that the messages of a bootstrap and of a wasm plugin do not have, and names that are close to a known one.
//!
//! The lists are those of Envoy 1.36 to 1.40. Fields of `configuration` are the module's own.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, camel_case};
use crate::files::{Plugin, is_bootstrap};
use crate::spelling::nearest;

const BOOTSTRAP: Fields = Fields {
    message: "Bootstrap",
    names: &[
        "node",
        "node_context_params",
        "static_resources",
        "dynamic_resources",
        "cluster_manager",
        "hds_config",
        "flags_path",
        "stats_sinks",
        "deferred_stat_options",
        "stats_config",
        "stats_flush_interval",
        "stats_flush_on_admin",
        "stats_eviction_interval",
        "watchdog",
        "watchdogs",
        "tracing",
        "layered_runtime",
        "admin",
        "overload_manager",
        "enable_dispatcher_stats",
        "header_prefix",
        "stats_server_version_override",
        "use_tcp_for_dns_lookups",
        "dns_resolution_config",
        "typed_dns_resolver_config",
        "bootstrap_extensions",
        "fatal_actions",
        "config_sources",
        "default_config_source",
        "default_socket_interface",
        "certificate_provider_instances",
        "inline_headers",
        "perf_tracing_file_path",
        "default_regex_engine",
        "xds_delegate_extension",
        "xds_config_tracker_extension",
        "listener_manager",
        "application_log_config",
        "grpc_async_client_manager_config",
        "memory_allocator_manager",
    ],
};
/// Fields by which a bootstrap is known where none of them is spelt right.
const RESOURCES: Fields = Fields { message: "Bootstrap", names: &["static_resources", "dynamic_resources"] };
const STATIC: Fields = Fields { message: "StaticResources", names: &["listeners", "clusters", "secrets"] };
const DYNAMIC: Fields = Fields {
    message: "DynamicResources",
    names: &["lds_config", "lds_resources_locator", "cds_config", "cds_resources_locator", "ads_config"],
};
const SERVICE: Fields = Fields { message: "WasmService", names: &["config", "singleton"] };
const WASM: Fields = Fields { message: "Wasm", names: &["config"] };
const PLUGIN: Fields = Fields {
    message: "PluginConfig",
    names: &[
        "name",
        "root_id",
        "vm_config",
        "configuration",
        "fail_open",
        "failure_policy",
        "reload_config",
        "capability_restriction_config",
        "allow_on_headers_stop_iteration",
    ],
};
const VM: Fields = Fields {
    message: "VmConfig",
    names: &[
        "vm_id",
        "runtime",
        "code",
        "configuration",
        "allow_precompiled",
        "nack_on_code_cache_miss",
        "environment_variables",
        "capability_restriction_config",
    ],
};
const VARIABLES: Fields = Fields { message: "EnvironmentVariables", names: &["host_env_keys", "key_values"] };
const CODE: Fields = Fields { message: "AsyncDataSource", names: &["local", "remote"] };
const LOCAL: Fields = Fields {
    message: "DataSource",
    names: &["filename", "inline_bytes", "inline_string", "environment_variable", "watched_directory"],
};
const DIRECTORY: Fields = Fields { message: "WatchedDirectory", names: &["path", "watch_modify"] };
const REMOTE: Fields = Fields { message: "RemoteDataSource", names: &["http_uri", "sha256", "retry_policy"] };
const URI: Fields = Fields { message: "HttpUri", names: &["uri", "cluster", "timeout"] };
const RETRY: Fields = Fields {
    message: "RetryPolicy",
    names: &[
        "retry_back_off",
        "num_retries",
        "retry_on",
        "retry_priority",
        "retry_host_predicate",
        "host_selection_retry_max_attempts",
    ],
};
const BACKOFF: Fields = Fields { message: "BackoffStrategy", names: &["base_interval", "max_interval"] };
const RELOAD: Fields = Fields { message: "ReloadConfig", names: &["backoff"] };
const CAPABILITIES: Fields = Fields { message: "CapabilityRestrictionConfig", names: &["allowed_capabilities"] };

/// Fields of a message, in snake case.
struct Fields {
    message: &'static str,
    names: &'static [&'static str],
}

/// Misspelt fields at the top of a bootstrap and of its resources: what is below them would not be found.
pub(super) fn of_document(document: &Document) -> Vec<Finding> {
    let root = At::root(document);
    if !is_bootstrap(document) {
        return misspelt(&root, &RESOURCES);
    }
    let below = [("static_resources", &STATIC), ("dynamic_resources", &DYNAMIC)];
    let below = below.iter().filter_map(|(name, fields)| Some((root.field(name)?, *fields)));
    let messages = std::iter::once((root.clone(), &BOOTSTRAP)).chain(below);
    messages.flat_map(|(at, fields)| misspelt(&at, fields)).collect()
}

/// Fields that a message does not have, but for a mistake in their spelling.
fn misspelt(at: &At<'_>, fields: &Fields) -> Vec<Finding> {
    let unknown = at.entries().filter(|(key, _)| !fields.has(key));
    let meant = unknown.filter_map(|(key, value)| nearest(key, fields.names).map(|meant| (value, meant)));
    meant.map(|(value, meant)| fields.unknown(at, &value, did_you_mean(meant))).collect()
}

/// Fields that no version of Envoy has.
pub(super) fn unknown(plugin: &Plugin<'_>) -> Vec<Finding> {
    let messages = messages(plugin);
    let mut found = Vec::new();
    for (index, (at, fields)) in messages.iter().enumerate() {
        found.extend(unknown_in(at, fields, &messages, index == 0));
    }
    found
}

/// Fields that a message does not have. `messages` are those of the plugin, in which they may belong.
fn unknown_in(
    at: &At<'_>,
    fields: &Fields,
    messages: &[(At<'_>, &'static Fields)],
    is_outermost: bool,
) -> Vec<Finding> {
    // A merge key has a finding of its own. Fields of an `Any` or a `TypedStruct` are only in the outermost message.
    let of_any = |key: &str| is_outermost && matches!(key, "@type" | "type_url" | "typeUrl" | "value");
    let is_known = |key: &str| fields.has(key) || key == "<<" || of_any(key);
    let unknown = at.entries().filter(|(key, _)| !is_known(key));
    unknown
        .map(|(key, value)| {
            let other = messages.iter().find(|(_, fields)| fields.has(key));
            let help = match (other, nearest(key, fields.names)) {
                (Some((at, _)), _) => format!("move it to {}; Envoy refuses the field here", at.path),
                (None, Some(meant)) => did_you_mean(meant),
                (None, None) => "remove it: Envoy refuses fields that it does not know".to_owned(),
            };
            fields.unknown(at, &value, help)
        })
        .collect()
}

/// Findings about a message of a plugin without `config`: its unknown fields, or that it has none.
pub(super) fn of_hollow(message: &Message<'_>) -> Vec<Finding> {
    let fields = if message.short_name() == "WasmService" { &SERVICE } else { &WASM };
    let body = &message.body;
    let unknown = unknown_in(body, fields, &[], true);
    if !unknown.is_empty() {
        return unknown;
    }
    let help = "add `config` with root_id, vm_config and configuration; Envoy does not start without it";
    vec![Finding::at_field(rules::MISSING_CONFIG, body, "config", "the plugin's configuration", "nothing", help)]
}

/// The messages of a plugin with their places, the outermost first.
fn messages<'a>(plugin: &Plugin<'a>) -> Vec<(At<'a>, &'static Fields)> {
    let is_service = plugin.message.short_name() == "WasmService";
    let outer = plugin.message.body.clone();
    let mut found = vec![(outer, if is_service { &SERVICE } else { &WASM }), (plugin.at.clone(), &PLUGIN)];
    let mut add = |at: Option<At<'a>>, fields: &'static Fields| {
        found.extend(at.filter(At::is_object).map(|at| (at, fields)));
    };
    add(plugin.vm(), &VM);
    let in_vm = |name: &str| plugin.vm()?.field(name);
    let code = |names: [&str; 2]| in_vm("code")?.fields(names);
    add(in_vm("environment_variables"), &VARIABLES);
    add(in_vm("capability_restriction_config"), &CAPABILITIES);
    add(in_vm("code"), &CODE);
    add(in_vm("code").and_then(|at| at.field("local")), &LOCAL);
    add(code(["local", "watched_directory"]), &DIRECTORY);
    add(in_vm("code").and_then(|at| at.field("remote")), &REMOTE);
    add(code(["remote", "http_uri"]), &URI);
    add(code(["remote", "retry_policy"]), &RETRY);
    add(code(["remote", "retry_policy"]).and_then(|at| at.field("retry_back_off")), &BACKOFF);
    add(plugin.at.field("reload_config"), &RELOAD);
    add(plugin.at.fields(["reload_config", "backoff"]), &BACKOFF);
    add(plugin.at.field("capability_restriction_config"), &CAPABILITIES);
    found
}

impl Fields {
    /// Whether the message has a field, in snake case or camel case.
    fn has(&self, key: &str) -> bool {
        self.names.iter().any(|name| *name == key || camel_case(name) == key)
    }

    /// The finding about a field of `at` that the message does not have.
    fn unknown(&self, at: &At<'_>, value: &At<'_>, help: String) -> Finding {
        let expected = format!("a field of {} ({})", self.message, self.names.join(", "));
        Finding::at(rules::UNKNOWN_FIELD, at, expected, "an unknown field", help).at_key(value)
    }
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean {name}? Envoy refuses fields that it does not know")
}

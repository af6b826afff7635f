//! Table of Envoy's messages: fields that the embedded host honours, and fields that it leaves out.
//!
//! The readers take fields only if they are listed here (checked by a debug assertion), and refuse every field that is
//! not listed. A field is left out, with a warning, only if it does not change what is served.

use crate::documents::camel_case;

/// Message of Envoy with the fields that the embedded host knows.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Full name, such as `envoy.config.listener.v3.Listener`.
    pub name: &'static str,
    /// Honoured fields.
    pub honoured: &'static [&'static str],
    /// Fields that are left out, with a warning; all others are refused.
    pub ignored: &'static [&'static str],
}

/// All fields of the messages in the table, of Envoy 1.36 to 1.40: in each line a message, and its fields.
const ENVOYS: &str = include_str!("envoy_fields.txt");

impl Message {
    /// All fields that Envoy's message has.
    pub(super) fn envoys(&self) -> impl Iterator<Item = &'static str> {
        // A name may be followed by a use.
        let name = self.name.split(' ').next();
        let line = ENVOYS.lines().find(|line| line.split(' ').next() == name);
        line.unwrap_or_default().split(' ').skip(1)
    }
}

/// Whether a key of a file is this field, in snake case or in camel case.
pub(super) fn is_spelling(key: &str, field: &str) -> bool {
    key == field || key == camel_case(field)
}

/// Network filters that only observe a connection: they are left out.
pub const OBSERVERS: &[&str] = &[
    "envoy.extensions.filters.network.kafka_broker.v3.KafkaBroker",
    "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",
    "envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy",
    "envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy",
    "envoy.extensions.filters.network.zookeeper_proxy.v3.ZooKeeperProxy",
];

macro_rules! messages {
    ($($name:ident = $message:literal: [$($honoured:literal)*] [$($ignored:literal)*];)*) => {
        $(pub(super) const $name: Message = Message {
            name: $message,
            honoured: &[$($honoured),*],
            ignored: &[$($ignored),*],
        };)*

        /// All known messages, in the order of a bootstrap.
        pub const MESSAGES: &[Message] = &[$($name),*];
    };
}

messages! {
    BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap":
        ["admin" "node" "static_resources" "bootstrap_extensions" "stats_config"]
        ["stats_sinks" "stats_flush_interval" "stats_flush_on_admin" "overload_manager" "watchdog"
         "watchdogs" "layered_runtime" "tracing" "cluster_manager" "hds_config" "enable_dispatcher_stats"
         "use_tcp_for_dns_lookups" "dns_resolution_config" "typed_dns_resolver_config" "flags_path"
         "memory_allocator_manager" "application_log_config" "deferred_stat_options" "default_socket_interface"
         "fatal_actions" "perf_tracing_file_path" "stats_server_version_override"];
    STATS_CONFIG = "envoy.config.metrics.v3.StatsConfig":
        ["stats_tags" "use_all_default_tags"] ["stats_matcher" "histogram_bucket_settings"];
    STATS_TAG = "envoy.config.metrics.v3.TagSpecifier": ["tag_name" "regex" "fixed_value"] [];
    ADMIN = "envoy.config.bootstrap.v3.Admin":
        ["address"] ["access_log" "access_log_path" "profile_path" "socket_options" "ignore_global_conn_limit"];
    NODE = "envoy.config.core.v3.Node":
        ["id" "cluster" "metadata"]
        ["locality" "user_agent_name" "user_agent_version" "user_agent_build_version" "extensions" "client_features"
         "listening_addresses" "dynamic_parameters"];
    STATIC_RESOURCES = "envoy.config.bootstrap.v3.Bootstrap.StaticResources":
        ["listeners" "clusters"] ["secrets"];
    EXTENSION = "envoy.config.core.v3.TypedExtensionConfig (of a bootstrap)": ["name" "typed_config"] [];
    WASM_SERVICE = "envoy.extensions.wasm.v3.WasmService": ["config" "singleton"] [];
    ADDRESS = "envoy.config.core.v3.Address": ["socket_address"] [];
    SOCKET_ADDRESS = "envoy.config.core.v3.SocketAddress":
        ["protocol" "address" "port_value"] ["ipv4_compat" "resolver_name"];
    LISTENER = "envoy.config.listener.v3.Listener":
        ["name" "address" "per_connection_buffer_limit_bytes" "filter_chains" "default_filter_chain" "listener_filters"
         "traffic_direction"]
        ["stat_prefix" "metadata" "enable_reuse_port" "reuse_port" "drain_type" "access_log"
         "tcp_backlog_size" "tcp_fast_open_queue_length" "socket_options" "listener_filters_timeout"
         "continue_on_listener_filters_timeout" "connection_balance_config" "max_connections_to_accept_per_socket_event"
         "bypass_overload_manager" "ignore_global_conn_limit" "deprecated_v1"];
    FILTER_CHAIN = "envoy.config.listener.v3.FilterChain":
        ["name" "filters" "filter_chain_match" "transport_socket"] ["metadata" "transport_socket_connect_timeout"];
    CHAIN_MATCH = "envoy.config.listener.v3.FilterChainMatch":
        ["destination_port" "server_names" "transport_protocol" "application_protocols" "source_prefix_ranges"
         "source_ports"]
        [];
    CIDR_RANGE = "envoy.config.core.v3.CidrRange": ["address_prefix" "prefix_len"] [];
    LISTENER_FILTER = "envoy.config.listener.v3.ListenerFilter": ["name" "typed_config"] [];
    TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector":
        [] ["enable_ja3_fingerprinting" "enable_ja4_fingerprinting" "initial_read_buffer_size"];
    TRANSPORT_SOCKET = "envoy.config.core.v3.TransportSocket": ["name" "typed_config"] [];
    DOWNSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext":
        ["common_tls_context" "require_client_certificate"]
        ["session_timeout" "disable_stateless_session_resumption" "disable_stateful_session_resumption" "prefer_client_ciphers"];
    UPSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext":
        ["common_tls_context" "sni"] ["max_session_keys" "allow_renegotiation" "enforce_rsa_key_usage"];
    COMMON_TLS = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext":
        ["tls_certificates" "alpn_protocols" "validation_context" "tls_params" "tls_certificate_sds_secret_configs"
         "validation_context_sds_secret_config" "combined_validation_context"]
        ["key_log"];
    SDS_SECRET = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig": ["name" "sds_config"] [];
    CONFIG_SOURCE = "envoy.config.core.v3.ConfigSource":
        ["path_config_source"] ["resource_api_version" "initial_fetch_timeout"];
    PATH_CONFIG_SOURCE = "envoy.config.core.v3.PathConfigSource": ["path"] ["watched_directory"];
    SECRETS = "envoy.service.discovery.v3.DiscoveryResponse": ["resources"] ["version_info" "type_url" "nonce"];
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret":
        ["name" "tls_certificate" "validation_context"] ["session_ticket_keys" "generic_secret"];
    COMBINED_VALIDATION =
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext":
        ["default_validation_context" "validation_context_sds_secret_config"] [];
    TLS_PARAMETERS = "envoy.extensions.transport_sockets.tls.v3.TlsParameters":
        ["tls_minimum_protocol_version" "tls_maximum_protocol_version"] [];
    TLS_CERTIFICATE = "envoy.extensions.transport_sockets.tls.v3.TlsCertificate":
        ["certificate_chain" "private_key"] ["watched_directory"];
    VALIDATION = "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext":
        ["trusted_ca" "match_typed_subject_alt_names"] ["watched_directory"];
    SAN_MATCHER = "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher": ["san_type" "matcher"] [];
    EXACT_MATCHER = "envoy.type.matcher.v3.StringMatcher (of a name)": ["exact"] [];
    PEM_SOURCE = "envoy.config.core.v3.DataSource (of a certificate)":
        ["filename" "inline_string" "inline_bytes" "environment_variable"] ["watched_directory"];
    TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":
        ["stat_prefix" "cluster"]
        ["idle_timeout" "access_log" "access_log_options" "access_log_flush_interval" "max_connect_attempts"
         "flush_access_log_on_connected"];
    NETWORK_FILTER = "envoy.config.listener.v3.Filter": ["name" "typed_config"] [];
    HTTP_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager":
        ["stat_prefix" "codec_type" "use_remote_address" "skip_xff_append" "generate_request_id"
         "xff_num_trusted_hops" "internal_address_config" "normalize_path" "merge_slashes" "path_with_escaped_slashes_action" "route_config"
         "access_log" "http_filters" "upgrade_configs" "stream_idle_timeout" "request_timeout"]
        ["tracing" "drain_timeout" "delayed_close_timeout" "access_log_flush_interval" "access_log_options"
         "flush_access_log_on_new_request" "request_headers_timeout"
         "add_proxy_protocol_connection_state" "http2_protocol_options" "http3_protocol_options"
         "request_id_extension"];
    INTERNAL_ADDRESSES =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig":
        ["cidr_ranges"] ["unix_sockets"];
    UPGRADE = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig":
        ["upgrade_type" "enabled"] [];
    HTTP_FILTER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter":
        ["name" "typed_config"] ["is_optional"];
    ROUTER = "envoy.extensions.filters.http.router.v3.Router":
        [] ["dynamic_stats" "start_child_span" "upstream_log" "upstream_log_options" "suppress_grpc_request_failure_code_stats"];
    CODEC = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec": [] [];
    ROUTE_TABLE = "envoy.config.route.v3.RouteConfiguration":
        ["name" "virtual_hosts" "most_specific_header_mutations_wins" "request_headers_to_add" "request_headers_to_remove"
         "response_headers_to_add" "response_headers_to_remove" "validate_clusters" "max_direct_response_body_size_bytes"]
        ["metadata"];
    VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost":
        ["name" "domains" "routes" "request_headers_to_add" "request_headers_to_remove"
         "response_headers_to_add" "response_headers_to_remove"]
        ["virtual_clusters" "metadata"];
    ROUTE = "envoy.config.route.v3.Route":
        ["name" "match" "direct_response" "route" "redirect" "request_headers_to_add" "request_headers_to_remove"
         "response_headers_to_add" "response_headers_to_remove"]
        ["decorator" "tracing" "metadata" "stat_prefix"];
    ROUTE_MATCH = "envoy.config.route.v3.RouteMatch":
        ["prefix" "path" "path_separated_prefix" "safe_regex" "case_sensitive" "grpc" "headers" "query_parameters"] [];
    REGEX = "envoy.type.matcher.v3.RegexMatcher": ["regex"] ["google_re2"];
    HEADER_MATCH = "envoy.config.route.v3.HeaderMatcher":
        ["name" "present_match" "string_match" "range_match" "exact_match" "prefix_match" "suffix_match"
         "contains_match" "safe_regex_match" "invert_match" "treat_missing_header_as_empty"]
        [];
    QUERY_MATCH = "envoy.config.route.v3.QueryParameterMatcher": ["name" "string_match" "present_match"] [];
    TEXT_MATCH = "envoy.type.matcher.v3.StringMatcher":
        ["exact" "prefix" "suffix" "contains" "safe_regex" "ignore_case"] [];
    RANGE = "envoy.type.v3.Int64Range": ["start" "end"] [];
    HEADER_OPTION = "envoy.config.core.v3.HeaderValueOption": ["header" "append_action" "append" "keep_empty_value"] [];
    HEADER_VALUE = "envoy.config.core.v3.HeaderValue": ["key" "value"] [];
    REDIRECT = "envoy.config.route.v3.RedirectAction":
        ["https_redirect" "scheme_redirect" "host_redirect" "port_redirect" "path_redirect" "prefix_rewrite"
         "response_code" "strip_query"]
        [];
    DIRECT_RESPONSE = "envoy.config.route.v3.DirectResponseAction": ["status" "body"] [];
    DATA_SOURCE = "envoy.config.core.v3.DataSource": ["inline_string"] [];
    ROUTE_ACTION = "envoy.config.route.v3.RouteAction":
        ["cluster" "timeout" "idle_timeout" "max_stream_duration" "prefix_rewrite" "host_rewrite_literal" "upgrade_configs"]
        ["priority" "flush_timeout" "request_mirror_policies"];
    MAX_STREAM_DURATION = "envoy.config.route.v3.RouteAction.MaxStreamDuration": ["max_stream_duration"] [];
    ACCESS_LOG = "envoy.config.accesslog.v3.AccessLog": ["name" "typed_config"] ["filter"];
    STDOUT_LOG = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": ["log_format"] [];
    FILE_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog": ["path" "log_format"] [];
    LOG_FORMAT = "envoy.config.core.v3.SubstitutionFormatString":
        ["omit_empty_values" "text_format_source" "text_format" "json_format"] ["content_type"];
    WASM = "envoy.extensions.filters.http.wasm.v3.Wasm": ["config"] [];
    PLUGIN = "envoy.extensions.wasm.v3.PluginConfig":
        ["name" "root_id" "vm_config" "configuration" "failure_policy" "allow_on_headers_stop_iteration" "fail_open"
         "reload_config"]
        [];
    RELOAD = "envoy.extensions.wasm.v3.ReloadConfig": ["backoff"] [];
    BACKOFF = "envoy.config.core.v3.BackoffStrategy": ["base_interval" "max_interval"] [];
    VM = "envoy.extensions.wasm.v3.VmConfig":
        ["vm_id" "runtime" "code" "configuration" "environment_variables" "allow_precompiled"] ["nack_on_code_cache_miss"];
    ASYNC_DATA_SOURCE = "envoy.config.core.v3.AsyncDataSource": ["local"] [];
    LOCAL_CODE = "envoy.config.core.v3.DataSource (a module)": ["filename"] [];
    ENVIRONMENT = "envoy.extensions.wasm.v3.EnvironmentVariables": ["host_env_keys" "key_values"] [];
    CLUSTER = "envoy.config.cluster.v3.Cluster":
        ["name" "type" "connect_timeout" "circuit_breakers" "lb_policy" "load_assignment" "upstream_config"
         "typed_extension_protocol_options" "transport_socket" "http2_protocol_options" "http_protocol_options"
         "health_checks" "common_lb_config" "close_connections_on_host_health_failure"]
        ["alt_stat_name" "metadata" "dns_lookup_family" "dns_refresh_rate" "dns_failure_refresh_rate"
         "respect_dns_ttl" "wait_for_warm_on_init" "track_timeout_budgets" "track_cluster_stats"
         "ignore_health_on_host_removal" "dns_resolution_config" "use_tcp_for_dns_lookups"
         "typed_dns_resolver_config" "per_connection_buffer_limit_bytes" "cleanup_interval" "upstream_connection_options"
         "preconnect_policy" "connection_pool_per_downstream_connection" "dns_jitter" "max_requests_per_connection"];
    HEALTH_CHECK = "envoy.config.core.v3.HealthCheck":
        ["timeout" "interval" "unhealthy_threshold" "healthy_threshold" "tcp_health_check"]
        ["initial_jitter" "interval_jitter" "interval_jitter_percent" "no_traffic_interval" "no_traffic_healthy_interval"
         "reuse_connection" "event_log_path" "event_logger" "always_log_health_check_failures"
         "always_log_health_check_success"];
    TCP_HEALTH_CHECK = "envoy.config.core.v3.HealthCheck.TcpHealthCheck": ["send" "receive"] [];
    PAYLOAD = "envoy.config.core.v3.HealthCheck.Payload": ["text" "binary"] [];
    COMMON_LB = "envoy.config.cluster.v3.Cluster.CommonLbConfig":
        ["healthy_panic_threshold"]
        ["zone_aware_lb_config" "locality_weighted_lb_config" "update_merge_window"
         "ignore_new_hosts_until_first_hc" "close_connections_on_host_set_change" "consistent_hashing_lb_config"
         "override_host_status"];
    PERCENT = "envoy.type.v3.Percent": ["value"] [];
    CIRCUIT_BREAKERS = "envoy.config.cluster.v3.CircuitBreakers": ["thresholds"] ["per_host_thresholds"];
    THRESHOLDS = "envoy.config.cluster.v3.CircuitBreakers.Thresholds":
        ["priority" "max_connections" "max_pending_requests" "max_requests" "max_retries"]
        ["retry_budget" "track_remaining" "max_connection_pools"];
    LOAD_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment": ["cluster_name" "endpoints"] ["named_endpoints"];
    LOCALITY = "envoy.config.endpoint.v3.LocalityLbEndpoints":
        ["lb_endpoints"] ["locality" "metadata"];
    LB_ENDPOINT = "envoy.config.endpoint.v3.LbEndpoint": ["endpoint"] ["metadata"];
    ENDPOINT = "envoy.config.endpoint.v3.Endpoint": ["address"] ["health_check_config" "hostname"];
    UPSTREAM_CONFIG = "envoy.config.core.v3.TypedExtensionConfig": ["name" "typed_config"] [];
    TCP_POOL = "envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto": [] [];
    HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
        ["explicit_http_config" "http_filters" "upstream_http_protocol_options"] ["common_http_protocol_options"];
    UPSTREAM_HTTP = "envoy.config.core.v3.UpstreamHttpProtocolOptions": ["auto_sni" "auto_san_validation"] [];
    EXPLICIT_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig":
        ["http_protocol_options" "http2_protocol_options"] [];
    HTTP1_OPTIONS = "envoy.config.core.v3.Http1ProtocolOptions": [] ["accept_http_10" "header_key_format" "allow_absolute_url"];
    HTTP2_OPTIONS = "envoy.config.core.v3.Http2ProtocolOptions":
        []
        ["hpack_table_size" "max_concurrent_streams" "initial_stream_window_size" "initial_connection_window_size"
         "connection_keepalive" "max_outbound_frames" "max_outbound_control_frames" "allow_connect" "allow_metadata"];
    JWT_AUTHN = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication": ["providers" "rules"] ["stat_prefix"];
    JWT_PROVIDER = "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider":
        ["issuer" "audiences" "local_jwks" "payload_in_metadata" "forward"] ["jwt_cache_config"];
    JWT_RULE = "envoy.extensions.filters.http.jwt_authn.v3.RequirementRule": ["match" "requires"] [];
    JWT_REQUIREMENT = "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement":
        ["provider_name" "requires_any" "allow_missing" "allow_missing_or_failed"] [];
    JWT_ANY = "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementOrList": ["requirements"] [];
    SET_FILTER_STATE = "envoy.extensions.filters.http.set_filter_state.v3.Config": ["on_request_headers"] [];
    FILTER_STATE_VALUE = "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue":
        ["object_key" "factory_key" "format_string" "skip_if_empty"] [];
}

/// Width of the lines of [`table`], in characters.
const WIDTH: usize = 118;

/// Returns the table as text: each message, its honoured fields, and its fields that are left out.
#[must_use]
pub fn table() -> String {
    let text = |message: &Message| {
        let fields = [("honoured", message.honoured), ("left out", message.ignored)];
        let fields = fields.into_iter().filter(|(_, names)| !names.is_empty());
        let fields: String = fields.map(|(group, names)| wrapped(&format!("  {group}:"), names)).collect();
        format!("{}\n{fields}", message.name)
    };
    MESSAGES.iter().map(text).collect()
}

/// Returns names after a heading, in lines of at most [`WIDTH`] characters.
fn wrapped(heading: &str, names: &[&str]) -> String {
    let (mut lines, mut line) = (String::new(), heading.to_owned());
    for name in names {
        if line.len() + 1 + name.len() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(heading.len());
        }
        line.push(' ');
        line.push_str(name);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_serving_has_the_table() {
        let page = include_str!("../../../../docs/src/serve.md");
        let fence = format!("```text\n{}```\n", table());
        assert!(page.contains(&fence), "docs/src/serve.md has another table than this:\n{fence}");
    }

    #[test]
    fn every_field_of_the_table_is_envoys() {
        for message in MESSAGES {
            let envoys: Vec<&str> = message.envoys().collect();
            let mut listed = message.honoured.iter().chain(message.ignored);
            assert!(listed.all(|name| envoys.contains(name)), "{}: {envoys:?}", message.name);
        }
    }

    #[test]
    fn no_field_is_listed_twice() {
        for message in MESSAGES {
            let all: Vec<_> = message.honoured.iter().chain(message.ignored).collect();
            let unique: std::collections::BTreeSet<_> = all.iter().collect();
            assert_eq!(all.len(), unique.len(), "{}", message.name);
        }
    }
}

//! Envoy's bootstrap for each subject. The bootstraps differ in one HTTP filter and its clusters.
//!
//! The route leads to a cluster, but a fault filter answers every request. A direct response in the route would be
//! simpler, but Envoy's ratelimit filter ignores such routes, and all subjects are to have the same route.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::subject::{Filter, Guest};

/// The listener's name.
pub(super) const LISTENER: &str = "ingress";

const API: &str = "type.googleapis.com/envoy.extensions";

/// Addresses, module and key prefix that the filters are configured with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The address of Redis.
    pub(super) redis: SocketAddr,
    /// The address of the rate limit service, if the subject has one.
    pub(super) service: Option<SocketAddr>,
    /// The wasm module of Weir or of a guest.
    pub(super) module: &'a Path,
    /// The key prefix of Weir's buckets.
    pub(super) key_prefix: &'a str,
}

/// A bootstrap as JSON, on ports that the system chooses.
pub(super) fn bootstrap(filter: &Filter, around: &Around<'_>) -> String {
    let filters: Vec<Value> = http_filter(filter, around).into_iter().chain([fault(), router()]).collect();
    let mut clusters = vec![json!({
        "name": "elsewhere",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "elsewhere"},
    })];
    match filter {
        Filter::Weir(configuration) => clusters.push(redis(configuration["redis"]["transport"] != "callout", around)),
        Filter::Guest(Guest::AskRedis) => clusters.push(redis(true, around)),
        Filter::Ratelimit => clusters.extend(around.service.map(service)),
        _ => {}
    }
    let manager = json!({
        "@type": format!("{API}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route()]}]},
        "http_filters": filters,
    });
    let document = json!({
        "admin": {"address": on_any_port()},
        // Flushes stats only when the admin interface is read: no background work during a round, and current figures.
        "stats_flush_on_admin": true,
        "static_resources": {
            "listeners": [{
                "name": LISTENER,
                "address": on_any_port(),
                "filter_chains": [{
                    "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                }],
            }],
            "clusters": clusters,
        },
    });
    format!("{document:#}")
}

fn route() -> Value {
    json!({
        "match": {"prefix": "/"},
        "route": {
            "cluster": "elsewhere",
            "rate_limits": [{
                "actions": [{"request_headers": {"header_name": "x-user-id", "descriptor_key": "user"}}],
            }],
        },
    })
}

fn http_filter(filter: &Filter, around: &Around<'_>) -> Option<Value> {
    match filter {
        Filter::None => None,
        // Limiter and bridge are one module; only the limiter has a configuration.
        Filter::Guest(Guest::AskRedis) => Some(wasm("guest", "limiter", around.module, Some(&json!({"asks": true})))),
        Filter::Guest(_) => Some(wasm("guest", "guest", around.module, None)),
        Filter::Weir(configuration) => {
            let mut configuration = configuration.clone();
            configuration["redis"]["key_prefix"] = around.key_prefix.into();
            Some(wasm("weir", "limiter", around.module, Some(&configuration)))
        }
        Filter::LocalRatelimit => Some(local_ratelimit()),
        Filter::Ratelimit => Some(ratelimit()),
    }
}

fn wasm(name: &str, root_id: &str, module: &Path, configuration: Option<&Value>) -> Value {
    let mut plugin = json!({
        "name": name,
        "root_id": root_id,
        "vm_config": {
            "vm_id": "bench",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
    });
    if let Some(value) = configuration {
        plugin["configuration"] = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": value});
    }
    json!({"name": name, "typed_config": {"@type": format!("{API}.filters.http.wasm.v3.Wasm"), "config": plugin}})
}

fn local_ratelimit() -> Value {
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": format!("{API}.filters.http.local_ratelimit.v3.LocalRateLimit"),
            "stat_prefix": "bench",
            "token_bucket": {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}

fn ratelimit() -> Value {
    json!({
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": format!("{API}.filters.http.ratelimit.v3.RateLimit"),
            "domain": "bench",
            // Same as for Weir: failures become errors, and the timeout is long enough for a busy machine.
            "failure_mode_deny": true,
            "timeout": "2s",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "service"}},
            },
        },
    })
}

/// Fault filter that answers every admitted request with a 200.
fn fault() -> Value {
    json!({
        "name": "envoy.filters.http.fault",
        "typed_config": {
            "@type": format!("{API}.filters.http.fault.v3.HTTPFault"),
            "abort": {"http_status": 200, "percentage": {"numerator": 100, "denominator": "HUNDRED"}},
        },
    })
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": format!("{API}.filters.http.router.v3.Router")},
    })
}

/// The Redis cluster, with a bridge as in `envoy/quickstart.yaml` or without as in `envoy/callout.yaml`.
fn redis(bridged: bool, around: &Around<'_>) -> Value {
    let mut cluster = cluster("redis", around.redis);
    cluster["upstream_config"] = json!({
        "name": "envoy.upstreams.http.tcp",
        "typed_config": {"@type": format!("{API}.upstreams.http.tcp.v3.TcpConnectionPoolProto")},
    });
    if !bridged {
        return cluster;
    }
    let codec = json!({
        "name": "codec",
        "typed_config": {"@type": format!("{API}.filters.http.upstream_codec.v3.UpstreamCodec")},
    });
    let mut options = http2();
    options["http_filters"] = json!([wasm("weir_bridge", "bridge", around.module, None), codec]);
    with_options(cluster, &options)
}

fn service(addr: SocketAddr) -> Value {
    with_options(cluster("service", addr), &http2())
}

fn cluster(name: &str, addr: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(addr)}}]}],
        },
    })
}

fn http2() -> Value {
    json!({
        "@type": format!("{API}.upstreams.http.v3.HttpProtocolOptions"),
        "explicit_http_config": {"http2_protocol_options": {}},
    })
}

fn with_options(mut cluster: Value, options: &Value) -> Value {
    cluster["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
    cluster
}

fn on_any_port() -> Value {
    address(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip(), "port_value": addr.port()}})
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::from_str;

    use super::super::subject::{Proxy, Subject};
    use super::*;

    fn document(subject: Subject) -> Value {
        let redis = SocketAddr::from(([127, 0, 0, 1], 6379));
        let service = Some(SocketAddr::from(([127, 0, 0, 1], 8081)));
        let module = PathBuf::from("a.wasm");
        let around = Around { redis, service, module: &module, key_prefix: "k:" };
        let Proxy::Envoy(filter) = subject.proxy() else { panic!("{subject:?} is no Envoy") };
        from_str(&bootstrap(&filter, &around)).unwrap()
    }

    fn names(list: &Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn subjects_differ_in_one_filter_and_its_clusters() {
        let filters = |subject: Subject| {
            let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
            document(subject).pointer(manager).unwrap().clone()
        };
        let common = ["envoy.filters.http.fault", "envoy.filters.http.router"];
        assert_eq!(names(&filters(Subject::NoFilter)), common);
        for (subject, first) in [
            (Subject::NoOp, "guest"),
            (Subject::AskRedis, "guest"),
            (Subject::Weir, "weir"),
            (Subject::LocalRatelimit, "envoy.filters.http.local_ratelimit"),
            (Subject::RatelimitLimitador, "envoy.filters.http.ratelimit"),
        ] {
            assert_eq!(names(&filters(subject)), [&[first], common.as_slice()].concat());
        }
        let clusters = |subject| names(&document(subject)["static_resources"]["clusters"]).join(" ");
        assert_eq!(clusters(Subject::NoOp), "elsewhere");
        assert_eq!(clusters(Subject::Weir), "elsewhere redis");
        assert_eq!(clusters(Subject::RatelimitLimitador), "elsewhere service");
    }

    #[test]
    fn callouts_need_no_bridge_and_the_stream_does() {
        let bridged = |subject| document(subject).to_string().contains("weir_bridge");
        assert!(bridged(Subject::Weir) && bridged(Subject::AskRedis) && !bridged(Subject::WeirCallout));
    }
}

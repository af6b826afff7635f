//! Resources that istiod and the Istio agent make of a manifest, as they reach Envoy.

use serde_json::{Value, json};

use crate::{
    manifest::{Manifest, list, text, yaml},
    rendered::{CLUSTER, EXTENSION, LISTENER, Pod, ROUTES, Rendered, WASM, ads, any_port, hello, manager, router},
};

/// Kind of proxy that a manifest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    Gateway,
    /// Requests to the workload; its requests to others are not rendered.
    Sidecar,
    Waypoint,
}

/// Prefixes of the metrics that Istio keeps by default, as far as they concern Weir.
const STATS: [&str; 4] = ["cluster_manager", "listener_manager", "server", "wasm"];

/// Renders a manifest for the proxy that it selects.
pub fn render(manifest: &Manifest, proxy: Proxy) -> Rendered {
    all_select_one(manifest);
    let mut rendered = Rendered { pod: pod(manifest), bootstrap: bootstrap(manifest), ..Rendered::default() };
    let mut filters = Vec::new();
    for (phase, after) in [(Some("AUTHN"), None), (Some("AUTHZ"), Some(())), (Some("STATS"), None), (None, None)] {
        if after.is_some() {
            filters.extend(manifest.find("RequestAuthentication").map(jwt));
        }
        for kind in ["WasmPlugin", "TrafficExtension"] {
            let of_phase = manifest.all(kind).filter(|it| it["spec"]["phase"].as_str() == phase);
            for plugin in of_phase {
                let (name, wasm) = plugin_of(plugin, proxy);
                filters
                    .push(discovered(&name, &[WASM, "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"]));
                rendered.add(EXTENSION, json!({"name": name, "typed_config": wasm}));
            }
        }
        if after.is_some() {
            filters.extend(manifest.find("AuthorizationPolicy").map(authorization));
        }
    }
    filters.push(router());
    for filter in manifest.all("EnvoyFilter") {
        for patch in list(filter, "/spec/configPatches") {
            apply(patch, proxy, &mut rendered, &mut filters);
        }
    }
    listeners(proxy, &filters, &mut rendered);
    clusters(manifest, &mut rendered);
    as_the_agent_forwards(&mut rendered);
    rendered
}

/// Checks that all documents select the same workload, in one namespace.
fn all_select_one(manifest: &Manifest) {
    let mut selected: Vec<(String, String)> = Vec::new();
    for document in &manifest.documents {
        let spec = &document["spec"];
        let gateway = spec.pointer("/targetRefs/0/name");
        let label = spec.pointer("/workloadSelector/labels").or_else(|| spec.pointer("/selector/matchLabels"));
        let label = label.and_then(|labels| labels.as_object()?.values().next());
        let own = (document["kind"] == "Gateway").then(|| &document["metadata"]["name"]);
        if let Some(name) = gateway.or(label).or(own) {
            selected.push((text(document, "/metadata/namespace").to_owned(), name.as_str().unwrap().to_owned()));
        }
    }
    assert!(!selected.is_empty() && selected.iter().all(|it| *it == selected[0]), "{selected:?}");
}

/// Returns the name of the resource of a plugin, and its filter.
fn plugin_of(document: &Value, proxy: Proxy) -> (String, Value) {
    let name = format!("{}.{}", text(document, "/metadata/namespace"), text(document, "/metadata/name"));
    let (kind, plugin) = match document["kind"].as_str() {
        Some("WasmPlugin") => ("wasmplugin", &document["spec"]),
        _ => ("trafficextension", &document["spec"]["wasm"]),
    };
    let of_server = list(&document["spec"], "/match").iter().any(|it| it["mode"] == "SERVER");
    assert_eq!(of_server, proxy == Proxy::Sidecar, "a sidecar needs the mode, so that it limits no request twice");
    let mut environment = json!({"key_values": {"ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1"}});
    let variables = list(plugin, "/vmConfig/env");
    assert!(variables.iter().all(|variable| variable["valueFrom"] == "HOST"), "{variables:?}");
    if !variables.is_empty() {
        environment["host_env_keys"] = variables.iter().map(|variable| variable["name"].clone()).collect();
    }
    let policy = match plugin["failStrategy"].as_str() {
        None | Some("FAIL_CLOSE") => "FAIL_CLOSED",
        Some(other) => other,
    };
    let uri = json!({"uri": plugin["url"], "timeout": "30s", "cluster": "_"});
    let filter = json!({
        "@type": WASM,
        "config": {
            "name": name,
            "root_id": plugin["pluginName"],
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": plugin["pluginConfig"].to_string(),
            },
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"remote": {"http_uri": uri, "sha256": plugin["sha256"].as_str().unwrap_or("nil")}},
                "environment_variables": environment,
            },
            "failure_policy": policy,
        },
    });
    (format!("extensions.istio.io/{kind}/{name}"), filter)
}

fn discovered(name: &str, types: &[&str]) -> Value {
    json!({"name": name, "config_discovery": {"config_source": ads(), "type_urls": types}})
}

/// Applies a patch of an EnvoyFilter.
fn apply(patch: &Value, proxy: Proxy, rendered: &mut Rendered, filters: &mut Vec<Value>) {
    let (operation, value) = (text(patch, "/patch/operation"), patch["patch"]["value"].clone());
    let context = patch.pointer("/match/context").and_then(Value::as_str).unwrap_or("ANY");
    let (of_clusters, of_filters) = match proxy {
        Proxy::Gateway => ("GATEWAY", "GATEWAY"),
        Proxy::Sidecar => ("SIDECAR_OUTBOUND", "SIDECAR_INBOUND"),
        Proxy::Waypoint => ("WAYPOINT", "WAYPOINT"),
    };
    match (text(patch, "/applyTo"), operation) {
        // Whatever the context: the proxy gets those that it asks for.
        ("EXTENSION_CONFIG", "ADD") => rendered.add(EXTENSION, value),
        // Without a context, to gateways and sidecars alone.
        ("CLUSTER", "ADD") if context == of_clusters || (context == "ANY" && proxy != Proxy::Waypoint) => {
            rendered.add(CLUSTER, value);
        }
        // Istio refuses the context of waypoints.
        ("LISTENER", "ADD") if proxy != Proxy::Waypoint && [of_clusters, "ANY"].contains(&context) => {
            rendered.add(LISTENER, value);
        }
        ("HTTP_FILTER", "INSERT_BEFORE") if [of_filters, "ANY"].contains(&context) => {
            let next = match proxy {
                Proxy::Waypoint => "/match/waypoint/filter/subFilter/name",
                _ => "/match/listener/filterChain/filter/subFilter/name",
            };
            let next = patch.pointer(next).expect("a filter");
            let place = filters.iter().position(|filter| filter["name"] == *next).expect("the filter is there");
            filters.insert(place, value);
        }
        other => panic!("{other:?} in the context {context} does not reach {proxy:?}"),
    }
}

fn jwt(document: &Value) -> Value {
    let mut providers = json!({});
    for (number, rule) in list(document, "/spec/jwtRules").iter().enumerate() {
        providers[format!("origins-{number}")] = json!({
            "issuer": rule["issuer"], "audiences": rule["audiences"], "payload_in_metadata": "payload",
            "local_jwks": {"inline_string": rule["jwks"]},
        });
    }
    let any: Vec<Value> = providers.as_object().unwrap().keys().map(|name| json!({"provider_name": name})).collect();
    let requirements = [any, vec![json!({"allow_missing": {}})]].concat();
    let requirement = json!({"requires_any": {"requirements": requirements}});
    json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers, "rules": [{"match": {"prefix": "/"}, "requires": requirement}],
    }})
}

/// Admits requests with a principal, of any issuer.
fn authorization(document: &Value) -> Value {
    assert_eq!(document.pointer("/spec/rules/0/from/0/source/requestPrincipals"), Some(&json!(["*"])));
    let path = json!([{"key": "payload"}, {"key": "sub"}]);
    let value = json!({"string_match": {"safe_regex": {"regex": ".+"}}});
    let principal = json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}});
    json!({"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {"users": {
            "permissions": [{"any": true}], "principals": [principal]}}},
    }})
}

fn listeners(proxy: Proxy, filters: &[Value], rendered: &mut Rendered) {
    let inline = json!({"route_config": hello("inbound|8080||")});
    match proxy {
        Proxy::Gateway => {
            let routes =
                json!({"use_remote_address": true, "rds": {"config_source": ads(), "route_config_name": "http.80"}});
            let chain = json!({"filters": [manager("outbound_0.0.0.0_80", filters, &routes)]});
            rendered.add(LISTENER, json!({"name": "0.0.0.0_80", "address": any_port(), "filter_chains": [chain]}));
            rendered.add(ROUTES, hello("http.80"));
        }
        Proxy::Sidecar => {
            let chain = json!({"name": "0.0.0.0_8080", "filters": [manager("inbound_0.0.0.0_8080", filters, &inline)]});
            rendered.add(LISTENER, json!({
                "name": "virtualInbound", "address": any_port(), "traffic_direction": "INBOUND", "filter_chains": [chain],
            }));
        }
        // The tunnel of the mesh ends in a listener of its own, whose traffic an internal listener reads. Here plain TCP
        // takes the place of the tunnel.
        Proxy::Waypoint => {
            let tunnel = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "connect_terminate", "cluster": "main_internal",
            }});
            let chain = json!({"filters": [manager("inbound-vip|8080||orders", filters, &inline)]});
            rendered.add(
                LISTENER,
                json!({
                    "name": "connect_terminate", "address": any_port(), "filter_chains": [{"filters": [tunnel]}],
                }),
            );
            rendered.add(LISTENER, json!({"name": "main_internal", "internal_listener": {}, "filter_chains": [chain]}));
            let address = json!({"envoy_internal_address": {"server_listener_name": "main_internal"}});
            rendered.add(CLUSTER, cluster_of("main_internal", "STATIC", &address));
        }
    }
}

fn cluster_of(name: &str, kind: &str, address: &Value) -> Value {
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({"name": name, "type": kind, "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
}

/// Adds the clusters of Services and ServiceEntries. The TLS of a DestinationRule is left out.
fn clusters(manifest: &Manifest, rendered: &mut Rendered) {
    let ports = manifest.all("Service").chain(manifest.all("ServiceEntry")).flat_map(|service| {
        let host = match service["kind"].as_str() {
            Some("Service") => {
                let part = |pointer| text(service, pointer).to_owned();
                format!("{}.{}.svc.cluster.local", part("/metadata/name"), part("/metadata/namespace"))
            }
            _ => text(service, "/spec/hosts/0").to_owned(),
        };
        let ports = list(service, "/spec/ports").iter();
        ports.map(move |port| (host.clone(), port.get("port").or_else(|| port.get("number")).unwrap().clone()))
    });
    for (host, port) in ports {
        let address = json!({"socket_address": {"address": host, "port_value": port}});
        let mut cluster = cluster_of(&format!("outbound|{port}||{host}"), "STRICT_DNS", &address);
        let rule = manifest.all("DestinationRule").find(|rule| rule["spec"]["host"] == host);
        if let Some(pool) = rule.and_then(|rule| rule.pointer("/spec/trafficPolicy/connectionPool")) {
            cluster["circuit_breakers"] = json!({"thresholds": [{
                "max_connections": pool["tcp"]["maxConnections"],
                "max_pending_requests": pool["http"]["http1MaxPendingRequests"],
                "max_requests": pool["http"]["http2MaxRequests"],
            }]});
        }
        rendered.add(CLUSTER, cluster);
    }
}

/// Replaces remote code by the file that the agent has fetched, and drops the variables that are for the agent.
fn as_the_agent_forwards(rendered: &mut Rendered) {
    for extension in rendered.resources.get_mut(EXTENSION).into_iter().flat_map(|all| all.values_mut()) {
        let Some(machine) = extension.pointer_mut("/typed_config/config/vm_config") else { continue };
        let uri = text(machine, "/code/remote/http_uri/uri").to_owned();
        assert!(uri.starts_with("oci://"), "{uri}");
        machine["code"] = json!({"local": {"filename": format!("/var/lib/istio/data/{}.wasm", uri.len())}});
        let Some(environment) = machine["environment_variables"].as_object_mut() else { continue };
        if let Some(values) = environment.get_mut("key_values").and_then(Value::as_object_mut) {
            values.retain(|name, _| !name.starts_with("ISTIO_META_"));
        }
        environment.retain(|_, field| !field.as_object().is_some_and(serde_json::Map::is_empty));
        if environment.is_empty() {
            machine.as_object_mut().unwrap().remove("environment_variables");
        }
    }
    rendered.pod.folders.insert("/var/lib/istio/data/".to_owned());
}

/// Reads what a Gateway's ConfigMap merges into the deployment. Without one, the variables are those of the plugins: how
/// they get into the pod is not part of the manifest.
fn pod(manifest: &Manifest) -> Pod {
    let Some(parameters) =
        manifest.find("Gateway").map(|gateway| text(gateway, "/spec/infrastructure/parametersRef/name"))
    else {
        let plugins = manifest.all("WasmPlugin").flat_map(|plugin| list(plugin, "/spec/vmConfig/env"));
        let extensions = manifest.all("TrafficExtension").flat_map(|it| list(it, "/spec/wasm/vmConfig/env"));
        let variables = plugins.chain(extensions).map(|it| text(it, "/name").to_owned()).collect();
        return Pod { variables, ..Pod::default() };
    };
    let overlay = yaml(text(manifest.named("ConfigMap", parameters).expect("the ConfigMap"), "/data/deployment"));
    let spec = &overlay["spec"]["template"]["spec"];
    let container = list(spec, "/containers").iter().find(|container| container["name"] == "istio-proxy");
    Pod::of(container.expect("Istio names the container so"), list(spec, "/volumes"))
}

/// The bootstrap of Istio, which has internal listeners, and keeps the metrics of its own list and of the annotation.
fn bootstrap(manifest: &Manifest) -> Value {
    let mut patterns: Vec<Value> = STATS.iter().map(|prefix| json!({"prefix": prefix})).collect();
    let annotations = manifest.find("Gateway").and_then(|gateway| gateway.pointer("/spec/infrastructure/annotations"));
    if let Some(annotation) = annotations.and_then(|all| all.get("proxy.istio.io/config")) {
        let matcher = yaml(annotation.as_str().expect("a text"));
        let regexps = list(&matcher, "/proxyStatsMatcher/inclusionRegexps").iter();
        patterns.extend(regexps.map(|regex| json!({"safe_regex": {"regex": regex}})));
    }
    // For the tests: the number of VMs, whose name begins with that of the cluster up to Envoy 1.38.
    patterns.extend(["active", "created"].map(|name| json!({"suffix": format!(".runtime.v8.{name}")})));
    json!({
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": patterns}}},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            "buffer_size_kb": 64,
        }}],
    })
}

//! Plugins are found wherever Envoy takes them, and whatever else the files contain.

use crate::QUICKSTART;
use crate::support::{Checked, Folder, changed, check};

const NAME: &str = "          - name: weir\n            typed_config:\n";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// The limiter's `config` as JSON, with an error in its configuration if it is not sound.
fn config(is_sound: bool) -> String {
    let limits = "[{\"name\": \"a\", \"descriptor\": [], \"token_bucket\": {\"max_tokens\": 1, \"tokens_per_fill\": 1, \
                  \"fill_interval\": \"1s\"}}]";
    let redis = if is_sound { r#"{"cluster": "redis"}"# } else { "{}" };
    format!(
        "{{\"root_id\": \"limiter\", \"failure_policy\": \"FAIL_RELOAD\", \"vm_config\": {{\"vm_id\": \"weir\", \
         \"runtime\": \"envoy.wasm.runtime.v8\", \"code\": {{\"local\": {{\"filename\": \"weir_filter.wasm\"}}}}}}, \
         \"configuration\": {{\"@type\": \"type.googleapis.com/google.protobuf.Struct\", \
         \"value\": {{\"redis\": {redis}, \"limits\": {limits}}}}}}}"
    )
}

/// A filter's `typed_config` with the limiter.
fn wasm(is_sound: bool) -> String {
    format!(r#"{{"@type": "{WASM}", "config": {}}}"#, config(is_sound))
}

/// The quickstart with another filter in the place of its limiter.
fn with_filter(filter: &str) -> String {
    let (head, rest) = QUICKSTART.split_once(NAME).unwrap();
    let (_, tail) = rest.split_once("          - name: envoy.filters.http.router\n").unwrap();
    format!("{head}          - {filter}\n          - name: envoy.filters.http.router\n{tail}")
}

/// The limiter of a check is found, and its configuration is read.
fn is_found(checked: impl Fn(bool) -> Checked) {
    let sound = checked(true);
    assert_eq!((sound.rules(), sound.number("limiters")), (vec![], 1), "{sound:?}");
    let broken = checked(false);
    assert_eq!(broken.only().rule, "configuration");
    assert!(broken.only().path.ends_with(".configuration.value.redis.cluster"), "{broken:?}");
}

#[test]
fn in_typed_structs_of_both_packages() {
    for package in ["udpa.type.v1", "xds.type.v3"] {
        is_found(|is_sound| {
            let config = config(is_sound);
            let message = format!(
                "{{\"@type\": type.googleapis.com/{package}.TypedStruct, type_url: {WASM}, \
                 value: {{config: {config}}}}}"
            );
            check(&with_filter(&format!("{{name: weir, typed_config: {message}}}")))
        });
    }
}

#[test]
fn in_wrappers_around_filters() {
    let matcher = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher";
    is_found(|is_sound| {
        let inner = format!("{{name: weir, typed_config: {}}}", wasm(is_sound));
        check(&with_filter(&format!(
            "{{name: weir, typed_config: {{\"@type\": {matcher}, extension_config: {inner}}}}}"
        )))
    });
    let action = "type.googleapis.com/envoy.extensions.filters.http.composite.v3.ExecuteFilterAction";
    const ANY: &str = "predicate: {single_predicate: {input: {name: a, typed_config: {\"@type\": \
                       type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: a}}, \
                       value_match: {prefix: a}}}";
    is_found(|is_sound| {
        let inner = format!("{{name: weir, typed_config: {}}}", wasm(is_sound));
        let matching = format!(
            "{{matcher_list: {{matchers: {{{ANY}, on_match: {{action: {{name: a, typed_config: {{\"@type\": {action}, \
             typed_config: {inner}}}}}}}}}}}}}"
        );
        let composite = "{name: composite, typed_config: {\"@type\": \
                         type.googleapis.com/envoy.extensions.filters.http.composite.v3.Composite}}";
        check(&with_filter(&format!(
            "{{name: composite, typed_config: {{\"@type\": {matcher}, extension_config: {composite}, \
             xds_matcher: {matching}}}}}"
        )))
    });
}

#[test]
fn in_files_of_extensions_listeners_clusters_and_routes() {
    const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    let discovery = &"{name: weir, config_discovery: {config_source: {path_config_source: {path: xds/ecds.yaml}}, \
                      type_urls: [URL]}}"
        .replace("URL", WASM);
    let extension = |name: &str, is_sound| {
        format!("resources:\n- {{\"@type\": {EXTENSION}, name: {name}, typed_config: {}}}\n", wasm(is_sound))
    };
    let with_filter = |filter: &str| format!("node: {{id: a, cluster: b}}\n{}", with_filter(filter));
    is_found(|is_sound| {
        let folder = Folder::new().with("xds/ecds.yaml", extension("weir", is_sound));
        folder.with("envoy.yaml", with_filter(discovery)).check(&["envoy.yaml"])
    });
    let folder =
        Folder::new().with("xds/ecds.yaml", extension("wier", true)).with("envoy.yaml", with_filter(discovery));
    assert!(folder.check(&["envoy.yaml"]).rules().contains(&"missing-resource"));
    let absent = Folder::new().with("envoy.yaml", with_filter(discovery)).check(&["envoy.yaml"]);
    assert_eq!(absent.rules(), ["no-limiter", "unread-file"]);

    // A file of listeners, with clusters in another one.
    let (head, rest) = QUICKSTART.split_once("  listeners:\n  - name: ingress\n").unwrap();
    let (listener, clusters) = rest.split_once("  clusters:\n").unwrap();
    let admin = head.trim_end_matches("static_resources:\n");
    let bootstrap = format!(
        "{admin}node: {{id: a, cluster: b}}\ndynamic_resources:\n  lds_config: {{path_config_source: {{path: \
         ./lds.yaml}}}}\n  \
         cds_config: {{path: ./cds.yaml}}\n"
    );
    let resources = |kind: &str, items: &str| {
        let typed = items.replacen("  - name: ", &format!("  - \"@type\": type.googleapis.com/{kind}\n    name: "), 1);
        format!("version_info: '1'\nresources:\n{typed}")
    };
    let lds = resources("envoy.config.listener.v3.Listener", &format!("  - name: ingress\n{listener}"));
    let cds = resources("envoy.config.cluster.v3.Cluster", clusters);
    let folder = |cds: &str| Folder::new().with("envoy.yaml", &bootstrap).with("lds.yaml", &lds).with("cds.yaml", cds);
    let whole = folder(&cds).check(&["envoy.yaml"]);
    assert_eq!((whole.rules(), whole.number("limiters"), whole.number("bridges")), (vec![], 1, 1));
    assert_eq!(whole.numbers["groups"][0]["files"], serde_json::json!(["envoy.yaml", "./lds.yaml", "./cds.yaml"]));
    let renamed = folder(&cds.replace("    name: redis\n", "    name: other\n")).check(&["envoy.yaml"]);
    assert_eq!(renamed.only().rule, "missing-cluster");
    assert!(renamed.only().place.starts_with("./lds.yaml:"), "{renamed:?}");
    // A file that is also given is not checked twice.
    assert_eq!(folder(&cds).check(&["envoy.yaml", "lds.yaml"]).numbers["groups"].as_array().unwrap().len(), 1);
    // Files without their bootstrap: what is not in them is only noted.
    assert_eq!(folder(&cds).check(&["lds.yaml", "cds.yaml"]).rules(), [""; 0]);
    let alone = folder(&cds).check(&["lds.yaml"]);
    assert_eq!((alone.only().rule.as_str(), alone.only().severity.as_str()), ("unknown-cluster", "note"));
}

#[test]
fn files_of_secrets_are_not_read() {
    let other = "  clusters:\n  - name: other\n    transport_socket: {name: tls, typed_config: {\"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
                 {tls_certificate_sds_secret_configs: [{name: a, \
                 sds_config: {path_config_source: {path: ./secret.yaml}}}]}}}\n";
    let node = "node: {id: a, cluster: b}\nstatic_resources:\n";
    let text = changed(QUICKSTART, [("static_resources:\n", node), ("  clusters:\n", other)]);
    let checked = Folder::new().with("secret.yaml", "hunter2: [").with("envoy.yaml", text).check(&["envoy.yaml"]);
    assert_eq!(checked.rules(), [""; 0]);
}

#[test]
fn at_routes_where_envoy_refuses_them() {
    let route = |config: &str| {
        let route = format!("- match: {{prefix: \"/\"}}\n                typedPerFilterConfig: {{weir: {config}}}");
        check(&changed(QUICKSTART, [("- match: {prefix: \"/\"}", &route)]))
    };
    let refused = route(&wasm(true));
    let misplaced = refused.about("misplaced");
    assert!(misplaced.path.ends_with(".routes[0].typedPerFilterConfig.weir.config"), "{misplaced:?}");
    let wrapped =
        format!("{{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}}", wasm(true));
    assert_eq!(route(&wrapped).about("misplaced").found, "one");
    assert_eq!(
        route("{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}").rules(),
        [""; 0]
    );
}

#[test]
fn in_places_where_weir_does_nothing() {
    let log = format!(
        "access_log: [{{name: a, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog, config: {}}}}}]",
        config(true)
    );
    let text = changed(QUICKSTART, [("stat_prefix: ingress", &format!("stat_prefix: ingress\n          {log}"))]);
    assert_eq!(check(&text).about("misplaced").found, "a plugin of another kind");
}

#[test]
fn among_the_upstream_filters_of_a_router() {
    is_found(|is_sound| {
        let codec = "{name: c, typed_config: {\"@type\": \
                     type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}}";
        let router = format!(
            "{{name: r, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, \
             upstream_http_filters: [{{name: weir, typed_config: {}}}, {codec}]}}}}",
            wasm(is_sound)
        );
        let (head, rest) = QUICKSTART.split_once(NAME).unwrap();
        let (_, tail) = rest.split_once("  clusters:\n").unwrap();
        check(&format!("{head}          - {router}\n  clusters:\n{tail}"))
    });
}

#[test]
fn among_the_filters_of_an_upgrade() {
    is_found(|is_sound| {
        let router = "{name: r, typed_config: {\"@type\": \
                      type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
        let upgrade = format!(
            "stat_prefix: ingress\n          upgrade_configs: [{{upgrade_type: websocket, filters: [{{name: weir, \
             typed_config: {}}}, {router}]}}]",
            wasm(is_sound)
        );
        let (head, rest) = QUICKSTART.split_once(NAME).unwrap();
        let (_, tail) = rest.split_once("          - name: envoy.filters.http.router\n").unwrap();
        let text = format!("{head}          - name: envoy.filters.http.router\n{tail}");
        check(&changed(&text, [("stat_prefix: ingress", &*upgrade)]))
    });
}

#[test]
fn beside_anything_else_of_envoy() {
    let text = changed(
        QUICKSTART,
        [(
            "static_resources:\n",
            "layered_runtime: {layers: [{name: a, static_layer: {x: {y: 1}}}]}\nstats_sinks: [{name: a, \
             typed_config: {\"@type\": type.googleapis.com/envoy.config.metrics.v3.HystrixSink}}]\n\
             tracing: {http: {name: b}}\n\
             overload_manager: {resource_monitors: [{name: c}]}\n\
             static_resources:\n  secrets: [{name: s}]\n",
        )],
    );
    let text = changed(
        &text,
        [
            (
                "  - name: ingress\n",
                "  - traffic_direction: inbound\n    listener_filters: [{name: a, typed_config: {\"@type\": \
                 type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n",
            ),
            (
                "stat_prefix: ingress",
                "stat_prefix: ingress\n          tracing: {}\n          server_name: x\n          codec_type: http2",
            ),
        ],
    );
    let checked = check(&text);
    assert_eq!((checked.rules(), checked.number("limiters"), checked.number("listeners")), (vec![], 1, 1));
}

//! Resources that Consul makes of ProxyDefaults and ServiceDefaults, as they reach the sidecar of a service.

use serde_json::{Value, json};

use crate::{
    manifest::{Manifest, list, text},
    rendered::{LISTENER, Rendered, WASM, any_port, hello, manager, router},
};

/// Renders a manifest for the sidecar of the service.
pub fn render(manifest: &Manifest) -> Rendered {
    let proxies = manifest.find("ProxyDefaults").expect("ProxyDefaults");
    assert_eq!(proxies["metadata"]["name"], "global", "Consul takes no other");
    // The text stands in a list of the bootstrap.
    let clusters = format!("[{}]", text(proxies, "/spec/config/envoy_extra_static_clusters_json"));
    let clusters: Value = serde_json::from_str(&clusters).expect("JSON");
    let service = manifest.find("ServiceDefaults").expect("ServiceDefaults");
    assert_eq!(service["spec"]["protocol"], "http");
    let filters: Vec<Value> = list(service, "/spec/envoyExtensions").iter().map(filter).chain([router()]).collect();
    let mut rendered =
        Rendered { bootstrap: json!({"static_resources": {"clusters": clusters}}), ..Rendered::default() };
    let chain = json!({"filters": [manager("public_listener", &filters, &json!({"route_config": hello("public")}))]});
    rendered.add(LISTENER, json!({"name": "public_listener", "address": any_port(), "filter_chains": [chain]}));
    // The pod is the user's: annotations mount the module.
    rendered.pod.folders.insert("/consul/weir/".to_owned());
    rendered
}

/// The filter of an extension `builtin/wasm`. Consul has neither `failure_policy` nor a flag for bodies.
fn filter(extension: &Value) -> Value {
    assert_eq!(extension["name"], "builtin/wasm");
    let arguments = &extension["arguments"];
    assert_eq!((text(arguments, "/Protocol"), text(arguments, "/ListenerType")), ("http", "inbound"));
    let plugin = &arguments["PluginConfig"];
    json!({"name": "envoy.filters.http.wasm", "typed_config": {"@type": WASM, "config": {
        "name": plugin["Name"],
        "root_id": plugin["RootID"],
        "vm_config": {
            "vm_id": plugin["VmConfig"]["VmID"],
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": text(plugin, "/VmConfig/Code/Local/Filename")}},
        },
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": text(plugin, "/Configuration"),
        },
        "fail_open": extension["required"] != true,
    }}})
}

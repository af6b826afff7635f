//! Bootstrap and resources that Envoy Gateway makes of a manifest.

use serde_json::{Value, json};

use crate::{
    manifest::{Manifest, list, text, yaml},
    rendered::{CLUSTER, LISTENER, Pod, ROUTES, Rendered, WASM, ads, any_port, hello, manager, merge, router},
};

/// Cluster of the server of Envoy Gateway that proxies fetch modules from.
pub const MODULES: &str = "wasm_cluster";

/// Renders a manifest for the proxies of its Gateway. `sha256` is that of the module in the image.
pub fn render(manifest: &Manifest, sha256: &str) -> Rendered {
    let gateway = manifest.find("Gateway").expect("a Gateway");
    let name = text(gateway, "/metadata/name");
    let listener =
        format!("{}/{name}/{}", text(gateway, "/metadata/namespace"), text(gateway, "/spec/listeners/0/name"));
    let mut rendered = Rendered { bootstrap: json!({}), ..Rendered::default() };
    let mut routes = hello(&listener);
    let mut filters: Vec<Value> = Vec::new();
    for policy in manifest.all("SecurityPolicy").chain(manifest.all("EnvoyExtensionPolicy")) {
        let target = policy.pointer("/spec/targetRefs/0/name").expect("a target");
        assert_eq!(target, name, "the policy is for the Gateway");
    }
    filters.extend(manifest.find("SecurityPolicy").map(jwt));
    for policy in manifest.all("EnvoyExtensionPolicy") {
        for (number, plugin) in list(policy, "/spec/wasm").iter().enumerate() {
            let (namespace, name) = (text(policy, "/metadata/namespace"), text(policy, "/metadata/name"));
            let id = format!("envoyextensionpolicy/{namespace}/{name}/wasm/{number}");
            let filter = wasm(&id, plugin, sha256);
            // Off for the listener, and on for the routes of the policy.
            let on = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}});
            for route in routes["virtual_hosts"][0]["routes"].as_array_mut().unwrap() {
                route["typed_per_filter_config"][text(&filter, "/name")] = on.clone();
            }
            filters.push(filter);
        }
    }
    filters.push(router());
    let fields = json!({
        "use_remote_address": true, "normalize_path": true, "merge_slashes": true,
        "rds": {"config_source": ads(), "route_config_name": listener},
    });
    rendered.add(ROUTES, routes);
    rendered.add(
        LISTENER,
        json!({
            "name": listener, "address": any_port(), "per_connection_buffer_limit_bytes": 32768,
            "default_filter_chain": {"name": listener, "filters": [manager("http", &filters, &fields)]},
        }),
    );
    proxy(manifest, text(gateway, "/spec/infrastructure/parametersRef/name"), &mut rendered);
    for policy in manifest.all("EnvoyPatchPolicy") {
        assert_eq!(policy["spec"]["targetRef"]["name"], name, "the policy is for the Gateway");
        list(policy, "/spec/jsonPatches").iter().for_each(|patch| apply(patch, &mut rendered));
    }
    rendered
}

fn wasm(id: &str, plugin: &Value, sha256: &str) -> Value {
    let uri =
        json!({"uri": format!("https://envoy-gateway:18002/{sha256}.wasm"), "timeout": "10s", "cluster": MODULES});
    let mut machine = json!({
        "vm_id": id,
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"remote": {"http_uri": uri, "sha256": sha256}},
    });
    if let Some(keys) = plugin.pointer("/env/hostKeys") {
        machine["environment_variables"] = json!({"host_env_keys": keys});
    }
    let value = plugin["config"].to_string();
    json!({"name": format!("envoy.filters.http.wasm/{id}"), "disabled": true, "typed_config": {"@type": WASM, "config": {
        "name": plugin["name"],
        "root_id": plugin["rootID"],
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value},
        "vm_config": machine,
        "fail_open": plugin["failOpen"].as_bool().unwrap_or_default(),
    }}})
}

fn jwt(policy: &Value) -> Value {
    let mut providers = json!({});
    for provider in list(policy, "/spec/jwt/providers") {
        providers[text(provider, "/name")] = json!({
            "issuer": provider["issuer"], "audiences": provider["audiences"], "payload_in_metadata": provider["name"],
            "local_jwks": {"inline_string": provider["localJWKS"]["inline"]},
        });
    }
    let first = providers.as_object().unwrap().keys().next().expect("a provider").clone();
    json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers, "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": first}}],
    }})
}

/// Reads an EnvoyProxy: the pod, and what is merged into the bootstrap.
fn proxy(manifest: &Manifest, name: &str, rendered: &mut Rendered) {
    let proxy = manifest.named("EnvoyProxy", name).expect("the EnvoyProxy");
    let deployment = &proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"];
    rendered.pod = Pod::of(&deployment["container"], list(deployment, "/pod/volumes"));
    if let Some(bootstrap) = proxy.pointer("/spec/bootstrap") {
        assert_eq!(bootstrap["type"], "Merge");
        merge(&mut rendered.bootstrap, &yaml(text(bootstrap, "/value")));
    }
}

/// Applies a JSON patch. Listeners exist; a cluster is added as a whole.
fn apply(patch: &Value, rendered: &mut Rendered) {
    let operation = &patch["operation"];
    assert_eq!(operation["op"], "add");
    let (name, path, value) = (text(patch, "/name"), text(operation, "/path"), operation["value"].clone());
    match text(patch, "/type") {
        CLUSTER if path.is_empty() => {
            assert_eq!(value["name"], name);
            rendered.add(CLUSTER, value);
        }
        LISTENER => {
            let listeners = rendered.resources.get_mut(LISTENER).expect("listeners");
            let listener = listeners.get_mut(name).unwrap_or_else(|| panic!("no listener {name}"));
            let (parent, place) = path.rsplit_once('/').expect("a path");
            let items = listener.pointer_mut(parent).and_then(Value::as_array_mut).expect("a list");
            items.insert(place.parse().expect("a number"), value);
        }
        other => panic!("a patch of {other}"),
    }
}

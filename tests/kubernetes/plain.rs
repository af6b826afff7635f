//! A stock Envoy as a deployment of its own.

use serde_json::{Value, json};

use crate::{
    manifest::{Manifest, list, text, yaml},
    rendered::{Pod, Rendered, any_port},
};

/// Reads the bootstrap and the pod of the Deployment. Listeners get free ports, and the upstream answers itself.
pub fn render(manifest: &Manifest) -> Rendered {
    let deployment = manifest.find("Deployment").expect("a Deployment");
    let spec = &deployment["spec"]["template"]["spec"];
    let (container, volumes) = (&spec["containers"][0], list(spec, "/volumes"));
    let pod = Pod::of(container, volumes);
    let file = text(container, "/args/1");
    let mount = list(container, "/volumeMounts").iter().find(|it| file.starts_with(text(it, "/mountPath")));
    let mount = mount.expect("the bootstrap is in a volume");
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("the volume");
    let config = manifest.named("ConfigMap", text(volume, "/configMap/name")).expect("the ConfigMap");
    let (_, name) = file.rsplit_once('/').expect("a path");
    let mut bootstrap = yaml(config["data"][name].as_str().expect("the file"));
    let ports = list(container, "/ports").iter().map(|port| &port["containerPort"]);
    let ports: Vec<&Value> = ports.collect();
    for listener in bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners") {
        if listener.get("internal_listener").is_some() {
            continue;
        }
        let port = &listener["address"]["socket_address"]["port_value"];
        assert!(ports.contains(&port), "{port} is not a port of the container");
        listener["address"] = any_port();
    }
    let routes =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0";
    let route = bootstrap.pointer_mut(routes).expect("a route").as_object_mut().unwrap();
    assert!(route.remove("route").is_some());
    route.insert("direct_response".to_owned(), json!({"status": 200, "body": {"inline_string": "hello\n"}}));
    bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().retain(|it| it["name"] != "upstream");
    Rendered { bootstrap, pod, ..Rendered::default() }
}

//! Filters from files of extensions, and configurations of routes: verdicts of the check and of Envoy.

use weir_provision::envoy::{self, EnvoyServer};
use weir_provision::{filter_wasm, or_skip};

use crate::QUICKSTART;
use crate::support::{Checked, Folder, changed, weir};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const FILTER_CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
const NAME: &str = "          - name: weir\n";
const ROUTE: &str = "- match: {prefix: \"/\"}";

/// The quickstart, and a file of extensions with its limiter.
struct Parts {
    bootstrap: String,
    /// The limiter's message, as one line of JSON.
    message: String,
}

impl Parts {
    fn new() -> Self {
        let wasm = filter_wasm::find_or_build().expect("the filter's module");
        let wasm = wasm.to_str().expect("UTF-8");
        let bootstrap = QUICKSTART.replace("target/wasm32-wasip1/release/weir_filter.wasm", wasm);
        let value: serde_json::Value = serde_saphyr::from_str(&bootstrap).expect("YAML");
        let filter = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
        let message = value.pointer(filter).expect("the limiter").to_string();
        Self { bootstrap: bootstrap.replacen("admin:", "node: {id: a, cluster: b}\nadmin:", 1), message }
    }

    /// The bootstrap with these fields of `config_discovery` instead of the limiter.
    fn discovering(&self, fields: &str) -> String {
        let (head, rest) = self.bootstrap.split_once(NAME).expect("the limiter");
        let (_, tail) = rest.split_once("          - name: envoy.filters.http.router\n").expect("the router");
        let fields = fields.replace("MESSAGE", &self.message);
        format!(
            "{head}          - {{name: weir, config_discovery: {{{fields}}}}}\n          \
             - name: envoy.filters.http.router\n{tail}"
        )
    }

    /// A file of extensions with a message under a name.
    fn resources(&self, name: &str, message: &str) -> String {
        let message = message.replace("MESSAGE", &self.message);
        format!(
            "resources:\n- {{\"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig, name: {name}, \
             typed_config: {message}}}\n"
        )
    }
}

/// The check of a bootstrap with a file `ecds.yaml`, and the error of Envoy.
fn verdicts(bootstrap: &str, resources: &str) -> (Checked, Option<String>) {
    let folder = Folder::new().with("ecds.yaml", resources);
    let path = folder.path("ecds.yaml");
    let bootstrap = bootstrap.replace("./ecds.yaml", path.to_str().expect("UTF-8"));
    let folder = folder.with("envoy.yaml", bootstrap);
    let file = folder.path("envoy.yaml");
    let output = weir().env_remove("WEIR_WASM").args(["check", "--format", "json"]).arg(&file).output();
    let output = output.expect("`weir` runs");
    let checked = Checked::parse(output.status.success(), &String::from_utf8(output.stdout).expect("UTF-8"));
    (checked, EnvoyServer::validate(&file).err().map(|error| error.to_string()))
}

#[test]
fn extensions_from_files_are_judged_as_by_envoy() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let parts = Parts::new();
    let source = "config_source: {path_config_source: {path: ./ecds.yaml}}";
    let urls = format!("type_urls: [{WASM}]");
    let routers = format!("type_urls: [{ROUTER}]");
    let default = "default_config: MESSAGE";
    let at_once = "apply_default_config_without_warming: true";
    let sound = parts.resources("weir", "MESSAGE");
    let renamed = parts.resources("wier", "MESSAGE");
    let router = parts.resources("weir", &format!("{{\"@type\": {ROUTER}}}"));
    let wrong = parts.resources("weir", "MESSAGE").replace("\"max_tokens\":20", "\"max_tokens\":-1");
    // Rules of the check, and a part of Envoy's error. Envoy starts with a file of extensions that it rejects.
    for (fields, resources, rules, of_envoy) in [
        (vec![source, &*urls], &*sound, vec![], None),
        (vec![source, &*urls, default], &*sound, vec![], None),
        (vec![source, &*urls, default, at_once], &*sound, vec![], None),
        (vec![source, &*urls], &*renamed, vec!["missing-resource"], None),
        (vec![source, &*urls, default], &*renamed, vec!["missing-resource"], None),
        (vec![source, &*urls], &*wrong, vec!["configuration"], None),
        (vec![source, &*urls], &*router, vec!["discovery"], None),
        (vec![source, &*routers], &*sound, vec!["discovery"], None),
        (
            vec![source, &*routers, default],
            &*sound,
            vec!["discovery"],
            Some("but expect envoy.extensions.filters.http.router"),
        ),
        (vec![source, &*urls, at_once], &*sound, vec!["discovery"], Some("has no default config")),
        (vec![source, "type_urls: []"], &*sound, vec!["discovery"], Some("TypeUrls")),
        (vec![&*urls], &*sound, vec!["discovery"], Some("ConfigSource")),
        (
            vec![source, "type_urls: [envoy.extensions.filters.http.wasm.v2.Wasm]"],
            &*sound,
            vec!["discovery", "type"],
            Some("no factory found"),
        ),
        (
            vec!["config_source: {path_config_source: {path: README.md}}", &*urls],
            &*sound,
            vec!["bare-path"],
            Some("invalid file path"),
        ),
    ] {
        let fields = fields.join(", ");
        let (checked, refusal) = verdicts(&parts.discovering(&fields), resources);
        let mut found = checked.rules();
        found.retain(|rule| !matches!(*rule, "no-limiter" | "unread-file"));
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, rules, "{fields}: {checked:?}");
        match of_envoy {
            None => assert_eq!(refusal, None, "{fields}"),
            Some(part) => assert!(refusal.as_ref().is_some_and(|why| why.contains(part)), "{fields}: {refusal:?}"),
        }
    }
}

#[test]
fn configurations_of_routes_are_judged_as_by_envoy() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let parts = Parts::new();
    let disabled = format!("{NAME}            disabled: true\n");
    let config = |fields: &str| format!("{{\"@type\": {FILTER_CONFIG}{fields}}}");
    for (is_disabled, of_route, rules, of_envoy) in [
        (true, None, vec!["disabled"], None),
        (true, Some(config(", config: {}")), vec![], None),
        (true, Some(config(", disabled: true")), vec!["disabled"], None),
        (true, Some(config("")), vec!["missing-config"], Some("Empty route/virtual host per filter configuration")),
        (false, Some(config(", disabled: true")), vec![], None),
        (false, Some(parts.message.clone()), vec!["misplaced"], Some("doesn't support virtual host or route specific")),
        (
            false,
            Some(config(&format!(", config: {}", parts.message))),
            vec!["misplaced"],
            Some("doesn't support virtual host or route specific"),
        ),
        (false, Some("{disabled: true}".to_owned()), vec!["type"], Some("Any")),
    ] {
        let mut text = parts.bootstrap.clone();
        if is_disabled {
            text = changed(&text, [(NAME, &disabled)]);
        }
        if let Some(entry) = &of_route {
            let route = format!("{ROUTE}\n                typed_per_filter_config: {{weir: {entry}}}");
            text = changed(&text, [(ROUTE, &route)]);
        }
        let (checked, refusal) = verdicts(&text, "");
        let mut found = checked.rules();
        found.dedup();
        assert_eq!(found, rules, "{of_route:?}: {checked:?}");
        match of_envoy {
            None => assert_eq!(refusal, None, "{of_route:?}"),
            Some(part) => assert!(refusal.as_ref().is_some_and(|why| why.contains(part)), "{of_route:?}: {refusal:?}"),
        }
    }
}

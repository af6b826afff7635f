//! Model of Envoy's `rate_limits` and of ratelimit's tree, over the same files that are imported, written from their
//! documentation without the importer.

use serde_json::Value;

use crate::model::Hit;
use crate::traffic::Request;

/// Files of ratelimit and Envoy.
pub(crate) struct Ratelimit {
    descriptors: Value,
    domain: String,
    virtual_host: Value,
}

impl Ratelimit {
    /// Reads a ratelimit file, and a bootstrap with one listener and one virtual host.
    pub(crate) fn new(ratelimit: &str, envoy: &str) -> Self {
        let yaml = |text: &str| -> Value { serde_saphyr::from_str(text).expect("YAML") };
        let (file, bootstrap) = (yaml(ratelimit), yaml(envoy));
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let virtual_host = bootstrap.pointer(manager).expect("a manager")["route_config"]["virtual_hosts"][0].clone();
        let domain = file["domain"].as_str().expect("a domain").to_owned();
        Self { descriptors: file["descriptors"].clone(), domain, virtual_host }
    }

    /// The counters that a request hits.
    pub(crate) fn hits(&self, request: &Request) -> Vec<Hit> {
        let found: Vec<(Vec<(String, String)>, &Value)> = self
            .rate_limits(request)
            .into_iter()
            .filter_map(|rule| descriptor(rule, request))
            .filter_map(|entries| Some((entries.clone(), limit_of(list(&self.descriptors), &entries)?)))
            .collect();
        let names = |value: &Value| value["rate_limit"]["name"].as_str().map(str::to_owned);
        let replaced: Vec<String> = found
            .iter()
            .flat_map(|(_, node)| list(&node["rate_limit"]["replaces"]))
            .filter_map(|it| it["name"].as_str().map(str::to_owned))
            .collect();
        let counted = found.into_iter().filter(|(_, node)| {
            node["rate_limit"]["unlimited"] != true && names(node).is_none_or(|name| !replaced.contains(&name))
        });
        counted
            .map(|(entries, node)| {
                let limit = &node["rate_limit"];
                let seconds = match limit["unit"].as_str().expect("a unit") {
                    "second" => 1,
                    "minute" => 60,
                    "hour" => 3_600,
                    "day" => 86_400,
                    other => panic!("unit {other}"),
                };
                Hit {
                    key: format!("{}{entries:?}", self.domain),
                    max: limit["requests_per_unit"].as_u64().expect("a number"),
                    seconds,
                    cost: 1,
                    is_shadow: node["shadow_mode"] == true,
                }
            })
            .collect()
    }

    /// The rules of the first route that matches, and those of the virtual host.
    fn rate_limits(&self, request: &Request) -> Vec<&Value> {
        let routes = list(&self.virtual_host["routes"]);
        let matches = |route: &&Value| request.path.starts_with(route["match"]["prefix"].as_str().expect("a prefix"));
        let action = &routes.iter().find(matches).expect("a route")["route"];
        let own = list(&action["rate_limits"]);
        let of_host = list(&self.virtual_host["rate_limits"]);
        let inherits = own.is_empty() || action["include_vh_rate_limits"] == true;
        own.iter().chain(of_host.iter().filter(|_| inherits)).collect()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The entries of a rule; none if one of its values is missing.
fn descriptor(rule: &Value, request: &Request) -> Option<Vec<(String, String)>> {
    list(&rule["actions"])
        .iter()
        .map(|action| {
            let (kind, body) = action.as_object().expect("an action").iter().next().expect("a kind");
            let text = |name: &str| body[name].as_str().map(str::to_owned);
            match kind.as_str() {
                "generic_key" => Some((text("descriptor_key")?, text("descriptor_value")?)),
                "remote_address" => Some(("remote_address".to_owned(), request.address.clone())),
                "request_headers" => Some((text("descriptor_key")?, request.header(&text("header_name")?)?)),
                "header_value_match" => {
                    let holds = list(&body["headers"]).iter().all(|header| {
                        let value = request.header(header["name"].as_str().expect("a name"));
                        value.as_deref() == header["string_match"]["exact"].as_str()
                    });
                    holds.then(|| (text("descriptor_key").unwrap(), text("descriptor_value").unwrap()))
                }
                other => panic!("action {other}"),
            }
        })
        .collect()
}

/// The node with the limit of a descriptor.
fn limit_of<'a>(mut nodes: &'a [Value], entries: &[(String, String)]) -> Option<&'a Value> {
    let mut found = None;
    for (key, value) in entries {
        let with_key: Vec<&Value> = nodes.iter().filter(|node| node["key"] == key.as_str()).collect();
        let exact = with_key.iter().find(|node| node["value"] == value.as_str());
        let pattern = with_key.iter().find(|node| {
            let prefix = node["value"].as_str().and_then(|value| value.strip_suffix('*'));
            prefix.is_some_and(|prefix| value.starts_with(prefix))
        });
        let any = with_key.iter().find(|node| node["value"].is_null());
        let node: &'a Value = exact.or(pattern).or(any)?;
        nodes = list(&node["descriptors"]);
        found = Some(node);
    }
    found.filter(|node| !node["rate_limit"].is_null())
}

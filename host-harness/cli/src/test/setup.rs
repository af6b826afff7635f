//! Configuration under test: the limiter, and the proxy before it.

use serde_json::{Value, json};
use weir_filter::config::{self, Config};
use weir_host::Bootstrap;
use weir_host::bootstrap::{Listener, Plugin};
use weir_host::preflight::Preflight;
use weir_host::scenario::Scenario;

use super::file::{Configuration, Mistake, Suite};
use super::jwt;
use crate::documents::Position;
use crate::files::{Inventory, Library, Limiter, Written};

/// Proxy of a configuration without one, and of one that the harness does not serve.
const PLAIN: &str = include_str!("../../../../envoy/quickstart.yaml");
const LIMITER: &str = "limiter";
/// Value of a variable that is not set here.
const PLACEHOLDER: &str = "set-by-weir-test";

/// Configuration under test.
pub(super) struct Setup {
    /// Name of the configuration for error texts.
    pub(super) origin: String,
    /// The limiter's configuration as written.
    pub(super) written: Value,
    pub(super) config: Config,
    /// Way of a request to the limiter.
    pub(super) front: Preflight,
    /// Name of the limiter's listener.
    pub(super) listener: String,
    /// Why the proxy is not the configuration's own, and what of it is not run.
    pub(super) note: Option<String>,
    /// The whole configuration, for real hosts.
    pub(super) scenario: Scenario,
    /// Whether the scenario is the configuration's own.
    pub(super) is_own: bool,
    /// Environment that the configuration reads.
    pub(super) environment: Vec<(String, String)>,
    /// Whether the limiter sees the body of a request whose headers it holds.
    pub(super) sees_body_past_headers: bool,
    /// Providers of tokens.
    pub(super) providers: Vec<jwt::Provider>,
}

impl Setup {
    /// Reads the configuration of a test file.
    ///
    /// # Errors
    /// All mistakes, at their places in the configuration, or in the test file.
    pub(super) fn of(suite: &Suite) -> Result<Self, Vec<Mistake>> {
        let in_suite =
            |place: Position, what: String| vec![Mistake { file: suite.file.clone(), place: Some(place), what }];
        let (origin, library) = match &suite.configuration {
            Configuration::Inline(document) => ("the configuration".to_owned(), Library::of_document(document.clone())),
            Configuration::File(path) => (path.display().to_string(), Library::load(std::slice::from_ref(path))),
        };
        let Some(source) = library.files().first().map(|file| &file.source) else { return Err(Vec::new()) };
        if let Some(error) = &source.error {
            let what = format!("expected a configuration, found {error}");
            return Err(vec![Mistake { file: source.origin.clone(), place: Some(error.position()), what }]);
        }
        let mut documents: Vec<Value> = source.documents.iter().map(|document| document.root.to_json()).collect();
        if documents.iter().any(|document| document.get("tests").is_some() && document.get("limits").is_none()) {
            return Err(in_suite(suite.place, format!("expected a configuration, found a test file: {origin}")));
        }
        let providers: Vec<jwt::Provider> = documents.iter_mut().flat_map(jwt::take_over).collect();
        let inventory = Inventory::of(&library.whole(), &library);
        let wanted = suite.limiter.as_ref();
        let Limiter { name, written } = choose(inventory.limiters(), wanted.map(|(name, _)| name.as_str()), &origin)
            .map_err(|what| in_suite(wanted.map_or(suite.place, |(_, place)| *place), what))?;
        let found = written.map_err(|error| {
            let file = error.at.document.origin.clone();
            vec![Mistake { file, place: Some(error.position()), what: error.to_string() }]
        })?;
        let written = found.json();
        let environment: Vec<(String, String)> = variables(&written).into_iter().map(with_value).collect();
        let config = parsed(&found, &environment)?;

        let own = match documents.as_slice() {
            [document] if document.get("static_resources").is_some() => {
                own_proxy(document, name, &origin, &config.redis.cluster)
            }
            _ => Err("no Envoy bootstrap".to_owned()),
        };
        let at_configuration = |what: String| in_suite(suite.place, what);
        let (scenario, is_own, note) = match own {
            Ok((scenario, note)) => (scenario, true, note),
            Err(why) => {
                let note = format!("{origin}: tests run behind a plain proxy, not its own ({why})");
                let scenario = plain(&written).map_err(at_configuration)?;
                (scenario, false, (!matches!(suite.configuration, Configuration::Inline(_))).then_some(note))
            }
        };
        let bootstrap = Bootstrap::parse(&scenario.to_yaml(), scenario.origin());
        let bootstrap = bootstrap.map_err(|why| at_configuration(why.to_string()))?;
        let none = || at_configuration(format!("{origin}: no limiter in a listener"));
        let (listener, plugin) = limiter(&bootstrap, name.filter(|_| is_own)).ok_or_else(none)?;
        let front = Preflight::of(listener, plugin).ok_or_else(none)?;
        Ok(Self {
            sees_body_past_headers: plugin.sees_body_past_headers || !is_own,
            listener: listener.name.clone(),
            origin,
            written,
            config,
            front,
            note,
            is_own,
            scenario,
            environment,
            providers,
        })
    }
}

/// The configuration as the filter reads it, with these variables.
fn parsed(written: &Written<'_>, environment: &[(String, String)]) -> Result<Config, Vec<Mistake>> {
    let env = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    config::parse(&written.bytes, &env).map_err(|errors| {
        let file = &written.at.document.origin;
        let mistake =
            |error| Mistake { file: file.clone(), place: Some(written.position(error)), what: error.to_string() };
        errors.iter().map(mistake).collect()
    })
}

fn choose<'a>(found: Vec<Limiter<'a>>, wanted: Option<&str>, origin: &str) -> Result<Limiter<'a>, String> {
    let names: Vec<&str> = found.iter().map(|found| found.name.unwrap_or("(no name)")).collect();
    let names = names.join(", ");
    let of_name = |found: &Limiter<'_>| wanted.is_none_or(|wanted| found.name == Some(wanted));
    let mut chosen: Vec<Limiter<'_>> = found.into_iter().filter(of_name).collect();
    match (chosen.pop(), chosen.len(), wanted) {
        (Some(one), 0, _) => Ok(one),
        (None, _, Some(wanted)) if !names.is_empty() => {
            Err(format!("{origin}: no limiter named {wanted:?}, found {names}"))
        }
        (None, ..) => {
            Err(format!("{origin}: expected a limiter (a plugin with root_id `limiter`, or limits), found none"))
        }
        (Some(_), _, Some(wanted)) => Err(format!("{origin}: expected one limiter named {wanted:?}, found several")),
        (Some(_), _, None) => Err(format!("{origin}: expected `limiter`, the name of one of its limiters: {names}")),
    }
}

/// Names of the variables that a configuration reads.
fn variables(written: &Value) -> Vec<String> {
    match written {
        Value::Object(fields) => match fields.get("env") {
            Some(Value::String(name)) if fields.len() == 1 => vec![name.clone()],
            _ => fields.values().flat_map(variables).collect(),
        },
        Value::Array(items) => items.iter().flat_map(variables).collect(),
        _ => Vec::new(),
    }
}

fn with_value(name: String) -> (String, String) {
    let value = std::env::var(&name).ok().filter(|value| !value.trim().is_empty());
    (name, value.unwrap_or_else(|| PLACEHOLDER.to_owned()))
}

/// The configuration's own proxy, with a note of what is not run. The error says why the harness does not serve it.
fn own_proxy(
    document: &Value,
    name: Option<&str>,
    origin: &str,
    redis: &str,
) -> Result<(Scenario, Option<String>), String> {
    let mut scenario = Scenario::parse(&document.to_string(), origin).map_err(|why| why.to_string())?;
    scenario.edit(|document| drop_tls(document, redis));
    let bootstrap = Bootstrap::parse(&scenario.to_yaml(), origin).map_err(|why| {
        let text = why.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix(&format!("{origin}: ")).unwrap_or(first).to_owned()
    })?;
    let (listener, plugin) = limiter(&bootstrap, name).ok_or("its limiter is not in a listener's filters")?;
    let front = Preflight::of(listener, plugin).ok_or("its limiter is not in a listener's filters")?;
    let left_out = front.leaves_out_filters();
    let note = left_out.then(|| format!("{origin}: in virtual time, wasm filters before the limiter are not run"));
    Ok((scenario, note))
}

/// Removes TLS from the cluster of Redis: the Redis of a run speaks none, and certificates need not be there.
fn drop_tls(document: &mut Value, cluster: &str) {
    let clusters = document.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    let is_redis = |item: &&mut Value| item.get("name").and_then(Value::as_str) == Some(cluster);
    if let Some(fields) = clusters.into_iter().flatten().find(is_redis).and_then(Value::as_object_mut) {
        fields.remove("transport_socket");
    }
}

/// A plain proxy with this limiter.
fn plain(written: &Value) -> Result<Scenario, String> {
    let mut scenario = Scenario::parse(PLAIN, "quickstart.yaml").map_err(|why| why.to_string())?;
    let configured = scenario.filter_configuration(|filter| {
        *filter = written.clone();
        filter["redis"]["cluster"] = json!("redis");
    });
    configured.map_err(|why| why.to_string())?;
    Ok(scenario)
}

/// The limiter with this plugin name, or the first one.
fn limiter<'a>(bootstrap: &'a Bootstrap, name: Option<&str>) -> Option<(&'a Listener, &'a Plugin)> {
    let plugins =
        bootstrap.listeners.iter().flat_map(|listener| listener.plugins().map(move |plugin| (listener, plugin)));
    let mut limiters = plugins.filter(|(_, plugin)| plugin.root_id == LIMITER);
    limiters.find(|(_, plugin)| name.is_none_or(|name| plugin.name == name))
}

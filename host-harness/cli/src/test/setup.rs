//! Configuration under test: the limiter, and the proxy before it.

use serde_json::Value;
use weir_filter::config::{self, Config};
use weir_host::preflight::Preflight;

use super::file::{Configuration, Mistake, Suite};
use super::jwt;
use super::proxy::{Own, Proxy, Served};
use crate::documents::Position;
use crate::files::{Inventory, Library, Limiter, Written, is_bootstrap};
use crate::serving::HostKind;

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
    /// The proxy on the embedded host, and what virtual time imitates.
    proxy: Proxy,
    /// The proxy on a real Envoy, if that is another one.
    envoys: Option<Proxy>,
    /// Why the proxy is not the configuration's own.
    replaced: Option<String>,
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

        let own = match (documents.as_slice(), source.documents.as_slice()) {
            ([changed], [written]) if is_bootstrap(written) => {
                Ok(Own { written, changed, origin: &origin, name, redis: &config.redis.cluster })
            }
            _ => Err("no Envoy bootstrap".to_owned()),
        };
        let is_alone = own.is_err() && matches!(suite.configuration, Configuration::Inline(_));
        let (served, envoys, replaced) = match own.as_ref().map_err(Clone::clone).and_then(Own::served) {
            Ok(served) => (served, None, None),
            Err(why) => {
                let plain = Served::plain(&written).map_err(|what| in_suite(suite.place, what))?;
                let why = format!("{origin}: tests run behind a plain proxy, not its own ({why})");
                let envoys = own.ok().and_then(|own| own.on_envoy(&inventory));
                (plain, envoys, (!is_alone).then_some(why))
            }
        };
        let Served { proxy, front, sees_body_past_headers } = served;
        Ok(Self {
            origin,
            written,
            config,
            front,
            proxy,
            envoys,
            replaced,
            environment,
            sees_body_past_headers,
            providers,
        })
    }

    /// The proxy on a real host.
    pub(super) fn proxy(&self, host: HostKind) -> &Proxy {
        self.envoys.as_ref().filter(|_| host == HostKind::Envoy).unwrap_or(&self.proxy)
    }

    /// Why tests do not run behind the whole of the configuration's own proxy. `None` as the host is virtual time.
    pub(super) fn note(&self, host: Option<HostKind>) -> Option<String> {
        let is_own = host.is_some_and(|host| self.proxy(host).is_own);
        let replaced = self.replaced.clone().filter(|_| !is_own);
        let leaves_out = || {
            let left_out = host.is_none() && self.front.leaves_out_filters();
            left_out.then(|| format!("{}: in virtual time, wasm filters before the limiter are not run", self.origin))
        };
        replaced.or_else(leaves_out)
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

//! Inputs of an import: documents by their content, and the limits in them.

use std::path::Path;

use super::envoy::{self, Envoy};
use super::finding::{self, Findings, Place};
use super::plan::{Configuration, Names};
use super::{Kind, gateway, kuadrant, limitador, ratelimit};
use crate::documents::{self, At, Dialect, Document, Source, SourceError};

/// File, as Envoy reads YAML and as others do: to Envoy, `no` is a boolean.
pub(super) struct Input {
    envoys: Source,
    others: Option<Source>,
}

impl Input {
    pub(super) fn load(path: &Path) -> Self {
        let bytes = documents::read_given(path);
        let text = bytes.as_ref().ok().and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        let envoys = Source::of_given(path, bytes);
        let others = text.map(|text| Source::parse_as(&text, envoys.origin.clone(), Dialect::Core));
        Self { others: others.filter(|others| others.documents.len() == envoys.documents.len()), envoys }
    }

    /// The documents, each read in both ways.
    fn documents(&self) -> impl Iterator<Item = [&Document; 2]> {
        let others = self.others.as_ref().unwrap_or(&self.envoys);
        self.envoys.documents.iter().zip(&others.documents).map(|(envoys, others)| [envoys, others])
    }
}

/// Contents of all documents.
#[derive(Default)]
struct Inputs {
    envoy: Envoy,
    domains: Vec<ratelimit::Domain>,
    limitador: Vec<limitador::Limited>,
    configurations: Vec<Configuration>,
    names: Names,
    /// Whether there are limits of any kind, also of one that is not translated.
    has_limits: bool,
}

/// The configurations that sources give.
pub(super) fn read(given: &[Input], from: Option<Kind>, findings: &mut Findings) -> Vec<Configuration> {
    let mut inputs = Inputs::default();
    for input in given {
        let source = &input.envoys;
        if let Some(error) = &source.error {
            let rule = if matches!(error, SourceError::Unreadable(_)) { finding::UNREADABLE } else { finding::SYNTAX };
            let place = Place { file: source.origin.clone(), position: error.position(), path: String::new() };
            findings.add_at(rule, place, error.to_string(), "correct the file, or leave it out");
        }
        let kinds = input.documents().map(|[_, others]| At::root(others));
        kinds.filter(|root| root.text_of("kind") == "VirtualService").for_each(|root| {
            envoy::read_virtual_service(&root, &mut inputs.envoy);
        });
    }
    for input in given {
        for [envoys, others] in input.documents() {
            let is_envoys =
                matches!(At::root(envoys).text_of("kind"), "" | "EnvoyFilter") && !is_of_limits(&At::root(envoys));
            inputs.document(&At::root(if is_envoys { envoys } else { others }), from, findings);
        }
    }
    inputs.envoy.settle();
    let has_envoy = !inputs.envoy.filters.is_empty() || !inputs.envoy.rules.is_empty();
    if !inputs.has_limits {
        let place = given.first().map(|input| input.envoys.origin.clone()).unwrap_or_default();
        let position = crate::documents::Position::START;
        let (what, help) = match has_envoy {
            true => (
                "rate_limits of Envoy without limits",
                "give the file of ratelimit or Limitador as well: it has the numbers",
            ),
            false => (
                "no limits of ratelimit, Limitador, Kuadrant or Envoy Gateway",
                "weir import reads their files and manifests; docs/src/import.md lists them",
            ),
        };
        findings.add_at(finding::NO_LIMITS, Place { file: place, position, path: String::new() }, what, help);
    }
    let Inputs { envoy, domains, limitador, mut configurations, mut names, .. } = inputs;
    let others: Vec<&str> = limitador.iter().map(limitador::Limited::namespace).collect();
    configurations.extend(ratelimit::join(&domains, &others, &envoy, &mut names, findings));
    configurations.extend(limitador::join(&limitador, &envoy, &mut names, findings));
    configurations
}

/// Whether a document is a file of ratelimit (an object) or of Limitador (a list).
fn is_of_limits(root: &At<'_>) -> bool {
    match root.is_object() {
        true => root.field("descriptors").is_some() && root.text_of("@type").is_empty(),
        false => root.items().first().is_some_and(limitador::is_limit),
    }
}

impl Inputs {
    fn document(&mut self, root: &At<'_>, from: Option<Kind>, findings: &mut Findings) {
        let wants = |kind: Kind| from.is_none_or(|from| from == kind);
        let is_kuadrant = root.text_of("apiVersion").starts_with("kuadrant.io/");
        match root.text_of("kind") {
            "List" => root.each("items").iter().for_each(|at| self.document(at, from, findings)),
            "ConfigMap" => self.config_map(root, from, findings),
            "RateLimitPolicy" if is_kuadrant && wants(Kind::Kuadrant) => {
                self.has_limits = true;
                self.configurations.extend(kuadrant::read(root, &mut self.names, findings));
            }
            "TokenRateLimitPolicy" if wants(Kind::Kuadrant) => {
                self.has_limits = true;
                let help = "a budget of tokens needs the response; write it by hand";
                findings.add(finding::KIND, root, "a TokenRateLimitPolicy", help);
            }
            "BackendTrafficPolicy" if wants(Kind::EnvoyGateway) && root.fields(["spec", "rateLimit"]).is_some() => {
                self.has_limits = true;
                self.configurations.extend(gateway::read(root, &mut self.names, findings));
            }
            "Limitador" if wants(Kind::Limitador) => {
                let name = super::target::name(root);
                let items = root.field("spec").iter().flat_map(|spec| spec.each("limits")).collect::<Vec<_>>();
                self.limits(&items, &name, findings);
            }
            "" | "EnvoyFilter" => self.file(root, from, findings),
            _ => {}
        }
    }

    /// A file without `kind`, or an EnvoyFilter.
    fn file(&mut self, root: &At<'_>, from: Option<Kind>, findings: &mut Findings) {
        let wants = |kind: Kind| from.is_none_or(|from| from == kind);
        if is_of_limits(root) && root.is_object() {
            if wants(Kind::Ratelimit) {
                self.has_limits = true;
                self.domain(root, findings);
            }
            return;
        }
        if is_of_limits(root) {
            if wants(Kind::Limitador) {
                self.limits(&root.items(), "", findings);
            }
            return;
        }
        envoy::read(root, &mut self.envoy, findings);
    }

    fn domain(&mut self, root: &At<'_>, findings: &mut Findings) {
        let Some(domain) = ratelimit::read(root, findings) else { return };
        if self.domains.iter().any(|known| known.name == domain.name) {
            let help = "ratelimit refuses it unless it merges files: put the descriptors into one file";
            findings.add(finding::INVALID, root, format!("the domain {} twice", domain.name), help);
            return;
        }
        self.domains.push(domain);
    }

    fn limits(&mut self, items: &[At<'_>], namespace: &str, findings: &mut Findings) {
        self.has_limits |= !items.is_empty();
        self.limitador.extend(items.iter().filter_map(|at| limitador::read(at, namespace, findings)));
    }

    /// The files in a ConfigMap.
    fn config_map(&mut self, root: &At<'_>, from: Option<Kind>, findings: &mut Findings) {
        for (_, at) in root.field("data").iter().flat_map(At::entries) {
            let inner = Source::parse_inside(&at);
            let documents = inner.documents.iter().map(At::root);
            documents.filter(|root| !root.is_null()).for_each(|root| self.document(&root, from, findings));
        }
    }
}

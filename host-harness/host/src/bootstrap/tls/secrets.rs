//! Secrets in files: Envoy's secret discovery without a server. A file is read once, at the start.

use std::path::Path;

use super::super::document::{Node, Problems};
use super::super::support;
use crate::documents::{At, Source, quoted};

/// Kind of a secret: the field of `Secret` that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    Validation,
}

impl Kind {
    fn field(self) -> &'static str {
        match self {
            Self::Certificate => "tls_certificate",
            Self::Validation => "validation_context",
        }
    }
}

/// Reads the secret that an `SdsSecretConfig` names, and parses its value.
pub(super) fn secret<T>(node: &Node<'_>, kind: Kind, parse: impl Fn(&Node<'_>) -> Option<T>) -> Option<T> {
    let mut fields = node.message(&support::SDS_SECRET)?;
    let name = fields.require("name").and_then(|node| node.string());
    let config = fields.require("sds_config");
    fields.finish();
    let mut fields = config?.message(&support::CONFIG_SOURCE)?;
    let path = fields.require("path_config_source");
    fields.finish();
    let mut fields = path?.message(&support::PATH_CONFIG_SOURCE)?;
    let path = fields.require("path");
    fields.finish();
    let (name, place) = (name?, path?);
    let file = place.string()?;
    let source = Source::load_regular(Path::new(&file));
    if let Some(error) = source.error {
        place.refuse(&format!("the file of secrets {error}"));
        return None;
    }
    let Some(document) = source.documents.first() else { return place.expected("a file with `resources`") };
    let problems = Problems::default();
    let found = resource(&Node::root(At::root(document), &problems), &name, kind, parse);
    let (problems, _) = problems.into_parts();
    for problem in &problems {
        place.refuse(&format!("{file}:{}:{}: {problem}", problem.position.line, problem.position.column));
    }
    match found {
        Some(found) if problems.is_empty() => Some(found),
        None if problems.is_empty() => {
            place.expected(&format!("a file with the secret {} and its `{}`", quoted(&name), kind.field()))
        }
        _ => None,
    }
}

/// Parses the resource, which has to have this name and kind. As in Envoy, a file has one resource.
fn resource<T>(root: &Node<'_>, name: &str, kind: Kind, parse: impl Fn(&Node<'_>) -> Option<T>) -> Option<T> {
    let mut fields = root.message(&support::SECRETS)?;
    let resources = fields.require("resources");
    fields.finish();
    let resources = resources?;
    let found = resources.each(|resource| {
        let mut fields = resource.typed(&support::SECRET)?;
        let is_it = fields.require("name").and_then(|node| node.string())? == name;
        let [certificate, validation] = [Kind::Certificate, Kind::Validation].map(|kind| fields.take(kind.field()));
        fields.finish();
        let value = if kind == Kind::Certificate { certificate } else { validation };
        value.filter(|_| is_it).and_then(|value| parse(&value))
    });
    if found.len() != 1 {
        resources.refuse(&format!("expected one secret in a file, found {}", found.len()));
        return None;
    }
    found.into_iter().flatten().next()
}

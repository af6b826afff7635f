//! Claims of verified tokens: when they are there, and under which key.

use crate::check::finding::Finding;
use crate::check::judge::configuration::Findings as _;
use crate::check::judge::limiter::Limiter;
use crate::check::judge::order::{Item, items};
use crate::check::rules;
use crate::documents::quoted;
use crate::files::Declaration;

/// Metadata that holds the claims of a verified token.
const CLAIMS: &str = "envoy.filters.http.jwt_authn";
/// Key of the claims in Istio.
const PAYLOAD: &str = "payload";

/// Limits that read claims of tokens before they are verified, or under a key that the control plane does not write.
pub(in crate::check::judge) fn claims(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some(declaration) = &limiter.plugin.declaration else { return Vec::new() };
    let read = items(limiter).into_iter().filter_map(|(item, path)| match item {
        Item::Metadata { namespace, key } if namespace == CLAIMS => Some((key, path)),
        _ => None,
    });
    let read: Vec<(String, String)> = read.collect();
    let spec = declaration.manifest.field("spec");
    let phase = spec.and_then(|spec| spec.field("phase")).filter(|phase| phase.text() == Some("AUTHN"));
    if let (Some(phase), [_, ..]) = (phase, &*read) {
        let help = "write `phase: AUTHZ`: before authentication, the limit never sees the claims, and admits all \
                    requests or puts them in one bucket";
        let expected = "a phase after authentication, since limits read claims of tokens";
        return vec![Finding::at(rules::ORDER, &phase, expected, "AUTHN", help)];
    }
    let Some(keys) = keys_of_claims(limiter, declaration) else { return Vec::new() };
    let wrong = read.iter().find(|(key, _)| !keys.contains(&key.as_str()));
    let finding = |(key, path): &(String, String)| {
        let expected = format!(
            "{} as the first key of the path",
            keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(" or ")
        );
        let help =
            "correct the key, under which the control plane writes the claims: as it is, the limit never sees them";
        limiter.written.at_path(path, |at| Finding::at(rules::ORDER, at, expected, quoted(key), help))
    };
    wrong.map(finding).into_iter().collect()
}

/// Keys under which claims are written; `None` if they are not known.
fn keys_of_claims<'a>(limiter: &Limiter<'_, 'a>, declaration: &Declaration<'a>) -> Option<Vec<&'a str>> {
    if declaration.is_istio() {
        return Some(vec![PAYLOAD]);
    }
    // Envoy Gateway writes them under the name of the provider.
    let mesh = limiter.inventory.mesh.as_ref()?;
    let policies = mesh.manifests.iter().filter(|manifest| manifest.text_of("kind") == "SecurityPolicy");
    let providers = policies.filter_map(|policy| policy.fields(["spec", "jwt"])).flat_map(|jwt| jwt.each("providers"));
    let names: Vec<&str> = providers.map(|provider| provider.text_of("name")).collect();
    (!names.is_empty()).then_some(names)
}

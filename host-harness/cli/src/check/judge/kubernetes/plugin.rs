//! Plugins that control planes make: root id, strategy, version, and bodies.

use crate::check::finding::Finding;
use crate::check::judge::configuration::Findings as _;
use crate::check::judge::limiter::Limiter;
use crate::check::rules;
use crate::documents::quoted;
use crate::files::{Code, Declaration, Kind, Plugin, Role};

/// Findings about a plugin that a control plane makes.
pub(in crate::check::judge) fn of_plugin(
    plugin: &Plugin<'_>,
    declaration: &Declaration<'_>,
    is_weir: bool,
) -> Vec<Finding> {
    if !is_weir {
        return Vec::new();
    }
    let checks =
        [root_id(plugin, declaration), failure_policy(declaration), unversioned(plugin), policy_name(declaration)];
    checks.into_iter().flatten().collect()
}

/// A plugin of Weir that is no limiter: neither kind can put a bridge into a cluster.
fn root_id(plugin: &Plugin<'_>, declaration: &Declaration<'_>) -> Option<Finding> {
    let kind = declaration.kind.name();
    match plugin.role() {
        Some(Role::Limiter) => None,
        Some(Role::Bridge) => {
            let help = "write the bridge into the cluster of Redis, as the manifests in envoy/kubernetes have it";
            let expected = format!("the limiter in a {kind}");
            Some(Finding::at(rules::MISPLACED, &declaration.at, expected, "the bridge", help))
        }
        None => {
            let field = declaration.root_field();
            let found = if plugin.root_id.is_empty() { "nothing".to_owned() } else { quoted(plugin.root_id) };
            let help = format!("write `{field}: limiter`; Weir refuses to start in any other role");
            Some(Finding::at_field(rules::ROOT_ID, &declaration.at, field, "\"limiter\"", found, help))
        }
    }
}

/// A failed VM that stays failed. Envoy Gateway has no other policy.
fn failure_policy(declaration: &Declaration<'_>) -> Option<Finding> {
    let strategy = declaration.at.text_of("failStrategy");
    if !declaration.is_istio() || strategy == "FAIL_RELOAD" {
        return None;
    }
    let found = if strategy.is_empty() { "nothing, which means FAIL_CLOSE".to_owned() } else { quoted(strategy) };
    let help = "write `failStrategy: FAIL_RELOAD`: with any other strategy, a VM that has failed stays failed until its \
                configuration changes";
    Some(Finding::at_field(rules::FAILURE_POLICY, &declaration.at, "failStrategy", "FAIL_RELOAD", found, help))
}

/// An image without a version: a proxy may go on with the one that it has fetched before, and each with another one.
pub(in crate::check::judge) fn unversioned(plugin: &Plugin<'_>) -> Option<Finding> {
    let Code::Remote { uri, sha256 } = plugin.code() else { return None };
    let at = match &plugin.declaration {
        Some(declaration) => declaration.url(),
        None => plugin.vm()?.fields(["code", "remote", "http_uri", "uri"]),
    }?;
    let (_, name) = uri.rsplit_once('/').unwrap_or(("", uri));
    let is_image = !["http://", "https://", "file://"].iter().any(|scheme| uri.starts_with(scheme));
    let tag = name.split_once(':').map(|(_, tag)| tag);
    let found = match tag {
        _ if name.contains('@') || (!is_image && !sha256.is_empty()) || uri.starts_with("file://") => return None,
        Some(tag) if is_image && tag.contains(|char: char| char.is_ascii_digit()) => return None,
        _ if !is_image && uri.contains(|char: char| char.is_ascii_digit()) => return None,
        Some(tag) if is_image => format!("the tag {}", quoted(tag)),
        _ => "none".to_owned(),
    };
    let help = "name the version, such as …/weir-filter:0.1.0, or the digest, and change it with the code: under the same \
                name, a proxy goes on with the code that it has, and a new one fetches other code";
    Some(Finding::at(rules::UNVERSIONED, &at, "an image or a URL with a version", found, help))
}

/// A policy of Envoy Gateway whose name is the same for all versions of the code.
fn policy_name(declaration: &Declaration<'_>) -> Option<Finding> {
    let name = declaration.manifest.fields(["metadata", "name"])?;
    let text = name.text()?;
    (!declaration.is_istio() && !text.contains(|char: char| char.is_ascii_digit())).then(|| {
        let help = "put the module's version into the name, such as weir-0-1-0, and change it with the image: Envoy \
                    Gateway makes the vm_id of the name, and Envoy keeps the old module running under the same vm_id";
        let expected = "a name with a version, since the code is remote";
        Finding::at(rules::VM_ID, &name, expected, format!("{} without one", quoted(text)), help)
    })
}

/// Limits that read bodies, in a manifest that cannot ask for them.
pub(in crate::check::judge) fn unseen_body(
    limiter: &Limiter<'_, '_>,
    declaration: &Declaration<'_>,
    limit: &str,
) -> Finding {
    let (other, file) = match declaration.kind {
        Kind::EnvoyExtensionPolicy => ("an EnvoyPatchPolicy", "envoy-gateway/patch-policy.yaml"),
        _ => ("an EnvoyFilter", "istio/bodies.yaml"),
    };
    let kind = declaration.kind.name();
    let help = format!(
        "insert the limiter by {other}, as envoy/kubernetes/{file} does: Envoy shows no body to a filter that holds the \
         headers, unless allow_on_headers_stop_iteration is set, and requests under this limit would be held until \
         request_body.timeout"
    );
    let expected = format!("{other} with the limiter, since {limit} reads bodies");
    let found = format!("a {kind}, which cannot set allow_on_headers_stop_iteration");
    limiter.written.at_path(limit, |at| Finding::at(rules::UNSEEN_BODY, at, expected, found, help))
}

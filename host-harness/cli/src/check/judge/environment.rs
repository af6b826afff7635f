//! Environment variables of a limiter's VM, and of the plugins that share the VM with it.
//!
//! Up to Envoy 1.38, plugins with different environments share a VM, which has the environment of its first plugin.
//! Envoy creates clusters first, so a limiter has the environment of the bridge. From 1.39 on, plugins with different
//! environments have one VM each.

use super::kubernetes;
use super::limiter::Limiter;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::files::Plugin;

/// Placeholder for the value of a variable that the proxy's environment has and this process' does not: long enough for
/// a `hash_key`.
const UNKNOWN: &str = "unknown to this process";

/// Most other plugins of a VM that are compared with a limiter's.
const MAX_OTHERS: usize = 4;

/// The value of a variable in a plugin's environment: [`UNKNOWN`] if the plugin lists the variable and this process
/// lacks it, `None` if the plugin does not list it.
pub(super) fn variable(plugin: &Plugin<'_>, name: &str) -> Option<String> {
    let environment = plugin.environment();
    environment.value(name).or_else(|| environment.lists(name).then(|| UNKNOWN.to_owned()))
}

/// The value of a variable for a configuration without a plugin.
#[expect(clippy::unnecessary_wraps, reason = "the form that the filter asks for")]
pub(super) fn anywhere(name: &str) -> Option<String> {
    Some(std::env::var(name).unwrap_or_else(|_| UNKNOWN.to_owned()))
}

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = limiter.variables.iter().filter_map(|name| unset(limiter, name)).collect();
    let others = limiter.inventory.others_of_vm(limiter.plugin);
    for other in others.filter(|other| kubernetes::are_in_one_proxy(limiter, other)).take(MAX_OTHERS) {
        let unlisted: Vec<&String> = limiter.variables.iter().filter(|name| !other.environment().lists(name)).collect();
        found.extend(unlisted.iter().map(|name| unlisted_at(limiter, name, other)));
        if unlisted.is_empty() {
            found.push(different(limiter, other));
        }
    }
    found
}

fn unset(limiter: &Limiter<'_, '_>, name: &str) -> Option<Finding> {
    let value = limiter.plugin.environment().value(name).filter(|value| !value.is_empty());
    if let Some(mesh) = &limiter.inventory.mesh {
        let is_lacking = value.is_none() && mesh.lacks_variable(name);
        let help = "add it to `env` of the proxy's container, such as from a Secret: the proxy needs it to start";
        let expected = format!("the environment variable {name} in the proxy's container");
        return is_lacking.then(|| at_variables(rules::UNSET_VARIABLE, limiter, expected, "none", help));
    }
    value.is_none().then(|| {
        let help = "the proxy needs it to start; to check the value as well, set the variable here";
        let expected = format!("the environment variable {name} to have a value");
        at_variables(rules::UNSET_VARIABLE, limiter, expected, "none here", help)
    })
}

fn unlisted_at(limiter: &Limiter<'_, '_>, name: &str, other: &Plugin<'_>) -> Finding {
    let expected = format!("{name} in the lists of both this plugin and {}", shown(other));
    let help = format!(
        "add {name} to environment_variables of the other plugin, which has the same vm_id and code: Envoy up to 1.38 \
         takes the other's list for both and does not start; from 1.39 on, they have two VMs"
    );
    at_variables(rules::UNLISTED_VARIABLE, limiter, expected, "it in this one alone", help)
}

fn different(limiter: &Limiter<'_, '_>, other: &Plugin<'_>) -> Finding {
    let expected = format!("the same list as {}, which has the same vm_id and code", shown(other));
    let help = "give both plugins the same list: up to Envoy 1.38, one of both lists holds for both plugins; from 1.39 \
                on, they have two VMs, which is slower";
    at_variables(rules::ENVIRONMENTS, limiter, expected, "another one", help)
}

/// A finding at the plugin's list of variables, or where it should be.
fn at_variables(
    rule: crate::check::rules::Rule,
    limiter: &Limiter<'_, '_>,
    expected: String,
    found: &str,
    help: impl Into<String>,
) -> Finding {
    let (at, field) = match &limiter.plugin.declaration {
        Some(declaration) => declaration.variables(),
        None => (limiter.plugin.vm().unwrap_or_else(|| limiter.plugin.at.clone()), "environment_variables"),
    };
    Finding::at_field(rule, &at, field, expected, found, help)
}

/// Returns the place of another plugin.
fn shown(other: &Plugin<'_>) -> String {
    let position = other.at.key;
    format!("the plugin at {}:{}:{}", other.at.document.origin, position.line, position.column)
}

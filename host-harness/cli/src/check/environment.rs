//! Environment variables of a limiter's VM, and of the plugins that share the VM with it.
//!
//! Up to Envoy 1.38, plugins with different environments share a VM, which has the environment of its first plugin.
//! Envoy creates clusters first, so a limiter has the environment of the bridge. From 1.39 on, plugins with different
//! environments have one VM each.

use std::collections::BTreeSet;

use weir_host::bootstrap::{Plugin, VmConfig};

use super::Limiter;
use super::problem::Problem;
use super::warning::Warning;

/// Placeholder for the value of a variable that the proxy's environment has and this process' does not.
const UNKNOWN: &str = "unknown";

/// The value of a variable in a plugin's environment: [`UNKNOWN`] if the plugin lists the variable and this process
/// lacks it, `None` if the plugin does not list it.
pub(super) fn variable(plugin: &Plugin, name: &str) -> Option<String> {
    let environment = plugin.vm.resolved_environment();
    let known = environment.into_iter().find(|(key, _)| key == name).map(|(_, value)| value);
    known.or_else(|| is_listed(&plugin.vm, name).then(|| UNKNOWN.to_owned()))
}

/// Variables that the limiter reads and a plugin of the same VM does not list.
pub(super) fn problems(limiter: &Limiter<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    for name in &limiter.variables {
        for other in of_same_vm(limiter).filter(|other| !is_listed(&other.vm, name)) {
            found.push(Problem::UnlistedVariable { name: name.clone(), plugin: other.path.clone() });
        }
    }
    found
}

pub(super) fn warnings(limiter: &Limiter<'_>) -> Vec<Warning> {
    let unset = limiter.variables.iter().filter(|name| !is_set(limiter.plugin, name)).cloned();
    let own = list(&limiter.plugin.vm);
    let lists_all_read = |vm: &VmConfig| limiter.variables.iter().all(|name| is_listed(vm, name));
    let different = of_same_vm(limiter)
        // Lists that lack a variable are errors, found by `problems`.
        .filter(|other| list(&other.vm) != own && lists_all_read(&other.vm))
        .map(|other| Warning::Environments { plugin: other.path.clone() });
    unset.map(|name| Warning::UnsetVariable { name }).chain(different).collect()
}

/// The other plugins with the same `vm_id`, code and VM configuration as this limiter.
fn of_same_vm<'a>(limiter: &Limiter<'a>) -> impl Iterator<Item = &'a Plugin> {
    let key = |vm: &VmConfig| (vm.vm_id.clone(), vm.module.clone(), vm.configuration.clone());
    let (own, path) = (key(&limiter.plugin.vm), limiter.plugin.path.clone());
    limiter.bootstrap.plugins().filter(move |other| other.path != path && key(&other.vm) == own)
}

fn is_listed(vm: &VmConfig, name: &str) -> bool {
    vm.host_environment.iter().any(|key| key == name) || vm.environment.iter().any(|(key, _)| key == name)
}

fn is_set(plugin: &Plugin, name: &str) -> bool {
    plugin.vm.resolved_environment().iter().any(|(key, value)| key == name && !value.is_empty())
}

/// A VM's `environment_variables` as sets: their order has no meaning.
fn list(vm: &VmConfig) -> (BTreeSet<&String>, BTreeSet<&(String, String)>) {
    (vm.host_environment.iter().collect(), vm.environment.iter().collect())
}

//! Inventory about any wasm plugin: types of its fields, its module, its root id.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use super::{capabilities, durations, fields, kubernetes, types};
use crate::check::finding::Finding;
use crate::check::module::Module;
use crate::check::rules;
use crate::documents::{At, quoted};
use crate::files::{Code, Inventory, Plugin, Site};
use crate::spelling::nearest;

/// Values of `failure_policy`, in the order of their numbers.
pub(super) const FAILURE_POLICIES: [&str; 4] = ["UNSPECIFIED", "FAIL_RELOAD", "FAIL_CLOSED", "FAIL_OPEN"];

/// Runtime of Envoy's official builds; `null` is for plugins that are compiled into Envoy.
const RUNTIME: &str = "envoy.wasm.runtime.v8";

/// Modules by their paths, each read once.
#[derive(Default)]
pub(super) struct Modules(RefCell<HashMap<PathBuf, Module>>);

impl Modules {
    fn read(&self, path: &Path) -> Module {
        let mut known = self.0.borrow_mut();
        known.entry(path.to_owned()).or_insert_with(|| Module::read(path)).clone()
    }

    /// Whether a plugin is Weir's: by its module if that can be read, otherwise by its names.
    pub(super) fn is_weir(&self, plugin: &Plugin<'_>) -> bool {
        let code = plugin.code();
        if let Code::File(path) = code
            && let Module::Sound { is_weir } = self.read(path)
        {
            return is_weir;
        }
        let file = match code {
            Code::File(path) => path.file_name().is_some_and(|name| mentions_weir(&name.to_string_lossy())),
            Code::Remote { uri, .. } => mentions_weir(uri),
            Code::Other => false,
        };
        plugin.role().is_some() || file || mentions_weir(plugin.vm_id())
    }
}

/// Whether a name has the word `weir`: `weir_filter.wasm`, `my-weir`, but not `weird`.
fn mentions_weir(name: &str) -> bool {
    name.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case("weir"))
}

pub(super) fn findings<'a>(plugin: &Plugin<'a>, modules: &Modules, inventory: &Inventory<'a>) -> Vec<Finding> {
    let is_weir = modules.is_weir(plugin);
    let mut found = message(plugin).into_iter().chain(fields::unknown(plugin)).chain(types(plugin)).collect::<Vec<_>>();
    // Paths in a pod are not those of this machine.
    let is_here = |finding: &Finding| finding.rule == rules::MODULE || inventory.mesh.is_none();
    found.extend(module(plugin, modules, is_weir).filter(is_here));
    found.extend(no_code(plugin));
    found.extend(capabilities::restricted(plugin));
    found.extend(runtime(plugin));
    found.extend(listed_twice(plugin));
    found.extend(match &inventory.mesh {
        Some(mesh) if mesh.is_fetched_by_agent(&plugin.at) => kubernetes::unversioned(plugin),
        _ => unfetched(plugin).or_else(|| vm_id(plugin)),
    });
    found.extend(two_policies(plugin));
    found.extend(backoff(plugin));
    if is_weir && plugin.role().is_none() {
        found.push(root_id(plugin));
    }
    if plugin.site == Site::Route {
        let help = "move the plugin to http_filters of the connection manager; Envoy refuses wasm at routes. Limits of \
                    a route are limits with a predicate on route_name or path";
        let expected = "no wasm plugin in typed_per_filter_config";
        found.push(Finding::at(rules::MISPLACED, &plugin.at, expected, "one", help));
    }
    found
}

/// A message whose name looks like that of a wasm plugin, and is none. A misspelt one has a finding of its own.
fn message(plugin: &Plugin<'_>) -> Option<Finding> {
    (!plugin.is_known() && types::meant(plugin.message.name).is_none()).then(|| {
        let expected = "envoy.extensions.filters.http.wasm.v3.Wasm, or another message for wasm that Envoy has";
        let help = "correct the name; Envoy refuses messages that it does not know";
        Finding::at(rules::TYPE, &plugin.message.url, expected, quoted(plugin.message.name), help)
    })
}

/// Fields with types that Envoy refuses.
fn types(plugin: &Plugin<'_>) -> Vec<Finding> {
    let vm = plugin.vm();
    let variables = vm.as_ref().and_then(|vm| vm.field("environment_variables"));
    let mut texts: Vec<At<'_>> = ["name", "root_id"].into_iter().filter_map(|name| plugin.at.field(name)).collect();
    texts.extend(vm.iter().flat_map(|vm| ["vm_id", "runtime"].into_iter().filter_map(|name| vm.field(name))));
    texts.extend(plugin.file_name());
    texts.extend(variables.iter().flat_map(|at| at.each("host_env_keys")));
    let values = variables.as_ref().and_then(|at| at.field("key_values"));
    texts.extend(values.iter().flat_map(|at| at.entries()).map(|(_, at)| at));

    let mut found: Vec<Finding> =
        texts.iter().filter(|at| at.text().is_none()).map(|at| wrong_type(at, "a string")).collect();
    let objects = [vm, variables, values, plugin.at.field("configuration")];
    found.extend(objects.iter().flatten().filter(|at| !at.is_object()).map(|at| wrong_type(at, "an object")));
    let flags = ["allow_on_headers_stop_iteration", "fail_open"].into_iter().filter_map(|name| plugin.at.field(name));
    found.extend(flags.filter(|at| at.flag().is_none()).map(|at| wrong_type(&at, "true or false")));
    let policy = plugin.at.field("failure_policy").filter(|at| at.one_of(&FAILURE_POLICIES).is_none());
    found.extend(policy.map(|at| {
        let meant = at.text().and_then(|text| nearest(text, &FAILURE_POLICIES));
        let help = meant.map(|meant| format!("did you mean {meant}? Envoy refuses other values"));
        let finding = wrong_type(&at, &FAILURE_POLICIES.join(", "));
        Finding { help: help.unwrap_or(finding.help), ..finding }
    }));
    let configuration = plugin.at.field("configuration").filter(At::is_object);
    if let Some(at) = configuration.filter(|at| at.field("@type").is_none() && at.entries().next().is_some()) {
        let expected = "\"@type\" beside the value, such as type.googleapis.com/google.protobuf.Struct";
        let help = "add \"@type\" and put the configuration below `value`; Envoy refuses an Any without a type";
        found.push(Finding::at(rules::TYPE, &at, expected, "none", help));
    }
    found
}

fn wrong_type(at: &At<'_>, expected: &str) -> Finding {
    Finding::at(rules::TYPE, at, expected, at.kind(), "replace the value; Envoy refuses it")
}

/// A plugin without a module.
fn no_code(plugin: &Plugin<'_>) -> Option<Finding> {
    let vm = plugin.vm().unwrap_or_else(|| plugin.at.clone());
    let help = "add `code: {local: {filename: …}}` to vm_config; Envoy does not start without it";
    let Some(code) = vm.field("code") else {
        return Some(Finding::at_field(rules::MISSING_MODULE, &vm, "code", "the module's code", "nothing", help));
    };
    let empty = match code.field("local") {
        Some(local) => {
            let sources = ["filename", "inline_bytes", "inline_string", "environment_variable"];
            sources.iter().all(|name| local.field(name).is_none()).then_some(local)
        }
        None => code.field("remote").is_none().then_some(code),
    };
    empty.map(|at| Finding::at(rules::MISSING_MODULE, &at, "the module's code", "nothing", help))
}

/// A runtime that official builds of Envoy do not have.
fn runtime(plugin: &Plugin<'_>) -> Option<Finding> {
    let at = plugin.vm()?.field("runtime")?;
    let name = at.text()?;
    (!name.is_empty() && name != RUNTIME).then(|| {
        let help = "write `runtime: envoy.wasm.runtime.v8`, which every official build of Envoy with wasm has";
        Finding::at(rules::RUNTIME, &at, RUNTIME, quoted(name), help)
    })
}

/// A variable with a value that is also copied from the proxy's environment.
fn listed_twice(plugin: &Plugin<'_>) -> Option<Finding> {
    let at = plugin.vm()?.field("environment_variables")?;
    let environment = plugin.environment();
    let in_both = environment.copied.iter().any(|name| environment.values.contains_key(name));
    let help =
        "remove the variable from host_env_keys or from key_values; Envoy refuses a variable that is listed twice";
    let finding = |found: &str| {
        Some(Finding::at(rules::DUPLICATE_VARIABLE, &at, "each variable once, in one of both lists", found, help))
    };
    match at.each("host_env_keys").len() > environment.copied.len() {
        _ if in_both => finding("a variable in both"),
        // A value of another type has a finding of its own.
        true if at.each("host_env_keys").iter().all(|at| at.text().is_some()) => finding("a variable twice"),
        _ => None,
    }
}

/// Finding about a module in the configuration itself.
fn inline(at: &At<'_>) -> Option<Finding> {
    let finding =
        |expected: &str, found: String, help: &str| Some(Finding::at(rules::MODULE, at, expected, found, help));
    // Protobuf takes both alphabets of base64, with padding and without.
    let digits = at.text()?.replace('-', "+").replace('_', "/");
    match BASE64_STANDARD_NO_PAD.decode(digits.trim_end_matches('=')).map(|bytes| Module::of(&bytes)) {
        Err(_) => finding("bytes in base64", at.kind(), "encode the module in base64, or give its file as `filename`"),
        Ok(Module::Refused(refusal)) => {
            let help =
                "give the bytes of the compiled filter, or its file as `filename`; Envoy does not start with these";
            finding(refusal.expected(), refusal.to_string(), help)
        }
        Ok(_) => None,
    }
}

/// Finding about the wasm file.
fn module(plugin: &Plugin<'_>, modules: &Modules, is_weir: bool) -> Option<Finding> {
    if let Some(at) = plugin.inline_code() {
        return inline(&at);
    }
    let (Code::File(path), Some(at)) = (plugin.code(), plugin.file_name()) else { return None };
    let is_replaced = at.text().is_some_and(|name| Path::new(name) != path);
    match modules.read(path) {
        Module::Sound { .. } => None,
        Module::Refused(refusal) => {
            let help = "give the path of the compiled filter; Envoy does not start with this file";
            Some(Finding::at(rules::MODULE, &at, refusal.expected(), refusal.to_string(), help))
        }
        Module::Unreadable(_) => {
            // A path of a container, whose plugin is none of Weir's business, proves nothing on this machine.
            let is_elsewhere = path.is_absolute() && !is_weir;
            let rule = if is_elsewhere { rules::ABSENT_MODULE } else { rules::MISSING_MODULE };
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let help = match name.as_str() {
                _ if is_replaced => "set WEIR_WASM to the path of the filter's module, or unset it: it names this file",
                "weir_filter.wasm" => {
                    "give its path, relative to the current directory as for Envoy; or set WEIR_WASM to the file that \
                     stands for it here; or build it: cargo build --release -p weir-filter --target wasm32-wasip1"
                }
                _ => "give its path, relative to the current directory as for Envoy; Envoy does not start without it",
            };
            let found = format!("no such file: {}", quoted(&path.to_string_lossy()));
            Some(Finding::at(rule, &at, "a wasm file", found, help))
        }
    }
}

fn root_id(plugin: &Plugin<'_>) -> Finding {
    let found = match plugin.root_id {
        "" => "nothing".to_owned(),
        other => quoted(other),
    };
    let help = match nearest(plugin.root_id, &["limiter", "bridge"]) {
        Some(meant) => format!("write `root_id: {meant}`; Weir refuses to start in any other role, and Envoy with it"),
        None => {
            "write `root_id: limiter` in a listener's filters, or `root_id: bridge` in those of Redis' cluster; Weir \
                 refuses to start in any other role, and Envoy with it"
                .to_owned()
        }
    };
    Finding::at_field(rules::ROOT_ID, &plugin.at, "root_id", "\"limiter\" or \"bridge\"", found, help)
}

/// An image as remote code, which Envoy itself does not fetch.
fn unfetched(plugin: &Plugin<'_>) -> Option<Finding> {
    let uri = plugin.vm()?.fields(["code", "remote", "http_uri", "uri"])?;
    let is_image = uri.text()?.starts_with("oci://");
    is_image.then(|| {
        let help = "write an EnvoyFilter with `applyTo: EXTENSION_CONFIG`, whose image the Istio agent fetches, and \
                    name it with config_discovery; Envoy takes the URL as it is, and fails";
        Finding::at(rules::IMAGE, &uri, "http:// or https://, since Envoy fetches the code", "an image", help)
    })
}

/// Remote code without a version in `vm_id`.
fn vm_id(plugin: &Plugin<'_>) -> Option<Finding> {
    let Code::Remote { sha256, .. } = plugin.code() else { return None };
    let vm_id = plugin.vm_id();
    let has_version =
        vm_id.bytes().any(|byte| byte.is_ascii_digit()) || sha256.get(..6).is_some_and(|start| vm_id.contains(start));
    if has_version {
        return None;
    }
    let found = if vm_id.is_empty() { "none".to_owned() } else { format!("{} without one", quoted(vm_id)) };
    let help = "put the module's version into vm_id, such as weir-1.2.0, and change it with the URL: Envoy computes a \
                VM's key before the code has come, and keeps the old module running under the same vm_id";
    let vm = plugin.vm()?;
    Some(Finding::at_field(rules::VM_ID, &vm, "vm_id", "a vm_id with a version, since the code is remote", found, help))
}

/// A backoff of remote code that ends before it begins. Envoy takes one of reloads.
fn backoff(plugin: &Plugin<'_>) -> Option<Finding> {
    let backoff = plugin.vm()?.fields(["code", "remote", "retry_policy", "retry_back_off"])?;
    let max = backoff.field("max_interval")?;
    let base = durations::seconds(&backoff.field("base_interval")?)?;
    (durations::seconds(&max)? < base).then(|| {
        let help = "raise it, or lower base_interval; Envoy does not start as it is";
        let expected = format!("a duration of at least base_interval, {base} s");
        Finding::at(rules::BOUNDS, &max, expected, max.text().map_or_else(|| max.kind(), quoted), help)
    })
}

fn two_policies(plugin: &Plugin<'_>) -> Option<Finding> {
    let policy = plugin.at.field("failure_policy").filter(|at| at.one_of(&FAILURE_POLICIES) != Some(0))?;
    plugin.at.is_set("fail_open").then(|| {
        let help = "remove fail_open, which is deprecated; Envoy refuses both";
        Finding::at(rules::TWO_POLICIES, &policy, "failure_policy or fail_open", "both", help)
    })
}

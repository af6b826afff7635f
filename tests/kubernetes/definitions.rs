//! Definitions of the kinds in all manifests: those of `envoy/kubernetes`, of the chart, and of `weir render`.
//!
//! | kinds | definitions |
//! |---|---|
//! | of Kubernetes | kubernetes-validate, which has the schemas of the API server |
//! | [`TYPES`] | types of packages of npm, which are made of the definitions; TypeScript finds unknown fields |
//! | [`DEFINED`] | CustomResourceDefinitions in the folder that `WEIR_CRDS` names |
//! | [`UNDEFINED`] | those in the same folder, if it has them |

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};
use weir::or_skip;
use weir_provision::{checkout, helm, npm, python};

use crate::{
    chart,
    manifest::{Manifest, text},
    render,
};

/// Version of Kubernetes whose schemas manifests have to match.
const KUBERNETES: &str = "1.33";

/// Kinds with a type, each with its module.
const TYPES: [(&str, &str); 10] = [
    ("AuthorizationPolicy", "istio/security.istio.io/v1"),
    ("DestinationRule", "istio/networking.istio.io/v1"),
    ("EnvoyFilter", "istio/networking.istio.io/v1alpha3"),
    ("Gateway", "gateway-api/gateway.networking.k8s.io/v1"),
    ("PodMonitor", "prometheus-operator/monitoring.coreos.com/v1"),
    ("PrometheusRule", "prometheus-operator/monitoring.coreos.com/v1"),
    ("RequestAuthentication", "istio/security.istio.io/v1"),
    ("ServiceEntry", "istio/networking.istio.io/v1"),
    ("ServiceMonitor", "prometheus-operator/monitoring.coreos.com/v1"),
    ("WasmPlugin", "istio/extensions.istio.io/v1alpha1"),
];

/// Kinds whose definitions no registry of packages has.
const DEFINED: [&str; 4] = ["EnvoyExtensionPolicy", "EnvoyPatchPolicy", "EnvoyProxy", "TrafficExtension"];

/// Kinds whose definitions may be missing.
const UNDEFINED: [&str; 3] = ["ProxyDefaults", "SecurityPolicy", "ServiceDefaults"];

/// API groups of Kubernetes itself.
const CORE: [&str; 5] = ["v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1"];

/// Manifests by file, place and kind.
type Manifests = BTreeMap<String, Value>;

#[test]
fn each_kind_has_a_definition() {
    let Some(manifests) = all() else { return };
    let kinds = |is: &dyn Fn(&Value) -> bool| {
        let of = manifests.values().filter(|manifest| is(manifest)).map(|manifest| text(manifest, "/kind"));
        of.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let named = |names: &[&str], manifest: &Value| names.contains(&text(manifest, "/kind"));
    let typed: Vec<&str> = TYPES.iter().map(|(kind, _)| *kind).collect();
    let known = |it: &Value| is_core(it) || [&typed[..], &DEFINED, &UNDEFINED].iter().any(|names| named(names, it));
    assert_eq!(kinds(&|it| !known(it)), [""; 0]);
    for names in [&typed[..], &DEFINED, &UNDEFINED] {
        let unseen: Vec<&&str> = names.iter().filter(|kind| !kinds(&|_| true).contains(kind)).collect();
        assert!(unseen.is_empty(), "no manifest is a {unseen:?}");
    }
}

#[test]
fn kinds_of_kubernetes_match_its_schemas() {
    let Some(manifests) = all() else { return };
    let core: Manifests = manifests.into_iter().filter(|(_, manifest)| is_core(manifest)).collect();
    let Some(printed) = by_kubernetes(&core) else { return };
    assert!(!printed.contains("ERROR"), "{printed}");
    for kind in ["deployment", "statefulset", "networkpolicy", "poddisruptionbudget", "service", "configmap"] {
        assert!(printed.contains(&format!("passed for resource {kind}/")), "no {kind} in {printed}");
    }
    let fields = [
        ("Deployment", "/spec/template/spec/containers/0", "readinessProbe"),
        ("NetworkPolicy", "/spec/ingress/0", "ports"),
        ("PodDisruptionBudget", "/spec", "minAvailable"),
    ];
    let printed = by_kubernetes(&renamed(&core, &fields)).unwrap();
    for (kind, _, field) in fields {
        assert!(printed.contains(&format!("'{field}X' was unexpected")), "{kind}: {printed}");
    }
}

#[test]
fn kinds_of_istio_gateway_api_and_prometheus_match_their_types() {
    let Some(manifests) = all() else { return };
    let Some(printed) = by_types(&manifests) else { return };
    assert_eq!(printed, "", "{printed}");
    let fields = [
        ("WasmPlugin", "/spec", "failStrategy"),
        ("EnvoyFilter", "/spec/configPatches/0/match", "context"),
        ("Gateway", "/spec/infrastructure/parametersRef", "kind"),
        ("ServiceEntry", "/spec/ports/0", "protocol"),
        ("PrometheusRule", "/spec/groups/0/rules/0", "record"),
        ("PodMonitor", "/spec/podMetricsEndpoints/0", "path"),
    ];
    let printed = by_types(&renamed(&manifests, &fields)).unwrap();
    for (kind, _, field) in fields {
        assert!(printed.contains(&format!("'\"{field}X\"' does not exist")), "{kind}: {printed}");
    }
}

#[test]
fn kinds_of_envoy_gateway_match_their_definitions() {
    let Some(manifests) = all() else { return };
    let Some(folder) = std::env::var_os("WEIR_CRDS").map(PathBuf::from) else {
        println!("skipped: WEIR_CRDS names no folder with CustomResourceDefinitions");
        return;
    };
    let compared = |manifests: &Manifests| by_definitions(&folder, manifests);
    let Some(printed) = compared(&manifests) else { return };
    assert!(!printed.contains("ERROR"), "{printed}");
    for name in manifests.iter().filter(|(_, it)| DEFINED.contains(&text(it, "/kind"))).map(|(name, _)| name) {
        assert!(printed.contains(&format!("compared {name}\n")), "{name} in {printed}");
    }
    let fields = [
        ("EnvoyExtensionPolicy", "/spec/wasm/0", "rootID"),
        ("EnvoyProxy", "/spec/bootstrap", "type"),
        ("EnvoyPatchPolicy", "/spec/jsonPatches/0/operation", "op"),
        ("TrafficExtension", "/spec/wasm", "failStrategy"),
    ];
    let printed = compared(&renamed(&manifests, &fields)).unwrap();
    for (kind, _, field) in fields {
        assert!(printed.contains(&format!("'{field}X' was unexpected")), "{kind}: {printed}");
    }
}

/// Returns all manifests.
fn all() -> Option<Manifests> {
    let helm = or_skip(helm::binary())?;
    let mut all = Manifests::new();
    let mut add = |name: &str, manifest: &Manifest| {
        for (number, document) in manifest.documents.iter().enumerate().filter(|(_, it)| it.get("kind").is_some()) {
            all.insert(format!("{name}#{number} {}", text(document, "/kind")), document.clone());
        }
    };
    let shipped = checkout::root().unwrap().join("envoy/kubernetes");
    for folder in fs::read_dir(&shipped).unwrap().map(|it| it.unwrap().path()).filter(|path| path.is_dir()) {
        for file in fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
            let name = file.strip_prefix(&shipped).unwrap().to_str().unwrap().to_owned();
            add(&name, &Manifest::read(&name));
        }
    }
    for values in chart::values() {
        let (name, values) = (values.file_name().unwrap().to_str().unwrap(), values.display().to_string());
        // Upstash is in no pod.
        let policy = format!("networkPolicy.enabled={}", !name.contains("upstash"));
        let extras = format!("rules.enabled=true,dashboard.enabled=true,monitor.enabled=true,{policy}");
        add(name, &Manifest::parse(&chart::template(&helm, &["-f", &values])));
        add(
            &format!("{name} with extras"),
            &Manifest::parse(&chart::template(&helm, &["-f", &values, "--set", &extras])),
        );
    }
    for (name, manifest) in render::each_form() {
        add(&name, &manifest);
    }
    Some(all)
}

fn is_core(manifest: &Value) -> bool {
    CORE.contains(&text(manifest, "/apiVersion"))
}

/// Returns for each kind, place and field the first manifest that has the field, with another name of the field.
fn renamed(manifests: &Manifests, fields: &[(&str, &str, &str)]) -> Manifests {
    let broken = fields.iter().map(|(kind, place, field)| {
        let mut of_kind = manifests.values().filter(|manifest| manifest["kind"] == *kind).cloned();
        let manifest = of_kind.find_map(|mut manifest| {
            let object = manifest.pointer_mut(place)?.as_object_mut()?;
            let value = object.remove(*field)?;
            object.insert(format!("{field}X"), value);
            Some(manifest)
        });
        (format!("{kind} {place}"), manifest.unwrap_or_else(|| panic!("no {kind} has {place}/{field}")))
    });
    broken.collect()
}

fn by_kubernetes(manifests: &Manifests) -> Option<String> {
    let mut validate = or_skip(python::KUBERNETES.python())?;
    let folder = tempfile::tempdir().unwrap();
    validate.args(["-m", "kubernetes_validate", "--strict", "-k", KUBERNETES]);
    for (number, manifest) in manifests.values().enumerate() {
        // JSON is YAML.
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, manifest.to_string()).unwrap();
        validate.arg(file);
    }
    Some(chart::all(&validate.output().unwrap()))
}

/// Compares manifests with their types, and returns what the compiler prints.
fn by_types(manifests: &Manifests) -> Option<String> {
    let packages = or_skip(npm::DEFINITIONS.provide())?;
    let module = |manifest: &Value| TYPES.iter().find(|(kind, _)| manifest["kind"] == *kind);
    let mut program = String::new();
    for (kind, module) in TYPES {
        program.push_str(&format!("import type {{I{kind}}} from \"@kubernetes-models/{module}/{kind}\";\n"));
    }
    for (number, (name, manifest)) in manifests.iter().enumerate() {
        if let Some((kind, module)) = module(manifest) {
            let (_, api_version) = module.split_once('/').unwrap();
            assert_eq!(manifest["apiVersion"], api_version, "{name}");
            program.push_str(&format!("// {name}\nexport const m{number}: I{kind} = {manifest:#};\n"));
        }
    }
    let folder = tempfile::tempdir_in(&packages).unwrap();
    let file = folder.path().join("manifests.ts");
    fs::write(&file, program).unwrap();
    let mut compiler = Command::new(packages.join("node_modules/.bin/tsc"));
    compiler.args(["--noEmit", "--strict", "--module", "nodenext", "--moduleResolution", "nodenext", "--skipLibCheck"]);
    Some(chart::all(&compiler.arg(&file).output().unwrap()))
}

/// Compares manifests with the CustomResourceDefinitions in a folder.
fn by_definitions(folder: &std::path::Path, manifests: &Manifests) -> Option<String> {
    let mut python = or_skip(python::KUBERNETES.python())?;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("manifests.json");
    let compared: Manifests = manifests.clone().into_iter().filter(|(_, it)| !is_core(it)).collect();
    fs::write(&file, json!(compared).to_string()).unwrap();
    let program = checkout::root().unwrap().join("tests/kubernetes/definitions/validate.py");
    let output = python.arg(program).arg(folder).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", chart::all(&output));
    Some(chart::all(&output))
}

//! `weir schema` and Python's `jsonschema`: all shipped configurations, changed ones, and manifests.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use weir_filter::config;
use weir_provision::{checkout, or_skip, python};

use crate::weir;

/// Prints `true` or `false` for each line of standard input, by the schema in a file, which must be one.
const VALIDATE: &str = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for line in sys.stdin: print(str(validator.is_valid(json.loads(line))).lower())";

/// Whether `weir schema` with these arguments accepts each of the documents.
fn accepts(arguments: &[&str], documents: &[Value]) -> Option<Vec<bool>> {
    let mut python = or_skip(python::KUBERNETES.python())?;
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    let printed = weir(folder.path(), &[&["schema"], arguments].concat());
    assert!(printed.status.success(), "{printed:?}");
    fs::write(&schema, printed.stdout).unwrap();
    let python = python.args(["-c", VALIDATE]).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut validator = python.spawn().unwrap();
    let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
    let mut input = validator.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = validator.wait_with_output().unwrap();
    writer.join().unwrap();
    let verdicts: Vec<bool> = String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "true").collect();
    assert_eq!(verdicts.len(), documents.len());
    Some(verdicts)
}

/// All documents of the YAML files in `envoy` that are no templates, and no file for `weir render`.
fn documents() -> Vec<Value> {
    let mut folders: Vec<PathBuf> = vec![checkout::root().unwrap().join("envoy")];
    let mut documents = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "yaml")
                && !path.components().any(|it| it.as_os_str() == "helm")
                && !path.ends_with("kubernetes/limits.yaml")
            {
                documents.extend(read(&path));
            }
        }
    }
    documents
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.split("\n---").filter_map(|document| serde_saphyr::from_str::<Option<Value>>(document).unwrap()).collect()
}

/// Adds the filter's configurations anywhere below a value, also those that are JSON or YAML in text.
fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) if fields.contains_key("redis") && fields.contains_key("limits") => {
            found.push(value.clone())
        }
        Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        Value::String(text) if text.contains("redis") && text.contains("limits") => {
            if let Ok(inner) = serde_saphyr::from_str::<Value>(text) {
                collect(&inner, found);
            }
        }
        _ => {}
    }
}

fn is_accepted(configuration: &Value) -> bool {
    config::parse(configuration.to_string().as_bytes(), &|_| Some("a password or a key".to_owned())).is_ok()
}

/// Copies of a value, each with another one in place of one value in it.
fn changed(value: &Value, odd: &[Value], copies: &mut Vec<Value>, around: &dyn Fn(Value) -> Value) {
    copies.extend(odd.iter().map(|odd| around(odd.clone())));
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                changed(below, odd, copies, &|odd| {
                    let mut copy = fields.clone();
                    copy.insert(name.clone(), odd);
                    around(Value::Object(copy))
                });
            }
        }
        Value::Array(items) => {
            for (place, below) in items.iter().enumerate() {
                changed(below, odd, copies, &|odd| {
                    let mut copy = items.clone();
                    copy[place] = odd;
                    around(Value::Array(copy))
                });
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_accepts_all_shipped_configurations_and_is_never_stricter_than_the_parser() {
    let mut shipped = Vec::new();
    documents().iter().for_each(|document| collect(document, &mut shipped));
    assert!(shipped.len() >= 20, "only {} configurations found", shipped.len());
    let Some(verdicts) = accepts(&[], &shipped) else { return };
    for (configuration, verdict) in shipped.iter().zip(verdicts) {
        assert!(is_accepted(configuration) && verdict, "{configuration}");
    }
    let odd = [json!(null), json!(1), json!("60s"), json!("GET"), json!([]), json!({}), json!([{"method": "GET"}])];
    let mut copies = Vec::new();
    for configuration in shipped.iter().take(12) {
        changed(configuration, &odd, &mut copies, &|copy| copy);
    }
    let verdicts = accepts(&[], &copies).unwrap();
    let [mut valid, mut refused] = [0, 0];
    for (configuration, verdict) in copies.iter().zip(verdicts) {
        assert!(verdict || !is_accepted(configuration), "the schema refuses a valid configuration: {configuration}");
        valid += usize::from(verdict);
        refused += usize::from(!verdict);
    }
    assert!(valid > 50 && refused > 1_000, "{valid} accepted, {refused} refused");
}

#[test]
fn a_manifest_is_judged_at_the_configuration_alone() {
    let plugins: Vec<Value> = documents().into_iter().filter(|it| it.pointer("/spec/pluginConfig").is_some()).collect();
    assert!(plugins.len() >= 2);
    let misspelt: Vec<Value> = plugins
        .iter()
        .map(|plugin| {
            let mut plugin = plugin.clone();
            plugin["spec"]["pluginConfig"]["limts"] = json!([]);
            plugin
        })
        .collect();
    let Some(verdicts) = accepts(&["--at", "spec.pluginConfig"], &[plugins, misspelt].concat()) else { return };
    let half = verdicts.len() / 2;
    assert!(verdicts[..half].iter().all(|verdict| *verdict));
    assert!(verdicts[half..].iter().all(|verdict| !verdict));
}

//! `weir schema`: JSON Schema of the filter's configuration, whole or below fields of a manifest.

use std::process::ExitCode;

use serde_json::{Value, json};
use weir_filter::config::schema::schema;

use crate::output::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Path of the configuration in files of another kind, such as `spec.pluginConfig`; `[]` is each item of a list.
    #[arg(long, value_name = "PATH", value_parser = Steps::parse)]
    at: Option<Steps>,
}

/// Steps from a file's root to the configuration in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Steps(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Items,
}

impl Steps {
    fn parse(path: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in path.split('.') {
            let name = part.trim_end_matches("[]");
            if name.is_empty() || name.contains(['[', ']']) {
                return Err("expected names of fields such as spec.pluginConfig or spec.wasm[].config".to_owned());
            }
            steps.push(Step::Field(name.to_owned()));
            steps.extend(part.as_bytes()[name.len()..].chunks(2).map(|_| Step::Items));
        }
        Ok(Self(steps))
    }

    /// The schema of files with the configuration at this path. It says nothing about their other fields.
    fn around(&self, schema: Value) -> Value {
        self.0.iter().rev().fold(schema, |below, step| match step {
            Step::Field(name) => json!({"type": "object", "properties": {name: below}}),
            Step::Items => json!({"type": "array", "items": below}),
        })
    }
}

/// The schema of the configuration, or of files with the configuration at a path.
fn schema_at(steps: Option<&Steps>) -> Value {
    let mut schema = schema();
    let Some(steps) = steps else { return schema };
    // References start at the root.
    let moved: Vec<(&str, Value)> = match &mut schema {
        Value::Object(fields) => ["$schema", "title", "definitions"]
            .into_iter()
            .filter_map(|name| Some((name, fields.remove(name)?)))
            .collect(),
        _ => Vec::new(),
    };
    let mut around = steps.around(schema);
    if let Value::Object(fields) = &mut around {
        fields.extend(moved.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    around
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let schema = schema_at(arguments.at.as_ref());
    print(format_args!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_configuration_in_a_manifest() {
        let steps = Steps::parse("spec.wasm[].config").unwrap();
        let schema = schema_at(Some(&steps));
        let config = schema.pointer("/properties/spec/properties/wasm/items/properties/config").unwrap();
        assert_eq!(config["required"], json!(["redis", "limits"]));
        assert!(schema["definitions"]["predicate"].is_object() && config.get("definitions").is_none());
    }

    #[test]
    fn a_path_that_is_none_is_refused() {
        for path in ["", ".", "spec..config", "[]", "a[0]", "a[].[]"] {
            assert!(Steps::parse(path).is_err(), "{path}");
        }
    }
}

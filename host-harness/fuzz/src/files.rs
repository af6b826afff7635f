//! Target `files`: the harness' readers of YAML and JSON: `weir check`, `weir serve` and `weir test`.
//!
//! Input: a byte for the file's name, then its text.

use serde_json::Value;
use weir_harness::texts;
use weir_host::Bootstrap;

use crate::SECRET;
use crate::choices::Choices;

/// Names by which Envoy tells the language.
const NAMES: [&str; 4] = ["envoy.yaml", "envoy.json", "envoy.conf", "envoy.pb_text"];

/// Runs the target.
///
/// # Panics
/// If two checks differ, if a finding has no place in the file, or if the output is not of its form.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let name = NAMES[choices.below(NAMES.len())];
    let bytes = choices.rest();
    let output = texts::check(name, bytes);
    assert_eq!(texts::check(name, bytes), output, "two checks differ");
    // YAML's lines end with a carriage return, too.
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    check_json(&output.json, lines);
    let annotations = output.github.lines().filter(|line| line.starts_with("::")).count();
    let findings = output.json.lines().count() - 1;
    assert_eq!(annotations, findings, "{}", output.github);
    assert!(findings == 0 || !output.text.is_empty());
    if let Ok(text) = std::str::from_utf8(bytes) {
        match Bootstrap::parse(text, name) {
            Ok(bootstrap) => drop(format!("{:?}", bootstrap.left_out)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        for mistake in texts::mistakes_in_tests(text) {
            assert!(!mistake.is_empty() && !mistake.contains(SECRET));
        }
    }
}

/// Reads the findings: an object in each line, the last one with the numbers.
fn check_json(json: &str, lines: usize) {
    let objects: Vec<Value> = json.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(objects.len(), json.lines().count(), "a line that is no JSON: {json}");
    let Some((numbers, findings)) = objects.split_last() else { panic!("no last line") };
    let severities = [("errors", "error"), ("warnings", "warning"), ("notes", "note")];
    for (name, severity) in severities {
        let count = findings.iter().filter(|finding| finding["severity"] == severity).count();
        assert_eq!(numbers[name], count, "{json}");
    }
    for finding in findings {
        let place = [&finding["line"], &finding["column"]].map(Value::as_u64);
        let [Some(line), Some(column)] = place else { panic!("no place: {finding}") };
        assert!(line >= 1 && column >= 1 && line <= lines as u64 + 1, "line {line} of {lines}: {finding}");
        for name in ["rule", "expected", "found"] {
            assert!(finding[name].as_str().is_some_and(|text| !text.is_empty()), "no {name}: {finding}");
        }
    }
}

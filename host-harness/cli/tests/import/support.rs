//! Runs of `weir import`, and their results.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Result of a run with `--format json`.
pub(crate) struct Imported {
    pub(crate) code: i32,
    /// The result; empty without one.
    pub(crate) yaml: String,
    /// The findings as `file:line:column severity rule`, in their order.
    pub(crate) findings: Vec<String>,
}

/// Folder of the files that tests import.
pub(crate) fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/files")
}

pub(crate) fn weir(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_weir")).args(words).current_dir(folder).output().expect("`weir` runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (run.status.code().expect("an exit code"), text(run.stdout), text(run.stderr))
}

/// Imports files of a folder.
pub(crate) fn import_in(folder: &Path, words: &[&str]) -> Imported {
    let (code, yaml, errors) = weir(folder, &[&["import", "--format", "json"], words].concat());
    let lines = errors.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {errors}")));
    let mut lines: Vec<Value> = lines.collect();
    let numbers = lines.pop().expect("a last line");
    let of_rules: usize =
        ["errors", "untranslated", "warnings"].iter().filter_map(|it| numbers[it].as_u64()).sum::<u64>() as usize;
    assert_eq!(of_rules, lines.len(), "the last line counts the findings: {numbers}");
    let finding = |line: &Value| {
        let text = |name: &str| line[name].as_str().expect("a text");
        let place = format!("{}:{}:{}", text("file"), line["line"], line["column"]);
        format!("{place} {} {}", text("severity"), text("rule"))
    };
    Imported { code, yaml, findings: lines.iter().map(finding).collect() }
}

/// Imports texts as files with these names.
pub(crate) fn import<const N: usize>(texts: [(&str, &str); N]) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    texts.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).expect("written"));
    import_in(folder.path(), &texts.map(|(name, _)| name))
}

impl Imported {
    /// Names of the rules of a severity, in the order of the findings.
    pub(crate) fn rules(&self, severity: &str) -> Vec<&str> {
        let of = |finding: &'_ str| finding.split(' ').nth(1) == Some(severity);
        self.findings.iter().filter(|finding| of(finding)).filter_map(|finding| finding.split(' ').nth(2)).collect()
    }

    /// The configurations of the result.
    pub(crate) fn configurations(&self) -> Vec<Value> {
        let documents = self.yaml.split("---\n");
        documents.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))).collect()
    }

    /// The limits of the first configuration.
    pub(crate) fn limits(&self) -> Vec<Value> {
        self.configurations()[0]["limits"].as_array().expect("limits").clone()
    }

    /// The only limit.
    pub(crate) fn limit(&self) -> Value {
        let limits = self.limits();
        assert_eq!(limits.len(), 1, "{}\n{:?}", self.yaml, self.findings);
        limits[0].clone()
    }
}

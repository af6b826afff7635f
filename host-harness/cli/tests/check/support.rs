//! Runs of `weir check`, and their findings.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use weir_provision::filter_wasm;

/// Folder with files to check. The command runs in it.
pub(crate) struct Folder(TempDir);

/// Result of a run with `--format json`.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) is_well: bool,
    pub(crate) findings: Vec<Finding>,
    /// The last line.
    pub(crate) numbers: Value,
}

/// A finding of `--format json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: String,
    pub(crate) rule: String,
    /// `file:line:column`.
    pub(crate) place: String,
    pub(crate) path: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) help: String,
}

/// Environment variable that envoy/upstash.yaml names.
const TOKEN: &str = "UPSTASH_REDIS_REST_TOKEN";

/// The command, with the filter's module for every `weir_filter.wasm`, a token of Upstash, and without a password.
pub(crate) fn weir() -> Command {
    let wasm = filter_wasm::find_or_build().expect("the filter's module");
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.env("WEIR_WASM", wasm).env(TOKEN, "hunter2").env_remove("REDIS_PASSWORD");
    weir
}

/// The folder of the scenarios.
pub(crate) fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy")
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn with(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, contents).expect("written");
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A run with these arguments behind `check`: whether it succeeds, and its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = weir().current_dir(self.0.path()).arg("check").args(arguments).output().expect("`weir` runs");
        let text = String::from_utf8([output.stderr, output.stdout].concat()).expect("UTF-8");
        (output.status.success(), text)
    }

    pub(crate) fn check(&self, files: &[&str]) -> Checked {
        let (is_well, text) = self.run(&[&["--format", "json"], files].concat());
        Checked::parse(is_well, &text)
    }
}

impl Checked {
    pub(crate) fn parse(is_well: bool, text: &str) -> Self {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {text}")));
        let mut lines: Vec<Value> = lines.collect();
        let numbers = lines.pop().expect("a last line");
        let checked = Self { is_well, findings: lines.iter().map(Finding::of).collect(), numbers };
        assert_eq!(
            is_well,
            checked.of("error").is_empty(),
            "errors fail the check, and nothing else does: {checked:?}"
        );
        checked
    }

    pub(crate) fn of(&self, severity: &str) -> Vec<&Finding> {
        self.findings.iter().filter(|finding| finding.severity == severity).collect()
    }

    /// Names of the rules, in the order of the findings.
    pub(crate) fn rules(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding.rule.as_str()).collect()
    }

    /// The only finding.
    pub(crate) fn only(&self) -> &Finding {
        let [finding] = self.findings.as_slice() else { panic!("{self:?}") };
        finding
    }

    /// The only finding of a rule.
    pub(crate) fn about(&self, rule: &str) -> &Finding {
        let found: Vec<_> = self.findings.iter().filter(|finding| finding.rule == rule).collect();
        let [finding] = found.as_slice() else { panic!("{rule}: {self:?}") };
        finding
    }

    /// A number of the first group.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.numbers["groups"][0][name].as_u64().unwrap_or_else(|| panic!("{name}: {}", self.numbers))
    }
}

impl Finding {
    fn of(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned();
        Self {
            severity: text("severity"),
            rule: text("rule"),
            place: format!("{}:{}:{}", text("file"), value["line"], value["column"]),
            path: text("path"),
            expected: text("expected"),
            found: text("found"),
            help: text("help"),
        }
    }
}

/// A text with the first occurrence of each text replaced.
pub(crate) fn changed<const N: usize>(text: &str, changes: [(&str, &str); N]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no {from:?}");
        text.replacen(from, to, 1)
    })
}

/// Checks a text as `envoy.yaml`.
pub(crate) fn check(text: &str) -> Checked {
    Folder::new().with("envoy.yaml", text).check(&["envoy.yaml"])
}

/// Checks a text with replaced parts as `envoy.yaml`.
pub(crate) fn check_changed<const N: usize>(text: &str, changes: [(&str, &str); N]) -> Checked {
    check(&changed(text, changes))
}

/// Place of a text in another one: `envoy.yaml:line:column`.
pub(crate) fn place_of(text: &str, part: &str) -> String {
    let before = &text[..text.find(part).unwrap_or_else(|| panic!("there is no {part:?}"))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("envoy.yaml:{line}:{column}")
}

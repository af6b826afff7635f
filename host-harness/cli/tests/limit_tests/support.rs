//! Runs of `weir test`.

use std::path::PathBuf;
use std::process::Command;

pub(crate) const ENVOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy");

/// A limit of 2 requests a minute for each user.
pub(crate) const CONFIGURATION: &str = "configuration:
  redis: {cluster: redis}
  limits:
  - name: per_user
    descriptor: [{request_header: {name: x-user-id}}]
    token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 60s}
";

/// Result of a run: exit code, standard output and standard error.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn weir(arguments: &[&str]) -> Run {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = weir.arg("test").args(arguments).env_remove("REDIS_PASSWORD").output().expect("`weir` runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
}

/// Folder with one test file, `limits.test.yaml`.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    pub(crate) fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.file(), text).expect("written");
        folder
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("limits.test.yaml")
    }

    pub(crate) fn run(&self, options: &[&str]) -> Run {
        let file = self.file().display().to_string();
        let run = weir(&[&[file.as_str()], options].concat());
        let short = |text: String| text.replace(&format!("{}/", self.0.path().display()), "");
        Run { out: short(run.out), err: short(run.err), ..run }
    }
}

/// Runs tests of [`CONFIGURATION`].
pub(crate) fn tests(tests: &str) -> Run {
    Folder::with(&format!("{CONFIGURATION}tests:\n{tests}")).run(&[])
}

/// Returns the mistakes of a test file, which must have some.
pub(crate) fn mistakes(text: &str) -> Vec<String> {
    let run = Folder::with(text).run(&[]);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    run.err.lines().map(str::to_owned).collect()
}

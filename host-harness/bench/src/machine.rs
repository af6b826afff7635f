//! Machine and versions of a run, for the page of results.

use std::{fs, process::Command};

use weir_provision::{checkout, envoy, limitador, nginx};

use super::{BenchError, stage::Stage};

/// The properties of the machine that explain the figures; without host names and paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) envoy: String,
    pub(super) redis: String,
    /// nginx's version; `None` if there is no nginx.
    pub(super) nginx: Option<String>,
    /// Name and version of Limitador.
    pub(super) limitador: String,
    pub(super) commit: String,
    /// Size of the filter's wasm module, in bytes.
    pub(super) wasm: u64,
}

impl Machine {
    pub(super) fn here(stage: &mut Stage) -> Result<Self, BenchError> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: kernel_version(&kernel),
            envoy: envoy_version(&output(Command::new(envoy::binary()?).arg("--version"))),
            redis: stage.redis_version()?,
            nginx: nginx::find().and_then(|installed| installed.version().ok()),
            limitador: limitador::version(),
            commit: commit(),
            wasm: fs::metadata(stage.wasm())?.len(),
        })
    }
}

fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// The version of the kernel without the suffix, which may be the name of a machine.
fn kernel_version(release: &str) -> String {
    release.trim().split('-').next().unwrap_or("unknown").to_owned()
}

/// Parses `envoy  version: <hash>/1.40.0/Clean/RELEASE/BoringSSL`.
fn envoy_version(printed: &str) -> String {
    let version = printed.split_once("version:").and_then(|(_, rest)| rest.trim().split('/').nth(1));
    version.unwrap_or("unknown").to_owned()
}

/// The commit's hash, followed by `+` if there are uncommitted changes.
fn commit() -> String {
    let Ok(root) = checkout::root() else { return "unknown".into() };
    let git = |arguments: &[&str]| output(Command::new("git").current_dir(&root).args(arguments));
    let hash = git(&["rev-parse", "--short=10", "HEAD"]);
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty();
    match hash.as_str() {
        "" => "unknown".into(),
        hash => format!("{hash}{}", if changed { "+" } else { "" }),
    }
}

/// The output of a command; empty if the command fails, because a missing version is no reason to fail.
fn output(command: &mut Command) -> String {
    command.output().map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_the_output_of_commands() {
        let printed = "\n/a/b/envoy  version: 8b1f9e/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(envoy_version(printed), "1.40.0");
        assert_eq!(kernel_version("6.12.3-somewhere-amd64\n"), "6.12.3");
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n"), "AMD EPYC");
        assert_eq!((cpu_model("").as_str(), envoy_version("").as_str()), ("unknown", "unknown"));
    }
}

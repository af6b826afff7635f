//! Packages of npm for tests, which `npm ci` installs: it compares each with the hash in a `package-lock.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, abandoned, checkout, command, tools};

/// TypeScript, with the types of the custom resources of Istio, the Gateway API and the Prometheus operator.
pub const DEFINITIONS: Packages = Packages { folder: "npm-definitions", lock: "tests/kubernetes/definitions" };

/// Packages of one program.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    /// Folder below `target/tools`.
    folder: &'static str,
    /// Folder in the checkout with `package.json` and `package-lock.json`.
    lock: &'static str,
}

impl Packages {
    /// Returns the folder of these packages, which has `node_modules`. They are installed if they are not there, or if
    /// the lock is another one.
    ///
    /// # Errors
    /// If npm cannot install them.
    pub fn provide(self) -> Result<PathBuf, ProvisionError> {
        let locks = checkout::root()?.join(self.lock);
        let place = tools::dir()?.join(self.folder);
        let _lock = tools::lock(self.folder)?;
        let read = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
        if place.is_dir() && read(&place) == read(&locks) {
            return Ok(place);
        }
        crate::announce(format_args!("weir: fetching packages of npm into target/tools/{}", self.folder));
        let parent = tools::dir()?;
        let scratch = abandoned::folder(|| tempfile::Builder::new().prefix(".fetch-").tempdir_in(&parent));
        let scratch = scratch.map_err(ProvisionError::io(&parent))?;
        let installed = scratch.path().join(self.folder);
        fs::create_dir(&installed).map_err(ProvisionError::io(&installed))?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(locks.join(file), installed.join(file)).map_err(ProvisionError::io(&locks))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&installed);
        command::run(&mut npm).map_err(|why| ProvisionError::Missing {
            what: "packages of npm",
            why: why.to_string(),
            try_command: "apt-get install npm".into(),
        })?;
        if place.is_dir() {
            fs::remove_dir_all(&place).map_err(ProvisionError::io(&place))?;
        }
        fs::rename(&installed, &place).map_err(ProvisionError::io(&place))?;
        Ok(place)
    }
}

//! Python packages of the tests, which pip installs into folders of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, abandoned, command, tools};

/// Protobuf classes of Envoy's xDS, with gRPC.
pub const XDS: Packages = Packages { folder: "python-xds", requirements: &["grpcio==1.85.3", "xds-protos==1.85.0"] };

/// JSON schemas of Kubernetes, with a validator.
pub const KUBERNETES: Packages =
    Packages { folder: "python-kubernetes", requirements: &["kubernetes-validate==1.37.0"] };

/// SDKs of providers of language models.
pub const SDKS: Packages = Packages { folder: "python-sdks", requirements: &["openai==3.57.0", "anthropic==2.14.0"] };

/// Packages of one program.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    /// Folder below `target/tools`.
    folder: &'static str,
    /// Each `name==version`; pip finds what they need.
    requirements: &'static [&'static str],
}

impl Packages {
    /// Returns `python3` with a `PYTHONPATH` of these packages, which are installed if they are not there.
    ///
    /// # Errors
    /// If pip cannot install them.
    pub fn python(self) -> Result<Command, ProvisionError> {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", self.provide()?);
        Ok(python)
    }

    fn provide(self) -> Result<PathBuf, ProvisionError> {
        let place = tools::dir()?.join(self.folder);
        if place.is_dir() {
            return Ok(place);
        }
        let _lock = tools::lock(self.folder)?;
        if place.is_dir() {
            return Ok(place);
        }
        crate::announce(format_args!("weir: fetching Python packages into target/tools/{}", self.folder));
        let parent = tools::dir()?;
        let scratch = abandoned::folder(|| tempfile::Builder::new().prefix(".fetch-").tempdir_in(&parent));
        let scratch = scratch.map_err(ProvisionError::io(&parent))?;
        let installed = scratch.path().join(self.folder);
        self.install(&installed)?;
        // In one step: the folder is never there in part.
        fs::rename(&installed, &place).map_err(ProvisionError::io(&place))?;
        Ok(place)
    }

    fn install(self, folder: &Path) -> Result<(), ProvisionError> {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"]).arg(folder);
        command::run(pip.args(self.requirements)).map(drop).map_err(|why| ProvisionError::Missing {
            what: "Python packages",
            why: why.to_string(),
            try_command: format!("python3 -m pip install {}", self.requirements.join(" ")),
        })
    }
}

//! Packages of Debian, unpacked below `target/tools`: nothing is installed, and no root is needed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command};

/// Fetches packages with apt and unpacks them into the folder `place`.
pub(super) fn unpack(packages: &[&str], place: &Path) -> Result<(), ProvisionError> {
    std::fs::create_dir_all(place).map_err(ProvisionError::io(place))?;
    let download = tempfile::tempdir_in(place).map_err(ProvisionError::io(place))?;
    command::run(Command::new("apt-get").current_dir(download.path()).arg("download").args(packages))?;
    for package in std::fs::read_dir(download.path()).map_err(ProvisionError::io(download.path()))? {
        let package = package.map_err(ProvisionError::io(download.path()))?.path();
        command::run(Command::new("dpkg").arg("-x").arg(package).arg(place))?;
    }
    Ok(())
}

/// Folders of the shared libraries in unpacked packages.
pub(super) fn libraries(place: &Path) -> Vec<PathBuf> {
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/lib", "lib"].map(|dir| place.join(dir).join(&architecture)).to_vec()
}

//! `target/tools`: the tools that were fetched or built once for this checkout.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{ProvisionError, abandoned, checkout, command};

/// The folder of tools, created if it does not exist.
pub(super) fn dir() -> Result<PathBuf, ProvisionError> {
    let dir = checkout::target_dir()?.join("tools");
    fs::create_dir_all(&dir).map_err(ProvisionError::io(&dir))?;
    Ok(dir)
}

/// File lock that a process holds while it fetches or builds a tool; other processes wait. It is released when it is
/// dropped or the process ends.
pub(super) struct Lock {
    _file: File,
}

pub(super) fn lock(name: &str) -> Result<Lock, ProvisionError> {
    let path = dir()?.join(format!("{name}.lock"));
    let file = File::create(&path).map_err(ProvisionError::io(&path))?;
    file.lock().map_err(ProvisionError::io(&path))?;
    Ok(Lock { _file: file })
}

/// The path of the executable `name`, fetched by `fetch` if it does not exist yet.
///
/// `fetch` is given an empty folder and returns the path of the executable in it. A rename puts the file in its place,
/// so the executable is never there in part.
pub(super) fn executable(
    name: &str,
    fetch: impl FnOnce(&Path) -> Result<PathBuf, ProvisionError>,
) -> Result<PathBuf, ProvisionError> {
    let place = dir()?.join(name);
    if command::is_executable(&place) {
        return Ok(place);
    }
    let _lock = lock(&name.replace('/', "_"))?;
    if command::is_executable(&place) {
        return Ok(place);
    }
    let parent = place.parent().unwrap_or(&place);
    fs::create_dir_all(parent).map_err(ProvisionError::io(parent))?;
    let tools = dir()?;
    let scratch = abandoned::folder(|| tempfile::Builder::new().prefix(".fetch-").tempdir_in(tools));
    let scratch = scratch.map_err(ProvisionError::io(parent))?;
    let fetched = fetch(scratch.path())?;
    fs::set_permissions(&fetched, fs::Permissions::from_mode(0o755)).map_err(ProvisionError::io(&fetched))?;
    fs::rename(&fetched, &place).map_err(ProvisionError::io(&place))?;
    Ok(place)
}

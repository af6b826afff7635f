//! Chromium for tests of pages: one on `PATH`, or a private copy of Debian's packages.

use std::path::{Path, PathBuf};

use super::{ProvisionError, command, debian, tools};

/// Names of the executable.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const PACKAGES: [&str; 2] = ["chromium", "fonts-dejavu-core"];
/// Path of the executable in Debian's package. The script beside it has paths of an installation.
const PROGRAM: &str = "usr/lib/chromium/chromium";

/// Returns the path of a Chromium, fetched if none is found.
///
/// # Errors
/// [`ProvisionError::Missing`] if there is none and the download failed.
pub fn find_or_fetch() -> Result<PathBuf, ProvisionError> {
    if let Some(found) = NAMES.iter().find_map(|name| command::on_path(name)) {
        return Ok(found);
    }
    let place = tools::dir()?.join("chromium");
    let script = place.join("run");
    let _lock = tools::lock("chromium")?;
    if !command::is_executable(&script) {
        fetch(&place, &script).map_err(|why| ProvisionError::Missing {
            what: "Chromium",
            why: why.to_string(),
            try_command: "apt-get install chromium".into(),
        })?;
    }
    Ok(script)
}

fn fetch(place: &Path, script: &Path) -> Result<(), ProvisionError> {
    use std::os::unix::fs::PermissionsExt as _;
    crate::announce(format_args!("weir: no Chromium: fetching Debian's packages into target/tools (120 MB)"));
    debian::unpack_with_dependencies(&PACKAGES, place)?;
    // A library of sound is in a folder of its own.
    debian::with_libraries_in(script, PROGRAM, &["pulseaudio"])?;
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).map_err(ProvisionError::io(script))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::or_skip;

    #[test]
    fn chromium_says_its_version() {
        let Some(chromium) = or_skip(find_or_fetch()) else { return };
        let version = command::run(Command::new(chromium).args(["--no-sandbox", "--version"])).unwrap();
        assert!(version.contains("Chrom"), "{version}");
    }
}

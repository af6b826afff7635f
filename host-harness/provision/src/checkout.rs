//! Paths of the checkout: its root, cargo's `target` folder, and scratch folders below it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use super::{ProvisionError, abandoned, command};

/// File that only the root of a checkout has.
const MARK: &str = "host-harness/provision/Cargo.toml";

/// The root of the checkout: the folder that holds `envoy/` and `host-harness/`. Relative paths in the scenarios
/// start from it.
///
/// # Errors
/// [`ProvisionError::NoCheckout`] if this program was moved away from its sources.
pub fn root() -> Result<PathBuf, ProvisionError> {
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = std::env::current_dir().unwrap_or_default();
    let is_root = |dir: &&Path| dir.join(MARK).is_file();
    compiled_in
        .ancestors()
        .find(is_root)
        .or_else(|| here.ancestors().find(is_root))
        .map(Path::to_path_buf)
        .ok_or_else(|| ProvisionError::NoCheckout { looked: compiled_in.to_path_buf() })
}

/// Cargo's target folder for the checkout, as the environment or cargo's configuration sets it.
///
/// # Errors
/// If there is no checkout, or `cargo metadata` fails. Without cargo, the folder is that of `CARGO_TARGET_DIR`, or
/// `target` in the checkout.
pub fn target_dir() -> Result<PathBuf, ProvisionError> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(dir) = FOUND.get() {
        return Ok(dir.clone());
    }
    let root = root()?;
    let metadata =
        match command::run(cargo().current_dir(&root).args(["metadata", "--no-deps", "--format-version", "1"])) {
            Err(error) if has_cargo() => return Err(error),
            metadata => metadata.unwrap_or_default(),
        };
    let by_metadata = || {
        let metadata: serde_json::Value = serde_json::from_str(&metadata).ok()?;
        metadata.get("target_directory")?.as_str().map(PathBuf::from)
    };
    let by_variable = || Some(root.join(std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty())?));
    let dir = by_metadata().or_else(by_variable).unwrap_or_else(|| root.join("target"));
    Ok(FOUND.get_or_init(|| dir).clone())
}

/// Creates a folder under [`target_dir`] whose name begins with `{kind}-`. Dropping the handle removes the folder.
///
/// # Errors
/// If there is no checkout, or the folder cannot be written.
pub fn scratch_dir(kind: &str) -> Result<TempDir, ProvisionError> {
    let parent = target_dir()?.join("tmp");
    std::fs::create_dir_all(&parent).map_err(ProvisionError::io(&parent))?;
    abandoned::folder(|| tempfile::Builder::new().prefix(&format!("{kind}-")).tempdir_in(&parent))
        .map_err(ProvisionError::io(&parent))
}

/// Whether [`cargo`] can be run.
fn has_cargo() -> bool {
    let mut cargo = cargo();
    cargo.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cargo.status().is_ok()
}

/// The cargo that runs this program, or the cargo on `PATH`. Removes the environment variables by which a calling cargo
/// describes its own build.
pub fn cargo() -> Command {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_BUILD_JOBS",
        "CARGO_TERM_COLOR",
        "CARGO_NET_",
        "CARGO_HTTP_",
    ];
    const LEAKING: [&str; 6] =
        ["CARGO", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTC"];
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let of_cargo =
            name.starts_with("CARGO_") && !name.starts_with("CARGO_REGISTR") && !name.starts_with("CARGO_SOURCE_");
        if LEAKING.contains(&name) || (of_cargo && !KEPT.iter().any(|kept| name.starts_with(kept))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

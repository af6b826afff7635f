//! Rust's standard library for `wasm32-wasip1`.

use std::{path::PathBuf, process::Command, time::Duration};

use super::{ProvisionError, checkout, command, tools};

/// The target that the filter is built for.
pub const TARGET: &str = "wasm32-wasip1";

/// Time limit of rustup, which retries an unreachable server for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

/// Installs [`TARGET`] into the current toolchain if it is missing: with rustup, or, if rustup fails, by building the
/// library from Debian's source package (`provision/rust-library.sh`).
///
/// # Errors
/// [`ProvisionError::Missing`] with the errors of both ways.
pub fn ensure() -> Result<(), ProvisionError> {
    if is_installed()? {
        return Ok(());
    }
    let _lock = tools::lock(TARGET)?;
    if is_installed()? {
        return Ok(());
    }
    crate::announce(format_args!("weir: the Rust toolchain lacks {TARGET}: adding it"));
    let by_rustup = add_by_rustup();
    if is_installed()? {
        return Ok(());
    }
    let by_build = build_from_source();
    if is_installed()? {
        return Ok(());
    }
    let said = |way: Result<String, ProvisionError>| way.map_or_else(|why| why.to_string(), |_| "added nothing".into());
    Err(ProvisionError::Missing {
        what: "standard library for wasm32-wasip1",
        why: format!("{}\nand {}", said(by_rustup), said(by_build)),
        try_command: format!("rustup target add {TARGET}"),
    })
}

fn is_installed() -> Result<bool, ProvisionError> {
    let lib = sysroot()?.join("lib/rustlib").join(TARGET).join("lib");
    let std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    Ok(lib.read_dir().is_ok_and(|files| files.flatten().any(|file| file.file_name().to_str().is_some_and(std))))
}

fn sysroot() -> Result<PathBuf, ProvisionError> {
    // Run in the checkout, because a toolchain override may apply there.
    let said = command::run(Command::new("rustc").current_dir(checkout::root()?).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(said.trim()))
}

fn add_by_rustup() -> Result<String, ProvisionError> {
    let mut rustup = Command::new("rustup");
    command::run_within(rustup.current_dir(checkout::root()?).args(["target", "add", TARGET]), RUSTUP_LIMIT)
}

fn build_from_source() -> Result<String, ProvisionError> {
    let root = checkout::root()?;
    crate::announce(format_args!(
        "weir: rustup could not add it: building it from Debian's sources (about two minutes)"
    ));
    let script = root.join("host-harness/provision/rust-library.sh");
    command::run(Command::new("bash").arg(script).arg(TARGET).arg(tools::dir()?.join(TARGET)).current_dir(root))
}

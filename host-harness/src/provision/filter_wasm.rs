//! The filter, as it is loaded into a proxy.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{ProvisionError, checkout, command, tools, wasm_target};

/// The path of `weir_filter.wasm`: what `WEIR_WASM` says, or the checkout's own, built (once per process) if it is
/// not up to date, with the target it needs provisioned first.
///
/// # Errors
/// Where `WEIR_WASM` is no file, the target cannot be had, or the build fails.
pub fn find_or_build() -> Result<PathBuf, ProvisionError> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(path) = std::env::var_os("WEIR_WASM").filter(|it| !it.is_empty()).map(PathBuf::from) {
        let absolute = path.canonicalize().ok().filter(|path| path.is_file());
        return absolute.ok_or(ProvisionError::Override { variable: "WEIR_WASM", path });
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let path = build()?;
    *built = Some(path.clone());
    Ok(path)
}

fn build() -> Result<PathBuf, ProvisionError> {
    wasm_target::ensure()?;
    let root = checkout::root()?;
    let path = checkout::target_dir()?.join(wasm_target::TARGET).join("release/weir_filter.wasm");
    let _lock = tools::lock("weir_filter.wasm")?;
    if !path.exists() {
        eprintln!("weir: building the filter");
    }
    let args = ["build", "--release", "--quiet", "-p", "weir-filter", "--target", wasm_target::TARGET];
    command::run(checkout::cargo().current_dir(root).args(args))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(ProvisionError::Missing {
        what: "weir_filter.wasm",
        why: format!("cargo built none at {}", path.display()),
        try_command: format!("cargo {}", args.join(" ")),
    })
}

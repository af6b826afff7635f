//! `weir_filter.wasm`, the filter's compiled module: found or built.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{ProvisionError, checkout, command, tools, wasm_target};

/// The path of `weir_filter.wasm`: the value of `WEIR_WASM`, the module beside this program as in a release, or the
/// checkout's own.
///
/// Installs the wasm target if it is missing, and builds the checkout's module once per process if it is out of date.
///
/// # Errors
/// If `WEIR_WASM` is not a file, the target cannot be installed, or the build fails.
pub fn find_or_build() -> Result<PathBuf, ProvisionError> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(path) = std::env::var_os("WEIR_WASM").filter(|it| !it.is_empty()).map(PathBuf::from) {
        let absolute = path.canonicalize().ok().filter(|path| path.is_file());
        return absolute.ok_or(ProvisionError::Override { variable: "WEIR_WASM", path });
    }
    if let Some(path) = beside_program() {
        return Ok(path);
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let path = build()?;
    *built = Some(path.clone());
    Ok(path)
}

fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join("weir_filter.wasm")).filter(|path| path.is_file())
}

fn build() -> Result<PathBuf, ProvisionError> {
    wasm_target::ensure()?;
    let root = checkout::root()?;
    let path = checkout::target_dir()?.join(wasm_target::TARGET).join("release/weir_filter.wasm");
    let _lock = tools::lock("weir_filter.wasm")?;
    let args = ["build", "--release", "-p", "weir-filter", "--target", wasm_target::TARGET];
    let mut cargo = checkout::cargo();
    cargo.current_dir(root).args(args);
    if path.exists() {
        command::run(cargo.arg("--quiet"))?;
    } else {
        crate::announce(format_args!("weir: building the filter (about a minute)"));
        command::run_shown(&mut cargo)?;
    }
    if path.is_file() {
        return Ok(path);
    }
    Err(ProvisionError::Missing {
        what: "weir_filter.wasm",
        why: format!("cargo built none at {}", path.display()),
        try_command: format!("cargo {}", args.join(" ")),
    })
}

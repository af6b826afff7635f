//! Wasm modules and the VMs that run them.
//!
//! A module is compiled once for the whole host. Every worker has its own VM for each VM configuration. A VM belongs to
//! one thread and has no locks.

mod callbacks;
pub(crate) mod chain;
mod compiled;
mod exports;
mod instance;
pub(crate) mod plugin;
mod setup;
mod traced;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine, Module};

use crate::abi::limits::GuestLimits;
use crate::documents::read_module;
use crate::log_lines::{one_line, printable};
pub(crate) use instance::{Vm, VmFailed};
pub(crate) use setup::{EffectSink, VmSetup};

/// Length of an epoch: the resolution of the time limit for callbacks.
const EPOCH: Duration = Duration::from_millis(50);

/// First bytes of a wasm module. wasmtime's error about others fills many lines.
const MAGIC: &[u8] = b"\0asm";

/// Maximum stack of a VM in bytes, a quarter of a worker thread's: host functions run on the same stack.
const WASM_STACK: usize = 512 * 1024;

/// Error of a VM, or of a plugin in it, that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The module's file cannot be read.
    #[error("{}: cannot be read: {source}", printable(&path.display().to_string()))]
    Unreadable {
        /// The module.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a wasm module that wasmtime accepts.
    #[error("{}: not a wasm module: {}", printable(&path.display().to_string()), one_line(reason))]
    Invalid {
        /// The module.
        path: PathBuf,
        /// The cause, from wasmtime.
        reason: String,
    },
    /// The module exports no supported ABI version.
    #[error("{}: expected a module of proxy-wasm ABI 0.1.0, 0.2.0 or 0.2.1, found none of their version exports (`proxy_abi_version_0_2_1`)", printable(&path.display().to_string()))]
    Abi {
        /// The module.
        path: PathBuf,
    },
    /// An import is unknown, an export does not have the ABI's type, or the module's initialisation trapped.
    #[error("{}: cannot be instantiated: {}", printable(&path.display().to_string()), one_line(reason))]
    Instantiate {
        /// The module.
        path: PathBuf,
        /// The cause, from wasmtime.
        reason: String,
    },
    /// `proxy_on_vm_start` or `proxy_on_configure` returned false, or a start-up callback trapped.
    #[error("plugin `{}` (root_id `{}`) {what}{}", printable(plugin), printable(root_id), log.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Plugin {
        /// The plugin's name.
        plugin: String,
        /// Its root id.
        root_id: String,
        /// The failure, as a predicate: "refused its configuration".
        what: &'static str,
        /// Lines of the module during start-up, without those that the log shows.
        log: Vec<String>,
    },
    /// wasmtime cannot start on this machine.
    #[error("wasmtime cannot start: {reason}")]
    Engine {
        /// The cause, from wasmtime or from the start of its epoch thread.
        reason: String,
    },
}

impl VmError {
    /// Whether the cause is in the module, and not in a plugin's configuration.
    pub(crate) fn is_about_module(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Invalid { .. } | Self::Abi { .. } | Self::Instantiate { .. } => true,
            Self::Plugin { .. } | Self::Engine { .. } => false,
        }
    }
}

/// Compiled modules, shared by all workers.
pub(crate) struct Modules {
    pub(crate) engine: Engine,
    compiled: Mutex<HashMap<PathBuf, Module>>,
    /// Folder that keeps compiled modules; see [`compiled`].
    folder: Option<PathBuf>,
    pub(crate) limits: GuestLimits,
    /// Time limit of a callback in epochs; a callback that exceeds it traps.
    pub(crate) call_budget: u64,
    pub(crate) counts_fuel: bool,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Modules {
    pub(crate) fn new(limits: GuestLimits, counts_fuel: bool, folder: Option<PathBuf>) -> Result<Self, VmError> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.max_wasm_stack(WASM_STACK);
        config.consume_fuel(counts_fuel);
        let engine = Engine::new(&config).map_err(|error| VmError::Engine { reason: format!("{error:#}") })?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = std::thread::Builder::new().name("epochs".to_owned()).spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(EPOCH);
                    engine.increment_epoch();
                }
            }
        });
        let ticker = ticker.map_err(|error| VmError::Engine { reason: error.to_string() })?;
        let epochs = limits.callback.as_millis().div_ceil(EPOCH.as_millis()).max(1);
        let call_budget = u64::try_from(epochs).unwrap_or(u64::MAX / 2);
        Ok(Self {
            engine,
            compiled: Mutex::default(),
            folder,
            limits,
            call_budget,
            counts_fuel,
            stop,
            ticker: Some(ticker),
        })
    }

    pub(crate) fn module(&self, path: &Path) -> Result<Module, VmError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = compiled.get(path) {
            return Ok(module.clone());
        }
        let bytes = read_module(path).map_err(|source| VmError::Unreadable { path: path.to_owned(), source })?;
        if !bytes.starts_with(MAGIC) {
            let reason = format!("{} bytes that do not begin with `\\0asm`", bytes.len());
            return Err(VmError::Invalid { path: path.to_owned(), reason });
        }
        let module = match &self.folder {
            Some(folder) => compiled::module(&self.engine, &bytes, folder),
            None => Module::new(&self.engine, &bytes),
        };
        let module =
            module.map_err(|error| VmError::Invalid { path: path.to_owned(), reason: format!("{error:#}") })?;
        compiled.insert(path.to_owned(), module.clone());
        Ok(module)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

//! Host: worker threads that serve a bootstrap's listeners, and an admin listener.
//!
//! Each worker is one thread with its own event loop, VMs and sockets; the kernel distributes connections among the
//! workers (`SO_REUSEPORT`), and another process that listens on the port is an error. A request takes no lock of the
//! host, except for shared data, queues and new metrics.

pub(crate) mod body;
mod chunks;
mod connection;
pub(crate) mod downstream;
mod early;
pub(crate) mod executor;
pub(crate) mod forwarded;
mod http1;
mod http2;
mod inspect;
mod manager_stats;
mod path;
mod request_head;
mod response;
pub(crate) mod router;
mod sanitize;
pub(crate) mod sink;
mod timers;
mod tunnel;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

use crate::abi::limits::GuestLimits;
use crate::abi::shared::Shared;
use crate::access_log::writer::Writer;
use crate::admin;
use crate::bootstrap::{AccessLog, Bootstrap, Listener};
use crate::documents::Position;
use crate::log_lines::printable;
use crate::stats::Stats;
use crate::trace::Tracing;
use crate::vm::plugin::Vms;
use crate::vm::{Modules, VmError};
use worker::{HostParts, Worker};

/// Maximum number of workers: each is a thread with a VM for each plugin.
const MAX_WORKERS: usize = 1024;

/// Options of a [`Host`].
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Number of worker threads, from 1 to 1024; Envoy's `--concurrency`.
    pub workers: usize,
    /// Limits of each module.
    pub limits: GuestLimits,
    /// Whether to count executed instructions (wasmtime's fuel, about one per instruction) in counters
    /// `wasm.fuel.CALLBACK`. Counting slows modules down.
    pub counts_fuel: bool,
    /// Folder that keeps compiled modules for later hosts; `None` compiles them for this host only. The folder must be
    /// as trusted as this program: the modules in it are machine code.
    pub compiled_modules: Option<PathBuf>,
    /// Observer of callbacks, host calls and bytes; none by default.
    pub tracing: Tracing,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            limits: GuestLimits::default(),
            counts_fuel: false,
            compiled_modules: None,
            tracing: Tracing::default(),
        }
    }
}

/// Error of a host that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (listener `{}`): {source}", printable(listener))]
    Listen {
        /// The listener's name, or `admin`.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A plugin cannot start: its module or its configuration was refused.
    #[error("{}:{}:{}: {error}", printable(origin), position.line, position.column)]
    Plugin {
        /// The bootstrap.
        origin: String,
        /// Place of the module's path, or of the plugin, in the bootstrap.
        position: Position,
        /// The cause.
        error: Box<VmError>,
    },
    /// wasmtime cannot start, or a plugin that has started before cannot start in a worker.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// An access log cannot be opened.
    #[error("{path}: cannot be opened: {source}")]
    AccessLog {
        /// The path of the log's configuration in the bootstrap.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A thread or its event loop cannot be started.
    #[error("cannot start a worker: {0}")]
    Thread(io::Error),
    /// There are more workers than the host starts.
    #[error("expected 1 to {MAX_WORKERS} workers, found {found}")]
    Workers {
        /// Number of workers.
        found: usize,
    },
    /// A worker ended while it was starting.
    #[error("a worker ended while it was starting")]
    WorkerGone,
}

/// Proxy-wasm host that serves a bootstrap.
pub struct Host;

/// Running host; dropping it shuts it down.
pub struct Running {
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts the host; returns when every worker listens. Every plugin is started once before that, so that a
    /// configuration refused by a filter is an error here.
    ///
    /// # Errors
    /// See [`HostError`]; no thread is left running then.
    pub fn start(bootstrap: Bootstrap, options: HostOptions) -> Result<Running, HostError> {
        let workers = options.workers.max(1);
        if workers > MAX_WORKERS {
            return Err(HostError::Workers { found: workers });
        }
        let modules = Arc::new(Modules::new(options.limits, options.counts_fuel, options.compiled_modules)?);
        let shared = Arc::new(Shared::new(options.limits.memory, options.tracing));
        let access_logs = open_access_logs(&bootstrap, &shared)?;
        let parts = HostParts { bootstrap: Arc::new(bootstrap), modules, shared, access_logs };
        validate(&parts)?;

        let mut listeners = Vec::new();
        let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for listener in &parts.bootstrap.listeners {
            // With port 0, all sockets share the port of the first.
            let mut address = listener.address;
            for (index, shares) in sockets.iter_mut().enumerate() {
                let socket = listen(address, &listener.name, index > 0)?;
                address = socket.local_addr().map_err(HostError::Thread)?;
                shares.push(socket);
            }
            listeners.push((listener.name.clone(), address));
        }
        let admin = parts.bootstrap.admin.map(|address| listen(address, "admin", false)).transpose()?;
        let (stop, stopped) = watch::channel(false);
        let mut running = Running {
            listeners,
            admin: admin.as_ref().and_then(|socket| socket.local_addr().ok()),
            shared: parts.shared.clone(),
            stop,
            threads: Vec::new(),
        };
        if let Some(socket) = admin {
            let (shared, stopped) = (parts.shared.clone(), stopped.clone());
            let tags = Arc::new(parts.bootstrap.stats_tags.clone());
            running.spawn("admin", move || admin::serve(socket, shared, tags, stopped))?;
        }
        let (started, starting) = mpsc::channel();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (parts, stopped, started) = (parts.clone(), stopped.clone(), started.clone());
            running.spawn(&format!("worker {index}"), move || work(&parts, index, sockets, stopped, &started))?;
        }
        drop(started);
        for _ in 0..workers {
            starting.recv().map_err(|_| HostError::WorkerGone)??;
        }
        Ok(running)
    }
}

impl Running {
    /// Returns the address of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(known, _)| known == name).map(|(_, address)| *address)
    }

    /// Returns every listener's name and address, in the order of the file.
    #[must_use]
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    /// Returns the address of the admin listener.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns the current value of every metric.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats.snapshot()
    }

    /// Stops every worker and waits for its end; open streams are cut off.
    pub fn shutdown(self) {
        drop(self);
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), HostError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(HostError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.listeners)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens the access logs of each connection manager.
fn open_access_logs(bootstrap: &Bootstrap, shared: &Shared) -> Result<Vec<Arc<[Writer]>>, HostError> {
    let open = |log: &AccessLog| {
        Writer::open(log, shared).map_err(|source| HostError::AccessLog { path: log.path.clone(), source })
    };
    let managers = bootstrap.listeners.iter().flat_map(Listener::managers);
    managers.map(|manager| manager.access_log.iter().map(open).collect()).collect()
}

/// Starts every plugin once, in VMs that are dropped without `proxy_on_done`, as in Envoy.
fn validate(parts: &HostParts) -> Result<(), HostError> {
    let vms = Vms::new(parts.setup(None, None)?);
    for plugin in parts.bootstrap.plugins() {
        vms.start(plugin).map_err(|error| {
            let position = if error.is_about_module() { plugin.module_position } else { plugin.position };
            HostError::Plugin { origin: parts.bootstrap.origin.clone(), position, error: Box::new(error) }
        })?;
    }
    Ok(())
}

fn work(
    parts: &HostParts,
    index: usize,
    sockets: Vec<TcpListener>,
    mut stopped: watch::Receiver<bool>,
    started: &mpsc::Sender<Result<(), HostError>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(HostError::Thread(error)));
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (worker, listeners) = match Worker::start(parts, index) {
            Ok(made) => made,
            Err(error) => {
                let _ = started.send(Err(error.into()));
                return;
            }
        };
        for (listener, socket) in listeners.into_iter().zip(sockets) {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => drop(tokio::task::spawn_local(Rc::clone(&worker).accept(listener, socket))),
                Err(error) => {
                    let _ = started.send(Err(HostError::Thread(error)));
                    return;
                }
            }
        }
        let _ = started.send(Ok(()));
        let _ = stopped.wait_for(|stopped| *stopped).await;
        worker.shut_down();
    });
}

/// Listens on an address. `is_shared`: with the socket of another worker. The first socket shares its port only after
/// it has bound it, so that a port on which another process listens is an error.
fn listen(address: SocketAddr, listener: &str, is_shared: bool) -> Result<TcpListener, HostError> {
    let listening = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(is_shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        // Envoy's default backlog is the system's. A burst of connections must not be refused.
        socket.listen(4096)?;
        Ok(TcpListener::from(socket))
    };
    listening().map_err(|source| HostError::Listen { listener: listener.to_owned(), address, source })
}

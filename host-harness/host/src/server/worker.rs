//! Worker: one thread's VMs and clusters, and the callouts, gRPC streams and ticks of its modules.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::connection::{self, Addresses};
use super::manager_stats::ManagerStats;
use crate::abi::shared::{QueueReady, Shared};
use crate::abi::state::Effect;
use crate::access_log::writer::Writer;
use crate::bootstrap::{
    Bootstrap, ChainMatch, FilterChain, HttpFilter, HttpManager, Listener, RouteTable, TcpProxy, Terminal,
};
use crate::log_lines::{Throttle, printable};
use crate::upstream::Cluster;
use crate::upstream::callout::{Callout, Message};
use crate::upstream::grpc::{Call, GrpcStream};
use crate::vm::chain::Handler;
use crate::vm::plugin::{PluginHandle, Vms};
use crate::vm::{EffectSink, Modules, Vm, VmError, VmSetup};

/// Serial of a VM, and a token or the id of a root context in it.
type Key = (u64, u32);

/// Number of effects performed before other tasks of the worker run; more than the effects of 1,000 requests.
const EFFECTS_AT_ONCE: usize = 10_000;

pub(crate) struct Worker {
    this: Weak<Self>,
    vms: OnceCell<Rc<Vms>>,
    /// Plugins without requests.
    services: RefCell<Vec<Rc<PluginHandle>>>,
    clusters: RefCell<HashMap<String, Rc<Cluster>>>,
    /// Pending effects, performed in order and never recursively.
    queue: RefCell<VecDeque<(Rc<Vm>, Effect)>>,
    busy: Cell<bool>,
    callouts: RefCell<HashMap<Key, Rc<Callout>>>,
    streams: RefCell<HashMap<Key, Rc<GrpcStream>>>,
    ticks: RefCell<HashMap<Key, AbortHandle>>,
    next_connection: Cell<u64>,
}

/// Listener of one worker.
pub(crate) struct ListenerHandle {
    pub(crate) name: String,
    /// Number of its `traffic_direction`.
    pub(crate) direction: u64,
    pub(crate) chains: Vec<ChainHandle>,
    pub(crate) default_chain: Option<ChainHandle>,
    /// Whether the start of a connection is read, for the choice of a chain and for the server's name.
    pub(crate) inspects: bool,
}

/// Filter chain of one worker.
pub(crate) struct ChainHandle {
    /// Name; may be empty.
    pub(crate) name: String,
    pub(crate) matches: ChainMatch,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) service: Service,
}

/// Last filter of a chain.
pub(crate) enum Service {
    Http(Rc<ManagerHandle>),
    Tcp(TcpProxy),
}

/// HTTP connection manager of one worker.
pub(crate) struct ManagerHandle {
    pub(crate) config: HttpManager,
    pub(crate) buffer_limit: usize,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) filters: Vec<Handler>,
    pub(crate) access_logs: Arc<[Writer]>,
    pub(crate) stats: ManagerStats,
}

/// Parts shared by all workers of a host.
#[derive(Clone)]
pub(crate) struct HostParts {
    pub(crate) bootstrap: Arc<Bootstrap>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) shared: Arc<Shared>,
    /// Access logs of each connection manager, in the order of listeners and their chains.
    pub(crate) access_logs: Vec<Arc<[Writer]>>,
}

impl HostParts {
    pub(crate) fn setup(
        &self,
        effects: Option<Weak<dyn EffectSink>>,
        inbox: Option<mpsc::UnboundedSender<QueueReady>>,
    ) -> Result<VmSetup, VmError> {
        let mut linker = wasmtime::Linker::new(&self.modules.engine);
        crate::abi::add_to_linker(&mut linker).map_err(|error| VmError::Engine { reason: format!("{error:#}") })?;
        let clusters: HashSet<String> = self.bootstrap.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        Ok(VmSetup {
            modules: self.modules.clone(),
            linker,
            shared: self.shared.clone(),
            node: Arc::new(self.bootstrap.node.clone()),
            clusters: Rc::new(clusters),
            inbox,
            effects,
        })
    }
}

impl Worker {
    /// Creates the worker and starts every plugin; services that run once start in the worker with index 0. Has to run within the thread's local set.
    pub(crate) fn start(parts: &HostParts, index: usize) -> Result<(Rc<Self>, Vec<Rc<ListenerHandle>>), VmError> {
        let worker = Rc::new_cyclic(|this| Self {
            this: this.clone(),
            vms: OnceCell::new(),
            services: RefCell::default(),
            clusters: RefCell::default(),
            queue: RefCell::default(),
            busy: Cell::new(false),
            callouts: RefCell::default(),
            streams: RefCell::default(),
            ticks: RefCell::default(),
            next_connection: Cell::new(1),
        });
        let (inbox, queues) = mpsc::unbounded_channel();
        let vms = Vms::new(parts.setup(Some(worker.this.clone()), Some(inbox))?);
        let vms = worker.vms.get_or_init(|| vms).clone();
        for cluster in &parts.bootstrap.clusters {
            let started = cluster.filters.iter().map(|plugin| vms.start(plugin).map(Handler::Wasm));
            let filters = started.collect::<Result<_, _>>()?;
            let handle = Cluster::new(cluster.clone(), filters, &parts.shared);
            worker.clusters.borrow_mut().insert(cluster.name.clone(), handle);
        }
        for service in parts.bootstrap.services.iter().filter(|service| index == 0 || !service.is_singleton) {
            let handle = vms.start(&service.plugin)?;
            worker.services.borrow_mut().push(handle);
        }
        let mut access_logs = parts.access_logs.iter();
        let listeners = parts.bootstrap.listeners.iter();
        let listeners = listeners.map(|listener| listen(&vms, parts, listener, &mut access_logs).map(Rc::new));
        let listeners = listeners.collect::<Result<_, _>>()?;
        tokio::task::spawn_local(hear_queues(worker.this.clone(), queues));
        Ok((worker, listeners))
    }

    pub(crate) fn cluster(&self, name: &str) -> Option<Rc<Cluster>> {
        self.clusters.borrow().get(name).cloned()
    }

    /// Serves a listener's connections until the task is dropped.
    pub(crate) async fn accept(self: Rc<Self>, listener: Rc<ListenerHandle>, socket: TcpListener) {
        loop {
            let (stream, remote) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // For example out of file descriptors: a later accept may succeed.
                    static WARNINGS: Throttle = Throttle::new();
                    let name = printable(&listener.name);
                    WARNINGS.warn("http", format_args!("listener `{name}`: accept failed: {error}"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let Ok(local) = stream.local_addr() else { continue };
            let id = self.next_connection.get();
            self.next_connection.set(id + 1);
            let addresses = Addresses { id, remote, local };
            tokio::task::spawn_local(connection::run(self.clone(), listener.clone(), stream, addresses));
        }
    }

    /// Cancels every tick, callout and gRPC stream, and ends every context.
    pub(crate) fn shut_down(&self) {
        for (_, tick) in self.ticks.take() {
            tick.abort();
        }
        for callout in self.callouts.take().into_values() {
            callout.cancel();
        }
        for stream in self.streams.take().into_values() {
            stream.cancel();
        }
        if let Some(vms) = self.vms.get() {
            vms.shut_down();
        }
    }

    /// Performs the pending effects, in order.
    ///
    /// Effects can cause effects without end, for example a callout that is answered at once. After some, the rest waits
    /// until the worker's other tasks have run.
    fn perform_waiting(&self) {
        for _ in 0..EFFECTS_AT_ONCE {
            let next = self.queue.borrow_mut().pop_front();
            match next {
                Some((vm, effect)) => self.act(&vm, effect),
                None => return self.busy.set(false),
            }
        }
        let worker = self.this.clone();
        tokio::task::spawn_local(async move {
            if let Some(worker) = worker.upgrade() {
                worker.perform_waiting();
            }
        });
    }

    fn act(&self, vm: &Rc<Vm>, effect: Effect) {
        match effect {
            Effect::Continue { stream, filter, direction } => {
                if let Some(stream) = stream.upgrade() {
                    stream.resume(filter, direction);
                }
            }
            Effect::LocalReply { stream, filter, reply } => {
                if let Some(stream) = stream.upgrade() {
                    stream.local_reply(filter, reply);
                }
            }
            Effect::Reset { stream } => {
                if let Some(stream) = stream.upgrade() {
                    stream.reset();
                }
            }
            Effect::Tick { root, period } => self.tick(vm, root, period),
            Effect::HttpCall { root, token, cluster, headers, body, timeout, reservation } => {
                let Some(cluster) = self.cluster(&cluster) else { return };
                let message = Message { headers, body, timeout, reservation };
                let key = (vm.serial, token);
                let on_end = self.forget(key, |worker, key| {
                    worker.callouts.borrow_mut().remove(&key);
                });
                let callout = Callout::start(vm, root, token, &cluster, message, on_end);
                if !callout.is_over() {
                    self.callouts.borrow_mut().insert(key, callout);
                }
            }
            Effect::GrpcOpen { root, token, target, metadata, unary, reservation } => {
                let Some(cluster) = self.cluster(&target.cluster) else { return };
                let key = (vm.serial, token);
                let on_end = self.forget(key, |worker, key| {
                    worker.streams.borrow_mut().remove(&key);
                });
                let call = Call { target, metadata, unary, reservation };
                let stream = GrpcStream::start(vm, (root, token), &cluster, call, on_end);
                if !stream.is_over() {
                    self.streams.borrow_mut().insert(key, stream);
                }
            }
            Effect::GrpcSend { token, message, end, after_answer, reservation } => {
                let Some(stream) = self.stream(vm, token) else { return };
                // From here on, the stream counts the message.
                drop(reservation);
                if after_answer {
                    vm.after_answer(|| stream.send(&message, end));
                } else {
                    stream.send(&message, end);
                }
            }
            Effect::GrpcClose { token } => {
                if let Some(stream) = self.stream(vm, token) {
                    stream.close_local();
                }
            }
            Effect::GrpcCancel { token } => {
                let stream = self.streams.borrow_mut().remove(&(vm.serial, token));
                if let Some(stream) = stream {
                    stream.cancel();
                }
            }
        }
    }

    fn stream(&self, vm: &Rc<Vm>, token: u32) -> Option<Rc<GrpcStream>> {
        self.streams.borrow().get(&(vm.serial, token)).cloned()
    }

    fn forget(&self, key: Key, forget: fn(&Self, Key)) -> Box<dyn Fn()> {
        let worker = self.this.clone();
        Box::new(move || {
            if let Some(worker) = worker.upgrade() {
                forget(&worker, key);
            }
        })
    }

    fn tick(&self, vm: &Rc<Vm>, root: u32, period: u32) {
        let key = (vm.serial, root);
        if let Some(tick) = self.ticks.borrow_mut().remove(&key) {
            tick.abort();
        }
        if period == 0 {
            return;
        }
        let vm = Rc::downgrade(vm);
        let ticking = tokio::task::spawn_local(async move {
            let period = Duration::from_millis(u64::from(period));
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            // Envoy re-arms its timer after each tick: missed ticks are not made up for.
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(vm) = vm.upgrade() else { return };
                if vm.on_tick(root).is_err() {
                    return;
                }
            }
        });
        self.ticks.borrow_mut().insert(key, ticking.abort_handle());
    }
}

impl EffectSink for Worker {
    fn perform(&self, vm: &Rc<Vm>, effects: Vec<Effect>) {
        self.queue.borrow_mut().extend(effects.into_iter().map(|effect| (vm.clone(), effect)));
        if !self.busy.replace(true) {
            self.perform_waiting();
        }
    }

    fn failed(&self, vm: &Rc<Vm>) {
        let of_vm = |key: &Key| key.0 == vm.serial;
        let ticks: Vec<_> = self.ticks.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        // Each tick task ends by itself at its next tick: its VM has failed.
        drop(ticks);
        let callouts: Vec<_> = self.callouts.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        callouts.iter().for_each(|(_, callout)| callout.cancel());
        let open: Vec<_> = self.streams.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        open.iter().for_each(|(_, stream)| stream.cancel());
    }
}

fn listen<'a>(
    vms: &Rc<Vms>,
    parts: &HostParts,
    listener: &Listener,
    access_logs: &mut impl Iterator<Item = &'a Arc<[Writer]>>,
) -> Result<ListenerHandle, VmError> {
    let mut chain = |chain: &FilterChain| -> Result<ChainHandle, VmError> {
        let service = match &chain.terminal {
            Terminal::Tcp(proxy) => Service::Tcp(proxy.clone()),
            Terminal::Http(manager) => Service::Http(Rc::new(ManagerHandle {
                routes: Arc::new(manager.routes.clone()),
                filters: manager.filters.iter().map(|filter| handler(vms, filter)).collect::<Result<_, _>>()?,
                access_logs: access_logs.next().cloned().unwrap_or_default(),
                stats: ManagerStats::new(&parts.shared, &manager.stat_prefix),
                buffer_limit: listener.buffer_limit,
                config: manager.as_ref().clone(),
            })),
        };
        let (name, matches, tls) = (chain.name.clone(), chain.matches.clone(), chain.tls.clone());
        Ok(ChainHandle { name, matches, tls, service })
    };
    let chains = listener.chains.iter().map(&mut chain).collect::<Result<Vec<_>, _>>()?;
    let default_chain = listener.default_chain.as_ref().map(&mut chain).transpose()?;
    Ok(ListenerHandle {
        name: listener.name.clone(),
        direction: listener.direction as u64,
        chains,
        default_chain,
        inspects: listener.inspects_tls,
    })
}

fn handler(vms: &Rc<Vms>, filter: &HttpFilter) -> Result<Handler, VmError> {
    Ok(match filter {
        HttpFilter::Wasm(plugin) => Handler::Wasm(vms.start(plugin)?),
        HttpFilter::Native(native) => Handler::Native(Rc::new(native.clone())),
    })
}

async fn hear_queues(worker: Weak<Worker>, mut queues: mpsc::UnboundedReceiver<QueueReady>) {
    while let Some(ready) = queues.recv().await {
        let Some(worker) = worker.upgrade() else { return };
        if let Some(vm) = worker.vms.get().and_then(|vms| vms.by_serial(ready.vm)) {
            vm.on_queue_ready(ready.root, ready.queue);
        }
    }
}

//! Worker: one thread's VMs and clusters, and the callouts, gRPC streams and ticks of its modules.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::downstream::{Peers, serve};
use super::executor::LocalExecutor;
use crate::abi::shared::{QueueReady, Shared};
use crate::abi::state::Effect;
use crate::access_log::writer::Writer;
use crate::bootstrap::{Bootstrap, HttpFilter, Listener, RouteTable};
use crate::stats::{Counter, Gauge};
use crate::upstream::Cluster;
use crate::upstream::callout::{Callout, Message};
use crate::upstream::grpc::GrpcStream;
use crate::vm::chain::Handler;
use crate::vm::plugin::Vms;
use crate::vm::{EffectSink, Modules, OrphanedStream, Vm, VmError, VmSetup};

/// Serial of a VM, and a token or the id of a root context in it.
type Key = (u64, u32);

/// Concurrent streams of an HTTP/2 connection: Envoy's default of `max_concurrent_streams`.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

pub(crate) struct Worker {
    this: Weak<Self>,
    vms: OnceCell<Rc<Vms>>,
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
    pub(crate) config: Listener,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) filters: Vec<Handler>,
    pub(crate) access_logs: Arc<[Writer]>,
    pub(crate) stats: ListenerStats,
}

pub(crate) struct ListenerStats {
    pub(crate) requests: Arc<Counter>,
    connections: Arc<Counter>,
    active: Arc<Gauge>,
    by_class: [Arc<Counter>; 4],
}

impl ListenerStats {
    fn new(shared: &Shared, prefix: &str) -> Self {
        let counter = |name: &str| shared.stats.counter(&format!("http.{prefix}.{name}"));
        Self {
            requests: counter("downstream_rq_total"),
            connections: counter("downstream_cx_total"),
            active: shared.stats.gauge(&format!("http.{prefix}.downstream_cx_active")),
            by_class: ["2xx", "3xx", "4xx", "5xx"].map(|class| counter(&format!("downstream_rq_{class}"))),
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = usize::from(status / 100).checked_sub(2).and_then(|class| self.by_class.get(class)) {
            counter.add(1);
        }
    }
}

/// Parts shared by all workers of a host.
#[derive(Clone)]
pub(crate) struct HostParts {
    pub(crate) bootstrap: Arc<Bootstrap>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) shared: Arc<Shared>,
    /// Access logs of each listener, in the order of the listeners.
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
    /// Creates the worker and starts every plugin; has to run within the thread's local set.
    pub(crate) fn start(parts: &HostParts) -> Result<(Rc<Self>, Vec<Rc<ListenerHandle>>), VmError> {
        let worker = Rc::new_cyclic(|this| Self {
            this: this.clone(),
            vms: OnceCell::new(),
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
        let mut listeners = Vec::new();
        for (listener, access_logs) in parts.bootstrap.listeners.iter().zip(&parts.access_logs) {
            listeners.push(Rc::new(ListenerHandle {
                routes: Arc::new(listener.routes.clone()),
                filters: listener.filters.iter().map(|filter| handler(&vms, filter)).collect::<Result<_, _>>()?,
                access_logs: access_logs.clone(),
                stats: ListenerStats::new(&parts.shared, &listener.stat_prefix),
                config: listener.clone(),
            }));
        }
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
                    log::warn!(target: "http", "listener `{}`: accept failed: {error}", listener.config.name);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let Ok(local) = stream.local_addr() else { continue };
            let id = self.next_connection.get();
            self.next_connection.set(id + 1);
            listener.stats.connections.add(1);
            listener.stats.active.shift(1);
            let (worker, listener) = (self.clone(), listener.clone());
            tokio::task::spawn_local(async move {
                let peers = Peers { id, remote, local };
                let service = hyper::service::service_fn({
                    let listener = listener.clone();
                    move |request| serve(worker.clone(), listener.clone(), peers, request)
                });
                let mut server = hyper_util::server::conn::auto::Builder::new(LocalExecutor);
                server.http1().timer(TokioTimer::new()).pipeline_flush(true);
                server.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_CONCURRENT_STREAMS);
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    log::debug!(target: "http", "a downstream connection ended with an error: {error}");
                }
                listener.stats.active.shift(-1);
            });
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
            Effect::HttpCall { root, token, cluster, headers, body, trailers, timeout } => {
                let Some(cluster) = self.cluster(&cluster) else { return };
                let message = Message { headers, body, trailers, timeout };
                let key = (vm.serial, token);
                let on_end = self.forget(key, |worker, key| {
                    worker.callouts.borrow_mut().remove(&key);
                });
                let callout = Callout::start(vm, root, token, &cluster, message, on_end);
                if !callout.is_over() {
                    self.callouts.borrow_mut().insert(key, callout);
                }
            }
            Effect::GrpcOpen { root, token, target, metadata, unary } => {
                let Some(cluster) = self.cluster(&target.cluster) else { return };
                let key = (vm.serial, token);
                let on_end = self.forget(key, |worker, key| {
                    worker.streams.borrow_mut().remove(&key);
                });
                let stream = GrpcStream::start(vm, (root, token), &cluster, &target, &metadata, unary, on_end);
                if !stream.is_over() {
                    self.streams.borrow_mut().insert(key, stream);
                }
            }
            Effect::GrpcSend { token, message, end, after_answer } => {
                let Some(stream) = self.stream(vm, token) else { return };
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
            // The worker does not wait for a root context that defers its end.
            Effect::Done { root } => log::trace!(target: "wasm", "root context {root} is done"),
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
        if self.busy.replace(true) {
            return;
        }
        loop {
            let next = self.queue.borrow_mut().pop_front();
            match next {
                Some((vm, effect)) => self.act(&vm, effect),
                None => break,
            }
        }
        self.busy.set(false);
    }

    fn failed(&self, vm: &Rc<Vm>, streams: Vec<OrphanedStream>) {
        let of_vm = |key: &Key| key.0 == vm.serial;
        let ticks: Vec<_> = self.ticks.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        // Each tick task ends by itself at its next tick: its VM has failed.
        drop(ticks);
        let callouts: Vec<_> = self.callouts.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        callouts.iter().for_each(|(_, callout)| callout.cancel());
        let open: Vec<_> = self.streams.borrow_mut().extract_if(|key, _| of_vm(key)).collect();
        open.iter().for_each(|(_, stream)| stream.cancel());
        for orphan in streams {
            if let Some(stream) = orphan.control.upgrade() {
                stream.vm_failed(orphan.filter);
            }
        }
    }
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

//! VM: an instance of a module, and the calls into it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use wasmtime::{Store, WasmParams, WasmResults};

use super::VmError;
use super::exports::{Export, Exports};
use super::setup::{EffectSink, VmSetup};
use super::traced::{trace_end, trace_start};
use crate::abi::in_flight::Budget;
use crate::abi::shared::Shared;
use crate::abi::state::{Context, Effect, GrpcShown, HostState, HttpContext, RootContext};
use crate::abi::version::Abi;
use crate::bootstrap::{NodeIdentity, Plugin, VmConfig};
use crate::http::{Stream, StreamControl};
use crate::log_lines::{Throttle, one_line, printable};
use crate::trace::calls;
use crate::trace::numbers::Numbers;

/// Fuel for one callback: more than any callback can spend.
const FUEL: u64 = u64::MAX / 2;

pub(crate) struct Vm {
    /// Serial number, unique in the process.
    pub(crate) serial: u64,
    path: PathBuf,
    store: RefCell<Store<HostState>>,
    pub(super) exports: Exports,
    failed: Cell<bool>,
    /// Effects on streams that the callback that trapped has requested.
    rest: RefCell<Vec<Effect>>,
    /// Whether the next callback stops its chain.
    next_stops: Cell<bool>,
    next_context: Cell<u32>,
    call_budget: u64,
    counts_fuel: bool,
    effects: Option<Weak<dyn EffectSink>>,
    shared: Arc<Shared>,
    /// Memory of the callouts and gRPC streams of this VM.
    pub(crate) in_flight: Budget,
}

/// Error of a call: the VM has trapped, in this call or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VmFailed;

/// Result of a callback.
#[derive(Default)]
pub(crate) struct Called<R> {
    pub(crate) value: R,
    /// Whether a local reply was sent during the callback.
    ///
    /// The chain then stops, whatever `value` is, and the body that the filter could read is dropped.
    pub(crate) stopped: bool,
}

impl Vm {
    pub(crate) fn new(setup: &VmSetup, config: &VmConfig) -> Result<Rc<Self>, VmError> {
        let path = config.module.clone();
        let module = setup.modules.module(&path)?;
        let refused =
            |error: wasmtime::Error| VmError::Instantiate { path: path.clone(), reason: format!("{error:#}") };
        let abi = Abi::of(&module).ok_or_else(|| VmError::Abi { path: path.clone() })?;
        let mut linker = setup.linker.clone();
        abi.add_to_linker(&mut linker).map_err(refused)?;
        let serial = next_serial();
        let in_flight = Budget::new(setup.modules.limits.memory);
        let state = setup.state(config, serial, abi, in_flight.clone());
        let mut store = Store::new(&setup.modules.engine, state);
        store.limiter(|state| &mut state.usage);
        store.set_epoch_deadline(setup.modules.call_budget);
        if setup.modules.counts_fuel {
            store.set_fuel(FUEL).map_err(refused)?;
        }
        if let Some(tracer) = setup.shared.tracing.tracer().filter(|_| setup.effects.is_some()) {
            calls::wrap(&mut linker, &mut store, &module, serial, tracer).map_err(refused)?;
        }
        let instance = linker.instantiate(&mut store, &module).map_err(refused)?;
        let exports = Exports::of(&instance, &mut store, abi, &path)?;
        let memory = instance.get_memory(&mut store, "memory");
        store.data_mut().memory = memory;
        store.data_mut().allocate = Some(exports.allocate.function.clone());
        exports.start.run(&mut store).map_err(refused)?;
        Ok(Rc::new(Self {
            serial,
            path,
            store: RefCell::new(store),
            exports,
            failed: Cell::new(false),
            rest: RefCell::default(),
            next_stops: Cell::new(false),
            next_context: Cell::new(1),
            call_budget: setup.modules.call_budget,
            counts_fuel: setup.modules.counts_fuel,
            effects: setup.effects.clone(),
            shared: setup.shared.clone(),
            in_flight,
        }))
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed.get()
    }

    /// Creates, starts and configures the root context of a plugin, and returns its id.
    ///
    /// After a trap in `proxy_on_context_create`, the VM has failed, and the start goes on without `proxy_on_configure`, as
    /// in Envoy.
    pub(crate) fn start(self: &Rc<Self>, plugin: &Arc<Plugin>, node: &Arc<NodeIdentity>) -> Result<u32, VmError> {
        let id = self.context_id();
        let root = RootContext {
            plugin: plugin.clone(),
            node: node.clone(),
            configuring: true,
            ending: false,
            declared: Default::default(),
            response: None,
            grpc: GrpcShown::default(),
            status: (0, String::new()),
            calls: Default::default(),
            streams: Default::default(),
        };
        self.with_state(|state| {
            state.log = Some(Vec::new());
            state.contexts.insert(id, Context::Root(Box::new(root)));
        });
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let failed = |what| {
            let log = self.with_state(|state| state.log.take()).flatten().unwrap_or_default();
            VmError::Plugin { plugin: plugin.name.clone(), root_id: plugin.root_id.clone(), what, log }
        };
        let _ = self.notify(id, &self.exports.context_create, (id, 0));
        self.with_root(id, |root| root.configuring = false);
        let started = match &self.exports.vm_start {
            Some(export) => self.run(id, export, (id, size(&plugin.vm.configuration))),
            None => Ok(Called { value: 1, stopped: false }),
        };
        if started.map_err(|_| failed("trapped in proxy_on_vm_start"))?.value == 0 {
            return Err(failed("refused its VM's configuration"));
        }
        if self.failed.get() {
            return Ok(id);
        }
        self.with_root(id, |root| root.configuring = true);
        let configured = self.ask(id, &self.exports.configure, (id, size(&plugin.configuration)), 1);
        self.with_root(id, |root| root.configuring = false);
        if configured.map_err(|_| failed("trapped in proxy_on_configure"))?.value == 0 {
            return Err(failed("refused its configuration"));
        }
        self.with_state(|state| state.log = None);
        Ok(id)
    }

    /// Creates the context of one HTTP stream, and returns its id.
    pub(crate) fn open(
        self: &Rc<Self>,
        root: u32,
        stream: Rc<Stream>,
        filter: usize,
        control: Weak<dyn StreamControl>,
    ) -> Result<u32, VmFailed> {
        let id = self.context_id();
        self.with_state(|state| {
            state
                .contexts
                .insert(id, Context::Http(HttpContext { root, stream, filter, control, declared: Default::default() }));
        });
        self.notify(id, &self.exports.context_create, (id, root))?;
        Ok(id)
    }

    pub(crate) fn on_log(self: &Rc<Self>, context: u32) {
        let _ = self.notify(context, &self.exports.log, context);
    }

    /// Ends the context of one HTTP stream: `proxy_on_done`, then `proxy_on_delete`.
    pub(crate) fn close(self: &Rc<Self>, context: u32) {
        let ended = self
            .ask(context, &self.exports.done, context, 1)
            .and_then(|_| self.notify(context, &self.exports.delete, context));
        if ended.is_ok() {
            self.with_state(|state| state.contexts.remove(&context));
        }
        self.perform_rest();
    }

    /// Removes the handle of a unary gRPC call, which is complete after one message.
    pub(crate) fn forget_grpc(&self, root: u32, token: u32) {
        self.with_root(root, |root| root.streams.remove(&token));
    }

    /// Ends every context; called once, when the worker ends.
    pub(crate) fn shut_down(self: &Rc<Self>) {
        let ids = |wanted: fn(&Context) -> bool| {
            let ids = self.with_state(|state| {
                state.contexts.iter().filter(|(_, context)| wanted(context)).map(|(id, _)| *id).collect::<Vec<_>>()
            });
            ids.unwrap_or_default()
        };
        for id in ids(|context| matches!(context, Context::Http(_))) {
            self.close(id);
        }
        for id in ids(|context| matches!(context, Context::Root(_))) {
            let done = self.ask(id, &self.exports.done, id, 1);
            if done.is_ok_and(|done| done.value == 0) {
                // The worker does not wait for a root context that defers its end.
                self.with_root(id, |root| root.ending = true);
            } else {
                let _ = self.notify(id, &self.exports.delete, id);
            }
        }
        self.shared.forget_vm(self.serial);
    }

    /// Performs an effect that a call requested after a local reply.
    ///
    /// In Envoy, the effect runs inside that call, and the first callback of this VM that it causes stops its chain,
    /// whatever the callback returns.
    pub(crate) fn after_answer(&self, act: impl FnOnce()) {
        self.next_stops.set(true);
        act();
        self.next_stops.set(false);
    }

    fn context_id(&self) -> u32 {
        let id = self.next_context.get();
        self.next_context.set(id.wrapping_add(1).max(1));
        id
    }

    pub(super) fn notify<P: WasmParams + Numbers>(
        self: &Rc<Self>,
        context: u32,
        export: &Option<Export<P, ()>>,
        arguments: P,
    ) -> Result<(), VmFailed> {
        let called = self.call(context, export, arguments, ());
        self.perform_rest();
        called.map(|_| ())
    }

    /// Calls a callback and returns its value; `default` if the module does not export the callback.
    pub(super) fn ask<P: WasmParams + Numbers>(
        self: &Rc<Self>,
        context: u32,
        export: &Option<Export<P, u32>>,
        arguments: P,
        default: u32,
    ) -> Result<Called<u32>, VmFailed> {
        self.call(context, export, arguments, default)
    }

    fn call<P: WasmParams + Numbers, R: WasmResults + Numbers>(
        self: &Rc<Self>,
        context: u32,
        export: &Option<Export<P, R>>,
        arguments: P,
        default: R,
    ) -> Result<Called<R>, VmFailed> {
        if self.failed.get() {
            return Err(VmFailed);
        }
        match export {
            Some(export) => self.enter(context, export, arguments),
            None => Ok(Called { value: default, stopped: false }),
        }
    }

    /// Calls a callback that the module exports.
    pub(super) fn enter<P: WasmParams + Numbers, R: WasmResults + Numbers>(
        self: &Rc<Self>,
        context: u32,
        export: &Export<P, R>,
        arguments: P,
    ) -> Result<Called<R>, VmFailed> {
        if self.failed.get() { Err(VmFailed) } else { self.run(context, export, arguments) }
    }

    /// Calls a callback, also in a VM that has failed.
    fn run<P: WasmParams + Numbers, R: WasmResults + Numbers>(
        self: &Rc<Self>,
        context: u32,
        export: &Export<P, R>,
        arguments: P,
    ) -> Result<Called<R>, VmFailed> {
        let (result, effects, stopped) = {
            let Ok(mut store) = self.store.try_borrow_mut() else {
                static ERRORS: Throttle = Throttle::new();
                let line = format_args!("skipped callback `{}`: its VM is already running a callback", export.name);
                ERRORS.log(log::Level::Error, "wasm", line);
                return Err(VmFailed);
            };
            let state = store.data_mut();
            state.current = context;
            state.effective = 0;
            state.stopped = false;
            state.just_answered = false;
            state.usage.start_callback();
            trace_start(state, export.name, &arguments);
            store.set_epoch_deadline(self.call_budget);
            if self.counts_fuel {
                // Cannot fail: the engine counts fuel.
                let _ = store.set_fuel(FUEL);
            }
            let result = export.function.call(&mut *store, arguments);
            if self.counts_fuel {
                let spent = FUEL - store.get_fuel().unwrap_or(FUEL);
                self.shared.stats.counter(&format!("wasm.fuel.{}", export.name)).add(spent);
            }
            let state = store.data_mut();
            trace_end(state, export.name, result.as_ref().ok());
            let stopped = self.next_stops.take() || state.stopped;
            (result, std::mem::take(&mut state.effects), stopped)
        };
        match result {
            Ok(value) => {
                if !effects.is_empty()
                    && let Some(sink) = self.sink()
                {
                    sink.perform(self, effects);
                }
                Ok(Called { value, stopped })
            }
            Err(error) => {
                self.fail(&error);
                let on_stream = |effect: &Effect| {
                    matches!(effect, Effect::Continue { .. } | Effect::LocalReply { .. } | Effect::Reset { .. })
                };
                self.rest.borrow_mut().extend(effects.into_iter().filter(on_stream));
                Err(VmFailed)
            }
        }
    }

    /// Performs the effects on streams that the callback that trapped has requested, as Envoy does.
    ///
    /// A stream whose own callback has trapped fails before that.
    pub(crate) fn perform_rest(self: &Rc<Self>) {
        let rest = self.rest.take();
        if !rest.is_empty()
            && let Some(sink) = self.sink()
        {
            sink.perform(self, rest);
        }
    }

    fn fail(self: &Rc<Self>, error: &wasmtime::Error) {
        self.failed.set(true);
        self.shared.stats.counter("wasm.vm_trap").add(1);
        self.shared.forget_vm(self.serial);
        static ERRORS: Throttle = Throttle::new();
        let (path, error) = (self.path.display().to_string(), one_line(&format!("{error:#}")));
        ERRORS.log(log::Level::Error, "wasm", format_args!("{}: the VM trapped: {error}", printable(&path)));
        // Dropped here, and not with the state borrowed: a context may own the last handle of its stream.
        let contexts = self.with_state(|state| std::mem::take(&mut state.contexts));
        drop(contexts);
        if let Some(sink) = self.sink() {
            sink.failed(self);
        }
    }

    fn sink(&self) -> Option<Rc<dyn EffectSink>> {
        self.effects.as_ref().and_then(Weak::upgrade)
    }

    pub(super) fn with_root<T>(&self, root: u32, change: impl FnOnce(&mut RootContext) -> T) -> Option<T> {
        self.with_state(|state| state.root_mut(root).map(change)).flatten()
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut HostState) -> T) -> Option<T> {
        self.store.try_borrow_mut().ok().map(|mut store| change(store.data_mut()))
    }
}

fn next_serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

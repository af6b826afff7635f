//! Plugin of a worker: its VM and root context, and the reload of a VM that has trapped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Vm, VmError, VmSetup};
use crate::bootstrap::{FailurePolicy, Plugin, VmConfig};
use crate::log_lines::{Throttle, one_line, printable};

/// VMs of one worker, by VM configuration.
pub(crate) struct Vms {
    setup: VmSetup,
    slots: RefCell<HashMap<VmConfig, Rc<VmSlot>>>,
}

/// VM that plugins with equal VM configurations share; replaced when one of them reloads it.
struct VmSlot {
    vm: RefCell<Rc<Vm>>,
}

/// Plugin of one worker.
pub(crate) struct PluginHandle {
    plugin: Arc<Plugin>,
    slot: Rc<VmSlot>,
    /// VM of the plugin, and id of its root context: after a trap, other plugins can have a newer VM.
    started: RefCell<(Rc<Vm>, u32)>,
    /// Time of the plugin's start, or of its last attempt to reload.
    loaded: Cell<Instant>,
    vms: Rc<Vms>,
}

/// Result of acquiring a plugin for an HTTP stream.
pub(crate) enum Acquired {
    Ready(Rc<Vm>, u32),
    /// The stream continues without the filter.
    Bypass,
    /// The stream gets a local reply with status 503.
    Refuse,
}

impl Vms {
    pub(crate) fn new(setup: VmSetup) -> Rc<Self> {
        Rc::new(Self { setup, slots: RefCell::default() })
    }

    /// Starts a plugin; plugins with equal VM configurations share a VM.
    pub(crate) fn start(self: &Rc<Self>, plugin: &Plugin) -> Result<Rc<PluginHandle>, VmError> {
        let known = self.slots.borrow().get(&plugin.vm).cloned();
        let slot = match known {
            Some(slot) => slot,
            None => {
                let vm = RefCell::new(Vm::new(&self.setup, &plugin.vm)?);
                let slot = Rc::new(VmSlot { vm });
                self.slots.borrow_mut().insert(plugin.vm.clone(), slot.clone());
                slot
            }
        };
        let plugin = Arc::new(plugin.clone());
        let vm = slot.vm.borrow().clone();
        let root = vm.start(&plugin, &self.setup.node)?;
        let (started, loaded) = (RefCell::new((vm, root)), Cell::new(Instant::now()));
        Ok(Rc::new(PluginHandle { plugin, slot, started, loaded, vms: self.clone() }))
    }

    /// Returns the VM with this serial, unless a reload has replaced it.
    pub(crate) fn by_serial(&self, serial: u64) -> Option<Rc<Vm>> {
        let slots = self.slots.borrow();
        slots.values().map(|slot| slot.vm.borrow().clone()).find(|vm| vm.serial == serial)
    }

    pub(crate) fn shut_down(&self) {
        let vms: Vec<Rc<Vm>> = self.slots.borrow().values().map(|slot| slot.vm.borrow().clone()).collect();
        for vm in vms {
            vm.shut_down();
        }
    }
}

impl PluginHandle {
    pub(crate) fn policy(&self) -> FailurePolicy {
        self.plugin.failure_policy
    }

    pub(crate) fn sees_body_past_headers(&self) -> bool {
        self.plugin.sees_body_past_headers
    }

    pub(crate) fn acquire(&self) -> Acquired {
        let refused = match self.policy() {
            FailurePolicy::FailOpen { .. } => Acquired::Bypass,
            FailurePolicy::FailClosed | FailurePolicy::FailReload => Acquired::Refuse,
        };
        let (vm, root) = self.started.borrow().clone();
        if !vm.is_failed() {
            return Acquired::Ready(vm, root);
        }
        if self.policy() != FailurePolicy::FailReload {
            return refused;
        }
        match self.reload() {
            Some((vm, root)) => Acquired::Ready(vm, root),
            None => refused,
        }
    }

    /// Starts the plugin again, unless its last start or reload was less than the reload interval ago.
    ///
    /// As in Envoy, the plugin joins a VM that another plugin has reloaded, and a reload that fails counts as one.
    fn reload(&self) -> Option<(Rc<Vm>, u32)> {
        let prefix = if self.plugin.name.is_empty() { String::new() } else { format!("{}.", self.plugin.name) };
        let count = |name: &str| self.vms.setup.shared.stats.counter(&format!("wasm.{prefix}{name}")).add(1);
        if self.loaded.get().elapsed() < jittered(self.plugin.reload_interval) {
            count("vm_reload_backoff");
            return None;
        }
        static LINES: Throttle = Throttle::new();
        self.loaded.set(Instant::now());
        match self.start_again() {
            Ok(started) => {
                count("vm_reload_success");
                let name = printable(&self.plugin.name);
                LINES.warn("wasm", format_args!("reloaded the failed VM of plugin `{name}`"));
                self.started.replace(started.clone());
                Some(started)
            }
            Err(error) => {
                count("vm_reload_failure");
                LINES.log(log::Level::Error, "wasm", format_args!("{}", one_line(&error.to_string())));
                None
            }
        }
    }

    fn start_again(&self) -> Result<(Rc<Vm>, u32), VmError> {
        let mut vm = self.slot.vm.borrow().clone();
        if vm.is_failed() {
            vm = Vm::new(&self.vms.setup, &self.plugin.vm)?;
            self.slot.vm.replace(vm.clone());
        }
        let root = vm.start(&self.plugin, &self.vms.setup.node)?;
        if vm.is_failed() {
            let (plugin, root_id) = (self.plugin.name.clone(), self.plugin.root_id.clone());
            let what = "trapped in proxy_on_context_create";
            return Err(VmError::Plugin { plugin, root_id, what, log: Vec::new() });
        }
        Ok((vm, root))
    }
}

/// Returns the interval, extended by a random part of up to a half, as Envoy's backoff is.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness, the interval is not extended.
    let _ = getrandom::fill(&mut random);
    interval.saturating_add(interval.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX) / 2.0))
}

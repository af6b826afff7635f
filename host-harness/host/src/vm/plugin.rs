//! Plugin of a worker: its VM and root context, and the reload of a VM that has trapped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Vm, VmError, VmSetup};
use crate::bootstrap::{FailurePolicy, Plugin, VmConfig};

/// Minimum time between two starts of a VM; Envoy's default.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// VMs of one worker, by VM configuration.
pub(crate) struct Vms {
    setup: VmSetup,
    slots: RefCell<HashMap<VmConfig, Rc<VmSlot>>>,
}

struct VmSlot {
    vm: RefCell<Rc<Vm>>,
    /// Time of the VM's start, or of the last failed reload.
    made: Cell<Instant>,
}

/// Plugin of one worker.
pub(crate) struct PluginHandle {
    plugin: Arc<Plugin>,
    slot: Rc<VmSlot>,
    /// Serial of the VM, and id of the plugin's root context in it.
    root: Cell<(u64, u32)>,
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
                let slot = Rc::new(VmSlot { vm, made: Cell::new(Instant::now()) });
                self.slots.borrow_mut().insert(plugin.vm.clone(), slot.clone());
                slot
            }
        };
        let plugin = Arc::new(plugin.clone());
        let vm = slot.vm.borrow().clone();
        let root = vm.start(&plugin, &self.setup.node)?;
        Ok(Rc::new(PluginHandle { plugin, slot, root: Cell::new((vm.serial, root)), vms: self.clone() }))
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
        let mut vm = self.slot.vm.borrow().clone();
        if vm.is_failed() {
            match self.reload() {
                Some(new) => vm = new,
                None => return refused,
            }
        }
        let (serial, root) = self.root.get();
        if serial == vm.serial {
            return Acquired::Ready(vm, root);
        }
        // The VM was reloaded for another plugin: this plugin has no root context in it yet.
        match vm.start(&self.plugin, &self.vms.setup.node) {
            Ok(root) => {
                self.root.set((vm.serial, root));
                Acquired::Ready(vm, root)
            }
            Err(error) => {
                log::error!(target: "wasm", "{error}");
                refused
            }
        }
    }

    fn reload(&self) -> Option<Rc<Vm>> {
        let stats = &self.vms.setup.shared.stats;
        if self.policy() != FailurePolicy::FailReload {
            return None;
        }
        if self.slot.made.get().elapsed() < RELOAD_INTERVAL {
            stats.counter("wasm.vm_reload_backoff").add(1);
            return None;
        }
        self.slot.made.set(Instant::now());
        match Vm::new(&self.vms.setup, &self.plugin.vm) {
            Ok(vm) => {
                stats.counter("wasm.vm_reload_success").add(1);
                log::warn!(target: "wasm", "reloaded the failed VM of plugin `{}`", self.plugin.name);
                self.slot.vm.replace(vm.clone());
                Some(vm)
            }
            Err(error) => {
                stats.counter("wasm.vm_reload_failure").add(1);
                log::error!(target: "wasm", "{error}");
                None
            }
        }
    }
}

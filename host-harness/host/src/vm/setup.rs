//! Inputs for VMs, and the receiver of their effects.

use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use wasmtime::Linker;

use super::Modules;
use super::instance::Vm;
use crate::abi::in_flight::Budget;
use crate::abi::limits::Usage;
use crate::abi::shared::{QueueInbox, Shared};
use crate::abi::state::{Effect, HostState};
use crate::abi::version::Abi;
use crate::bootstrap::{NodeIdentity, VmConfig};

/// Receiver of the effects that modules request.
pub(crate) trait EffectSink {
    /// Performs the effects of one call into the VM, in order.
    fn perform(&self, vm: &Rc<Vm>, effects: Vec<Effect>);
    /// Handles the trap of a VM, which runs no more.
    fn failed(&self, vm: &Rc<Vm>);
}

/// Inputs for the VMs of one worker.
pub(crate) struct VmSetup {
    pub(crate) modules: Arc<Modules>,
    pub(crate) linker: Linker<HostState>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Arc<NodeIdentity>,
    pub(crate) clusters: Rc<HashSet<String>>,
    pub(crate) inbox: Option<tokio::sync::mpsc::UnboundedSender<crate::abi::shared::QueueReady>>,
    /// Receiver of effects; `None` in a setup that only validates.
    pub(crate) effects: Option<Weak<dyn EffectSink>>,
}

impl VmSetup {
    /// Returns the host state of a VM that has not started.
    pub(super) fn state(&self, config: &VmConfig, serial: u64, abi: Abi, in_flight: Budget) -> HostState {
        HostState {
            vm_id: config.vm_id.clone(),
            vm_configuration: config.configuration.clone(),
            environment: config.resolved_environment(),
            shared: self.shared.clone(),
            metrics: Default::default(),
            usage: Usage::new(self.modules.limits),
            in_flight,
            clusters: self.clusters.clone(),
            inbox: self.inbox.clone().map(|worker| QueueInbox { vm: serial, worker }),
            contexts: Default::default(),
            current: 0,
            effective: 0,
            effects: Vec::new(),
            stopped: false,
            just_answered: false,
            memory: None,
            allocate: None,
            monotonic_zero: Instant::now(),
            log: Some(Vec::new()),
            abi,
            initializing: true,
            called_too_early: false,
            tokens: Default::default(),
        }
    }
}

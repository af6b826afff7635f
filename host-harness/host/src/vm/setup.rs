//! Inputs for VMs, and the receiver of their effects.

use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use wasmtime::Linker;

use super::Modules;
use super::instance::Vm;
use crate::abi::shared::Shared;
use crate::abi::state::{Effect, HostState};
use crate::bootstrap::NodeIdentity;

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

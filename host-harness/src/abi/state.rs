//! What the host keeps for one VM: its contexts, and the effects that wait until the VM returns.

use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::{Memory, TypedFunc};

use super::headers::Headers;
use super::memory::Status;
use super::metrics::VmMetrics;
use super::shared::{QueueInbox, Shared};
use super::stream::{Direction, LocalReply, Stream, StreamControl};
use crate::bootstrap::{NodeIdentity, Plugin};

/// The state behind a VM's host functions.
pub(crate) struct HostState {
    pub(crate) vm_id: String,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: VmMetrics,
    /// What a callout may name.
    pub(crate) clusters: Rc<HashSet<String>>,
    /// Where this VM hears of its queues; none in a VM that only validates.
    pub(crate) inbox: Option<QueueInbox>,
    pub(crate) contexts: HashMap<u32, Context>,
    /// The context that the host called.
    pub(crate) current: u32,
    /// The context that the module chose instead; 0: none.
    pub(crate) effective: u32,
    /// Performed, in order, when the VM has returned.
    pub(crate) effects: Vec<Effect>,
    /// A local reply was sent in this call: the chain stops, whatever the callback returns.
    pub(crate) stopped: bool,
    /// A local reply was sent in this call, and nothing on a stream since.
    pub(crate) just_answered: bool,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) monotonic_zero: Instant,
    /// What was logged during start-up, for the error that may come of it.
    pub(crate) log: Option<Vec<String>>,
    pub(crate) next_call: u32,
    pub(crate) next_grpc: u32,
}

pub(crate) enum Context {
    Root(Box<RootContext>),
    Http(HttpContext),
}

/// A plugin's root context, and what its callbacks show.
pub(crate) struct RootContext {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) node: Arc<NodeIdentity>,
    /// The configuration can be read during `proxy_on_configure` only, as in Envoy.
    pub(crate) configuring: bool,
    pub(crate) response: Option<CalloutResponse>,
    pub(crate) grpc: GrpcShown,
    /// Code and message of the last failure.
    pub(crate) status: (u32, String),
    pub(crate) calls: HashSet<u32>,
    pub(crate) streams: HashMap<u32, GrpcHandle>,
}

/// What `on_http_call_response` shows.
pub(crate) struct CalloutResponse {
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) trailers: Headers,
}

/// What the gRPC callbacks show.
#[derive(Default)]
pub(crate) struct GrpcShown {
    pub(crate) initial: Option<Headers>,
    pub(crate) trailing: Option<Headers>,
    pub(crate) message: Bytes,
}

/// A gRPC stream or call as its module holds it. In Envoy a stream's entry lasts until both sides have closed.
#[derive(Default)]
pub(crate) struct GrpcHandle {
    pub(crate) local_closed: bool,
    pub(crate) remote_closed: bool,
    pub(crate) unary: bool,
}

pub(crate) struct HttpContext {
    pub(crate) root: u32,
    pub(crate) stream: Rc<Stream>,
    /// Its place in the chain, in the order of the request.
    pub(crate) filter: usize,
    pub(crate) control: Weak<dyn StreamControl>,
}

/// What a module asked for, and the host does once the VM has returned.
pub(crate) enum Effect {
    Continue {
        stream: Weak<dyn StreamControl>,
        filter: usize,
        direction: Direction,
    },
    LocalReply {
        stream: Weak<dyn StreamControl>,
        filter: usize,
        reply: LocalReply,
    },
    Reset {
        stream: Weak<dyn StreamControl>,
    },
    /// Milliseconds; 0 stops the ticks.
    Tick {
        root: u32,
        period: u32,
    },
    HttpCall {
        root: u32,
        token: u32,
        cluster: String,
        headers: Headers,
        body: Bytes,
        trailers: Headers,
        timeout: u32,
    },
    GrpcOpen {
        root: u32,
        token: u32,
        target: GrpcTarget,
        metadata: Headers,
        unary: Option<(Bytes, u32)>,
    },
    GrpcSend {
        token: u32,
        message: Bytes,
        end: bool,
        /// The first after an answer in the same call.
        after_answer: bool,
    },
    GrpcClose {
        token: u32,
    },
    GrpcCancel {
        token: u32,
    },
    /// The root context's deferred `proxy_on_done` is over.
    Done {
        root: u32,
    },
}

/// Where a gRPC call goes.
pub(crate) struct GrpcTarget {
    pub(crate) cluster: String,
    pub(crate) service: String,
    pub(crate) method: String,
}

impl HostState {
    /// The context that host functions act on.
    pub(crate) fn acting(&self) -> u32 {
        if self.effective != 0 && self.contexts.contains_key(&self.effective) { self.effective } else { self.current }
    }

    pub(crate) fn http(&self) -> Option<&HttpContext> {
        match self.contexts.get(&self.acting())? {
            Context::Http(http) => Some(http),
            Context::Root(_) => None,
        }
    }

    /// The id of the acting context's root.
    pub(crate) fn root_id(&self) -> u32 {
        self.http().map_or(self.acting(), |http| http.root)
    }

    pub(crate) fn root(&mut self) -> Result<&mut RootContext, Status> {
        let id = self.root_id();
        self.root_mut(id).ok_or(Status::BadArgument)
    }

    pub(crate) fn root_mut(&mut self, id: u32) -> Option<&mut RootContext> {
        match self.contexts.get_mut(&id)? {
            Context::Root(root) => Some(root),
            Context::Http(_) => None,
        }
    }

    pub(crate) fn plugin(&self) -> Option<&RootContext> {
        match self.contexts.get(&self.root_id())? {
            Context::Root(root) => Some(root),
            Context::Http(_) => None,
        }
    }
}

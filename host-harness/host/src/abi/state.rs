//! Host state of one VM: its contexts, and the effects to perform after the VM has returned.

use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::{Memory, TypedFunc};

use super::in_flight::{Budget, Reservation};
use super::limits::{IN_FLIGHT, Usage};
use super::memory::{Fault, Status};
use super::metrics::VmMetrics;
use super::shared::{QueueInbox, Shared};
use super::version::Abi;
use crate::bootstrap::{NodeIdentity, Plugin};
use crate::http::{Direction, Headers, LocalReply, Stream, StreamControl};

/// State of a VM's host functions.
pub(crate) struct HostState {
    pub(crate) vm_id: String,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: VmMetrics,
    pub(crate) usage: Usage,
    /// Memory of the callouts and gRPC streams of this VM.
    pub(crate) in_flight: Budget,
    /// Cluster names that a callout may use.
    pub(crate) clusters: Rc<HashSet<String>>,
    /// Sender of this VM's queue notifications; `None` in a VM that only validates.
    pub(crate) inbox: Option<QueueInbox>,
    pub(crate) contexts: HashMap<u32, Context>,
    /// Context of the running callback.
    pub(crate) current: u32,
    /// Context that the module chose with `proxy_set_effective_context`; 0: none.
    pub(crate) effective: u32,
    /// Effects to perform, in order, after the VM has returned.
    pub(crate) effects: Vec<Effect>,
    /// Whether a local reply was sent in this call: the chain then stops, regardless of the callback's return value.
    pub(crate) stopped: bool,
    /// Whether a local reply was sent in this call, and no gRPC stream message since.
    pub(crate) just_answered: bool,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) monotonic_zero: Instant,
    /// Lines of the start-up that the log does not show, for the start-up error; `None` after start-up.
    pub(crate) log: Option<Vec<String>>,
    pub(crate) abi: Abi,
    /// Whether `_initialize`, `_start` or `main` is running.
    pub(crate) initializing: bool,
    /// Whether the module called a host function while it was initialised that needs a context: it is refused then, as
    /// in Envoy.
    pub(crate) called_too_early: bool,
    pub(crate) tokens: Tokens,
}

/// Latest tokens of callouts.
///
/// As in Envoy, the low two bits of a token are its kind: 0 HTTP callout, 1 gRPC call, 2 gRPC stream.
#[derive(Default)]
pub(crate) struct Tokens {
    http_calls: u32,
    grpc_calls: u32,
    grpc_streams: u32,
}

impl Tokens {
    pub(crate) fn next_http_call(&mut self) -> u32 {
        Self::next(&mut self.http_calls)
    }

    pub(crate) fn next_grpc_call(&mut self) -> u32 {
        Self::next(&mut self.grpc_calls) | 1
    }

    pub(crate) fn next_grpc_stream(&mut self) -> u32 {
        Self::next(&mut self.grpc_streams) | 2
    }

    fn next(latest: &mut u32) -> u32 {
        *latest = latest.wrapping_add(4);
        *latest
    }
}

pub(crate) enum Context {
    Root(Box<RootContext>),
    Http(HttpContext),
}

/// Root context of a plugin, and the data that its callbacks can read.
pub(crate) struct RootContext {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) node: Arc<NodeIdentity>,
    /// Whether `proxy_on_context_create` or `proxy_on_configure` of the root context is running: the configuration can
    /// be read only then, as in Envoy.
    pub(crate) configuring: bool,
    /// Whether `proxy_on_done` deferred the end of the context until `proxy_done`.
    pub(crate) ending: bool,
    /// Properties declared with the foreign function `declare_property`, and whether each can be set only once.
    pub(crate) declared: HashMap<Vec<u8>, bool>,
    pub(crate) response: Option<CalloutResponse>,
    pub(crate) grpc: GrpcShown,
    /// Code and message that `proxy_get_status` returns.
    pub(crate) status: (u32, String),
    pub(crate) calls: HashSet<u32>,
    pub(crate) streams: HashMap<u32, GrpcHandle>,
}

/// Callout response, readable during `proxy_on_http_call_response`.
pub(crate) struct CalloutResponse {
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<Headers>,
}

/// Metadata and message readable during the gRPC callbacks.
#[derive(Default)]
pub(crate) struct GrpcShown {
    pub(crate) initial: Option<Headers>,
    pub(crate) trailing: Option<Headers>,
    pub(crate) message: Bytes,
}

/// Module's handle of a gRPC stream or call. The handle of a stream lasts until both sides have closed, as in Envoy.
#[derive(Default)]
pub(crate) struct GrpcHandle {
    pub(crate) local_closed: bool,
    pub(crate) remote_closed: bool,
    pub(crate) unary: bool,
}

pub(crate) struct HttpContext {
    pub(crate) root: u32,
    pub(crate) stream: Rc<Stream>,
    /// Index in the filter chain, in request order.
    pub(crate) filter: usize,
    pub(crate) control: Weak<dyn StreamControl>,
    /// Properties that the context has declared. As in Envoy, only those of the root context have an effect.
    pub(crate) declared: HashMap<Vec<u8>, bool>,
}

/// Action requested by a module; the host performs it after the VM has returned.
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
    /// Sets the tick period in milliseconds; 0 stops the ticks.
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
        timeout: u32,
        reservation: Reservation,
    },
    GrpcOpen {
        root: u32,
        token: u32,
        target: GrpcTarget,
        metadata: Headers,
        unary: Option<(Bytes, u32)>,
        reservation: Reservation,
    },
    GrpcSend {
        token: u32,
        message: Bytes,
        end: bool,
        /// Whether the message is the first after a local reply in the same call.
        after_answer: bool,
        reservation: Reservation,
    },
    GrpcClose {
        token: u32,
    },
    GrpcCancel {
        token: u32,
    },
}

/// Destination of a gRPC call.
pub(crate) struct GrpcTarget {
    pub(crate) cluster: String,
    pub(crate) service: String,
    pub(crate) method: String,
}

impl RootContext {
    /// # Errors
    /// `InternalFailure`, if the plugin has too many callouts and gRPC streams in flight.
    pub(crate) fn can_call(&self) -> Result<(), Status> {
        let in_flight = self.calls.len() + self.streams.len();
        if in_flight < IN_FLIGHT { Ok(()) } else { Err(Status::InternalFailure) }
    }
}

impl HostState {
    /// Returns the id of the context that host functions act on.
    pub(crate) fn acting(&self) -> u32 {
        if self.effective != 0 && self.contexts.contains_key(&self.effective) { self.effective } else { self.current }
    }

    /// Notes a call of a host function that needs a context.
    pub(crate) fn note_call(&mut self) {
        self.called_too_early |= self.initializing;
    }

    /// Records an effect that keeps `bytes` bytes.
    ///
    /// # Errors
    /// A trap, if the running callback has recorded too much.
    pub(crate) fn record(&mut self, effect: Effect, bytes: usize) -> Result<(), Fault> {
        self.usage.keep(bytes.saturating_add(size_of::<Effect>()))?;
        self.effects.push(effect);
        Ok(())
    }

    pub(crate) fn http(&self) -> Option<&HttpContext> {
        match self.contexts.get(&self.acting())? {
            Context::Http(http) => Some(http),
            Context::Root(_) => None,
        }
    }

    /// Returns the id of the acting context's root context.
    pub(crate) fn root_id(&self) -> u32 {
        self.http().map_or(self.acting(), |http| http.root)
    }

    /// Returns the properties that the running callback's context has declared.
    pub(crate) fn declared(&mut self) -> Result<&mut HashMap<Vec<u8>, bool>, Status> {
        match self.contexts.get_mut(&self.current).ok_or(Status::BadArgument)? {
            Context::Root(root) => Ok(&mut root.declared),
            Context::Http(http) => Ok(&mut http.declared),
        }
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

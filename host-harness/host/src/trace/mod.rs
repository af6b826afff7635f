//! Observer of a host: callbacks of modules, their calls of host functions, and bytes on raw TCP connections.
//!
//! A [`Tracer`] in [`HostOptions`](crate::HostOptions) gets each of them as an [`Event`]. Without one, no event is made:
//! host functions are linked without their wrappers, and each other place checks one option.
//!
//! | module | contents |
//! |---|---|
//! | `signature` | names and kinds of the parameters of each host function and callback |
//! | `calls` | wrappers that report the calls of host functions |
//! | `numbers` | arguments and results of callbacks as numbers |

pub(crate) mod calls;
pub(crate) mod numbers;
pub(crate) mod signature;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Observer of a host. It is called on the worker threads: it should keep the event and return.
pub trait Tracer: Send + Sync {
    /// Takes an event.
    fn record(&self, event: Event);
}

/// Event of a host.
#[derive(Debug, Clone)]
pub struct Event {
    /// Time of the event; of a call, its start.
    pub at: Instant,
    /// The event.
    pub what: What,
}

/// Kinds of events.
#[derive(Debug, Clone)]
pub enum What {
    /// A callback of a module begins.
    Callback {
        /// Plugin of the callback's context.
        plugin: PluginName,
        /// Export, such as `proxy_on_request_headers`.
        name: &'static str,
        /// Arguments with their names.
        arguments: Vec<Argument>,
    },
    /// The callback that began last returns.
    Returned {
        /// Export.
        name: &'static str,
        /// Result; `None` where there is none, or the module trapped.
        result: Option<Value>,
        /// Whether the module trapped.
        trapped: bool,
    },
    /// A module has called a host function.
    Call {
        /// Host function, such as `proxy_get_header_map_value`.
        name: &'static str,
        /// VM of the module, unique in the process: ids of metrics and tokens belong to it.
        vm: u64,
        /// Arguments with their names.
        arguments: Vec<Argument>,
        /// Results with their names; empty after an error.
        results: Vec<Argument>,
        /// Name of the returned status, such as `Ok`.
        status: &'static str,
        /// Duration of the call.
        took: Duration,
    },
    /// A raw TCP connection to a cluster is open.
    Connected {
        /// The connection.
        connection: Connection,
        /// Address of the endpoint.
        address: SocketAddr,
    },
    /// No connection to a cluster could be opened.
    Unreachable {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// The cause.
        error: String,
    },
    /// Bytes go out on a raw TCP connection.
    Sent {
        /// The connection.
        connection: Connection,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes have come in on a raw TCP connection.
    Received {
        /// The connection.
        connection: Connection,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The endpoint has ended or reset a raw TCP connection.
    Closed {
        /// The connection.
        connection: Connection,
        /// Whether it was reset or failed; otherwise the endpoint closed its sending side.
        broken: bool,
    },
}

/// Raw TCP connection to a cluster.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Number, unique in the process.
    pub number: u64,
}

/// Names of a plugin.
#[derive(Debug, Clone, Default)]
pub struct PluginName {
    /// `config.name`; may be empty.
    pub name: String,
    /// `config.root_id`; may be empty.
    pub root_id: String,
}

/// Argument or result with its name.
pub type Argument = (&'static str, Value);

/// Argument or result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Number.
    Number(i64),
    /// Name of a number that stands for something, such as `HttpRequestHeaders`.
    Word(&'static str),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// Names and values, of headers for example.
    Pairs(Vec<(Vec<u8>, Vec<u8>)>),
    /// Bytes of a configuration, which are not reported: it can hold passwords.
    Configuration(usize),
    /// Pointer outside the module's memory.
    Unreadable,
}

/// Optional [`Tracer`] of a host.
#[derive(Clone, Default)]
pub struct Tracing(Option<Arc<dyn Tracer>>);

impl Tracing {
    /// Creates the option with a tracer.
    pub fn to(tracer: Arc<dyn Tracer>) -> Self {
        Self(Some(tracer))
    }

    pub(crate) fn tracer(&self) -> Option<&Arc<dyn Tracer>> {
        self.0.as_ref()
    }

    /// Records the event that `what` makes, if there is a tracer.
    pub(crate) fn record(&self, what: impl FnOnce() -> What) {
        if let Some(tracer) = &self.0 {
            tracer.record(Event { at: Instant::now(), what: what() });
        }
    }

    /// Returns a new connection, if there is a tracer.
    pub(crate) fn connection(&self, cluster: &str) -> Option<(&Self, Connection)> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        self.0.as_ref()?;
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some((self, Connection { cluster: cluster.into(), number }))
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracing(on)" } else { "Tracing(off)" })
    }
}

//! Host of native builds: the functions of the proxy as a trait, and the calls of the current host.
//!
//! [`Vm`](crate::native::Vm) makes its host the current one while a callback runs. Callbacks nest: a host may call the
//! filter back within a host call, as Envoy does.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::num::NonZeroU32;

use super::{Buffer, Headers, HostError, Level, Metric};

/// Functions of a proxy that the filter calls, as in proxy-wasm 0.2.1.
///
/// Every function has a default: a call without an effect, a value that does not exist, or a refusal with status 1. A
/// function takes `&self`, because the filter may be called back before the function returns.
pub trait Host {
    /// Writes a line to the log.
    fn log(&self, _level: Level, _line: &str) {}

    /// Time of the monotonic clock, in nanoseconds since any epoch.
    fn monotonic_nanos(&self) -> u64 {
        0
    }

    /// Random number from which a worker derives its identity and its jitter. `None`: the worker does not start.
    fn random(&self) -> Option<u64> {
        None
    }

    /// Environment of the VM: `NAME=value` entries, each followed by a zero byte.
    fn environment(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Sets the context on which the calls that follow act, until the callback returns.
    ///
    /// # Errors
    /// If the context does not exist.
    fn set_effective_context(&self, _context: u32) -> Result<(), HostError> {
        refused()
    }

    /// Sets the period of the root context's ticks, in milliseconds; 0 turns them off.
    ///
    /// # Errors
    /// If the host has no ticks.
    fn set_tick_period(&self, _milliseconds: u32) -> Result<(), HostError> {
        refused()
    }

    /// First `size` bytes of a buffer; no bytes where the host has no such buffer.
    fn buffer(&self, _buffer: Buffer, _size: usize) -> Vec<u8> {
        Vec::new()
    }

    /// Replaces the first `size` bytes of a buffer.
    ///
    /// # Errors
    /// If the host has no such buffer.
    fn replace_buffer(&self, _buffer: Buffer, _size: usize, _bytes: &[u8]) -> Result<(), HostError> {
        refused()
    }

    /// All headers of a map, encoded as [`encode_pairs`](crate::native::encode_pairs) does; no bytes where the host has
    /// no such map.
    fn headers(&self, _headers: Headers) -> Vec<u8> {
        Vec::new()
    }

    /// First value of a header.
    fn header(&self, _headers: Headers, _name: &str) -> Option<Vec<u8>> {
        None
    }

    /// Sets a header, replacing all headers of the same name.
    ///
    /// # Errors
    /// If the host has no such map.
    fn set_header(&self, _headers: Headers, _name: &str, _value: &str) -> Result<(), HostError> {
        refused()
    }

    /// Removes all headers of a name.
    ///
    /// # Errors
    /// If the host has no such map.
    fn remove_header(&self, _headers: Headers, _name: &str) -> Result<(), HostError> {
        refused()
    }

    /// Property by its path. `None` where it is missing or empty.
    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    /// Sets a property whose path is one name.
    ///
    /// # Errors
    /// If the host keeps no properties.
    fn set_property(&self, _name: &str, _value: &str) -> Result<(), HostError> {
        refused()
    }

    /// Resumes the effective context's request.
    ///
    /// # Errors
    /// If the effective context is no request.
    fn resume_request(&self) -> Result<(), HostError> {
        refused()
    }

    /// Resumes the effective context's response.
    ///
    /// # Errors
    /// If the effective context is no request.
    fn resume_response(&self) -> Result<(), HostError> {
        refused()
    }

    /// Answers the effective context's request with a local reply. `details` are for the access log; `headers` are
    /// encoded pairs.
    ///
    /// # Errors
    /// If the effective context is no request.
    fn send_local_response(
        &self,
        _status: u16,
        _details: &str,
        _headers: &[u8],
        _body: &[u8],
        _grpc_status: Option<u32>,
    ) -> Result<(), HostError> {
        refused()
    }

    /// Makes an HTTP callout to a cluster and returns its token. `headers` are encoded pairs; the timeout is in
    /// milliseconds.
    ///
    /// # Errors
    /// If the host refuses the callout.
    fn http_call(&self, _cluster: &str, _headers: &[u8], _body: &[u8], _timeout: u32) -> Result<u32, HostError> {
        refused()
    }

    /// Opens a gRPC stream from the root context to a cluster and returns its token.
    ///
    /// # Errors
    /// If the host refuses the stream.
    fn open_stream(&self, _cluster: &str, _service: &str, _method: &str) -> Result<u32, HostError> {
        refused()
    }

    /// Sends a message on a stream.
    ///
    /// # Errors
    /// If the effective context has no such stream.
    fn send(&self, _stream: u32, _message: &[u8]) -> Result<(), HostError> {
        refused()
    }

    /// Resets a stream immediately.
    ///
    /// # Errors
    /// If there is no such stream.
    fn cancel_stream(&self, _stream: u32) -> Result<(), HostError> {
        refused()
    }

    /// Closes this side of a stream.
    ///
    /// # Errors
    /// If there is no such stream.
    fn close_stream(&self, _stream: u32) -> Result<(), HostError> {
        refused()
    }

    /// Registers a shared queue and returns its id.
    ///
    /// # Errors
    /// If the host has no queues.
    fn register_queue(&self, _name: &str) -> Result<u32, HostError> {
        refused()
    }

    /// Appends an empty message to a queue.
    ///
    /// # Errors
    /// If there is no such queue.
    fn enqueue(&self, _queue: u32) -> Result<(), HostError> {
        refused()
    }

    /// Takes the next message out of a queue, if any.
    fn dequeue(&self, _queue: u32) -> Option<Vec<u8>> {
        None
    }

    /// Defines a metric and returns its id.
    ///
    /// # Errors
    /// If the host refuses the metric: the worker then does not start.
    fn define_metric(&self, _kind: Metric, _name: &str) -> Result<u32, HostError> {
        refused()
    }

    /// Adds to a counter or a gauge.
    ///
    /// # Errors
    /// If there is no such metric.
    fn increment(&self, _metric: u32, _offset: i64) -> Result<(), HostError> {
        refused()
    }

    /// Adds a value to a histogram.
    ///
    /// # Errors
    /// If there is no such metric.
    fn record_value(&self, _histogram: u32, _value: u64) -> Result<(), HostError> {
        refused()
    }
}

fn refused<T>() -> Result<T, HostError> {
    Err(HostError(NonZeroU32::MIN))
}

/// Host outside callbacks: it refuses every call.
struct NoHost;

impl Host for NoHost {}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn Host>>> = const { RefCell::new(None) };
}

/// Runs a callback with `host` as the current host of this thread.
pub(crate) fn within<T>(host: &Rc<dyn Host>, run: impl FnOnce() -> T) -> T {
    /// Restores the host of the outer callback, even if the callback panics.
    struct Outer(Option<Rc<dyn Host>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _outer = Outer(CURRENT.replace(Some(Rc::clone(host))));
    run()
}

fn current() -> Rc<dyn Host> {
    CURRENT.with_borrow(|host| host.as_ref().map(Rc::clone)).unwrap_or_else(|| Rc::new(NoHost))
}

/// Defines functions that call the current host.
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)+) => {
        $(pub(crate) fn $name($($argument: $type),*) $(-> $result)? {
            current().$name($($argument),*)
        })+
    };
}

calls! {
    fn log(level: Level, line: &str);
    fn monotonic_nanos() -> u64;
    fn random() -> Option<u64>;
    fn environment() -> Vec<u8>;
    fn set_effective_context(context: u32) -> Result<(), HostError>;
    fn set_tick_period(milliseconds: u32) -> Result<(), HostError>;
    fn buffer(buffer: Buffer, size: usize) -> Vec<u8>;
    fn replace_buffer(buffer: Buffer, size: usize, bytes: &[u8]) -> Result<(), HostError>;
    fn headers(headers: Headers) -> Vec<u8>;
    fn header(headers: Headers, name: &str) -> Option<Vec<u8>>;
    fn set_header(headers: Headers, name: &str, value: &str) -> Result<(), HostError>;
    fn remove_header(headers: Headers, name: &str) -> Result<(), HostError>;
    fn property(path: &[&str]) -> Option<Vec<u8>>;
    fn set_property(name: &str, value: &str) -> Result<(), HostError>;
    fn resume_request() -> Result<(), HostError>;
    fn resume_response() -> Result<(), HostError>;
    fn send_local_response(
        status: u16,
        details: &str,
        headers: &[u8],
        body: &[u8],
        grpc_status: Option<u32>,
    ) -> Result<(), HostError>;
    fn http_call(cluster: &str, headers: &[u8], body: &[u8], timeout: u32) -> Result<u32, HostError>;
    fn open_stream(cluster: &str, service: &str, method: &str) -> Result<u32, HostError>;
    fn send(stream: u32, message: &[u8]) -> Result<(), HostError>;
    fn cancel_stream(stream: u32) -> Result<(), HostError>;
    fn close_stream(stream: u32) -> Result<(), HostError>;
    fn register_queue(name: &str) -> Result<u32, HostError>;
    fn enqueue(queue: u32) -> Result<(), HostError>;
    fn dequeue(queue: u32) -> Option<Vec<u8>>;
    fn define_metric(kind: Metric, name: &str) -> Result<u32, HostError>;
    fn increment(metric: u32, offset: i64) -> Result<(), HostError>;
    fn record_value(histogram: u32, value: u64) -> Result<(), HostError>;
}

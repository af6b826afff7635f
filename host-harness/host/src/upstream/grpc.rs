//! gRPC streams and calls of modules.
//!
//! Messages are framed and sent through the cluster's upstream filters; the response is decoded into messages, with one
//! callback for each. With a raw-TCP cluster and an upstream filter that removes the framing, a stream is a long-lived
//! TCP connection.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::frames::{Decoder, frame};
use super::{Cluster, Failure, ResponseSink, UpstreamRequest};
use crate::abi::in_flight::Reservation;
use crate::abi::state::GrpcTarget;
use crate::http::Headers;
use crate::http::local_reply::{grpc_status, render};
use crate::vm::Vm;

const OK: u32 = 0;
const UNKNOWN: u32 = 2;
const RESOURCE_EXHAUSTED: u32 = 8;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// Maximum number of bytes that wait to be sent on one stream: an upstream that does not read ends it. Envoy has none.
const MAX_UNSENT: usize = 64 * 1024 * 1024;

/// Running gRPC stream or call.
pub(crate) struct GrpcStream {
    vm: Weak<Vm>,
    root: u32,
    token: u32,
    unary: bool,
    /// Response message of a unary call, kept until the status arrives.
    answer: RefCell<Option<Bytes>>,
    decoder: RefCell<Decoder>,
    /// Memory of the messages that have arrived and that the module has not received.
    kept: RefCell<Reservation>,
    request: RefCell<Option<Rc<UpstreamRequest>>>,
    timer: RefCell<Option<AbortHandle>>,
    over: Cell<bool>,
    on_end: Box<dyn Fn()>,
}

/// Call or stream that a module has requested.
pub(crate) struct Call {
    pub(crate) target: GrpcTarget,
    pub(crate) metadata: Headers,
    /// Message of a unary call and its timeout in milliseconds (0: none).
    pub(crate) unary: Option<(Bytes, u32)>,
    pub(crate) reservation: Reservation,
}

impl GrpcStream {
    /// Opens a stream, or sends a call.
    ///
    /// `on_end` is called before the callback that ends it; a cancelled stream skips it.
    pub(crate) fn start(
        vm: &Rc<Vm>,
        (root, token): (u32, u32),
        cluster: &Rc<Cluster>,
        call: Call,
        on_end: Box<dyn Fn()>,
    ) -> Rc<Self> {
        let Call { target, metadata, unary, reservation } = call;
        let stream = Rc::new(Self {
            vm: Rc::downgrade(vm),
            root,
            token,
            unary: unary.is_some(),
            answer: RefCell::default(),
            decoder: RefCell::default(),
            kept: RefCell::new(vm.in_flight.nothing()),
            request: RefCell::default(),
            timer: RefCell::default(),
            over: Cell::new(false),
            on_end,
        });
        let mut headers: Headers = [
            (":method", "POST".to_owned()),
            (":path", format!("/{}/{}", target.service, target.method)),
            (":authority", target.cluster.clone()),
            (":scheme", "http".to_owned()),
            ("te", "trailers".to_owned()),
            ("content-type", "application/grpc".to_owned()),
        ]
        .into_iter()
        .collect();
        for (name, value) in metadata.iter() {
            headers.add(name.clone(), value.clone());
        }
        let budget = Some(&vm.in_flight);
        let request = UpstreamRequest::start(cluster, headers, false, stream.clone(), None, budget);
        // From here on, the request counts what is not sent yet.
        drop(reservation);
        stream.request.replace(Some(request));
        if let Some((message, timeout)) = unary {
            stream.send(&message, true);
            if timeout > 0 {
                let waiting = stream.clone();
                let timer = tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(timeout))).await;
                    waiting.timer.take();
                    waiting.close(UNAVAILABLE, "upstream request timeout");
                });
                stream.timer.replace(Some(timer.abort_handle()));
            }
        }
        stream
    }

    pub(crate) fn send(&self, message: &[u8], end: bool) {
        let Some(request) = self.request.borrow().clone() else { return };
        if request.unsent().saturating_add(message.len()) > MAX_UNSENT {
            return self.close(RESOURCE_EXHAUSTED, "too many unsent bytes");
        }
        request.data(frame(message), end);
    }

    /// Closes the module's side of the stream.
    pub(crate) fn close_local(&self) {
        let request = self.request.borrow().clone();
        if let Some(request) = request {
            request.data(Bytes::new(), true);
        }
    }

    /// Cancels the stream without a callback: the module requested it, or its VM has ended.
    pub(crate) fn cancel(&self) {
        self.over.set(true);
        self.release();
    }

    /// Counts what has arrived and is kept; returns whether it is within the VM's limit.
    fn count(&self) -> bool {
        let bytes = self.decoder.borrow().len() + self.answer.borrow().as_ref().map_or(0, Bytes::len);
        self.kept.borrow_mut().set(bytes)
    }

    fn close(&self, status: u32, message: &str) {
        if self.over.replace(true) {
            return;
        }
        self.release();
        (self.on_end)();
        let Some(vm) = self.vm.upgrade() else { return };
        // As in Envoy, the details of the response take the place of a missing message.
        let message = if message.is_empty() { "via_upstream" } else { message };
        match self.answer.take() {
            Some(answer) if status == OK => {
                vm.on_grpc_receive(self.root, self.token, answer);
                vm.forget_grpc(self.root, self.token);
            }
            _ => vm.on_grpc_close(self.root, self.token, status, message),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    fn release(&self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if let Some(request) = self.request.take() {
            request.cancel();
        }
    }

    fn close_with(&self, trailers: &Headers) {
        let status = trailers.text("grpc-status").and_then(|status| status.parse().ok()).unwrap_or(UNKNOWN);
        self.close(status, trailers.text("grpc-message").unwrap_or(""));
    }
}

impl ResponseSink for GrpcStream {
    fn headers(&self, headers: Headers, end: bool) {
        let status: u16 = headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        let is_trailers_only = end && (status == 200 || headers.first(b"grpc-status").is_some());
        let trailers_only = is_trailers_only.then(|| headers.clone());
        if !self.unary
            && let Some(vm) = self.vm.upgrade()
        {
            vm.on_grpc_initial_metadata(self.root, self.token, if end { Headers::new() } else { headers });
        }
        match trailers_only {
            Some(trailers) => self.trailers(trailers),
            None if status != 200 => self.close(grpc_status(status), ""),
            None => {}
        }
    }

    fn data(&self, data: Bytes, end: bool) {
        self.decoder.borrow_mut().push(&data);
        if !self.count() {
            return self.close(RESOURCE_EXHAUSTED, "too many bytes in flight");
        }
        while !self.over.get() {
            let next = self.decoder.borrow_mut().next();
            match next {
                Ok(Some(message)) if self.unary => {
                    self.answer.replace(Some(message));
                }
                Ok(Some(message)) => {
                    if let Some(vm) = self.vm.upgrade() {
                        vm.on_grpc_receive(self.root, self.token, message);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!(target: "upstream", "gRPC stream {}: {error}", self.token);
                    self.close(INTERNAL, "");
                }
            }
        }
        self.count();
        if end {
            self.close(UNKNOWN, "");
        }
    }

    fn trailers(&self, trailers: Headers) {
        if !self.unary
            && let Some(vm) = self.vm.upgrade()
        {
            vm.on_grpc_trailing_metadata(self.root, self.token, trailers.clone());
        }
        self.close_with(&trailers);
    }

    fn failed(&self, why: &Failure, has_begun: bool) {
        match why {
            Failure::Filter => self.close(INTERNAL, "an upstream filter ended the stream"),
            _ if has_begun => self.close(UNAVAILABLE, "the connection broke"),
            _ => {
                let request = [("content-type", "application/grpc".to_owned())].into_iter().collect();
                self.headers(render(why.reply(), &request).0, true);
            }
        }
    }
}

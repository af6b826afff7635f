//! HTTP callouts of modules: one request, one buffered response.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::AbortHandle;

use super::{Cluster, Failure, ResponseSink, UpstreamRequest};
use crate::abi::in_flight::Reservation;
use crate::abi::state::CalloutResponse;
use crate::http::local_reply::render;
use crate::http::{Headers, LocalReply};
use crate::vm::Vm;

/// Maximum length of a response's body in bytes: a longer one ends the callout like a reset. Envoy's default.
const MAX_RESPONSE: usize = 32 * 1024 * 1024;

/// Running callout.
pub(crate) struct Callout {
    vm: Weak<Vm>,
    root: u32,
    token: u32,
    request_headers: Headers,
    headers: RefCell<Option<Headers>>,
    body: RefCell<BytesMut>,
    /// Memory of the response so far.
    kept: RefCell<Option<Reservation>>,
    request: RefCell<Option<Rc<UpstreamRequest>>>,
    timer: RefCell<Option<AbortHandle>>,
    over: Cell<bool>,
    on_end: Box<dyn Fn()>,
}

/// Request of a callout.
pub(crate) struct Message {
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    /// Timeout in milliseconds; 0: none, as in Envoy.
    pub(crate) timeout: u32,
    pub(crate) reservation: Reservation,
}

impl Callout {
    /// Sends the request. `on_end` is called before the callback that ends the callout; a cancelled callout skips it.
    pub(crate) fn start(
        vm: &Rc<Vm>,
        root: u32,
        token: u32,
        cluster: &Rc<Cluster>,
        message: Message,
        on_end: Box<dyn Fn()>,
    ) -> Rc<Self> {
        let callout = Rc::new(Self {
            vm: Rc::downgrade(vm),
            root,
            token,
            request_headers: message.headers.clone(),
            headers: RefCell::default(),
            body: RefCell::default(),
            kept: RefCell::new(Some(vm.in_flight.nothing())),
            request: RefCell::default(),
            timer: RefCell::default(),
            over: Cell::new(false),
            on_end,
        });
        let mut headers = message.headers;
        if headers.first(b":scheme").is_none() {
            headers.add(":scheme", "http");
        }
        let body = message.body;
        // From here on, the request counts what is not sent yet.
        drop(message.reservation);
        let budget = Some(&vm.in_flight);
        let request = UpstreamRequest::start(cluster, headers, body.is_empty(), callout.clone(), None, budget);
        if !body.is_empty() {
            request.data(body, true);
        }
        callout.request.replace(Some(request));
        if message.timeout > 0 {
            let waiting = callout.clone();
            let timer = tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(message.timeout))).await;
                waiting.timer.take();
                waiting.time_out();
            });
            callout.timer.replace(Some(timer.abort_handle()));
        }
        callout
    }

    /// Cancels the callout without a callback, because its VM has ended.
    pub(crate) fn cancel(&self) {
        self.over.set(true);
        self.kept.take();
        self.release();
    }

    /// Ends the callout with a 504 response, as Envoy's router does.
    fn time_out(&self) {
        let body = Bytes::from_static(b"upstream request timeout");
        self.answer(LocalReply { status: 504, body, ..LocalReply::default() });
    }

    /// Ends the callout with an answer of the router.
    fn answer(&self, reply: LocalReply) {
        let (headers, body) = render(reply, &self.request_headers);
        self.end(Some(CalloutResponse { headers, body, trailers: None }));
    }

    fn whole(&self, trailers: Option<Headers>) {
        let headers = self.headers.take().unwrap_or_default();
        self.end(Some(CalloutResponse { headers, body: self.body.take().freeze(), trailers }));
    }

    fn end(&self, response: Option<CalloutResponse>) {
        if self.over.replace(true) {
            return;
        }
        self.release();
        (self.on_end)();
        // The response exists until the callback returns.
        let _kept = self.kept.take();
        if let Some(vm) = self.vm.upgrade() {
            vm.on_http_call_response(self.root, self.token, response);
        }
    }

    /// Counts a part of the response; returns whether it is within the limits.
    fn keep(&self, bytes: usize) -> bool {
        self.kept.borrow_mut().as_mut().is_some_and(|kept| kept.grow(bytes))
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
}

impl ResponseSink for Callout {
    fn headers(&self, headers: Headers, end: bool) {
        if !self.keep(headers.byte_size()) {
            return self.end(None);
        }
        self.headers.replace(Some(headers));
        if end {
            self.whole(None);
        }
    }

    fn data(&self, data: Bytes, end: bool) {
        if self.body.borrow().len().saturating_add(data.len()) > MAX_RESPONSE || !self.keep(data.len()) {
            return self.end(None);
        }
        self.body.borrow_mut().extend_from_slice(&data);
        if end {
            self.whole(None);
        }
    }

    fn trailers(&self, trailers: Headers) {
        self.whole(Some(trailers));
    }

    fn failed(&self, why: &Failure, has_begun: bool) {
        if has_begun || *why == Failure::Filter {
            return self.end(None);
        }
        self.answer(why.reply());
    }
}

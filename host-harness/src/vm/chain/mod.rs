//! The filters of one exchange, and how headers, bodies and trailers pass through them.
//!
//! What goes in at one end comes out at the other unless a filter holds it back. A filter that pauses on headers holds
//! all that follows, unless its plugin is to see the body nonetheless; one that pauses on a body holds the body, and sees
//! it grow, or has its sender wait. A local reply ends the request's way and takes the response's way. (Envoy's filter
//! manager; `StopAllIterationAndWatermark`, `StopIterationAndBuffer` and `StopIterationAndWatermark`.)

mod passage;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::Vm;
use super::local_reply::render;
use super::plugin::{Acquired, PluginHandle};
use crate::abi::headers::Headers;
use crate::abi::stream::{Direction, FilterView, LocalReply, Stream, StreamControl};
use crate::bootstrap::FailurePolicy;
use crate::native::NativeFilter;
use passage::{Held, Stage};

/// What a filter may hold of a body, in bytes; Envoy's default.
pub(crate) const BUFFER_LIMIT: usize = 1024 * 1024;

/// Chunks of a response that may wait for a slow client.
const BACKLOG: usize = 32;

/// What comes out at an end of the chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Read them from the stream; `true`: nothing follows.
    Headers(bool),
    Data(Bytes, bool),
    Trailers,
}

pub(crate) struct Chain {
    pub(crate) stream: Rc<Stream>,
    /// In the order of the request.
    filters: Vec<Filter>,
    /// By direction, each in the order of its own way.
    lanes: [RefCell<Vec<Stage>>; 2],
    /// What a filter may hold of a body, in bytes.
    buffer_limit: usize,
    outputs: [RefCell<VecDeque<Output>>; 2],
    changed: [Notify; 2],
    /// Output of the response was taken.
    drained: Notify,
    /// Directions that nothing takes any more.
    closed: [Cell<bool>; 2],
    replied: Cell<bool>,
    failed: Cell<bool>,
    response_begun: Cell<bool>,
    response_sent: Cell<bool>,
    reset: Cell<bool>,
    finished: Cell<bool>,
    this: Weak<Self>,
}

/// What does the work at a place of the chain.
#[derive(Clone)]
pub(crate) enum Handler {
    Wasm(Rc<PluginHandle>),
    Native(Rc<NativeFilter>),
}

struct Filter {
    handler: Handler,
    /// The VM and the context in it; none before the request's headers, and none in a bypassed or native filter.
    open: RefCell<Option<(Rc<Vm>, u32)>>,
    replied: Cell<bool>,
}

impl Chain {
    pub(crate) fn new(handlers: &[Handler], stream: Stream, buffer_limit: usize) -> Rc<Self> {
        let stream = Rc::new(stream);
        stream.views.borrow_mut().extend(handlers.iter().map(|_| FilterView::default()));
        let lane = || RefCell::new(handlers.iter().map(|_| Stage::default()).collect());
        Rc::new_cyclic(|this| Self {
            stream,
            filters: handlers
                .iter()
                .map(|handler| Filter { handler: handler.clone(), open: RefCell::new(None), replied: Cell::new(false) })
                .collect(),
            lanes: [lane(), lane()],
            buffer_limit,
            outputs: Default::default(),
            changed: Default::default(),
            drained: Notify::new(),
            closed: Default::default(),
            replied: Cell::new(false),
            failed: Cell::new(false),
            response_begun: Cell::new(false),
            response_sent: Cell::new(false),
            reset: Cell::new(false),
            finished: Cell::new(false),
            this: this.clone(),
        })
    }

    /// Returns when something may have come out since the last time, or the exchange was reset.
    pub(crate) async fn changed(&self) {
        tokio::select! {
            () = self.changed_in(Direction::Request) => {}
            () = self.changed_in(Direction::Response) => {}
        }
    }

    /// As [`Chain::changed`], of one direction; each may be waited for by one task.
    pub(crate) async fn changed_in(&self, direction: Direction) {
        let [request, response] = &self.changed;
        if direction == Direction::Request { request.notified().await } else { response.notified().await }
    }

    pub(crate) fn take(&self, direction: Direction) -> Option<Output> {
        if direction == Direction::Response {
            self.drained.notify_one();
        }
        self.outputs(direction).borrow_mut().pop_front()
    }

    /// Whether so much of the response waits to be taken that its source should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.outputs(Direction::Response).borrow().len() >= BACKLOG
    }

    /// Returns when some of the response was taken.
    pub(crate) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// A local reply was given.
    pub(crate) fn is_replied(&self) -> bool {
        self.replied.get()
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.get()
    }

    /// Whether a filter holds the request's headers, or as much of its body as is kept, so that the rest of it should
    /// wait where it is.
    pub(crate) fn holds_request(&self) -> bool {
        let lane = self.lane(Direction::Request).borrow();
        lane.iter().enumerate().any(|(place, stage)| match stage.held {
            Held::Headers(_) => !self.sees_body_past_headers(Direction::Request, place),
            Held::Body(_) | Held::HeadersAndBody(_) if stage.holds_back => {
                let index = self.filter_at(Direction::Request, place);
                let shown = self.with_body(index, Direction::Request, |body| body.len());
                stage.kept.len() + shown > self.buffer_limit
            }
            _ => false,
        })
    }

    /// Whether a filter holds anything of the response.
    pub(crate) fn holds_response(&self) -> bool {
        self.lane(Direction::Response).borrow().iter().any(|stage| stage.held != Held::Nothing)
    }

    pub(crate) fn request_headers(&self, end: bool) {
        self.push(Direction::Request, 0, Output::Headers(end));
    }

    pub(crate) fn request_data(&self, data: Bytes, end: bool) {
        let count = &self.stream.info.request_bytes;
        count.set(count.get() + data.len() as u64);
        self.push(Direction::Request, 0, Output::Data(data, end));
    }

    pub(crate) fn request_trailers(&self, trailers: Headers) {
        self.stream.request_trailers.replace(Some(trailers));
        self.push(Direction::Request, 0, Output::Trailers);
    }

    pub(crate) fn response_headers(&self, headers: Headers, end: bool) {
        if self.replied.get() || self.response_begun.replace(true) {
            return;
        }
        self.stream.response_headers.replace(Some(headers));
        self.push(Direction::Response, 0, Output::Headers(end));
    }

    pub(crate) fn response_data(&self, data: Bytes, end: bool) {
        if !self.replied.get() {
            self.count_response(&data);
            self.push(Direction::Response, 0, Output::Data(data, end));
        }
    }

    pub(crate) fn response_trailers(&self, trailers: Headers) {
        if !self.replied.get() {
            self.stream.response_trailers.replace(Some(trailers));
            self.push(Direction::Response, 0, Output::Trailers);
        }
    }

    /// The proxy itself answers, where nobody has yet.
    pub(crate) fn reply(&self, reply: LocalReply) {
        if !self.finished.get() && !self.reset.get() && !self.replied.replace(true) {
            self.answer(reply);
        }
    }

    /// The exchange is over, in whatever way: its contexts end.
    pub(crate) fn finish(&self) {
        if self.finished.replace(true) {
            return;
        }
        self.stream.info.ended.set(true);
        self.closed.iter().for_each(|closed| closed.set(true));
        for (index, filter) in self.filters.iter().enumerate() {
            let open = filter.open.borrow().clone();
            if let Some((vm, context)) = open {
                self.with_view(index, |view| view.logging = true);
                vm.on_log(context);
                self.with_view(index, |view| view.logging = false);
                vm.close(context);
            }
            filter.open.take();
        }
    }

    /// Whether the request's headers may go to the filter, or past it.
    fn open(&self, index: usize) -> bool {
        let Some(filter) = self.filters.get(index) else { return true };
        let plugin = match &filter.handler {
            Handler::Wasm(plugin) => plugin,
            Handler::Native(native) => {
                let Some(reply) = native.on_request_headers(&self.stream) else { return true };
                self.reply(reply);
                return false;
            }
        };
        let opened = match plugin.acquire() {
            Acquired::Bypass => return true,
            Acquired::Refuse => None,
            Acquired::Ready(vm, root) => {
                let control: Weak<dyn StreamControl> = self.this.clone();
                vm.open(root, self.stream.clone(), index, control).ok().map(|context| (vm, context))
            }
        };
        if opened.is_none() {
            if filter.passes_on_failure() {
                return true;
            }
            self.fail();
            return false;
        }
        filter.open.replace(opened);
        true
    }

    /// A failure stands in for an answer that is already on its way through the filters, too.
    fn fail(&self) {
        if self.finished.get() || self.reset.get() || self.failed.replace(true) {
            return;
        }
        self.replied.set(true);
        let details = "wasm_fail_stream".to_owned();
        self.answer(LocalReply { status: 503, grpc_status: Some(14), details, ..LocalReply::default() });
    }

    fn answer(&self, reply: LocalReply) {
        let [request, response] = &self.closed;
        request.set(true);
        self.stream.info.response_details.replace(reply.details.clone());
        if self.response_sent.get() {
            return self.reset();
        }
        let (headers, body) = render(reply, &self.stream.request_headers.borrow());
        self.stream.response_headers.replace(Some(headers));
        self.stream.response_trailers.replace(None);
        self.count_response(&body);
        let whole = body.is_empty();
        if self.response_begun.replace(true) {
            // A response is on its way through the filters: this one passes them by, as in Envoy.
            response.set(true);
            self.emit(Direction::Response, Output::Headers(whole));
            if !whole {
                self.emit(Direction::Response, Output::Data(body, true));
            }
            return;
        }
        self.push(Direction::Response, 0, Output::Headers(whole));
        if !whole {
            self.push(Direction::Response, 0, Output::Data(body, true));
        }
    }

    fn overflow(&self, direction: Direction) {
        let (status, details) = match direction {
            Direction::Request => (413, "request_payload_too_large"),
            Direction::Response => (500, "response_payload_too_large"),
        };
        let body = if status == 413 { Bytes::from_static(b"Payload Too Large") } else { Bytes::new() };
        self.reply(LocalReply { status, body, details: details.to_owned(), ..LocalReply::default() });
    }

    fn emit(&self, direction: Direction, item: Output) {
        if direction == Direction::Response && matches!(item, Output::Headers(_)) {
            self.response_sent.set(true);
        }
        self.outputs(direction).borrow_mut().push_back(item);
        let [request, response] = &self.changed;
        if direction == Direction::Request { request.notify_one() } else { response.notify_one() }
    }

    fn count_response(&self, data: &Bytes) {
        let count = &self.stream.info.response_bytes;
        count.set(count.get() + data.len() as u64);
    }

    /// The response meets the filters in the reverse order.
    fn filter_at(&self, direction: Direction, place: usize) -> usize {
        match direction {
            Direction::Request => place,
            Direction::Response => self.filters.len().saturating_sub(1 + place),
        }
    }

    fn is_closed(&self, direction: Direction) -> bool {
        let [request, response] = &self.closed;
        if direction == Direction::Request { request.get() } else { response.get() }
    }

    fn lane(&self, direction: Direction) -> &RefCell<Vec<Stage>> {
        let [request, response] = &self.lanes;
        if direction == Direction::Request { request } else { response }
    }

    fn outputs(&self, direction: Direction) -> &RefCell<VecDeque<Output>> {
        let [request, response] = &self.outputs;
        if direction == Direction::Request { request } else { response }
    }

    fn with_view(&self, index: usize, change: impl FnOnce(&mut FilterView)) {
        if let Some(view) = self.stream.views.borrow_mut().get_mut(index) {
            change(view);
        }
    }

    fn with_body<T: Default>(&self, index: usize, direction: Direction, change: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut views = self.stream.views.borrow_mut();
        let Some(FilterView { bodies: [request, response], .. }) = views.get_mut(index) else { return T::default() };
        change(if direction == Direction::Request { request } else { response })
    }
}

impl Filter {
    /// Whether even the request in which it failed goes on without it.
    fn passes_on_failure(&self) -> bool {
        matches!(&self.handler, Handler::Wasm(plugin) if plugin.policy() == (FailurePolicy::FailOpen { current: true }))
    }

    fn sees_body_past_headers(&self) -> bool {
        matches!(&self.handler, Handler::Wasm(plugin) if plugin.sees_body_past_headers())
    }
}

impl StreamControl for Chain {
    fn resume(&self, filter: usize, direction: Direction) {
        self.let_go(filter, direction);
    }

    fn local_reply(&self, filter: usize, reply: LocalReply) {
        let first = self.filters.get(filter).is_some_and(|filter| !filter.replied.replace(true));
        if first && !self.finished.get() && !self.reset.get() && !self.failed.get() {
            self.replied.set(true);
            self.answer(reply);
        }
    }

    fn vm_failed(&self, filter: usize) {
        let Some(failed) = self.filters.get(filter) else { return };
        failed.open.take();
        if failed.passes_on_failure() {
            self.resume(filter, Direction::Request);
            self.resume(filter, Direction::Response);
        } else {
            self.fail();
        }
    }

    fn reset(&self) {
        if self.finished.get() || self.reset.replace(true) {
            return;
        }
        self.closed.iter().for_each(|closed| closed.set(true));
        self.changed.iter().for_each(Notify::notify_one);
    }
}

//! Filter chain of one HTTP stream: passes headers, bodies and trailers through the filters.
//!
//! Input at one end becomes output at the other end unless a filter holds it. A filter that pauses on headers holds all
//! later input, unless its plugin sees the body past paused headers. A filter that pauses on a body either buffers the
//! body and sees it grow, or makes its sender wait. A local reply ends the request direction and passes the filters as
//! the response. (Envoy's filter manager; `StopAllIterationAndWatermark`, `StopIterationAndBuffer` and
//! `StopIterationAndWatermark`.)

mod limits;
mod output;
mod passage;
mod progress;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::Vm;
use super::plugin::{Acquired, PluginHandle};
use crate::bootstrap::FailurePolicy;
use crate::http::local_reply::render;
use crate::http::{Direction, FilterView, Headers, LocalReply, Stream, StreamControl};
use crate::native::NativeFilter;
pub(crate) use output::Output;
use output::Outputs;
use passage::{Buffering, Held, Stage};
use progress::{Origin, Response, StreamState};

/// Default limit of a body that a filter holds, in bytes; Envoy's default.
pub(crate) const BUFFER_LIMIT: usize = 1024 * 1024;

pub(crate) struct Chain {
    pub(crate) stream: Rc<Stream>,
    /// Filters, in request order.
    filters: Vec<Filter>,
    /// Stages by direction: request stages in request order, response stages in response order.
    lanes: [RefCell<Vec<Stage>>; 2],
    /// Limit of a body that a filter holds, in bytes.
    buffer_limit: usize,
    outputs: [Outputs; 2],
    /// Notified when output of a direction is taken.
    drained: [Notify; 2],
    state: Cell<StreamState>,
    response: Cell<Response>,
    this: Weak<Self>,
}

/// Implementation of a filter: a wasm plugin or a native filter.
#[derive(Clone)]
pub(crate) enum Handler {
    Wasm(Rc<PluginHandle>),
    Native(Rc<NativeFilter>),
}

struct Filter {
    handler: Handler,
    /// VM and context id; `None` before the request headers, and for a bypassed or native filter.
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
            drained: Default::default(),
            state: Cell::default(),
            response: Cell::default(),
            this: this.clone(),
        })
    }

    /// Returns when there may be new output in either direction, or the stream was reset.
    pub(crate) async fn changed(&self) {
        tokio::select! {
            () = self.changed_in(Direction::Request) => {}
            () = self.changed_in(Direction::Response) => {}
        }
    }

    /// Returns when there may be new output in one direction, or the stream was reset; for one task per direction.
    pub(crate) async fn changed_in(&self, direction: Direction) {
        self.outputs(direction).changed().await;
    }

    pub(crate) fn take(&self, direction: Direction) -> Option<Output> {
        self.drained(direction).notify_one();
        self.outputs(direction).take()
    }

    /// Whether a local reply was sent.
    pub(crate) fn is_replied(&self) -> bool {
        self.response.get().is_local()
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.state.get() == StreamState::Reset
    }

    /// Whether the downstream's request body should not be read: a filter holds the request headers, or holds back
    /// more of the body than the buffer limit.
    pub(crate) fn holds_request(&self) -> bool {
        let lane = self.lane(Direction::Request).borrow();
        lane.iter().enumerate().any(|(place, stage)| match stage.held {
            Held::Headers { .. } => !self.sees_body_past_headers(Direction::Request, place),
            held if held.buffering() == Some(Buffering::Watermark) => {
                let index = self.filter_at(Direction::Request, place);
                let shown = self.with_body(index, Direction::Request, |body| body.len());
                stage.kept.len() + shown > self.buffer_limit
            }
            _ => false,
        })
    }

    /// Whether a filter holds response headers, body or trailers.
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
        if self.response.get() != Response::Awaited {
            return;
        }
        self.response.set(Response::Passing(Origin::Upstream));
        self.stream.response_headers.replace(Some(headers));
        self.push(Direction::Response, 0, Output::Headers(end));
    }

    pub(crate) fn response_data(&self, data: Bytes, end: bool) {
        if !self.is_replied() {
            self.count_response(&data);
            self.push(Direction::Response, 0, Output::Data(data, end));
        }
    }

    pub(crate) fn response_trailers(&self, trailers: Headers) {
        if !self.is_replied() {
            self.stream.response_trailers.replace(Some(trailers));
            self.push(Direction::Response, 0, Output::Trailers);
        }
    }

    /// Sends a local reply of the proxy, unless a local reply was sent already or the stream is over.
    pub(crate) fn reply(&self, reply: LocalReply) {
        if self.is_open() && !self.is_replied() {
            self.answer(Origin::LocalReply, reply);
        }
    }

    /// Ends the stream and its contexts: completed, reset or cancelled.
    pub(crate) fn finish(&self) {
        if self.state.replace(StreamState::Finished) == StreamState::Finished {
            return;
        }
        self.stream.info.ended.set(true);
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

    /// Opens a filter for the request headers: runs a native filter, or creates a wasm filter's context.
    ///
    /// Returns whether the headers continue, to the filter or past it.
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

    /// Sends 503 for a failed filter, also in place of a local reply that is passing the filters.
    fn fail(&self) {
        if !self.is_open() || self.response.get().is_for_failure() {
            return;
        }
        let details = "wasm_fail_stream".to_owned();
        self.answer(
            Origin::Failure,
            LocalReply { status: 503, grpc_status: Some(14), details, ..LocalReply::default() },
        );
    }

    fn answer(&self, origin: Origin, reply: LocalReply) {
        self.stream.info.response_details.replace(reply.details.clone());
        let mut reply = reply;
        reply.changes.extend(self.stream.local_reply_changes());
        let before = self.response.get();
        let response = before.after_local_reply(origin);
        self.response.set(response);
        if matches!(before, Response::Sent(_) | Response::Replaced(_)) {
            return self.reset();
        }
        let (headers, body) = render(reply, &self.stream.request_headers.borrow());
        self.stream.response_headers.replace(Some(headers));
        self.stream.response_trailers.replace(None);
        self.count_response(&body);
        let put = |item| match response {
            Response::Replaced(_) => self.emit(Direction::Response, item),
            _ => self.push(Direction::Response, 0, item),
        };
        let whole = body.is_empty();
        put(Output::Headers(whole));
        if !whole {
            put(Output::Data(body, true));
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
            self.response.set(self.response.get().after_headers());
        }
        self.outputs(direction).push(item);
    }

    fn count_response(&self, data: &Bytes) {
        let count = &self.stream.info.response_bytes;
        count.set(count.get() + data.len() as u64);
    }

    /// Returns the index of the filter at a place; responses pass the filters in reverse order.
    fn filter_at(&self, direction: Direction, place: usize) -> usize {
        match direction {
            Direction::Request => place,
            Direction::Response => self.filters.len().saturating_sub(1 + place),
        }
    }

    fn is_open(&self) -> bool {
        self.state.get() == StreamState::Open
    }

    /// Whether the input of a direction is dropped.
    fn is_closed(&self, direction: Direction) -> bool {
        let response = self.response.get();
        let is_replaced = match direction {
            Direction::Request => response.is_local(),
            Direction::Response => matches!(response, Response::Replaced(_)),
        };
        is_replaced || !self.is_open()
    }

    fn lane(&self, direction: Direction) -> &RefCell<Vec<Stage>> {
        let [request, response] = &self.lanes;
        if direction == Direction::Request { request } else { response }
    }

    fn drained(&self, direction: Direction) -> &Notify {
        let [request, response] = &self.drained;
        if direction == Direction::Request { request } else { response }
    }

    fn outputs(&self, direction: Direction) -> &Outputs {
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
    /// Whether a stream continues without the filter when the filter fails during that stream.
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
        if first && self.is_open() && !self.response.get().is_for_failure() {
            self.answer(Origin::LocalReply, reply);
        }
    }

    fn reset(&self) {
        if !self.is_open() {
            return;
        }
        self.state.set(StreamState::Reset);
        self.outputs.iter().for_each(Outputs::notify);
    }
}

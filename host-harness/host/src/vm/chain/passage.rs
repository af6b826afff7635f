//! Passage of headers, bodies and trailers from filter to filter, and the input that a filter holds.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{Chain, Filter, Output};
use crate::http::{Direction, Headers};
use crate::log_lines::Throttle;
use crate::vm::callbacks::{DataStatus, HeadersStatus, TrailersStatus};
use crate::vm::{Vm, VmFailed};

#[derive(Default)]
pub(super) struct Stage {
    pub(super) held: Held,
    /// Input that arrived while the filter held headers or was running.
    waiting: VecDeque<Output>,
    /// Length of the waiting bodies in bytes.
    waiting_bytes: usize,
    callback: Callback,
    /// Part of a body held with [`Buffering::Watermark`] that the filter has seen and does not see again.
    pub(super) kept: BytesMut,
}

/// Input that a filter holds; `end`: it ends its direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    #[default]
    Nothing,
    Headers {
        end: bool,
    },
    Body {
        end: bool,
        buffering: Buffering,
    },
    /// The headers, and the body that has arrived since.
    HeadersAndBody {
        end: bool,
        buffering: Buffering,
    },
    Trailers,
}

/// Treatment of a held body that exceeds the buffer limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffering {
    /// A local reply refuses the body.
    Buffer,
    /// The sender of the body waits.
    Watermark,
}

/// State of the filter's callback for a stage.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Callback {
    #[default]
    Idle,
    Running,
    /// Running, and the filter has resumed the direction: it does not hold the input of this callback.
    Resumed,
}

/// Result of a filter's callback.
struct Returned<S> {
    status: S,
    /// Whether the filter resumed the direction during the callback.
    resumed: bool,
}

impl Stage {
    /// Length in bytes of the bodies that wait, or that the filter has seen and holds back.
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.kept.len()
    }
}

impl Held {
    pub(super) fn buffering(self) -> Option<Buffering> {
        match self {
            Self::Body { buffering, .. } | Self::HeadersAndBody { buffering, .. } => Some(buffering),
            Self::Nothing | Self::Headers { .. } | Self::Trailers => None,
        }
    }

    fn has_headers(self) -> bool {
        matches!(self, Self::Headers { .. } | Self::HeadersAndBody { .. })
    }
}

impl Chain {
    pub(super) fn push(&self, direction: Direction, place: usize, item: Output) {
        if self.is_closed(direction) {
            return;
        }
        if place >= self.filters.len() {
            self.emit(direction, item);
            return;
        }
        {
            let mut lane = self.lane(direction).borrow_mut();
            let Some(stage) = lane.get_mut(place) else { return };
            if stage.callback != Callback::Idle || self.must_wait(direction, place, stage.held, &item) {
                stage.waiting_bytes += item.length();
                stage.waiting.push_back(item);
                return;
            }
        }
        match item {
            Output::Headers(end) => self.headers(direction, place, end),
            Output::Data(data, end) => self.data(direction, place, data, end),
            Output::Trailers => self.trailers(direction, place),
        }
        self.drain(direction, place);
    }

    /// Pushes the waiting input, as far as the filter neither runs nor holds headers.
    fn drain(&self, direction: Direction, place: usize) {
        loop {
            let next = {
                let mut lane = self.lane(direction).borrow_mut();
                let stage = lane.get_mut(place);
                let next = |stage: &mut Stage| match stage.waiting.front() {
                    Some(item)
                        if stage.callback == Callback::Idle && !self.must_wait(direction, place, stage.held, item) =>
                    {
                        stage.waiting_bytes -= item.length();
                        stage.waiting.pop_front()
                    }
                    _ => None,
                };
                stage.and_then(next)
            };
            match next {
                Some(item) => self.push(direction, place, item),
                None => return,
            }
        }
    }

    /// Whether an item has to wait behind held headers.
    fn must_wait(&self, direction: Direction, place: usize, held: Held, item: &Output) -> bool {
        match held {
            Held::Headers { .. } => {
                !(self.sees_body_past_headers(direction, place) && matches!(item, Output::Data(..)))
            }
            Held::HeadersAndBody { .. } => !matches!(item, Output::Data(..)),
            Held::Nothing | Held::Body { .. } | Held::Trailers => false,
        }
    }

    pub(super) fn sees_body_past_headers(&self, direction: Direction, place: usize) -> bool {
        let filter = self.filters.get(self.filter_at(direction, place));
        filter.is_some_and(Filter::sees_body_past_headers)
    }

    fn headers(&self, direction: Direction, place: usize, end: bool) {
        let index = self.filter_at(direction, place);
        if direction == Direction::Request && !self.open(index) {
            return;
        }
        self.with_view(index, |view| match direction {
            Direction::Request => view.request_headers = true,
            Direction::Response => view.response_headers = true,
        });
        let returned = self.visit(direction, place, |vm, context| {
            let count = match direction {
                Direction::Request => self.stream.request_headers.borrow().len(),
                Direction::Response => self.stream.response_headers.borrow().as_ref().map_or(0, Headers::len),
            };
            vm.on_headers(context, direction, count, end)
        });
        let Some(Returned { status, resumed }) = returned else { return };
        match status {
            HeadersStatus::Continue => {
                self.release_headers(direction, index);
                self.push(direction, place + 1, Output::Headers(end));
            }
            HeadersStatus::StopIteration => self.hold(direction, place, Held::Headers { end }, resumed),
        }
    }

    fn data(&self, direction: Direction, place: usize, data: Bytes, end: bool) {
        let index = self.filter_at(direction, place);
        let held = self.held(direction, place);
        let size = self.with_body(index, direction, |body| {
            if held.buffering().is_none() {
                body.clear();
            }
            if body.is_empty() {
                *body = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
            } else {
                body.extend_from_slice(&data);
            }
            body.len()
        });
        if held.buffering() == Some(Buffering::Buffer) && size > self.buffer_limit {
            return self.overflow(direction);
        }
        self.open_body(direction, index, true, end);
        let returned = self.visit(direction, place, |vm, context| vm.on_body(context, direction, size, end));
        let Some(Returned { status, resumed }) = returned else { return };
        let hold = |buffering| {
            let held = match held.has_headers() {
                true => Held::HeadersAndBody { end, buffering },
                false => Held::Body { end, buffering },
            };
            self.hold(direction, place, held, resumed);
        };
        match status {
            DataStatus::Continue => {
                self.open_body(direction, index, false, false);
                self.with_stage(direction, place, |stage| stage.held = Held::Nothing);
                let data = self.take_body(direction, place);
                if held.has_headers() {
                    self.release_headers(direction, index);
                    self.push(direction, place + 1, Output::Headers(false));
                }
                self.push_body(direction, place + 1, data, end);
            }
            DataStatus::StopIterationAndBuffer => {
                // From now on, the filter can read the whole held body.
                let body = self.take_body(direction, place);
                self.with_body(index, direction, |shown| *shown = BytesMut::from(body));
                hold(Buffering::Buffer);
            }
            DataStatus::StopIterationAndWatermark => {
                let shown = self.with_body(index, direction, BytesMut::split);
                self.with_stage(direction, place, |stage| stage.kept.unsplit(shown));
                hold(Buffering::Watermark);
            }
            DataStatus::StopIterationNoBuffer => {
                self.with_body(index, direction, BytesMut::clear);
                self.hold(direction, place, Held::Body { end, buffering: Buffering::Buffer }, resumed);
            }
        }
    }

    /// Passes a body on, and after its end the trailers that a filter has added to it.
    fn push_body(&self, direction: Direction, place: usize, data: Bytes, end: bool) {
        let trailers = match direction {
            Direction::Request => &self.stream.request_trailers,
            Direction::Response => &self.stream.response_trailers,
        };
        let added = end && trailers.borrow().is_some();
        self.push(direction, place, Output::Data(data, end && !added));
        if added {
            self.push(direction, place, Output::Trailers);
        }
    }

    fn open_body(&self, direction: Direction, index: usize, open: bool, ends: bool) {
        self.with_view(index, |view| {
            view.body_open[direction as usize] = open;
            view.body_ends[direction as usize] = ends;
        });
    }

    fn trailers(&self, direction: Direction, place: usize) {
        let index = self.filter_at(direction, place);
        self.with_view(index, |view| match direction {
            Direction::Request => view.request_trailers = true,
            Direction::Response => view.response_trailers = true,
        });
        let returned = self.visit(direction, place, |vm, context| {
            let trailers = match direction {
                Direction::Request => &self.stream.request_trailers,
                Direction::Response => &self.stream.response_trailers,
            };
            let count = trailers.borrow().as_ref().map_or(0, Headers::len);
            vm.on_trailers(context, direction, count)
        });
        let Some(Returned { status, resumed }) = returned else { return };
        match status {
            TrailersStatus::Continue => self.release_trailers(direction, place),
            TrailersStatus::StopIteration => self.hold(direction, place, Held::Trailers, resumed),
        }
    }

    fn release_headers(&self, direction: Direction, index: usize) {
        self.with_view(index, |view| match direction {
            Direction::Request => view.request_headers = false,
            Direction::Response => view.response_headers = false,
        });
    }

    fn release_trailers(&self, direction: Direction, place: usize) {
        let index = self.filter_at(direction, place);
        self.with_view(index, |view| match direction {
            Direction::Request => view.request_trailers = false,
            Direction::Response => view.response_trailers = false,
        });
        let held = self.take_body(direction, place);
        self.with_stage(direction, place, |stage| stage.held = Held::Nothing);
        if !held.is_empty() {
            self.push(direction, place + 1, Output::Data(held, false));
        }
        self.push(direction, place + 1, Output::Trailers);
    }

    /// Calls a filter's callback; a filter without a context (bypassed or native) continues.
    ///
    /// A filter whose VM has failed, in this callback or before, continues or fails the stream, by its failure policy.
    ///
    /// `None`: the direction was closed during the callback, by a local reply or a reset.
    fn visit<S: Default>(
        &self,
        direction: Direction,
        place: usize,
        call: impl FnOnce(&Rc<Vm>, u32) -> Result<S, VmFailed>,
    ) -> Option<Returned<S>> {
        let passed = Some(Returned { status: S::default(), resumed: false });
        let Some(filter) = self.filters.get(self.filter_at(direction, place)) else { return passed };
        let open = filter.open.borrow().clone();
        let Some((vm, context)) = open else { return passed };
        self.with_stage(direction, place, |stage| stage.callback = Callback::Running);
        let called = call(&vm, context);
        let callback = self.with_stage(direction, place, |stage| std::mem::take(&mut stage.callback));
        if self.is_closed(direction) {
            return None;
        }
        match called {
            Ok(status) => Some(Returned { status, resumed: callback == Some(Callback::Resumed) }),
            Err(VmFailed) => {
                filter.open.take();
                // A failed filter does not hold up the local reply for its failure.
                let passes = filter.passes_on_failure() || self.response.get().is_for_failure();
                if !passes {
                    self.fail();
                }
                vm.perform_rest();
                if passes && !self.is_closed(direction) { passed } else { None }
            }
        }
    }

    /// Resumes a direction at a filter: releases the held input, or, while the filter runs, the input it will hold.
    pub(super) fn let_go(&self, filter: usize, direction: Direction) {
        let place = self.filter_at(direction, filter);
        if self.is_closed(direction) {
            return;
        }
        let held = self.with_stage(direction, place, |stage| {
            if stage.callback != Callback::Idle {
                stage.callback = Callback::Resumed;
                return Held::Nothing;
            }
            std::mem::take(&mut stage.held)
        });
        match held.unwrap_or_default() {
            Held::Nothing => return,
            Held::Headers { end } => {
                self.release_headers(direction, filter);
                self.push(direction, place + 1, Output::Headers(end));
            }
            Held::Body { end, .. } => {
                let data = self.take_body(direction, place);
                self.push_body(direction, place + 1, data, end);
            }
            Held::HeadersAndBody { end, .. } => {
                self.release_headers(direction, filter);
                self.push(direction, place + 1, Output::Headers(false));
                let data = self.take_body(direction, place);
                self.push_body(direction, place + 1, data, end);
            }
            Held::Trailers => self.release_trailers(direction, place),
        }
        self.drain(direction, place);
    }

    /// Holds input at a filter, unless the filter `resumed` the direction already.
    fn hold(&self, direction: Direction, place: usize, held: Held, resumed: bool) {
        self.with_stage(direction, place, |stage| stage.held = held);
        if resumed {
            static WARNINGS: Throttle = Throttle::new();
            let line =
                format_args!("a filter paused a stream in the callback in which it resumed it: Envoy would hang");
            WARNINGS.warn("wasm", line);
            self.let_go(self.filter_at(direction, place), direction);
        }
    }

    /// Takes the whole held body: the held-back part, then the part that the filter can read.
    fn take_body(&self, direction: Direction, place: usize) -> Bytes {
        let mut body = self.with_stage(direction, place, |stage| stage.kept.split()).unwrap_or_default();
        body.unsplit(self.with_body(self.filter_at(direction, place), direction, BytesMut::split));
        body.freeze()
    }

    fn held(&self, direction: Direction, place: usize) -> Held {
        self.lane(direction).borrow().get(place).map_or(Held::Nothing, |stage| stage.held)
    }

    fn with_stage<T>(&self, direction: Direction, place: usize, change: impl FnOnce(&mut Stage) -> T) -> Option<T> {
        self.lane(direction).borrow_mut().get_mut(place).map(change)
    }
}

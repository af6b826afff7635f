//! Passage of headers, bodies and trailers from filter to filter, and the input that a filter holds.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{Chain, Filter, Output};
use crate::http::{Direction, Headers};
use crate::vm::instance::Called;
use crate::vm::{Vm, VmFailed};

#[derive(Default)]
pub(super) struct Stage {
    pub(super) held: Held,
    /// Input that arrived while the filter held headers or was running.
    waiting: VecDeque<Output>,
    at_work: bool,
    resumed_at_work: bool,
    /// Whether the sender of the held body waits once the body exceeds the buffer limit.
    pub(super) holds_back: bool,
    /// Held-back part of the body that the filter has seen and does not see again.
    pub(super) kept: BytesMut,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    #[default]
    Nothing,
    Headers(bool),
    Body(bool),
    /// The headers, and the body that has arrived since.
    HeadersAndBody(bool),
    Trailers,
}

/// Result of a filter's callback.
#[derive(Clone, Copy)]
enum Verdict {
    Continue,
    Pause,
    /// Pause, and make the sender of the body wait.
    HoldBack,
    /// Pause, and drop the part of the body that the filter could read.
    Discard,
    /// The direction was closed during the callback, by a local reply or a reset.
    Over,
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
            if stage.at_work || self.must_wait(direction, place, stage.held, &item) {
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
                    Some(item) if !stage.at_work && !self.must_wait(direction, place, stage.held, item) => {
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
            Held::Headers(_) => !(self.sees_body_past_headers(direction, place) && matches!(item, Output::Data(..))),
            Held::HeadersAndBody(_) => !matches!(item, Output::Data(..)),
            _ => false,
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
        let verdict = self.visit(direction, place, |vm, context| {
            let count = match direction {
                Direction::Request => self.stream.request_headers.borrow().len(),
                Direction::Response => self.stream.response_headers.borrow().as_ref().map_or(0, Headers::len),
            };
            vm.on_headers(context, direction, count, end)
        });
        match verdict {
            Verdict::Continue => {
                self.release_headers(direction, index);
                self.push(direction, place + 1, Output::Headers(end));
            }
            Verdict::Pause | Verdict::HoldBack | Verdict::Discard => self.hold(direction, place, Held::Headers(end)),
            Verdict::Over => {}
        }
    }

    fn data(&self, direction: Direction, place: usize, data: Bytes, end: bool) {
        let index = self.filter_at(direction, place);
        let held = self.held(direction, place);
        let holds_headers = matches!(held, Held::Headers(_) | Held::HeadersAndBody(_));
        let holds = matches!(held, Held::Body(_) | Held::HeadersAndBody(_));
        let size = self.with_body(index, direction, |body| {
            if !holds {
                body.clear();
            }
            if body.is_empty() {
                *body = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
            } else {
                body.extend_from_slice(&data);
            }
            body.len()
        });
        let holds_back = self.with_stage(direction, place, |stage| std::mem::take(&mut stage.holds_back)) == Some(true);
        if holds && size > self.buffer_limit && !holds_back {
            return self.overflow(direction);
        }
        let verdict = self.visit(direction, place, |vm, context| vm.on_body(context, direction, size, end));
        match verdict {
            Verdict::HoldBack => {
                let shown = self.with_body(index, direction, BytesMut::split);
                self.with_stage(direction, place, |stage| {
                    stage.holds_back = true;
                    stage.kept.unsplit(shown);
                });
            }
            // From now on, the filter can read the whole held body.
            Verdict::Pause => {
                let body = self.take_body(direction, place);
                self.with_body(index, direction, |shown| *shown = BytesMut::from(body));
            }
            Verdict::Continue | Verdict::Discard | Verdict::Over => {}
        }
        match verdict {
            Verdict::Continue => {
                self.hold(direction, place, Held::Nothing);
                let data = self.take_body(direction, place);
                if holds_headers {
                    self.release_headers(direction, index);
                    self.push(direction, place + 1, Output::Headers(false));
                }
                self.push(direction, place + 1, Output::Data(data, end));
            }
            Verdict::Pause | Verdict::HoldBack if holds_headers => {
                self.hold(direction, place, Held::HeadersAndBody(end));
            }
            Verdict::Pause | Verdict::HoldBack => self.hold(direction, place, Held::Body(end)),
            Verdict::Discard => {
                self.with_body(index, direction, BytesMut::clear);
                self.hold(direction, place, Held::Body(end));
            }
            Verdict::Over => {}
        }
    }

    fn trailers(&self, direction: Direction, place: usize) {
        let index = self.filter_at(direction, place);
        self.with_view(index, |view| match direction {
            Direction::Request => view.request_trailers = true,
            Direction::Response => view.response_trailers = true,
        });
        let verdict = self.visit(direction, place, |vm, context| {
            let trailers = match direction {
                Direction::Request => &self.stream.request_trailers,
                Direction::Response => &self.stream.response_trailers,
            };
            let count = trailers.borrow().as_ref().map_or(0, Headers::len);
            vm.on_trailers(context, direction, count)
        });
        match verdict {
            Verdict::Continue => self.release_trailers(direction, place),
            Verdict::Pause | Verdict::HoldBack | Verdict::Discard => self.hold(direction, place, Held::Trailers),
            Verdict::Over => {}
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
        self.hold(direction, place, Held::Nothing);
        if !held.is_empty() {
            self.push(direction, place + 1, Output::Data(held, false));
        }
        self.push(direction, place + 1, Output::Trailers);
    }

    /// Calls a filter's callback; a filter without a context (bypassed or native) continues.
    fn visit(
        &self,
        direction: Direction,
        place: usize,
        call: impl FnOnce(&Rc<Vm>, u32) -> Result<Called<u32>, VmFailed>,
    ) -> Verdict {
        let Some(filter) = self.filters.get(self.filter_at(direction, place)) else { return Verdict::Continue };
        let open = filter.open.borrow().clone();
        let Some((vm, context)) = open else { return Verdict::Continue };
        self.with_stage(direction, place, |stage| stage.at_work = true);
        let called = call(&vm, context);
        self.with_stage(direction, place, |stage| stage.at_work = false);
        if self.is_closed(direction) {
            return Verdict::Over;
        }
        match called {
            Ok(Called { stopped: true, .. }) => Verdict::Discard,
            Ok(Called { value: 0, .. }) => {
                self.with_stage(direction, place, |stage| stage.resumed_at_work = false);
                Verdict::Continue
            }
            Ok(Called { value: 2, .. }) => Verdict::HoldBack,
            Ok(Called { value: 3, .. }) => Verdict::Discard,
            Ok(_) => Verdict::Pause,
            Err(VmFailed) => {
                filter.open.take();
                // A failed filter does not hold up the local reply for its failure.
                if filter.passes_on_failure() || self.failed.get() {
                    return Verdict::Continue;
                }
                self.fail();
                Verdict::Over
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
            if stage.at_work {
                stage.resumed_at_work = true;
                return Held::Nothing;
            }
            std::mem::take(&mut stage.held)
        });
        match held.unwrap_or_default() {
            Held::Nothing => return,
            Held::Headers(end) => {
                self.release_headers(direction, filter);
                self.push(direction, place + 1, Output::Headers(end));
            }
            Held::Body(end) => {
                let data = self.take_body(direction, place);
                self.push(direction, place + 1, Output::Data(data, end));
            }
            Held::HeadersAndBody(end) => {
                self.release_headers(direction, filter);
                self.push(direction, place + 1, Output::Headers(false));
                let data = self.take_body(direction, place);
                self.push(direction, place + 1, Output::Data(data, end));
            }
            Held::Trailers => self.release_trailers(direction, place),
        }
        self.drain(direction, place);
    }

    fn hold(&self, direction: Direction, place: usize, held: Held) {
        let resumed = self.with_stage(direction, place, |stage| {
            stage.held = held;
            std::mem::take(&mut stage.resumed_at_work) && held != Held::Nothing
        });
        if resumed == Some(true) {
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

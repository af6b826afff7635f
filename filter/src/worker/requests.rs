//! Request and response callbacks of a worker.

use alloc::vec::Vec;

use super::callback::{Callback, RequestAttributes};
use super::{State, Worker};
use crate::descriptor::RequestBody;
use crate::host::{self, Action, Buffer, Headers};
use crate::limiter::{Decision, Pace, RequestId, Step};
use crate::response::{self, Header};

impl Worker {
    /// Handles a request's headers. The request's context is the effective one.
    pub(super) fn request(&self, request: u32, is_whole: bool) -> Action {
        // No client marks its own requests.
        for name in &self.marks {
            // Cannot fail: a headers callback has these headers.
            let _ = host::remove_header(Headers::Request, name);
        }
        if !is_whole && self.with(|state| state.limiter.config().body.matters()) {
            return self.request_with_body(request);
        }
        if self.waits_for_turn(request) { Action::Pause } else { self.check(request, &RequestAttributes::default()) }
    }

    /// Handles the headers of a request with a body, where a limit reads bodies.
    fn request_with_body(&self, request: u32) -> Action {
        let attributes = RequestAttributes::with_body(RequestBody::Unread);
        let pointers = self.with(|state| state.limiter.config().pointers_for(&attributes));
        if pointers == 0 {
            return self.check(request, &attributes);
        }
        if let Some(body) = RequestBody::foreseen(&attributes) {
            return self.check(request, &RequestAttributes::with_body(body));
        }
        self.during(request, |callback| {
            self.with(|state| state.body_waits.arrive(callback.now, RequestId(request), pointers));
            self.adjust_ticks(callback);
        });
        Action::Pause
    }

    /// Returns whether a request is held until the end of the turn, to be checked together with others.
    fn waits_for_turn(&self, request: u32) -> bool {
        let Some(turn) = self.turn else { return false };
        let pace = self.with(|state| {
            // Only while ticks run: a tick checks the request if the message for the end of the turn is lost.
            let in_flight = state.limiter.redis().in_flight();
            state.ticker.is_running().then(|| state.batching.arrive(RequestId(request), in_flight))
        });
        let Some(pace) = pace else { return false };
        let is_scheduled = pace != Pace::Schedule || host::enqueue(turn).is_ok();
        if !is_scheduled {
            self.with(|state| {
                state.batching.leave(RequestId(request));
                state.batching.turn_ended();
            });
        }
        is_scheduled && pace != Pace::Now
    }

    /// Handles the next `size` bytes of a request's body.
    pub(super) fn request_body(&self, request: u32, size: usize, is_whole: bool) -> Action {
        let id = RequestId(request);
        if !self.with(|state| state.body_waits.awaits(id)) {
            return self.with(|state| state.rest_of(request)).of_body();
        }
        let bytes = host::buffer(Buffer::RequestBody, size);
        let body = self.during(request, |callback| {
            let body = self.with(|state| state.body_waits.piece(callback.now, id, &bytes, is_whole));
            if body.is_none() {
                self.adjust_ticks(callback);
            }
            body
        });
        match body {
            Some(body) => {
                let attributes = RequestAttributes::with_body(body);
                if self.charges {
                    self.add_members(&attributes, &bytes);
                }
                self.check(request, &attributes).of_body()
            }
            None => Action::HoldBack,
        }
    }

    /// Handles a request's trailers: its body is complete.
    pub(super) fn request_trailers(&self, request: u32) -> Action {
        match self.with(|state| state.body_waits.end(RequestId(request))) {
            Some(body) => self.check(request, &RequestAttributes::with_body(body)),
            None => self.with(|state| state.rest_of(request)),
        }
    }

    /// Checks the requests whose wait for their body has reached its deadline.
    pub(super) fn check_overdue(&self, callback: &mut Callback) {
        while callback.may_check()
            && let Some((RequestId(request), body)) = self.with(|state| state.body_waits.pop_due(callback.now))
        {
            self.check_held(callback, request, body);
        }
    }

    fn check(&self, request: u32, attributes: &RequestAttributes) -> Action {
        self.during(request, |callback| {
            let step = self.with(|state| state.limiter.request(callback.now, RequestId(request), attributes));
            // A request that is decided at once mostly leaves no effect but counters, which the next tick reports.
            let is_done = !matches!(step, Step::Wait) && self.with(|state| state.is_at_rest());
            let own_decision = if is_done { None } else { self.perform(callback) };
            match own_decision.map_or(step, Step::Decided) {
                Step::Pass => Action::Continue,
                Step::Wait => Action::Pause,
                Step::Decided(Decision::Admit(headers)) => {
                    self.admit(callback, request, headers);
                    Action::Continue
                }
                Step::Decided(answer) => {
                    callback.decide(request, answer);
                    Action::Pause
                }
            }
        })
    }

    /// Checks the requests that waited for the end of the turn, and sends the outgoing bytes.
    pub(super) fn end_turn(&self, callback: &mut Callback) {
        self.with(|state| state.batching.turn_ends());
        // The effects of earlier callbacks are performed first: no effect may separate a request's annotation from its
        // decision.
        self.perform_background(callback);
        self.check_overdue(callback);
        while callback.may_check()
            && let Some(RequestId(request)) = self.with(|state| state.batching.take_next())
        {
            self.check_held(callback, request, RequestBody::None);
        }
        self.perform_background(callback);
        self.send_now(callback);
        let (is_at_rest, has_more) = self.with(|state| {
            state.batching.turn_ended();
            (state.limiter.is_at_rest(), state.batching.has_any())
        });
        if !is_at_rest {
            self.perform_background(callback);
        }
        if has_more && let Some(turn) = self.turn {
            // Cannot fail: a registered queue stays registered.
            let _ = host::enqueue(turn);
        }
    }

    /// Checks a request that was held, and queues its decision if there is one.
    fn check_held(&self, callback: &mut Callback, request: u32, body: RequestBody) {
        if !callback.acts_as(request) {
            return; // The request has ended.
        }
        let attributes = RequestAttributes::with_body(body);
        let step = self.with(|state| state.limiter.request(callback.now, RequestId(request), &attributes));
        match step {
            Step::Wait => {}
            Step::Pass => callback.decide(request, Decision::Admit(Vec::new())),
            Step::Decided(decision) => callback.decide(request, decision),
        }
    }

    /// Handles a response's headers. Adds the rate-limit headers once, merged with those of other limiters.
    pub(super) fn response_headers(&self, request: u32, is_headers_only: bool) -> Action {
        if self.charges {
            self.charged_response_begins(request);
        }
        let headers = self.with(|state| state.admitted.get_mut(request).map(core::mem::take)).unwrap_or_default();
        if !headers.is_empty() {
            self.add_headers(headers, is_headers_only);
        }
        if is_headers_only { self.response_ends(request) } else { Action::Continue }
    }

    fn add_headers(&self, headers: Vec<Header>, is_headers_only: bool) {
        let present = |name| host::header(Headers::Response, name);
        for (name, value) in response::beside(headers, is_headers_only, &present) {
            let set = host::set_header(Headers::Response, name, &value);
            debug_assert_eq!(set, Ok(()), "a headers callback has these headers");
        }
    }

    /// Handles the end of a response before it goes downstream. Releases the request's slots first, so that the
    /// client's next request finds them free on any worker.
    pub(super) fn response_ends(&self, request: u32) -> Action {
        if self.charges {
            self.charged_response_ends(request);
        }
        let request = RequestId(request);
        if !self.with(|state| state.limiter.holds_slots(request)) {
            return Action::Continue;
        }
        self.during(request.0, |callback| {
            self.with(|state| state.limiter.response_ends(callback.now, request));
            self.send_now(callback);
            // Decisions on other requests wait for the end of the turn: a local reply here would hold up this response.
            let (is_at_rest, is_held) =
                self.with(|state| (state.limiter.is_at_rest(), state.limiter.holds_response(request)));
            if !is_at_rest && let Some(turn) = self.turn {
                // Cannot fail: a registered queue stays registered.
                let _ = host::enqueue(turn);
            }
            if is_held { Action::Pause } else { Action::Continue }
        })
    }

    /// Handles the end of a request, answered or not.
    pub(super) fn done(&self, request: u32) {
        let holds_any = self.with(|state| {
            state.admitted.remove(request);
            state.body_waits.leave(RequestId(request));
            state.batching.leave(RequestId(request));
            state.limiter.has_any_of(RequestId(request))
        });
        if !holds_any {
            return;
        }
        self.during(request, |callback| {
            let has_effects = self.with(|state| state.limiter.done(callback.now, RequestId(request)));
            if has_effects {
                let decision = self.perform(callback);
                debug_assert_eq!(decision, None, "the request is over");
            }
        });
    }
}

impl State {
    /// Returns whether the limiter has no effects left, and a tick will come.
    fn is_at_rest(&mut self) -> bool {
        self.ticker.is_running() && self.limiter.is_at_rest()
    }

    /// Returns the action for a body or trailers after a request's headers: held until the request is decided.
    fn rest_of(&self, request: u32) -> Action {
        let request = RequestId(request);
        let is_held = self.limiter.is_waiting(request) || self.batching.holds(request);
        if is_held { Action::Pause } else { Action::Continue }
    }
}

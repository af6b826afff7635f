//! The way of a request through a worker.

use alloc::vec::Vec;

use super::callback::{Callback, RequestAttributes};
use super::{State, Worker};
use crate::descriptor::RequestBody;
use crate::host::{self, Action, Buffer, Headers};
use crate::limiter::{Decision, Pace, RequestId, Step};
use crate::respond::{self, Header};

impl Worker {
    /// A request's headers have arrived, and its context is the current one.
    pub(super) fn request(&self, request: u32, is_whole: bool) -> Action {
        if !is_whole && self.with(|state| state.limiter.config().body.matters()) {
            return self.request_with_body(request);
        }
        if self.waits_for_turn(request) { Action::Pause } else { self.check(request, &RequestAttributes::default()) }
    }

    /// A request's headers have arrived, and a body is to follow.
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

    /// Whether a request is to be held until the turn's end, where it is checked with others.
    fn waits_for_turn(&self, request: u32) -> bool {
        let Some(turn) = self.turn else { return false };
        let pace = self.with(|state| {
            // Should the turn's end never be told, a tick is to find the request.
            let in_flight = state.limiter.redis().in_flight();
            state.ticker.is_running().then(|| state.batching.arrive(RequestId(request), in_flight))
        });
        let Some(pace) = pace else { return false };
        let is_told = pace != Pace::Schedule || host::enqueue(turn).is_ok();
        if !is_told {
            self.with(|state| {
                state.batching.leave(RequestId(request));
                state.batching.turn_ended();
            });
        }
        is_told && pace != Pace::Now
    }

    /// Some of a request's body is there: `size` bytes that were not shown before.
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
            Some(body) => self.check(request, &RequestAttributes::with_body(body)).of_body(),
            None => Action::HoldBack,
        }
    }

    /// A request's trailers are there, so its body is whole.
    pub(super) fn request_trailers(&self, request: u32) -> Action {
        match self.with(|state| state.body_waits.end(RequestId(request))) {
            Some(body) => self.check(request, &RequestAttributes::with_body(body)),
            None => self.with(|state| state.rest_of(request)),
        }
    }

    /// Checks the requests that have been held for their bodies long enough.
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
            // Who is decided at once most often leaves nothing to be done but to count, which a tick brings.
            let is_done = !matches!(step, Step::Wait) && self.with(|state| state.is_at_rest());
            let on_own = if is_done { None } else { self.perform(callback) };
            match on_own.map_or(step, Step::Decided) {
                Step::Pass => Action::Continue,
                Step::Wait => Action::Pause,
                Step::Decided(Decision::Admit(headers)) => {
                    self.admit(request, headers);
                    Action::Continue
                }
                Step::Decided(answer) => {
                    callback.decide(request, answer);
                    Action::Pause
                }
            }
        })
    }

    /// Checks the requests that the turn brought, and sends what there is to send.
    pub(super) fn end_turn(&self, callback: &mut Callback) {
        self.with(|state| state.batching.turn_ends());
        // What is left of other callbacks does not come between a request's notes and its decision.
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
            // A queue that was there is there.
            let _ = host::enqueue(turn);
        }
    }

    /// Checks a request that is held.
    fn check_held(&self, callback: &mut Callback, request: u32, body: RequestBody) {
        if !callback.acts_as(request) {
            return; // It is over.
        }
        let attributes = RequestAttributes::with_body(body);
        let step = self.with(|state| state.limiter.request(callback.now, RequestId(request), &attributes));
        match step {
            Step::Wait => {}
            Step::Pass => callback.decide(request, Decision::Admit(Vec::new())),
            Step::Decided(decision) => callback.decide(request, decision),
        }
    }

    /// The response to a request. Headers are added once, beside those of other limiters.
    pub(super) fn response_headers(&self, request: u32, is_headers_only: bool) -> Action {
        let headers = self.with(|state| state.admitted.get_mut(request).map(core::mem::take)).unwrap_or_default();
        if !headers.is_empty() {
            self.add_headers(headers, is_headers_only);
        }
        if is_headers_only { self.response_ends(request) } else { Action::Continue }
    }

    fn add_headers(&self, headers: Vec<Header>, is_headers_only: bool) {
        let theirs = |name| host::header(Headers::Response, name);
        for (name, value) in respond::beside(headers, is_headers_only, &theirs) {
            let set = host::set_header(Headers::Response, name, &value);
            debug_assert_eq!(set, Ok(()), "the proxy calls about these headers");
        }
    }

    /// The end of a response is about to go to the client. What the request holds is given back before it does, so that
    /// the client's next request finds it free, whichever worker serves that.
    pub(super) fn response_ends(&self, request: u32) -> Action {
        let request = RequestId(request);
        if !self.with(|state| state.limiter.holds_slots(request)) {
            return Action::Continue;
        }
        self.during(request.0, |callback| {
            self.with(|state| state.limiter.response_ends(callback.now, request));
            self.send_now(callback);
            // No decision on another request may be carried out here: an answer to it would hold up this response.
            let (is_at_rest, is_held) =
                self.with(|state| (state.limiter.is_at_rest(), state.limiter.holds_response(request)));
            if !is_at_rest && let Some(turn) = self.turn {
                // A queue that was there is there; and there are ticks.
                let _ = host::enqueue(turn);
            }
            if is_held { Action::Pause } else { Action::Continue }
        })
    }

    /// The request is over, answered or not.
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
            let gave_back = self.with(|state| state.limiter.done(callback.now, RequestId(request)));
            if gave_back {
                let decision = self.perform(callback);
                debug_assert_eq!(decision, None, "the request is over");
            }
        });
    }
}

impl State {
    /// Whether there is nothing to do before the next tick, and one will come.
    fn is_at_rest(&mut self) -> bool {
        self.ticker.is_running() && self.limiter.is_at_rest()
    }

    /// What follows a request's headers is held with them until the request is decided.
    fn rest_of(&self, request: u32) -> Action {
        let request = RequestId(request);
        let is_held = self.limiter.is_waiting(request) || self.batching.holds(request);
        if is_held { Action::Pause } else { Action::Continue }
    }
}

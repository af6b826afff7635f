//! Carries out the limiter's effects: host calls for streams, callouts, decisions and log lines.

use alloc::vec::Vec;

use super::Worker;
use super::callback::Callback;
use super::{log_info, log_warning, wire};
use crate::host::{self, Headers, HostError};
use crate::limiter::{Decision, Effect, Pace, RequestId};
use crate::redis::{Callout, Refusal};
use crate::response::{Header, LocalReply};

impl Worker {
    /// Performs effects in a callback of a context that is not a request.
    pub(super) fn perform_background(&self, callback: &mut Callback) {
        let decision = self.perform(callback);
        debug_assert_eq!(decision, None, "this context is not a request");
    }

    /// Performs the limiter's effects. Returns the decision on the request of this callback, which the callback can
    /// often return as its action; queues the decisions on all other requests.
    pub(super) fn perform(&self, callback: &mut Callback) -> Option<Decision> {
        let mut own_decision = None;
        while callback.may_decide()
            && let Some(effect) = self.next_effect(callback)
        {
            match effect {
                Effect::OpenStream => self.open_stream(callback),
                Effect::CloseStream => {
                    if let Some(token) = self.with(|state| state.stream.take())
                        && callback.acts_as(self.root)
                    {
                        // Fails only where the stream no longer exists.
                        let _ = host::cancel_stream(token);
                    }
                }
                Effect::CallOut(callout) => self.call_out(callback, &callout),
                Effect::Annotate(RequestId(request), entries) => {
                    if callback.acts_as(request) {
                        for (name, value) in entries {
                            // Envoy keeps the value as filter state `wasm.{name}`. A proxy without filter state loses
                            // only the value in its access log.
                            let _ = host::set_property(name, &value);
                        }
                    }
                }
                Effect::Mark(RequestId(request), mark) => {
                    if callback.acts_as(request) {
                        let set = host::set_header(Headers::Request, &mark.name, &mark.value);
                        debug_assert_eq!(set, Ok(()), "a request that is not decided has its headers");
                    }
                }
                Effect::Decide(RequestId(request), decision) if request == callback.own() => {
                    own_decision = Some(decision)
                }
                Effect::Decide(RequestId(request), decision) => callback.decide(request, decision),
                Effect::Warn(line) => log_warning(&line),
                Effect::Info(line) => log_info(&line),
            }
        }
        if !self.with(|state| state.ticker.is_quick() && state.limiter.is_at_rest()) {
            self.adjust_ticks(callback);
        }
        own_decision
    }

    /// Adjusts the proxy's tick period to the next deadline.
    pub(super) fn adjust_ticks(&self, callback: &mut Callback) {
        let period = self.with(|state| {
            let wanted = [state.limiter.next_tick(callback.now), state.body_waits.next_due()];
            state.ticker.adjust(callback.now, wanted.into_iter().flatten().min())
        });
        if let Some(period) = period
            && callback.acts_as(self.root)
        {
            let set = host::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
            debug_assert_eq!(set, Ok(()), "every period is valid");
        }
    }

    /// Returns the limiter's next effect. Sends the outgoing bytes once no effect is left; a failed send produces
    /// effects.
    fn next_effect(&self, callback: &mut Callback) -> Option<Effect> {
        let effect = self.with(|state| state.limiter.poll(callback.now));
        if effect.is_some() {
            return effect;
        }
        self.send(callback);
        self.with(|state| state.limiter.poll(callback.now))
    }

    fn open_stream(&self, callback: &mut Callback) {
        let name = self.with(|state| {
            state.stream_name = state.stream_name.wrapping_add(1);
            state.stream_name
        });
        let open = || host::open_stream(&self.cluster, wire::SERVICE, &wire::method(name));
        let opened = callback.acts_as(self.root).then(open);
        self.with(|state| match opened {
            Some(Ok(token)) => state.stream = Some(token),
            refused => state.limiter.redis().handle_open_failed(callback.now, refusal_of(refused)),
        });
    }

    /// Sends the outgoing bytes, now or at the end of the turn.
    fn send(&self, callback: &mut Callback) {
        let pace = self.with(|state| {
            let redis = state.limiter.redis();
            // One of the calls in flight is the one about to be sent.
            redis.has_outgoing().then(|| state.batching.send(redis.in_flight().saturating_sub(1)))
        });
        match pace {
            None | Some(Pace::Wait) => {}
            Some(Pace::Schedule) if self.turn.is_some_and(|turn| host::enqueue(turn).is_ok()) => {}
            Some(Pace::Schedule) => {
                self.with(|state| state.batching.turn_ended());
                self.send_now(callback);
            }
            Some(Pace::Now) => self.send_now(callback),
        }
    }

    pub(super) fn send_now(&self, callback: &mut Callback) {
        let stream = self.with(|state| {
            // The borrow is not known to fail: a send does not lead to another send. If it did, the next callback would
            // send the bytes.
            let mut sending = self.sending.try_borrow_mut().ok()?;
            state.limiter.redis().take_outgoing(callback.now, &mut sending).then_some(state.stream)
        });
        let Some(stream) = stream else { return };
        // The proxy looks the token up in the effective context, and the stream belongs to the root context.
        let send = |token| callback.acts_as(self.root) && host::send(token, &self.sending.borrow()).is_ok();
        let sent = stream.is_some_and(send);
        self.sending.borrow_mut().clear();
        if !sent {
            self.with(|state| {
                state.stream = None;
                state.limiter.redis().handle_closed(callback.now);
            });
        }
    }

    fn call_out(&self, callback: &mut Callback, callout: &Callout) {
        let timeout = u32::try_from(callout.timeout.to_millis_ceil()).unwrap_or(u32::MAX);
        let call = || host::http_call(&self.cluster, &self.callout_headers, &callout.body, timeout);
        let called = callback.acts_as(self.root).then(call);
        self.with(|state| match called {
            Some(Ok(token)) => state.callouts.push((token, callout.id)),
            refused => {
                state.limiter.redis().handle_callout_refused(callback.now, callout.id, refusal_of(refused));
            }
        });
    }

    pub(super) fn carry_out(&self, callback: &mut Callback, request: u32, decision: Decision) {
        match decision {
            Decision::Admit(headers) => {
                if callback.acts_as(request) {
                    self.admit(callback, request, headers);
                    // Cannot fail: the request exists.
                    let _ = host::resume_request();
                }
            }
            Decision::EndResponse => {
                if callback.acts_as(request) {
                    // Cannot fail: the request exists.
                    let _ = host::resume_response();
                }
            }
            Decision::Answer(reply) => {
                if callback.acts_as(request) {
                    answer(&reply);
                }
            }
        }
    }

    pub(super) fn admit(&self, callback: &mut Callback, request: u32, headers: Vec<Header>) {
        if self.charges {
            self.charged_request_goes_on(callback, request);
        }
        if !headers.is_empty() {
            self.with(|state| state.admitted.insert(request, headers));
        }
    }
}

/// Returns the reason for which the host made no stream or callout. Of the arguments of these host calls, only the
/// cluster's name can be invalid.
fn refusal_of(refused: Option<Result<u32, HostError>>) -> Refusal {
    match refused {
        Some(Err(error)) if !error.is_internal() => Refusal::NoCluster,
        _ => Refusal::Internal,
    }
}

/// Answers the effective context's request with a local reply.
fn answer(reply: &LocalReply) {
    let status = reply.http_status();
    // Cannot fail: the request exists and has no response yet.
    let _ = host::send_local_response(status, &reply.details, reply.encoded_headers(), &reply.body, reply.grpc_status);
}

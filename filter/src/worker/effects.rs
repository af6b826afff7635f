//! What the limiter asks for, carried out.

use alloc::vec::Vec;

use super::Worker;
use super::callback::Callback;
use super::{log_warning, wire};
use crate::host;
use crate::limiter::{Decision, Effect, Pace, RequestId};
use crate::pairs;
use crate::redis::Callout;
use crate::respond::{Header, LocalReply};

impl Worker {
    /// In a callback that is no request's.
    pub(super) fn perform_background(&self, callback: &mut Callback) {
        let decision = self.perform(callback);
        debug_assert_eq!(decision, None, "this context is no request");
    }

    /// Does what the limiter asks for. A decision on the request whose callback runs is left to that callback, which
    /// may still be able to return it.
    pub(super) fn perform(&self, callback: &mut Callback) -> Option<Decision> {
        let mut on_own = None;
        while callback.may_decide()
            && let Some(effect) = self.next_effect(callback)
        {
            match effect {
                Effect::OpenStream => self.open_stream(callback),
                Effect::CloseStream => {
                    if let Some(token) = self.with(|state| state.stream.take())
                        && callback.acts_as(self.root)
                    {
                        // The proxy refuses only to cancel what is no more.
                        let _ = host::cancel_stream(token);
                    }
                }
                Effect::CallOut(callout) => self.call_out(callback, &callout),
                Effect::Annotate(RequestId(request), entries) => {
                    if callback.acts_as(request) {
                        for (name, value) in entries {
                            // A proxy that keeps no such state (filter state, named `wasm.{name}` in Envoy) loses a
                            // line of the access log, and nothing else.
                            let _ = host::set_property(name, &value);
                        }
                    }
                }
                Effect::Decide(RequestId(request), decision) if request == callback.own() => on_own = Some(decision),
                Effect::Decide(RequestId(request), decision) => callback.decide(request, decision),
                Effect::Warn(line) => log_warning(&line),
            }
        }
        if !self.with(|state| state.ticker.is_quick() && state.limiter.is_at_rest()) {
            self.adjust_ticks(callback);
        }
        on_own
    }

    /// Has the proxy tick as often as is needed.
    pub(super) fn adjust_ticks(&self, callback: &mut Callback) {
        let period = self.with(|state| {
            let wanted = [state.limiter.next_tick(callback.now), state.body_waits.next_due()];
            state.ticker.adjust(callback.now, wanted.into_iter().flatten().min())
        });
        if let Some(period) = period
            && callback.acts_as(self.root)
        {
            let set = host::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
            debug_assert_eq!(set, Ok(()), "any period is one");
        }
    }

    /// Sends what there is to send once nothing else is left to do. A failure to send leaves something to do.
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
            _ => state.limiter.redis().handle_open_failed(callback.now),
        });
    }

    /// Sends what there is to send, now or at the end of the turn.
    fn send(&self, callback: &mut Callback) {
        let pace = self.with(|state| {
            let redis = state.limiter.redis();
            // Of the calls in flight, one is what there is to send.
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
            // Not known to happen: to send makes nothing happen that would send. The next callback sends what is left.
            let mut sending = self.sending.try_borrow_mut().ok()?;
            state.limiter.redis().take_outgoing(callback.now, &mut sending).then_some(state.stream)
        });
        let Some(stream) = stream else { return };
        // The proxy looks the token up in the effective context: the stream is the root context's.
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
        let headers = [(":method", "POST"), (":path", "/"), (":authority", self.cluster.as_str())];
        let headers = pairs::encode(headers.into_iter());
        let timeout = u32::try_from(callout.timeout_ms).unwrap_or(u32::MAX);
        let called =
            callback.acts_as(self.root).then(|| host::http_call(&self.cluster, &headers, &callout.body, timeout));
        self.with(|state| match called {
            Some(Ok(token)) => state.callouts.push((token, callout.id)),
            _ => state.limiter.redis().handle_callout_refused(callback.now, callout.id),
        });
    }

    pub(super) fn carry_out(&self, callback: &mut Callback, request: u32, decision: Decision) {
        match decision {
            Decision::Admit(headers) => {
                if callback.acts_as(request) {
                    self.admit(request, headers);
                    // The proxy refuses that of no request that is there.
                    let _ = host::resume_request();
                }
            }
            Decision::EndResponse => {
                if callback.acts_as(request) {
                    // The proxy refuses that of no request that is there.
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

    pub(super) fn admit(&self, request: u32, headers: Vec<Header>) {
        if !headers.is_empty() {
            self.with(|state| state.admitted.insert(request, headers));
        }
    }
}

/// Answers the request of the effective context.
fn answer(reply: &LocalReply) {
    // The proxy's status of an answer to gRPC is 200 whatever is said here.
    let status = if reply.grpc_status.is_some() { 200 } else { reply.status.code() };
    // The proxy does not refuse it: the request is there, and not answered yet.
    let _ = host::send_local_response(status, &reply.details, reply.encoded_headers(), &reply.body, reply.grpc_status);
}

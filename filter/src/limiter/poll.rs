//! Effects of the limiter, and the times of its ticks.

use super::effect::Effect;
use super::{Events, Limiter, REPORT_WITHIN, tickets};
use crate::redis::{Transport, TransportEvent, Trouble};
use crate::units::Micros;

impl Limiter {
    /// Transport to Redis, for incoming bytes and outgoing calls.
    pub fn redis(&mut self) -> &mut Transport {
        &mut self.redis
    }

    /// Time of the next tick that the limiter needs, if any.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        let has_events = self.events.as_ref().is_some_and(Events::is_waiting);
        let soon = (self.counters.is_dirty() || has_events).then(|| now.plus(REPORT_WITHIN));
        let refresh = self.refresh.as_ref().and_then(|refresh| refresh.next_tick(now));
        let queued = self.queue.next_deadline().map(|deadline| deadline.max(now));
        let kept = [
            queued,
            self.delay_queue.next_turn(),
            self.slots.next_due(),
            self.reservations.next_due(),
            self.warnings.due().map(|due| due.max(now)),
            self.leases.next_sweep(),
            self.response_gate.next_due(),
            self.local.as_ref().and_then(|local| local.next_due()).map(|due| due.max(now)),
        ];
        [self.redis.next_tick(now), refresh, soon].into_iter().chain(kept).flatten().min()
    }

    /// Whether [`poll`](Self::poll) has no effect and the transport has nothing to send.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.effects.is_empty() && self.redis.is_at_rest()
    }

    /// Returns the next effect, or `None` when there is none for now.
    pub fn poll(&mut self, now: Micros) -> Option<Effect> {
        if self.local.is_some() && self.redis.take_idle_loss() {
            self.on_idle_loss(now);
        }
        while self.effects.is_empty() {
            let Some(effect) = self.redis.poll(now) else {
                // Completed calls may have made room for queued checks.
                if self.queue.is_empty() || !self.drain(now) {
                    // Last, so that a warning counts all requests of its failure.
                    return self.warnings.pop_due(now);
                }
                continue;
            };
            match effect {
                TransportEvent::Open => return Some(Effect::OpenStream),
                TransportEvent::Close => return Some(Effect::CloseStream),
                TransportEvent::CallOut(callout) => return Some(Effect::CallOut(callout)),
                TransportEvent::Completed(tickets::EVENTS, result) => {
                    if let Some(events) = &mut self.events {
                        events.completed(result.is_ok());
                    }
                }
                TransportEvent::Completed(tickets::OVERRIDES, result) => self.refreshed(now, result),
                TransportEvent::Completed(tickets::HEARTBEAT, result) => self.on_heartbeat(now, &result),
                TransportEvent::Completed(ticket, result) => match tickets::request(ticket) {
                    Some(request) => self.on_reply(now, request, result),
                    None => self.on_background_reply(now, ticket, result),
                },
                TransportEvent::Trouble(Trouble { failure, detail }) => {
                    self.warnings.trouble(now, failure, detail);
                    if !self.redis.is_connected() {
                        self.may_lose_redis(now, failure);
                    }
                }
            }
        }
        self.effects.pop_front()
    }
}

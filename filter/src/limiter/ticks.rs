//! Ticks of the proxy: what the limiter does at one, and when it needs the next.

use super::events::Events;
use super::{Decision, Effect, Limiter, tickets};
use crate::units::Micros;

/// Maximum delay before counters and events are reported. Ticks that calls need report them earlier.
pub(super) const REPORT_WITHIN: Micros = Micros::from_secs(2);

/// Maximum number of delayed requests released per tick, bounded by the decisions that one proxy callback may make.
const MAX_DELAYED_PER_TICK: usize = 128;

impl Limiter {
    /// Handles a tick: deadlines, delayed requests, renewals of slots, leases, overrides and events.
    pub fn tick(&mut self, now: Micros) {
        self.drain(now);
        self.expire(now);
        self.redis.handle_tick(now);
        // The remaining due requests stay held until the next tick.
        let due = core::iter::from_fn(|| self.delay_queue.pop_due(now)).take(MAX_DELAYED_PER_TICK);
        self.effects.extend(due.map(|(request, decision)| Effect::Decide(request, decision)));
        while let Some(request) = self.response_gate.pop_due(now) {
            self.effects.push_back(Effect::Decide(request, Decision::EndResponse));
        }
        for (ticket, call) in self.slots.due(now, &mut self.background, &self.scripts) {
            self.call_for_slots(now, ticket, call);
        }
        self.renew_reservations(now);
        self.return_leases(now);
        self.probe_redis(now);
        self.heal_due(now);
        if let Some(refresh) = &mut self.refresh
            && let Some(call) = refresh.due(now)
            // One at a time, and room even in a flood, which an override may end.
            && let Err(failure) = self.redis.submit_reserved(now, tickets::OVERRIDES, call)
        {
            self.refreshed(now, Err(failure));
        }
        let Some(events) = &mut self.events else { return };
        if let Some(batch) = events.batch()
            && self.redis.submit(now, tickets::EVENTS, batch).is_err()
        {
            events.completed(false);
        }
        let dropped = events.take_dropped();
        self.counters.events_dropped(dropped);
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
            self.next_heal().map(|due| due.max(now)),
        ];
        [self.redis.next_tick(now), refresh, soon].into_iter().chain(kept).flatten().min()
    }
}

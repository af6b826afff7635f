//! Calls in flight: calls that wait to be sent, and calls that were sent and wait for their replies.
//!
//! Redis replies in order, so a queue correlates replies with calls. An abandoned call stays in the queue until its
//! reply has arrived.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use super::calls::{Again, UnsentCall};
pub(in crate::redis) use super::calls::{Caller, Expiry, SentCall};
use crate::redis::host_load::Extension;
use crate::redis::{Call, Failure, Script, Ticket};
use crate::units::Micros;

/// Bytes of all calls in flight, at most. The host has no back-pressure, so this bound takes its place.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Calls that one command carries, at most.
const MAX_JOINED: usize = 64;
/// Reply elements of the calls that one command carries, at most. Each bucket has at least one element and takes Redis
/// about 5 µs, during which Redis serves no other client.
const MAX_SHARES: usize = 256;

/// Length of the longest reply to a command with several calls, in bytes: 8 KiB of texts, to which
/// `requests.lua` keeps, and RESP's framing.
const LONGEST_JOINED_REPLY: usize = 10 * 1024;

#[derive(Debug, Default)]
pub(in crate::redis) struct InFlight {
    unsent: VecDeque<UnsentCall>,
    sent: VecDeque<SentCall>,
    bytes: usize,
    /// Lower bound of all deadlines. Exact after [`expire`](Self::expire); not updated when a call is answered.
    earliest: Option<Micros>,
    /// Number of calls answered so far.
    answered: u64,
    /// Scripts that were sent with their source, and the value of `answered` once the last such call is answered.
    sourced: Vec<(Arc<Script>, u64)>,
}

impl InFlight {
    /// Returns whether there is room for `bytes` more bytes.
    pub(in crate::redis) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= MAX_BYTES
    }

    /// Returns the bytes of all calls in flight.
    pub(in crate::redis) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of calls in flight, including abandoned calls.
    pub(in crate::redis) fn len(&self) -> usize {
        self.unsent.len().saturating_add(self.sent.len())
    }

    pub(in crate::redis) fn is_any_waiting(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(in crate::redis) fn is_any_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    pub(in crate::redis) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Returns the send time of the call whose reply comes next.
    pub(in crate::redis) fn oldest_sent(&self) -> Option<Micros> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Returns a lower bound of all deadlines; `None` without deadlines.
    pub(in crate::redis) fn earliest_deadline(&self) -> Option<Micros> {
        self.earliest
    }

    /// Returns whether an unsent call is past its deadline at `now`.
    pub(in crate::redis) fn is_any_waiting_due(&self, now: Micros) -> bool {
        self.unsent.iter().any(|waiting| waiting.deadline <= now)
    }

    /// Queues a call until [`send_waiting`](Self::send_waiting).
    pub(in crate::redis) fn wait(&mut self, ticket: Ticket, deadline: Micros, call: Call) {
        self.bytes = self.bytes.saturating_add(call.size());
        self.add_deadline(deadline);
        self.unsent.push_back(UnsentCall { ticket, deadline, call, again: None });
    }

    /// Queues the call of `caller` again, as the `nth` unsent call. It is sent with its source, unless an earlier call in
    /// flight carries the same source; if it was sent again before, it is sent with its source, and then never again.
    ///
    /// # Errors
    /// `Overloaded` if there is no room for the call.
    pub(in crate::redis) fn wait_again(&mut self, nth: usize, caller: Caller, call: Call) -> Result<(), Failure> {
        let Some(deadline) = caller.deadline.filter(|_| self.has_room(call.size_with_source())) else {
            return Err(Failure::Overloaded);
        };
        self.bytes = self.bytes.saturating_add(call.size());
        self.add_deadline(deadline);
        let again = Some(Again { since: caller.is_resent.then_some(caller.since) });
        let call = UnsentCall { ticket: caller.ticket, deadline, call, again };
        self.unsent.insert(nth.min(self.unsent.len()), call);
        Ok(())
    }

    /// Appends all unsent calls to `out`. With `joins`, one command carries consecutive calls that can be joined.
    pub(in crate::redis) fn send_waiting(&mut self, now: Micros, joins: bool, out: &mut Vec<u8>) {
        while let Some(first) = self.unsent.front() {
            let has_source = self.needs_source(first);
            let together = if has_source { 1 } else { self.together(0, joins, false) };
            self.send_together(now, together, has_source, out);
        }
    }

    /// Returns the number of unsent calls that the next command carries, of the commands that
    /// [`send_command`](Self::send_command) appends.
    pub(in crate::redis) fn next_command(&self, joins: bool) -> usize {
        self.together(0, joins, true)
    }

    /// Appends all unsent calls to `out` as one command, in which all can be joined: with the source for all of them if
    /// the first needs it.
    pub(in crate::redis) fn send_command(&mut self, now: Micros, out: &mut Vec<u8>) {
        let has_source = self.unsent.front().is_some_and(|first| self.needs_source(first));
        self.send_together(now, self.unsent.len(), has_source, out);
    }

    /// Appends the first `together` unsent calls to `out`, as one command.
    fn send_together(&mut self, now: Micros, together: usize, has_source: bool, out: &mut Vec<u8>) {
        let calls = || self.unsent.iter().take(together).map(|waiting| &waiting.call);
        match (self.unsent.front(), together) {
            (None, _) => return,
            (Some(first), 1) if has_source => drop(first.call.encode_with_source(out)),
            (Some(first), 1) => first.call.encode(out),
            _ if has_source => Call::encode_joined_with_source(calls(), out),
            _ => Call::encode_joined(calls(), out),
        }
        for nth in 0..together {
            let Some(UnsentCall { ticket, deadline, call, again }) = self.unsent.pop_front() else { break };
            let mut bytes = call.size();
            if has_source && nth == 0 {
                self.has_sent_source(&call);
                self.bytes = self.bytes.saturating_sub(bytes).saturating_add(call.size_with_source());
                bytes = call.size_with_source();
            }
            let (share, is_tracked) = (call.share().unwrap_or(0), call.is_tracked());
            let longest_reply = call.longest_reply();
            let since = again.and_then(|again| again.since).unwrap_or(now);
            let call = (call.is_script() && !has_source).then_some(call);
            let deadline = Some(deadline);
            let caller = Some(Caller { ticket, deadline, since, is_tracked, is_resent: again.is_some(), call });
            self.sent.push_back(SentCall { caller, share, is_joined: nth > 0, at: now, bytes, longest_reply });
        }
    }

    /// Returns the scripts of the unsent calls.
    pub(in crate::redis) fn unsent_scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.unsent.iter().filter_map(|waiting| waiting.call.script_of())
    }

    /// Whether an unsent call must be sent with its source: it is sent again, and no earlier call in flight carries the
    /// source, or that has not helped.
    fn needs_source(&self, waiting: &UnsentCall) -> bool {
        waiting.again.is_some_and(|again| again.since.is_some() || !self.is_source_ahead(&waiting.call))
    }

    /// Whether a call in flight carries the source of this call's script.
    fn is_source_ahead(&self, call: &Call) -> bool {
        self.sourced.iter().any(|(script, until)| {
            *until > self.answered && call.script_of().is_some_and(|its| Arc::ptr_eq(its, script))
        })
    }

    /// Notes that the next call in flight carries the source of its script.
    #[inline(never)]
    fn has_sent_source(&mut self, call: &Call) {
        let Some(script) = call.script_of() else { return };
        let until = self.answered.wrapping_add(u64::try_from(self.sent.len()).unwrap_or(u64::MAX)).wrapping_add(1);
        self.sourced.retain(|(known, _)| !Arc::ptr_eq(known, script));
        self.sourced.push((Arc::clone(script), until));
    }

    /// Extends the deadlines of unsent calls to at least `deadline`.
    pub(in crate::redis) fn extend_waiting(&mut self, deadline: Micros) {
        for waiting in &mut self.unsent {
            waiting.deadline = waiting.deadline.max(deadline);
        }
    }

    /// Splits off the unsent calls beyond the first `calls` calls in flight, and beyond those whose replies may take
    /// `reply_bytes` bytes together. At least one call stays.
    pub(in crate::redis) fn split_waiting(&mut self, calls: usize, reply_bytes: usize, joins: bool) -> Self {
        let room = calls.saturating_sub(self.sent.len()).min(self.unsent.len());
        let mut replies = self.sent.iter().fold(0, |sum: usize, sent| sum.saturating_add(sent.longest_reply));
        let mut first: usize = 0;
        while first < room {
            let together = self.together(first, joins, false);
            replies = replies.saturating_add(self.longest_reply(first, together));
            if replies > reply_bytes && (first > 0 || self.is_any_sent()) {
                break;
            }
            first = first.saturating_add(together);
        }
        let waiting = self.unsent.split_off(first.min(room));
        let bytes = waiting.iter().fold(0, |sum: usize, waiting| sum.saturating_add(waiting.call.size()));
        self.bytes = self.bytes.saturating_sub(bytes);
        let earliest = waiting.iter().map(|waiting| waiting.deadline).min();
        Self { unsent: waiting, bytes, earliest, ..Self::default() }
    }

    /// Returns the last deadline of the calls that were sent.
    pub(in crate::redis) fn last_deadline(&self) -> Option<Micros> {
        self.sent.iter().filter_map(SentCall::due).map(|(_, deadline)| deadline).max()
    }

    /// Returns the number of commands that were sent and not answered.
    pub(in crate::redis) fn commands(&self) -> usize {
        self.sent.iter().filter(|sent| !sent.is_joined).count()
    }

    /// Returns the number of unsent calls, from `from` on, that one command carries: calls to be sent with their source,
    /// only with `joins_sources`.
    fn together(&self, from: usize, joins: bool, joins_sources: bool) -> usize {
        let mut waiting = self.unsent.iter().skip(from);
        let Some(first) = waiting.next().filter(|_| joins && waiting.len() > 0) else { return 1 };
        let (mut shares, has_source) = (first.call.share().unwrap_or(0), joins_sources && self.needs_source(first));
        let others = waiting.take(MAX_JOINED.saturating_sub(1)).take_while(|other| {
            shares = shares.saturating_add(other.call.share().unwrap_or(0));
            shares <= MAX_SHARES && other.call.joins(&first.call) && self.needs_source(other) == has_source
        });
        others.count().saturating_add(1)
    }

    /// Returns the length of the longest reply to one command with `together` unsent calls, from `from` on.
    fn longest_reply(&self, from: usize, together: usize) -> usize {
        let calls = self.unsent.iter().skip(from).take(together);
        let all = calls.fold(0, |sum: usize, waiting| sum.saturating_add(waiting.call.longest_reply()));
        if together == 1 { all } else { all.min(LONGEST_JOINED_REPLY) }
    }

    /// Appends the call of `caller` to `out` again, at the end of the queue: with its source, unless an earlier call in
    /// flight carries the same source. A call that was sent again before is sent with its source, and then never again.
    ///
    /// # Errors
    /// `Overloaded` if there is no room for the call.
    pub(in crate::redis) fn resend(
        &mut self,
        now: Micros,
        caller: Caller,
        call: &Call,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let by_name = !caller.is_resent && self.is_source_ahead(call);
        let bytes = if by_name { call.size() } else { call.size_with_source() };
        if !self.has_room(bytes) {
            return Err(Failure::Overloaded);
        }
        if by_name {
            call.encode(out);
        } else {
            call.encode_with_source(out);
            self.has_sent_source(call);
        }
        caller.deadline.into_iter().for_each(|deadline| self.add_deadline(deadline));
        self.bytes = self.bytes.saturating_add(bytes);
        let since = if caller.is_resent { caller.since } else { now };
        let longest_reply = call.longest_reply();
        let caller = Some(Caller { since, is_resent: true, call: by_name.then(|| call.clone()), ..caller });
        self.sent.push_back(SentCall { caller, share: 0, is_joined: false, at: now, bytes, longest_reply });
        Ok(())
    }

    /// Removes the call whose reply has arrived.
    pub(in crate::redis) fn pop_answered(&mut self) -> Option<SentCall> {
        let sent = self.sent.pop_front()?;
        self.answered = self.answered.wrapping_add(1);
        self.bytes = self.bytes.saturating_sub(sent.bytes);
        self.forget_deadlines();
        Some(sent)
    }

    /// Removes the next call that shares the reply of the call removed last, if any.
    pub(in crate::redis) fn pop_joined(&mut self) -> Option<SentCall> {
        if self.is_next_joined() { self.pop_answered() } else { None }
    }

    /// Returns whether the next call shares the reply of the call removed last.
    pub(in crate::redis) fn is_next_joined(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.is_joined)
    }

    /// Abandons a call. Returns `true` if the call was never sent.
    pub(in crate::redis) fn abandon(&mut self, ticket: Ticket) -> bool {
        if let Some(at) = self.unsent.iter().position(|waiting| waiting.ticket == ticket) {
            if let Some(waiting) = self.unsent.remove(at) {
                self.bytes = self.bytes.saturating_sub(waiting.call.size());
            }
            return true;
        }
        let is_its = |sent: &&mut SentCall| sent.caller.as_ref().is_some_and(|caller| caller.ticket == ticket);
        if let Some(sent) = self.sent.iter_mut().find(is_its) {
            sent.detach();
        }
        false
    }

    /// Extends all deadlines. Gives up the calls that are then past their deadline at `now`, and passes their tickets to
    /// `give_up`. A call whose patience began after `patient_since` is kept: see
    /// [`HostLoad`](crate::redis::host_load::HostLoad).
    #[inline(never)]
    pub(in crate::redis) fn expire(
        &mut self,
        now: Micros,
        extension: Extension,
        patient_since: Option<Micros>,
        give_up: &mut dyn FnMut(Ticket, Expiry),
    ) {
        if self.earliest.is_none_or(|earliest| earliest > now && extension.by == Micros::ZERO) {
            return;
        }
        let (mut earliest, mut bytes) = (None, self.bytes);
        // Calls have different timeouts, so the first unsent call need not have the earliest deadline.
        self.unsent.retain_mut(|waiting| {
            waiting.deadline = extension.of(waiting.deadline);
            // A busy host's patience with a call that is sent again begins when it is sent.
            let is_kept = waiting.again.is_some() && patient_since.is_some();
            let is_due = waiting.deadline <= now && !is_kept;
            if is_due {
                bytes = bytes.saturating_sub(waiting.call.size());
                give_up(waiting.ticket, if waiting.call.is_tracked() { Expiry::NeverSent } else { Expiry::TimedOut });
            } else {
                earliest = Some(sooner(earliest, waiting.deadline));
            }
            !is_due
        });
        for sent in &mut self.sent {
            let Some(caller) = &mut sent.caller else { continue };
            let Some(deadline) = caller.deadline.map(|deadline| extension.of(deadline)) else { continue };
            caller.deadline = Some(deadline);
            if deadline <= now && patient_since.is_none_or(|since| caller.since <= since) {
                give_up(caller.ticket, Expiry::TimedOut);
                sent.detach();
            } else {
                earliest = Some(sooner(earliest, deadline));
            }
        }
        (self.earliest, self.bytes) = (earliest, bytes);
    }

    /// Removes the unsent calls, and passes their tickets to `fail`.
    #[inline(never)]
    pub(in crate::redis) fn fail_waiting(&mut self, fail: &mut dyn FnMut(Ticket)) {
        for waiting in mem::take(&mut self.unsent) {
            self.bytes = self.bytes.saturating_sub(waiting.call.size());
            fail(waiting.ticket);
        }
        self.forget_deadlines();
    }

    /// Removes the calls that were sent, and passes the tickets to `fail` of those that still have a caller.
    #[inline(never)]
    pub(in crate::redis) fn fail_sent(&mut self, fail: &mut dyn FnMut(Ticket)) {
        self.bytes = self.sent.iter().fold(self.bytes, |bytes, sent| bytes.saturating_sub(sent.bytes));
        self.sourced.clear();
        mem::take(&mut self.sent).into_iter().filter_map(|sent| sent.caller).map(|caller| caller.ticket).for_each(fail);
        self.forget_deadlines();
    }

    /// Resets the lower bound of the deadlines once no call is left.
    fn forget_deadlines(&mut self) {
        if self.len() == 0 {
            self.earliest = None;
        }
    }

    fn add_deadline(&mut self, deadline: Micros) {
        self.earliest = Some(sooner(self.earliest, deadline));
    }
}

pub(super) fn sooner(earliest: Option<Micros>, deadline: Micros) -> Micros {
    earliest.map_or(deadline, |earliest| earliest.min(deadline))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

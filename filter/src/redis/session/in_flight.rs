//! The calls that a session owes an answer: some wait for the connection, some were sent and wait for Redis.
//!
//! Redis answers in order, so that correlation is a queue. A call that nobody waits for any more keeps its place
//! in it until its reply has come.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{
    redis::{Call, Failure, Script, Ticket},
    units::Micros,
};

/// Bytes of all calls waiting and sent together. The host has no back-pressure: this is it.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Calls that one command tells of, and elements of their reply: at least one for each bucket, which takes Redis some
/// 5 µs. It serves nobody else meanwhile.
const MAX_JOINED: usize = 64;
const MAX_SHARES: usize = 256;

#[derive(Debug, Default)]
pub(in crate::redis) struct InFlight {
    waiting: VecDeque<Waiting>,
    sent: VecDeque<Sent>,
    bytes: usize,
    /// At or before the earliest deadline of all. It is exact after [`expire`](Self::expire), and costs nothing
    /// elsewhere.
    earliest: Option<Micros>,
    /// Calls that were answered.
    answered: u64,
    /// The script that was sent last with its source, and how many calls are answered once that is.
    sourced: Option<(Arc<Script>, u64)>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    deadline: Micros,
    call: Call,
}

/// A call that was sent, in the order of the replies to come.
#[derive(Debug)]
pub(in crate::redis) struct Sent {
    /// `None` once nobody waits for it.
    pub(in crate::redis) caller: Option<Caller>,
    /// Elements of the reply that are its own, where it was sent together with others.
    pub(in crate::redis) share: usize,
    /// Whether it was sent in one command with the one before it, so that they have one reply.
    is_joined: bool,
    at: Micros,
    bytes: usize,
}

#[derive(Debug)]
pub(in crate::redis) struct Caller {
    pub(in crate::redis) ticket: Ticket,
    /// `None` where its caller has gone or its time is up, and only its outcome is waited for.
    pub(in crate::redis) deadline: Option<Micros>,
    /// When a host's patience began: as it was sent, or sent again for the first time, but no later.
    pub(in crate::redis) since: Micros,
    /// Whether its outcome is told in any case.
    pub(in crate::redis) is_heeded: bool,
    /// Whether it was sent more than once.
    is_resent: bool,
    /// What to send again after `NOSCRIPT`; `None` where that was done, or cannot help.
    pub(in crate::redis) call: Option<Call>,
}

/// What becomes of a call that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Given {
    /// Nothing more, or its outcome is told in its time.
    Up,
    /// It was never sent, which its caller is to know.
    Unsent,
}

impl Sent {
    /// Its caller and that one's deadline, where there is one.
    fn due(&self) -> Option<(&Caller, Micros)> {
        let caller = self.caller.as_ref()?;
        Some((caller, caller.deadline?))
    }

    /// Nobody waits for it any more, unless its outcome is told in any case.
    fn leave(&mut self) {
        match &mut self.caller {
            Some(caller) if caller.is_heeded => (caller.deadline, caller.call) = (None, None),
            caller => *caller = None,
        }
    }
}

impl InFlight {
    /// Whether so many bytes more have room.
    pub(in crate::redis) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= MAX_BYTES
    }

    /// Bytes of all calls waiting and sent.
    pub(in crate::redis) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls waiting and sent, those included that nobody waits for any more.
    pub(in crate::redis) fn len(&self) -> usize {
        self.waiting.len().saturating_add(self.sent.len())
    }

    pub(in crate::redis) fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(in crate::redis) fn is_any_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    pub(in crate::redis) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// When the call was sent whose reply is due next.
    pub(in crate::redis) fn oldest_sent(&self) -> Option<Micros> {
        self.sent.front().map(|sent| sent.at)
    }

    /// No later than the earliest deadline of all.
    pub(in crate::redis) fn earliest_deadline(&self) -> Option<Micros> {
        self.earliest
    }

    /// Whether the deadline of a call that waits has come by `now`.
    pub(in crate::redis) fn is_any_waiting_due(&self, now: Micros) -> bool {
        self.waiting.iter().any(|waiting| waiting.deadline <= now)
    }

    /// Holds a call back until [`send_waiting`](Self::send_waiting).
    pub(in crate::redis) fn wait(&mut self, ticket: Ticket, deadline: Micros, call: Call) {
        self.bytes = self.bytes.saturating_add(call.size());
        self.note(deadline);
        self.waiting.push_back(Waiting { ticket, deadline, call });
    }

    /// Writes all calls that wait to `out`: where `joins`, those together that one command can tell of.
    pub(in crate::redis) fn send_waiting(&mut self, now: Micros, joins: bool, out: &mut Vec<u8>) {
        while let Some(first) = self.waiting.front() {
            let together = if joins { self.joining(first) } else { 1 };
            match together {
                1 => first.call.encode(out),
                _ => Call::encode_joined(self.waiting.iter().take(together).map(|waiting| &waiting.call), out),
            }
            for nth in 0..together {
                let Some(Waiting { ticket, deadline, call }) = self.waiting.pop_front() else { break };
                let (bytes, share, is_heeded) = (call.size(), call.share().unwrap_or(0), call.is_heeded());
                let call = call.is_script().then_some(call);
                let deadline = Some(deadline);
                let caller = Some(Caller { ticket, deadline, since: now, is_heeded, is_resent: false, call });
                self.sent.push_back(Sent { caller, share, is_joined: nth > 0, at: now, bytes });
            }
        }
    }

    /// Gives the calls that wait until then, at least.
    pub(in crate::redis) fn extend_waiting(&mut self, deadline: Micros) {
        for waiting in &mut self.waiting {
            waiting.deadline = waiting.deadline.max(deadline);
        }
    }

    /// Takes away the calls that wait beyond the first `n` of all.
    pub(in crate::redis) fn split_waiting(&mut self, n: usize) -> Self {
        let first = n.saturating_sub(self.sent.len()).min(self.waiting.len());
        let waiting = self.waiting.split_off(first);
        let bytes = waiting.iter().fold(0, |sum: usize, waiting| sum.saturating_add(waiting.call.size()));
        self.bytes = self.bytes.saturating_sub(bytes);
        let earliest = waiting.iter().map(|waiting| waiting.deadline).min();
        Self { waiting, bytes, earliest, ..Self::default() }
    }

    /// The last deadline of those that were sent.
    pub(in crate::redis) fn last_deadline(&self) -> Option<Micros> {
        self.sent.iter().filter_map(Sent::due).map(|(_, deadline)| deadline).max()
    }

    /// Commands that were sent and are not answered.
    pub(in crate::redis) fn commands(&self) -> usize {
        self.sent.iter().filter(|sent| !sent.is_joined).count()
    }

    /// How many calls one command can tell of, from the first that waits on.
    fn joining(&self, first: &Waiting) -> usize {
        let mut shares = first.call.share().unwrap_or(0);
        let others = self.waiting.iter().take(MAX_JOINED).skip(1).take_while(|waiting| {
            shares = shares.saturating_add(waiting.call.share().unwrap_or(0));
            shares <= MAX_SHARES && waiting.call.joins(&first.call)
        });
        others.count().saturating_add(1)
    }

    /// Writes a call of `caller` once more, to the end of the queue: with its source, unless Redis comes by that before
    /// it. Where it was sent again before, it is sent with its source in any case, and then never again.
    ///
    /// # Errors
    /// `Overloaded` where there is no room for it.
    pub(in crate::redis) fn resend(
        &mut self,
        now: Micros,
        caller: Caller,
        call: &Call,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let is_ahead = |(script, until): &(Arc<Script>, u64)| {
            *until > self.answered && call.script_of().is_some_and(|its| Arc::ptr_eq(its, script))
        };
        let by_name = !caller.is_resent && self.sourced.as_ref().is_some_and(is_ahead);
        let bytes = if by_name { call.size() } else { call.size_with_source() };
        if !self.has_room(bytes) {
            return Err(Failure::Overloaded);
        }
        if by_name {
            call.encode(out);
        } else {
            call.encode_with_source(out);
            let until = self.answered.wrapping_add(u64::try_from(self.sent.len()).unwrap_or(u64::MAX)).wrapping_add(1);
            self.sourced = call.script_of().map(|script| (Arc::clone(script), until));
        }
        caller.deadline.into_iter().for_each(|deadline| self.note(deadline));
        self.bytes = self.bytes.saturating_add(bytes);
        let since = if caller.is_resent { caller.since } else { now };
        let caller = Some(Caller { since, is_resent: true, call: by_name.then(|| call.clone()), ..caller });
        self.sent.push_back(Sent { caller, share: 0, is_joined: false, at: now, bytes });
        Ok(())
    }

    /// The call whose reply has come. It is no longer in flight.
    pub(in crate::redis) fn answered(&mut self) -> Option<Sent> {
        let sent = self.sent.pop_front()?;
        self.answered = self.answered.wrapping_add(1);
        self.bytes = self.bytes.saturating_sub(sent.bytes);
        self.forget_deadlines();
        Some(sent)
    }

    /// The next call that has a share in the reply which has come. It is no longer in flight.
    pub(in crate::redis) fn answered_too(&mut self) -> Option<Sent> {
        if self.is_next_joined() { self.answered() } else { None }
    }

    /// Whether the next call has a share in the reply which has come.
    pub(in crate::redis) fn is_next_joined(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.is_joined)
    }

    /// Nobody waits for this call any more. Whether it is known never to run.
    pub(in crate::redis) fn abandon(&mut self, ticket: Ticket) -> bool {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == ticket) {
            if let Some(waiting) = self.waiting.remove(at) {
                self.bytes = self.bytes.saturating_sub(waiting.call.size());
            }
            return true;
        }
        let is_its = |sent: &&mut Sent| sent.caller.as_ref().is_some_and(|caller| caller.ticket == ticket);
        if let Some(sent) = self.sent.iter_mut().find(is_its) {
            sent.leave();
        }
        false
    }

    /// Gives up the calls whose deadline has come by `now`, and names them to `give_up`, with whether they were sent or
    /// else are to be told of as never run. A call that was whose patience began after `patient_since` is kept: see
    /// [`HostLoad`](crate::redis::host_load::HostLoad).
    #[inline(never)]
    pub(in crate::redis) fn expire(
        &mut self,
        now: Micros,
        patient_since: Option<Micros>,
        mut give_up: impl FnMut(Ticket, Given),
    ) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let (mut earliest, mut bytes) = (None, self.bytes);
        // Calls have budgets of different lengths, so that the first that waits need not be the first that is due.
        self.waiting.retain(|waiting| {
            let is_due = waiting.deadline <= now;
            if is_due {
                bytes = bytes.saturating_sub(waiting.call.size());
                give_up(waiting.ticket, if waiting.call.is_heeded() { Given::Unsent } else { Given::Up });
            } else {
                earliest = Some(sooner(earliest, waiting.deadline));
            }
            !is_due
        });
        for sent in &mut self.sent {
            let Some((caller, deadline)) = sent.due() else { continue };
            if deadline <= now && patient_since.is_none_or(|since| caller.since <= since) {
                give_up(caller.ticket, Given::Up);
                sent.leave();
            } else {
                earliest = Some(sooner(earliest, deadline));
            }
        }
        (self.earliest, self.bytes) = (earliest, bytes);
    }

    /// Forgets the calls that wait, and names them to `fail`.
    pub(in crate::redis) fn fail_waiting(&mut self, mut fail: impl FnMut(Ticket)) {
        for waiting in self.waiting.drain(..) {
            self.bytes = self.bytes.saturating_sub(waiting.call.size());
            fail(waiting.ticket);
        }
        self.forget_deadlines();
    }

    /// Forgets the calls that were sent, and names those to `fail` for which somebody waits.
    pub(in crate::redis) fn fail_sent(&mut self, fail: impl FnMut(Ticket)) {
        self.bytes = self.sent.iter().fold(self.bytes, |bytes, sent| bytes.saturating_sub(sent.bytes));
        self.sourced = None;
        self.sent.drain(..).filter_map(|sent| sent.caller).map(|caller| caller.ticket).for_each(fail);
        self.forget_deadlines();
    }

    /// Without calls there is nothing to wake up for.
    fn forget_deadlines(&mut self) {
        if self.len() == 0 {
            self.earliest = None;
        }
    }

    fn note(&mut self, deadline: Micros) {
        self.earliest = Some(sooner(self.earliest, deadline));
    }
}

fn sooner(earliest: Option<Micros>, deadline: Micros) -> Micros {
    earliest.map_or(deadline, |earliest| earliest.min(deadline))
}

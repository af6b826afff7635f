//! Calls in flight, one by one: unsent, or sent.

use crate::redis::{Call, Ticket};
use crate::units::Micros;

#[derive(Debug)]
pub(super) struct UnsentCall {
    pub(super) ticket: Ticket,
    pub(super) deadline: Micros,
    pub(super) call: Call,
    pub(super) again: Option<Again>,
}

/// A call that is to be sent again, since Redis did not have its script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    /// Start of the host's patience; `None`: when it is sent.
    pub(super) since: Option<Micros>,
}

/// A call that was sent. The queue has the order of the replies.
#[derive(Debug)]
pub(in crate::redis) struct SentCall {
    /// `None` once the call is abandoned or timed out, unless it is tracked.
    pub(in crate::redis) caller: Option<Caller>,
    /// Elements of the reply that belong to this call, where one command carried several calls.
    pub(in crate::redis) share: usize,
    /// Whether the call was sent in the same command as the previous call, so that they share one reply.
    pub(super) is_joined: bool,
    /// Time at which the call was sent.
    pub(in crate::redis) at: Micros,
    pub(super) bytes: usize,
    /// Length of the longest reply to the call alone.
    pub(super) longest_reply: usize,
}

#[derive(Debug)]
pub(in crate::redis) struct Caller {
    pub(in crate::redis) ticket: Ticket,
    /// `None` once a tracked call is abandoned or timed out: only its outcome is still reported.
    pub(in crate::redis) deadline: Option<Micros>,
    /// Start of the host's patience: when the call was sent, or sent again for the first time.
    pub(in crate::redis) since: Micros,
    /// Whether the outcome is reported in any case: see [`Call::tracked`].
    pub(in crate::redis) is_tracked: bool,
    /// Whether the call was sent more than once.
    pub(super) is_resent: bool,
    /// The call to send again after `NOSCRIPT`; `None` if it was sent with its source, or is not a script.
    pub(in crate::redis) call: Option<Call>,
}

/// State of a call when its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Expiry {
    /// The call was sent, or is not tracked.
    TimedOut,
    /// A tracked call was never sent: its caller must learn that Redis did not run it.
    NeverSent,
}

impl SentCall {
    /// Returns the caller and its deadline, if the call still has a deadline.
    pub(super) fn due(&self) -> Option<(&Caller, Micros)> {
        let caller = self.caller.as_ref()?;
        Some((caller, caller.deadline?))
    }

    /// Detaches the caller; a tracked call keeps its ticket.
    pub(super) fn detach(&mut self) {
        match &mut self.caller {
            Some(caller) if caller.is_tracked => (caller.deadline, caller.call) = (None, None),
            caller => *caller = None,
        }
    }
}

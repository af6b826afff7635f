//! Journal of the calls of a connection: each call is completed as often as it is promised, and sent a few times at most.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use weir_filter::redis::{Call, Failure, Reply, Script, Ticket};

use crate::choices::Choices;
use crate::{MARK, check_log_line};

/// Scripts of the calls. Calls of the same script can be joined in one command.
static SCRIPTS: LazyLock<[Arc<Script>; 2]> = LazyLock::new(|| ["return 1", "return 2"].map(Script::new).map(Arc::new));
/// Most commands that carry one call: by its script's name, in a command of its own after `CROSSSLOT`, by its name again
/// after `NOSCRIPT`, and with its source.
const MOST_SENT: u32 = 4;

/// Calls that are not completed for the last time.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    calls: BTreeMap<u64, Entry>,
    sent: BTreeMap<u64, u32>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    is_tracked: bool,
    has_timed_out: bool,
}

impl Journal {
    /// Creates a call: of one of two scripts, or a plain command; joinable, tracked, or neither.
    pub(crate) fn call(&mut self, choices: &mut Choices<'_>) -> (Ticket, Call) {
        self.last += 1;
        let kind = choices.byte();
        let argument = format!("t{}", self.last);
        let [one, other] = &*SCRIPTS;
        let script = if kind & 1 == 0 { one } else { other };
        let call = match kind >> 1 & 3 {
            0 => Call::script(script, &[MARK], &[argument]).sharing(usize::from(kind >> 4 & 3)),
            1 => Call::script(script, &[MARK], &[argument]),
            2 => Call::command(&["ZREM", MARK, &argument]),
            _ => Call::script(script, &[MARK], &[argument]).sharing(1).replying(12 * 1024),
        };
        (Ticket(self.last), if kind & 8 == 0 { call } else { call.tracked() })
    }

    /// Notes a call that was accepted.
    pub(crate) fn accept(&mut self, ticket: Ticket, is_tracked: bool) {
        self.calls.insert(ticket.0, Entry { is_tracked, has_timed_out: false });
    }

    /// Returns a call that is not completed, and whether it is tracked: `back` calls before the last.
    pub(crate) fn recent(&self, back: usize) -> Option<(Ticket, bool)> {
        self.calls.iter().nth_back(back).map(|(ticket, entry)| (Ticket(*ticket), entry.is_tracked))
    }

    /// Notes that no event follows for a call that was abandoned.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.calls.remove(&ticket.0);
    }

    /// Notes the completion of a call. A tracked call whose first result is `Timeout` has another one.
    pub(crate) fn complete(&mut self, ticket: Ticket, result: &Result<Reply, Failure>) {
        assert!(!matches!(result, Ok(Reply::Error(_))), "an error is no reply of a call: {result:?}");
        let Some(entry) = self.calls.get_mut(&ticket.0) else {
            panic!("{ticket:?} is completed once too often: {result:?}")
        };
        let is_late = *result == Err(Failure::Timeout);
        assert!(!(is_late && entry.has_timed_out), "{ticket:?} has timed out twice");
        if is_late && entry.is_tracked {
            entry.has_timed_out = true;
        } else {
            self.calls.remove(&ticket.0);
        }
    }

    /// Notes a command that was sent, and the calls in it.
    pub(crate) fn send(&mut self, command: &[Vec<u8>]) {
        let name = command.first().map(Vec::as_slice).unwrap_or_default();
        assert!(
            [&b"EVALSHA"[..], b"EVAL", b"ZREM", b"AUTH", b"SELECT", b"PING"].contains(&name),
            "{}",
            name.escape_ascii()
        );
        let tickets = command.iter().filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix('t')?.parse().ok());
        for ticket in tickets {
            let times = self.sent.entry(ticket).or_default();
            *times += 1;
            assert!(*times <= MOST_SENT, "call {ticket} is sent for the {times}th time");
        }
    }

    /// Checks a warning.
    pub(crate) fn warn(&self, detail: &str) {
        check_log_line(detail);
        assert!(detail.len() <= 400, "{} bytes: {detail}", detail.len());
    }

    /// Checks that every call has been completed.
    pub(crate) fn end(&self) {
        assert!(self.calls.is_empty(), "never completed: {:?}", self.calls);
    }
}

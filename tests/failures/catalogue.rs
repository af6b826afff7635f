//! Faults that the table lists: how each begins, how it ends, and what it may do.

use std::time::Duration;

use weir::{Fault, Rule};

use crate::stage::{Stage, TIMEOUT, USER};

/// Fault of Redis or of the way to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether requests have to be answered by the failure mode. Of others, a busy machine may time out a few.
    pub(super) bites: bool,
    /// Longest time from the end of the fault to the last request that the failure mode answers.
    pub(super) recovers_within: Duration,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A fault of the connection, by the proxy.
    Wire(Rule),
    /// Commands to Redis that begin the fault, and those that end it.
    Commands(&'static [&'static str], &'static [&'static str]),
    /// A command, twenty times in a second.
    Repeated(&'static str),
    /// A command that blocks Redis until it returns.
    Blocking(&'static [&'static str]),
    /// Redis cannot save its data.
    NoDisk,
    /// Redis loads its data again.
    Loading,
    /// A script that does not end.
    StuckScript,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// SIGKILL and a start.
    Kill,
}

/// Recovery from faults that end connections: a few attempts to connect, 50 ms apart and more.
const SOON: Duration = Duration::from_secs(3);
/// Recovery from a refused login, which is tried again every 5 s.
const LATER: Duration = Duration::from_secs(7);

/// The faults of the table but those of DNS, TLS and the clock, which need a Redis of their own.
pub(super) fn entries() -> Vec<Entry> {
    let of = |name, kind, bites, recovers_within| Entry { name, kind, bites, recovers_within };
    let wire = |name, rule: Rule| of(name, Kind::Wire(rule), true, SOON);
    let tenth = TIMEOUT / 10;
    vec![
        // The first: the file that is loaded is still short.
        of("`LOADING`", Kind::Loading, true, SOON),
        wire("connections refused", Fault::Refuse.into()),
        wire("black hole", Fault::Drop.into()),
        of("delay of 90 % of the timeout", Kind::Wire(Fault::Delay(9 * tenth).into()), false, SOON),
        wire("delay of 110 % of the timeout", Fault::Delay(11 * tenth).into()),
        wire("reset in the middle of a reply", Rule::from(Fault::Reset).after(3)),
        wire("half-close", Fault::HalfClose.into()),
        of("replies byte by byte", Kind::Wire(Fault::Split.into()), false, SOON),
        wire("garbage", Fault::Garbage.into()),
        wire("reply of 512 MB", Fault::Giant.into()),
        of("`READONLY`", Kind::Commands(&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]), true, SOON),
        of("`MISCONF`", Kind::NoDisk, true, SOON),
        of("`OOM`", Kind::Commands(&["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]), true, SOON),
        of("`BUSY`: a stuck script", Kind::StuckScript, true, SOON),
        of("`NOSCRIPT`: `SCRIPT FLUSH` × 20", Kind::Repeated("SCRIPT FLUSH"), false, SOON),
        of(
            "`WRONGPASS`: another password",
            Kind::Commands(&["ACL SETUSER weir resetpass >other", "CLIENT KILL USER weir"], &[USER]),
            true,
            LATER,
        ),
        of(
            "`NOPERM`: a missing permission",
            Kind::Commands(&["ACL SETUSER weir -get"], &["ACL SETUSER weir +@all"]),
            true,
            LATER,
        ),
        of(
            "`maxclients`",
            Kind::Commands(&["CONFIG SET maxclients 1", "CLIENT KILL USER weir"], &["CONFIG SET maxclients 10000"]),
            true,
            LATER,
        ),
        of("`CLIENT KILL` × 20", Kind::Repeated("CLIENT KILL USER weir"), true, SOON),
        of("`CLIENT PAUSE` of 1 s", Kind::Commands(&["CLIENT PAUSE 1000"], &[]), true, SOON),
        of("`DEBUG SLEEP` of 1 s", Kind::Blocking(&["DEBUG", "SLEEP", "1"]), true, SOON),
        of("SIGSTOP", Kind::Pause, true, SOON),
        of("kill -9 and a start", Kind::Kill, true, SOON),
    ]
}

impl Kind {
    pub(super) async fn begin(&self, stage: &Stage) {
        match *self {
            Self::Wire(rule) => stage.mesh.faults().set(rule),
            Self::Commands(begin, _) => begin.iter().for_each(|command| stage.tell(command)),
            Self::Repeated(command) => {
                for _ in 0..20 {
                    stage.tell(command);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Self::Blocking(words) => stage.in_background(words),
            Self::NoDisk => stage.break_disk().await,
            Self::Loading => stage.in_background(&["DEBUG", "LOADAOF"]),
            Self::StuckScript => stage.in_background(&["EVAL", "while true do end", "0"]),
            Self::Pause => stage.mesh.redis().pause().expect("Redis runs"),
            Self::Kill => stage.mesh.redis().kill(),
        }
    }

    pub(super) async fn end(&self, stage: &Stage) {
        match *self {
            Self::Wire(_) => stage.mesh.faults().clear(),
            Self::Commands(_, end) => end.iter().for_each(|command| stage.tell(command)),
            Self::Repeated(_) => {}
            Self::Blocking(_) | Self::Loading => stage.until_returned().await,
            Self::NoDisk => stage.mend_disk(),
            Self::StuckScript => {
                stage.tell("SCRIPT KILL");
                stage.until_returned().await;
            }
            Self::Pause => stage.mesh.redis().resume().expect("Redis runs"),
            Self::Kill => tokio::task::block_in_place(|| stage.mesh.redis().restart().expect("Redis starts")),
        }
    }
}

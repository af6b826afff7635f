//! Faults: their kinds, and their random times, places and strengths.

use std::fmt::{self, Display, Formatter};

use weir_filter::units::Micros;

use crate::dice::Dice;

/// Defines the kinds of faults with their names in reports and their lengths in milliseconds: 0, where it is an event.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $least:literal $most:literal;)+) => {
        /// Kind of a fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)+ }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Name in reports and on the page about simulations.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Shortest and longest time of a fault of this kind, in milliseconds; 0: it is an event.
            fn lasts(self) -> (u64, u64) {
                match self { $(Self::$kind => ($least, $most),)+ }
            }
        }
    };
}

kinds! {
    /// Messages take longer.
    Delay "delay" 200 8000;
    /// Messages take about half a timeout, so that replies come just before or after it.
    DelayAtTimeout "delay-at-timeout" 200 4000;
    /// Messages of different connections overtake each other.
    Reordering "reordering" 500 8000;
    /// A message is lost and sent again by TCP: it and all after it on the connection come late.
    Loss "loss" 500 8000;
    /// Connections carry nothing any more, and nobody closes them.
    HalfOpen "half-open" 0 0;
    /// New connections are accepted and never answered.
    BlackHole "black-hole" 200 6000;
    /// Connections are reset before Redis runs a command.
    Reset "reset" 200 4000;
    /// Redis runs commands, and the connections are reset before the replies.
    LostReplies "lost-replies" 200 4000;
    /// Connections are reset within a reply.
    ResetMidReply "reset-mid-reply" 200 4000;
    /// Replies come in pieces of a few bytes.
    TinyPieces "tiny-pieces" 200 6000;
    /// Connections are refused, and those that were open are closed.
    Refused "refused" 100 6000;
    /// The proxy opens no stream and makes no callout.
    HostRefuses "host-refuses" 100 4000;
    /// Some proxies cannot reach Redis.
    Partition "partition" 200 10000;
    /// A worker's VM traps and starts again.
    WorkerRestart "worker-restart" 0 0;
    /// A proxy dies and starts again.
    ProxyRestart "proxy-restart" 100 4000;
    /// A worker's thread stands still.
    WorkerStall "worker-stall" 20 3000;
    /// Clients go away before they are answered.
    ClientsLeave "clients-leave" 500 8000;
    /// Proxies have other numbers of the same limits, for a while.
    Configuration "configuration" 1000 20000;
    /// A limit is overridden, for a while.
    LimitOverride "limit-override" 1000 15000;
    /// A key is overridden, for a while.
    KeyOverride "key-override" 1000 15000;
    /// Redis restarts with its data.
    Restart "restart" 50 4000;
    /// Redis restarts without its data.
    RestartEmpty "restart-empty" 50 4000;
    /// A replica with old data takes over. The connections are closed.
    StaleFailover "stale-failover" 50 3000;
    /// A replica with old data takes over. Connections stay at the old master, which is read-only.
    SilentFailover "silent-failover" 0 0;
    /// `SCRIPT FLUSH`.
    ScriptFlush "script-flush" 0 0;
    /// `FLUSHALL`.
    FlushAll "flushall" 0 0;
    /// Redis evicts keys.
    Eviction "eviction" 0 0;
    /// Redis takes milliseconds for a command.
    Slow "slow" 200 6000;
    /// Redis stands still, and runs everything later.
    Frozen "frozen" 50 4000;
    /// Redis' clock is set forward.
    ClockForward "clock-forward" 0 0;
    /// Redis' clock is set back.
    ClockBack "clock-back" 0 0;
    /// Redis' clock is too fast or too slow.
    ClockDrift "clock-drift" 2000 20000;
    /// Error replies: `LOADING`.
    Loading "loading" 100 5000;
    /// Error replies: `READONLY`.
    ReadOnly "readonly" 100 5000;
    /// Error replies: `OOM`.
    OutOfMemory "oom" 100 5000;
    /// Error replies: `BUSY`.
    Busy "busy" 100 5000;
    /// Error replies: `MISCONF`.
    Misconfigured "misconf" 100 5000;
    /// Error replies: `NOAUTH`.
    NoAuth "noauth" 100 4000;
    /// Error replies: `NOPERM`.
    NoPermission "noperm" 100 4000;
    /// Error replies: `CLUSTERDOWN`.
    ClusterDown "clusterdown" 100 4000;
    /// New connections get an error and are closed.
    MaxClients "maxclients" 100 4000;
    /// Replies are not RESP.
    Garbage "garbage" 100 3000;
    /// Replies are well-formed, and of another type than a script's.
    WrongType "wrong-type" 100 3000;
    /// Replies announce a gigabyte.
    Giant "giant" 100 3000;
}

/// Places that a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Proxy(usize),
    Worker(usize),
}

/// Fault of a simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Time since the start of the simulation.
    pub(crate) from: Micros,
    /// End; `from`, where the fault is an event.
    pub(crate) until: Micros,
    pub(crate) scope: Scope,
    /// Share of messages that the fault concerns, in percent.
    pub(crate) percent: u64,
    /// Random number for what the kind needs besides.
    pub(crate) draw: u64,
}

impl Fault {
    /// Returns a random fault that ends before `end`.
    pub(crate) fn random(kind: Kind, end: Micros, proxies: usize, workers: usize, dice: &mut Dice) -> Self {
        let (least, most) = kind.lasts();
        let lasts = Micros::from_millis(dice.within(least..=most)).min(Micros(end.0 / 2));
        let from = Micros(dice.below(end.minus(lasts).0.max(1)));
        let scope = match kind {
            Kind::WorkerRestart | Kind::WorkerStall => Scope::Worker(dice.place(proxies * workers)),
            Kind::ProxyRestart => Scope::Proxy(dice.place(proxies)),
            _ if kind.is_of_redis() => Scope::All,
            Kind::Partition => Scope::Proxy(dice.place(proxies)),
            _ => match dice.below(3) {
                0 => Scope::All,
                1 => Scope::Proxy(dice.place(proxies)),
                _ => Scope::Worker(dice.place(proxies * workers)),
            },
        };
        let percent = if dice.chance(50) { 100 } else { dice.within(1..=60) };
        Self { kind, from, until: from.plus(lasts), scope, percent, draw: dice.number() }
    }

    /// Whether the fault concerns a worker, of proxies with so many workers each.
    pub(crate) fn concerns(&self, place: usize, workers: usize) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Proxy(proxy) => place / workers == proxy,
            Scope::Worker(worker) => place == worker,
        }
    }
}

impl Kind {
    /// Whether Redis as a whole has the fault, for all proxies.
    fn is_of_redis(self) -> bool {
        matches!(
            self,
            Self::LimitOverride
                | Self::KeyOverride
                | Self::Restart
                | Self::RestartEmpty
                | Self::StaleFailover
                | Self::SilentFailover
                | Self::ScriptFlush
                | Self::FlushAll
                | Self::Eviction
                | Self::Slow
                | Self::Frozen
                | Self::ClockForward
                | Self::ClockBack
                | Self::ClockDrift
        )
    }

    /// Whether Redis loses what it knows of buckets.
    pub(crate) fn loses_data(self) -> bool {
        matches!(
            self,
            Self::RestartEmpty | Self::StaleFailover | Self::SilentFailover | Self::FlushAll | Self::Eviction
        )
    }

    /// Error with which Redis replies to commands, and whether to every command.
    pub(crate) fn error(self) -> Option<(&'static str, bool)> {
        Some(match self {
            Self::Loading => ("LOADING Redis is loading the dataset in memory", true),
            Self::ReadOnly => ("READONLY You can't write against a read only replica.", false),
            Self::OutOfMemory => ("OOM command not allowed when used memory > 'maxmemory'.", false),
            Self::Busy => ("BUSY Redis is busy running a script. You can only call SCRIPT KILL.", true),
            Self::Misconfigured => ("MISCONF Redis is configured to save RDB snapshots, but it cannot.", false),
            Self::NoAuth => ("NOAUTH Authentication required.", true),
            Self::NoPermission => ("NOPERM this user has no permissions to run the 'evalsha' command", false),
            Self::ClusterDown => ("CLUSTERDOWN The cluster is down", false),
            _ => return None,
        })
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.name())?;
        match self.scope {
            Scope::All => f.write_str("everywhere")?,
            Scope::Proxy(proxy) => write!(f, "at proxy {proxy}")?,
            Scope::Worker(worker) => write!(f, "at worker {worker}")?,
        }
        if self.until > self.from {
            write!(f, ", for {} ms", (self.until.0 - self.from.0) / 1_000)?;
            if self.percent < 100 {
                write!(f, ", in {} %", self.percent)?;
            }
        }
        Ok(())
    }
}

//! Faults of the network between a host and a cluster: a TCP proxy injects them, on real sockets.
//!
//! [`FaultProxy`] stands in front of one address; [`inject`] puts one in front of each endpoint of a cluster. A fault
//! is drawn per command to Redis, or per connection, from a PRNG with a seed: the same commands meet the same faults.
//!
//! | module | contents |
//! |---|---|
//! | `proxy` | listener, and the faults that are in force |
//! | `carry` | one connection: commands up, replies down, and what a fault does to them |
//! | `cut` | commands and replies in a stream of bytes |
//! | `draw` | seeded choices |
//! | `injected` | proxies before a cluster's endpoints |

mod carry;
mod cut;
mod draw;
mod injected;
mod proxy;

use std::time::Duration;

pub use injected::{InjectError, Target, inject};
pub use proxy::FaultProxy;

/// Fault of the network or of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A command is held back for this time, and with it the commands behind it.
    Delay(Duration),
    /// From a command on, no byte passes in either direction and the connection stays open, as when a network loses
    /// every packet. Bytes are delivered once the fault is over.
    Drop,
    /// The connection is reset before the command reaches Redis.
    Reset,
    /// The command reaches Redis, and the connection is reset instead of its reply: the client does not learn the outcome.
    LoseReply,
    /// The reply arrives byte by byte.
    Split,
    /// The reply is replaced by bytes that are not RESP.
    Garbage,
    /// Instead of the reply, a string of 512 MB begins, the longest that Redis has, of which 64 MB arrive.
    Giant,
    /// Instead of the reply, the sending side towards the client is closed; the client can still send.
    HalfClose,
    /// New connections are refused and open ones reset.
    Refuse,
    /// A new connection reaches Redis only after this time.
    SlowOpen(Duration),
}

/// Kinds of faults, with the form in which `weir serve --fault` takes them.
pub const KINDS: [&str; 10] = [
    "delay=TIME",
    "drop",
    "reset",
    "lose-reply",
    "split",
    "garbage",
    "giant",
    "half-close",
    "refuse",
    "slow-open=TIME",
];

/// Fault with its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    fault: Fault,
    probability: f64,
    after: Option<u64>,
}

/// Faults that apply together, in this order; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults(Vec<Rule>);

impl Fault {
    /// Returns the name of the kind, as in [`KINDS`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        let kind = KINDS.get(self.index()).copied().unwrap_or_default();
        kind.split('=').next().unwrap_or_default()
    }

    /// Whether the fault can strike in the middle of a reply.
    #[must_use]
    pub fn takes_after(&self) -> bool {
        matches!(self, Self::Drop | Self::Reset | Self::Garbage | Self::HalfClose)
    }

    /// Whether the fault can strike some commands or connections and spare others. A closed port refuses all.
    #[must_use]
    pub fn takes_probability(&self) -> bool {
        *self != Self::Refuse
    }

    fn index(self) -> usize {
        match self {
            Self::Delay(_) => 0,
            Self::Drop => 1,
            Self::Reset => 2,
            Self::LoseReply => 3,
            Self::Split => 4,
            Self::Garbage => 5,
            Self::Giant => 6,
            Self::HalfClose => 7,
            Self::Refuse => 8,
            Self::SlowOpen(_) => 9,
        }
    }
}

impl Rule {
    /// Sets the probability, 0 to 1; other values are clamped. [`Fault::takes_probability`] tells where it has an effect.
    #[must_use]
    pub fn with_probability(self, probability: f64) -> Self {
        Self { probability: probability.clamp(0.0, 1.0), ..self }
    }

    /// Lets the fault strike once on a connection, when this number of bytes of replies has passed; the probability is
    /// that of the connection. [`Fault::takes_after`] tells where it has an effect.
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        Self { after: self.fault.takes_after().then_some(bytes), ..self }
    }

    /// Whether the fault applies at once and to everything.
    fn is_certain(&self) -> bool {
        self.after.is_none() && self.probability >= 1.0
    }
}

impl Faults {
    fn certainly(&self, fault: Fault) -> bool {
        self.0.iter().any(|rule| rule.fault == fault && rule.is_certain())
    }

    fn refuse(&self) -> bool {
        self.0.iter().any(|rule| rule.fault == Fault::Refuse)
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { fault, probability: 1.0, after: None }
    }
}

impl From<Rule> for Faults {
    fn from(rule: Rule) -> Self {
        Self(vec![rule])
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Rule::from(fault).into()
    }
}

impl FromIterator<Rule> for Faults {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

//! History of a simulation: what became of each request, and what happened to Redis and the workers.

use std::fmt::{self, Display, Formatter};

use weir_filter::units::Micros;

use crate::redis_time::RedisTime;

/// Request with its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Place of the request in the plan.
    pub(crate) request: usize,
    /// Time since the start at which the worker got the request, decided it, and ended it.
    pub(crate) began: Micros,
    pub(crate) decided: Micros,
    pub(crate) ended: Micros,
    pub(crate) end: End,
    /// Time for which the worker's thread stood still meanwhile.
    pub(crate) stalled: Micros,
    /// Whether the worker decided the request by its shares of the limits.
    pub(crate) is_by_shares: bool,
}

/// End of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// No limit applied.
    Passed,
    /// Admitted: by Redis at a time of its clock, since 1970, or from a lease.
    Admitted {
        redis: Option<Micros>,
        delay: Micros,
    },
    Denied {
        limit: String,
    },
    /// Redis did not decide it: the failure's name.
    Failed {
        cause: String,
        is_admitted: bool,
    },
    /// Its worker died, or its client went away.
    Lost,
}

/// History of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
    pub(crate) time: RedisTime,
    /// Times since the start at which Redis lost data.
    pub(crate) losses: Vec<Micros>,
    /// Times at which Redis' clock was set, and how far: negative for back.
    pub(crate) steps: Vec<(Micros, i64)>,
    /// Script calls at Redis by the second in which they began, if scripts take time.
    pub(crate) scripts: Vec<u64>,
    /// Slots that are taken at the end.
    pub(crate) slots: usize,
    /// Replies of a real Redis that are not those of the specification.
    pub(crate) differences: Vec<String>,
    /// Requests without an end.
    pub(crate) in_flight: usize,
    /// Events of workers and of the network.
    pub(crate) events: u64,
    /// Commands that the virtual Redis does not know, and configurations that the filter refuses.
    pub(crate) surprises: Vec<String>,
    /// Whether the simulation was ended because its events had no end.
    pub(crate) is_endless: bool,
}

impl Record {
    pub(crate) fn wait(&self) -> Micros {
        self.decided.minus(self.began)
    }
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed, without a limit"),
            Self::Admitted { redis: Some(at), delay: Micros::ZERO } => write!(f, "admitted by Redis at {}", at.0),
            Self::Admitted { redis: Some(at), delay } => {
                write!(f, "admitted by Redis at {}, held for {} us", at.0, delay.0)
            }
            Self::Admitted { redis: None, .. } => f.write_str("admitted from a lease"),
            Self::Denied { limit } => write!(f, "denied by {limit}"),
            Self::Failed { cause, is_admitted: true } => write!(f, "admitted by the failure mode: {cause}"),
            Self::Failed { cause, is_admitted: false } => write!(f, "denied by the failure mode: {cause}"),
            Self::Lost => f.write_str("lost with its worker or its client"),
        }
    }
}

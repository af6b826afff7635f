//! What is measured: a proxy, and what it asks for each request.

use clap::ValueEnum;
use serde_json::{Value, json};

/// One way to serve a request. Its name on the command line is its name in tables and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(super) enum Subject {
    /// Envoy without any filter but those that answer
    NoFilter,
    /// Envoy with a wasm filter whose callbacks do nothing
    NoOp,
    /// Envoy with a wasm filter that pauses every request and resumes it in a later callback, asking nobody
    PauseResume,
    /// Envoy with a wasm filter that asks Redis the same for every request and lets all pass: the least that asking takes
    AskRedis,
    /// Envoy with a wasm filter that denies at once
    NoOpDeny,
    /// Envoy's own limiter, in the worker's memory
    LocalRatelimit,
    /// Weir, every request admitted by Redis
    Weir,
    /// Weir, the same, and every response has its x-ratelimit headers, as it has by default
    WeirHeaders,
    /// Weir, three limits for each request
    #[value(name = "weir-3")]
    Weir3,
    /// Weir, eight limits for each request
    #[value(name = "weir-8")]
    Weir8,
    /// Weir, every request admitted, out of leases
    WeirLease,
    /// Weir, every request denied
    WeirDenied,
    /// Weir, every request admitted by Redis over a callout
    WeirCallout,
    /// Envoy's ratelimit filter, which asks a Limitador, which asks Redis
    RatelimitLimitador,
    /// nginx without anything but its answer
    Nginx,
    /// nginx with a GCRA in Redis, asked by Lua over kept connections
    NginxLua,
}

/// What answers the requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Proxy {
    /// An Envoy with this filter in front of those that answer.
    Envoy(Filter),
    /// An nginx that answers by itself, or only after asking Redis.
    Nginx {
        /// Whether it asks Redis.
        limits: bool,
    },
}

/// An HTTP filter of Envoy's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// None.
    None,
    /// A wasm module of [`super::guest`]'s.
    Guest(Guest),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRatelimit,
    /// `envoy.filters.http.ratelimit`, and the service that it asks.
    Ratelimit,
    /// Weir, with this configuration.
    Weir(Value),
}

/// Modules that show what wasm alone costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// Has the callbacks of an ordinary filter; they do nothing.
    NoOp,
    /// Pauses every request, and resumes it when its own message to itself arrives.
    PauseResume,
    /// Asks Redis for every request, over a stream as Weir's, and does nothing else.
    AskRedis,
    /// Denies every request when it sees its headers.
    Deny,
}

impl Subject {
    /// What `weir bench` measures in its small form.
    pub(super) const SMALL: [Self; 6] =
        [Self::NoOp, Self::LocalRatelimit, Self::Weir, Self::NoOpDeny, Self::WeirDenied, Self::WeirCallout];

    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Its name on the command line and in every output.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is, in a few words.
    pub(super) fn summary(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// The status of every answer.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::NoOpDeny | Self::WeirDenied => 429,
            _ => 200,
        }
    }

    /// What its cost is compared with: the same host doing as little as it can to give the same answer.
    pub(super) fn baseline(self) -> Self {
        match self {
            Self::NoOpDeny | Self::WeirDenied => Self::NoOpDeny,
            Self::Nginx | Self::NginxLua => Self::Nginx,
            _ => Self::NoOp,
        }
    }

    pub(super) fn proxy(self) -> Proxy {
        // Those beside it send none.
        let without_headers = |limits: usize, limit: Value, redis: Value| {
            let mut configuration = weir(limits, &limit, &redis);
            configuration["response"] = json!({"headers": []});
            Proxy::Envoy(Filter::Weir(configuration))
        };
        match self {
            Self::NoFilter => Proxy::Envoy(Filter::None),
            Self::NoOp => Proxy::Envoy(Filter::Guest(Guest::NoOp)),
            Self::PauseResume => Proxy::Envoy(Filter::Guest(Guest::PauseResume)),
            Self::AskRedis => Proxy::Envoy(Filter::Guest(Guest::AskRedis)),
            Self::NoOpDeny => Proxy::Envoy(Filter::Guest(Guest::Deny)),
            Self::LocalRatelimit => Proxy::Envoy(Filter::LocalRatelimit),
            Self::Weir => without_headers(1, ample(), json!({})),
            Self::WeirHeaders => Proxy::Envoy(Filter::Weir(weir(1, &ample(), &json!({})))),
            Self::Weir3 => without_headers(3, ample(), json!({})),
            Self::Weir8 => without_headers(8, ample(), json!({})),
            Self::WeirCallout => without_headers(1, ample(), json!({"transport": "callout"})),
            Self::WeirLease => {
                let mut leased = ample();
                leased["lease"] = json!({"max": 100, "ttl": "1s"});
                without_headers(1, leased, json!({}))
            }
            Self::WeirDenied => Proxy::Envoy(Filter::Weir(weir(1, &meagre(), &json!({})))),
            Self::RatelimitLimitador => Proxy::Envoy(Filter::Ratelimit),
            Self::Nginx => Proxy::Nginx { limits: false },
            Self::NginxLua => Proxy::Nginx { limits: true },
        }
    }

    /// Whether Redis has a part in it.
    pub(super) fn asks_redis(self) -> bool {
        matches!(
            self.proxy(),
            Proxy::Envoy(Filter::Weir(_) | Filter::Ratelimit | Filter::Guest(Guest::AskRedis))
                | Proxy::Nginx { limits: true }
        )
    }

    /// Whether this checkout's filter takes the subject's configuration; some come before the feature does.
    pub(super) fn is_known_to_the_filter(self) -> bool {
        match self.proxy() {
            Proxy::Envoy(Filter::Weir(configuration)) => {
                weir_filter::config::parse(configuration.to_string().as_bytes(), &|_| None).is_ok()
            }
            _ => true,
        }
    }
}

/// More than any run can spend, and filled so slowly that every key stays in Redis: each request finds and changes it.
fn ample() -> Value {
    json!({"token_bucket": {"max_tokens": 100_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "3600s"}})
}

/// Spent by the warm-up.
fn meagre() -> Value {
    json!({"token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"}})
}

/// A configuration with this many limits alike, and these fields of `redis`.
fn weir(limits: usize, limit: &Value, redis: &Value) -> Value {
    let limits = (1..=limits).map(|nth| {
        let mut limit = limit.clone();
        limit["name"] = format!("bench_{nth}").into();
        limit["descriptor"] = json!([{"request_header": {"name": "x-user-id"}}]);
        limit
    });
    // A failure must be seen as one, and a busy machine's pauses must not make any.
    let mut all = json!({
        "redis": {"cluster": "redis", "timeout": "1s"},
        "failure_mode": "deny",
        "limits": limits.collect::<Vec<_>>(),
    });
    for (name, value) in redis.as_object().into_iter().flatten() {
        all["redis"][name] = value.clone();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_takes_every_configuration_that_is_not_ahead_of_it() {
        for subject in Subject::value_variants() {
            assert!(subject.is_known_to_the_filter() || *subject == Subject::WeirLease, "{subject:?}");
        }
    }

    #[test]
    fn a_subject_is_compared_with_one_that_answers_the_same() {
        for subject in Subject::value_variants() {
            assert_eq!(subject.status(), subject.baseline().status(), "{subject:?}");
            assert_eq!(subject.baseline().baseline(), subject.baseline());
            assert!(!subject.summary().is_empty());
        }
        assert_eq!(Subject::Weir3.name(), "weir-3");
    }
}

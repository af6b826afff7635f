//! Subjects of `weir bench`: a proxy, its filter, and the servers it calls for each request.

use clap::ValueEnum;
use serde_json::{Value, json};

/// A proxy with a filter. Its name on the command line is also its name in tables and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(super) enum Subject {
    /// Envoy without a filter in front of the fault filter, which answers
    NoFilter,
    /// Envoy with a wasm filter whose callbacks do nothing
    NoOp,
    /// Envoy with a wasm filter that pauses every request and resumes it in a later callback, without a call to Redis
    PauseResume,
    /// Envoy with a minimal wasm filter that runs a script in Redis for every request and admits every request
    AskRedis,
    /// Envoy with a wasm filter that denies every request immediately
    NoOpDeny,
    /// Envoy's local_ratelimit filter, with its bucket in the proxy's memory
    LocalRatelimit,
    /// Weir, with every request admitted by Redis
    Weir,
    /// Weir, with every request admitted by Redis, and x-ratelimit headers in every response, as by default
    WeirHeaders,
    /// Weir, with three limits per request
    #[value(name = "weir-3")]
    Weir3,
    /// Weir, with eight limits per request
    #[value(name = "weir-8")]
    Weir8,
    /// Weir, with every request admitted from a lease
    WeirLease,
    /// Weir, with every request denied
    WeirDenied,
    /// Weir, with every request admitted by Redis over a callout
    WeirCallout,
    /// Envoy's ratelimit filter with Limitador, which counts in Redis
    RatelimitLimitador,
    /// nginx without a limiter
    Nginx,
    /// nginx with a GCRA script in Redis, called from Lua over keep-alive connections
    NginxLua,
}

/// The proxy of a subject.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Proxy {
    /// Envoy with this filter in front of the fault filter.
    Envoy(Filter),
    /// nginx, which answers directly or after a call to Redis.
    Nginx {
        /// Whether nginx calls Redis before it answers.
        limits: bool,
    },
}

/// An HTTP filter of Envoy.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// No filter in front of the fault filter.
    None,
    /// A wasm module of [`super::guest`].
    Guest(Guest),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRatelimit,
    /// `envoy.filters.http.ratelimit`, and its rate limit service.
    Ratelimit,
    /// Weir, with this configuration.
    Weir(Value),
}

/// Guest modules, which show the cost of wasm itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// Exports the callbacks of an ordinary filter, which do nothing.
    NoOp,
    /// Pauses every request, sends a message to its own queue, and resumes the request when the message arrives.
    PauseResume,
    /// Calls Redis for every request, over the same kind of stream as Weir, and admits every request.
    AskRedis,
    /// Denies every request in `on_request_headers`.
    Deny,
    /// Fetches each chunk of every response, and does nothing with it.
    FetchBodies,
}

impl Subject {
    /// The subjects that `weir bench` measures by default.
    pub(super) const SMALL: [Self; 6] =
        [Self::NoOp, Self::LocalRatelimit, Self::Weir, Self::NoOpDeny, Self::WeirDenied, Self::WeirCallout];

    /// All subjects.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The subject's name on the command line and in every output.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// A short description of the subject.
    pub(super) fn summary(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// The status of every response.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::NoOpDeny | Self::WeirDenied => 429,
            _ => 200,
        }
    }

    /// The subject that this one is compared with: the same proxy with minimal work for the same response.
    pub(super) fn baseline(self) -> Self {
        match self {
            Self::NoOpDeny | Self::WeirDenied => Self::NoOpDeny,
            Self::Nginx | Self::NginxLua => Self::Nginx,
            _ => Self::NoOp,
        }
    }

    pub(super) fn proxy(self) -> Proxy {
        // No headers in responses, like the subjects that are compared with it.
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

    /// Whether the subject calls Redis.
    pub(super) fn asks_redis(self) -> bool {
        matches!(
            self.proxy(),
            Proxy::Envoy(Filter::Weir(_) | Filter::Ratelimit | Filter::Guest(Guest::AskRedis))
                | Proxy::Nginx { limits: true }
        )
    }

    /// Whether this checkout's filter accepts the subject's configuration: a subject may be older than its feature.
    pub(super) fn is_known_to_the_filter(self) -> bool {
        match self.proxy() {
            Proxy::Envoy(Filter::Weir(configuration)) => {
                weir_filter::config::parse(configuration.to_string().as_bytes(), &|_| None).is_ok()
            }
            _ => true,
        }
    }
}

/// A limit that no run exhausts, refilled so slowly that every bucket stays in Redis: each request reads and writes it.
fn ample() -> Value {
    json!({"token_bucket": {"max_tokens": 100_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "3600s"}})
}

/// A limit of one token, which the warm-up spends.
fn meagre() -> Value {
    json!({"token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"}})
}

/// A configuration with this number of equal limits, and these additional fields of `redis`.
fn weir(limits: usize, limit: &Value, redis: &Value) -> Value {
    let limits = (1..=limits).map(|nth| {
        let mut limit = limit.clone();
        limit["name"] = format!("bench_{nth}").into();
        limit["descriptor"] = json!([{"request_header": {"name": "x-user-id"}}]);
        limit
    });
    // Failures become errors (`deny`), and the timeout is long enough for the pauses of a busy machine.
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
    fn the_filter_accepts_every_subjects_configuration_except_perhaps_leases() {
        for subject in Subject::value_variants() {
            assert!(subject.is_known_to_the_filter() || *subject == Subject::WeirLease, "{subject:?}");
        }
    }

    #[test]
    fn a_subject_and_its_baseline_have_the_same_status() {
        for subject in Subject::value_variants() {
            assert_eq!(subject.status(), subject.baseline().status(), "{subject:?}");
            assert_eq!(subject.baseline().baseline(), subject.baseline());
            assert!(!subject.summary().is_empty());
        }
        assert_eq!(Subject::Weir3.name(), "weir-3");
    }
}

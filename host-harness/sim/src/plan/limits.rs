//! Random limits of a simulation, and the configuration that has them.

use serde_json::{Value, json};
use weir_filter::units::Micros;

use crate::dice::Dice;

/// Algorithm of a limit with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    TokenBucket {
        max: u64,
        tokens: u64,
        interval: Micros,
    },
    Log {
        max: u64,
        window: Micros,
    },
    Sliding {
        max: u64,
        window: Micros,
    },
    Fixed {
        max: u64,
        window: Micros,
    },
    /// Calendar minute, an hour, or a day.
    Quota {
        max: u64,
        unit: &'static str,
        window: Micros,
    },
    Concurrency {
        max: u64,
        lease: Micros,
    },
}

/// Limit of a simulated configuration.
#[derive(Debug, Clone)]
pub(crate) struct LimitPlan {
    pub(crate) name: String,
    pub(crate) windows: Vec<Window>,
    /// Most tokens of a lease, and its time.
    pub(crate) lease: Option<(u64, Micros)>,
    pub(crate) max_delay: Micros,
    /// Whether requests that Redis does not decide are denied.
    pub(crate) fails_closed: bool,
    pub(crate) is_shadow: bool,
    /// Whether requests state their costs.
    pub(crate) has_costs: bool,
}

/// Configuration of a simulated proxy.
#[derive(Debug, Clone)]
pub(crate) struct ConfigPlan {
    pub(crate) limits: Vec<LimitPlan>,
    pub(crate) timeout: Micros,
    pub(crate) is_callout: bool,
    pub(crate) max_in_flight: u64,
    pub(crate) deny_cache: u64,
    pub(crate) refresh: Micros,
    pub(crate) per_key: bool,
    pub(crate) has_login: bool,
    pub(crate) has_events: bool,
    /// Whether workers heal a Redis that has lost data.
    pub(crate) heals: bool,
    /// Number of workers that have equal shares by hand, 0 if Redis grants them. `None`: workers do not decide by
    /// shares.
    pub(crate) local: Option<usize>,
}

impl Window {
    fn random(dice: &mut Dice) -> Self {
        let max = if dice.chance(70) { dice.within(1..=8) } else { dice.within(9..=40) };
        let millis = |millis: &[u64], dice: &mut Dice| Micros::from_millis(dice.pick(millis));
        match dice.below(10) {
            0..=3 => Self::TokenBucket {
                max,
                tokens: dice.within(1..=12),
                interval: millis(&[200, 1_000, 3_000, 7_000, 30_000, 60_000, 600_000], dice),
            },
            4 => Self::Log { max, window: millis(&[500, 2_000, 10_000, 45_000], dice) },
            5 => Self::Sliding { max, window: millis(&[500, 2_000, 10_000, 45_000], dice) },
            6 => Self::Fixed { max, window: millis(&[500, 2_000, 10_000, 45_000], dice) },
            7 => {
                let (unit, secs) = dice.pick(&[("minute", 60), ("hour", 3_600), ("day", 86_400)]);
                Self::Quota { max, unit, window: Micros::from_secs(secs) }
            }
            _ => Self::Concurrency { max, lease: millis(&[1_000, 2_000, 4_000], dice) },
        }
    }

    /// The most that it admits at once.
    pub(crate) fn max(&self) -> u64 {
        match *self {
            Self::TokenBucket { max, .. }
            | Self::Log { max, .. }
            | Self::Sliding { max, .. }
            | Self::Fixed { max, .. }
            | Self::Quota { max, .. }
            | Self::Concurrency { max, .. } => max,
        }
    }

    /// The same algorithm with numbers of its own: `{"times": times / 2}`, or `{"max": max}`.
    pub(crate) fn with(self, max: u64, rate_times: u64) -> Self {
        match self {
            Self::TokenBucket { tokens, interval, .. } => {
                Self::TokenBucket { max, tokens: (tokens * rate_times).max(1), interval }
            }
            Self::Log { window, .. } => Self::Log { max, window },
            Self::Sliding { window, .. } => Self::Sliding { max, window },
            Self::Fixed { window, .. } => Self::Fixed { max, window },
            Self::Quota { unit, window, .. } => Self::Quota { max, unit, window },
            Self::Concurrency { lease, .. } => Self::Concurrency { max, lease },
        }
    }

    pub(crate) fn is_concurrency(&self) -> bool {
        matches!(self, Self::Concurrency { .. })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::TokenBucket { .. } => 0,
            Self::Log { .. } => 1,
            Self::Sliding { .. } => 2,
            Self::Fixed { .. } => 3,
            Self::Quota { .. } => 4,
            Self::Concurrency { .. } => 5,
        }
    }

    fn json(&self) -> (&'static str, Value) {
        match *self {
            Self::TokenBucket { max, tokens, interval } => (
                "token_bucket",
                json!({"max_tokens": max, "tokens_per_fill": tokens, "fill_interval": seconds(interval)}),
            ),
            Self::Log { max, window } => {
                ("sliding_window", json!({"max_requests": max, "window": seconds(window), "mode": "exact"}))
            }
            Self::Sliding { max, window } => {
                ("sliding_window", json!({"max_requests": max, "window": seconds(window)}))
            }
            Self::Fixed { max, window } => ("fixed_window", json!({"max_requests": max, "window": seconds(window)})),
            Self::Quota { max, unit, .. } => ("quota", json!({"max_requests": max, "unit": unit})),
            Self::Concurrency { max, lease } => ("concurrency", json!({"max_requests": max, "lease": seconds(lease)})),
        }
    }
}

impl LimitPlan {
    fn random(nth: usize, dice: &mut Dice) -> Self {
        let mut windows = vec![Window::random(dice)];
        if dice.chance(25) {
            let second = Window::random(dice);
            if windows.iter().all(|window| window.kind() != second.kind()) {
                windows.push(second);
            }
        }
        let is_bucket = matches!(windows.as_slice(), [Window::TokenBucket { .. }]);
        let has_bucket = windows.iter().any(|window| window.kind() == 0);
        let lease = (is_bucket && dice.chance(35))
            .then(|| (dice.within(2..=16), Micros::from_millis(dice.pick(&[200, 500, 1_000, 3_000]))));
        let is_delayed = has_bucket && lease.is_none() && dice.chance(25);
        Self {
            name: format!("l{nth}"),
            max_delay: if is_delayed { Micros::from_millis(dice.pick(&[100, 400, 2_000])) } else { Micros::ZERO },
            lease,
            fails_closed: dice.chance(50),
            is_shadow: dice.chance(8),
            has_costs: dice.chance(40),
            windows,
        }
    }

    fn json(&self) -> Value {
        let mut limit = json!({
            "name": self.name,
            "when": [{"header": {"name": format!("x-{}", self.name), "present": true}}],
            "descriptor": [{"request_header": {"name": "x-key"}}],
            "failure_mode": if self.fails_closed { "deny" } else { "allow" },
            "shadow_mode": self.is_shadow,
        });
        match self.windows.as_slice() {
            [window] => {
                let (kind, numbers) = window.json();
                limit[kind] = numbers;
            }
            windows => {
                let items: Vec<Value> = windows
                    .iter()
                    .map(|window| {
                        let (kind, numbers) = window.json();
                        json!({kind: numbers})
                    })
                    .collect();
                limit["windows"] = json!(items);
            }
        }
        if let Some((max, ttl)) = self.lease {
            limit["lease"] = json!({"max": max, "ttl": seconds(ttl)});
        }
        if self.max_delay > Micros::ZERO {
            limit["max_delay"] = json!(seconds(self.max_delay));
        }
        if self.has_costs {
            limit["hits_addend"] = json!({"request_header": {"name": "x-cost"}});
        }
        limit
    }
}

impl ConfigPlan {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let limits = (0..dice.within(1..=4) as usize).map(|nth| LimitPlan::random(nth, dice)).collect();
        Self {
            limits,
            timeout: Micros::from_millis(dice.pick(&[5, 20, 50, 50, 100, 300])),
            is_callout: dice.chance(20),
            max_in_flight: if dice.chance(15) { dice.within(16..=64) } else { 4_096 },
            deny_cache: if dice.chance(15) { dice.within(0..=4) } else { 10_000 },
            // Workers that read overrides often tick all the time, which takes most of a simulation's time.
            refresh: Micros::from_millis(if dice.chance(5) {
                300
            } else {
                dice.pick(&[5_000, 60_000, 60_000, 60_000])
            }),
            per_key: dice.chance(70),
            has_login: dice.chance(20),
            has_events: dice.chance(10),
            heals: true,
            local: None,
        }
    }

    /// The same limits with other numbers: of a canary, or of a redeploy.
    pub(crate) fn varied(&self, dice: &mut Dice) -> Self {
        let mut varied = self.clone();
        for limit in &mut varied.limits {
            for window in &mut limit.windows {
                let max = (window.max() * dice.within(1..=4) / 2).max(1);
                *window = window.with(max, dice.within(1..=2));
            }
            limit.fails_closed ^= dice.chance(20);
        }
        varied.timeout = Micros(varied.timeout.0 * dice.within(1..=2));
        varied
    }

    /// Returns the plugin's configuration.
    pub(crate) fn json(&self) -> String {
        let limits: Vec<Value> = self.limits.iter().map(LimitPlan::json).collect();
        let mut redis = json!({
            "cluster": "redis",
            "timeout": seconds(self.timeout),
            "transport": if self.is_callout { "callout" } else { "stream" },
            "max_in_flight": self.max_in_flight,
        });
        if self.has_login {
            redis["username"] = json!("weir");
            redis["password"] = json!({"inline": "simulated"});
            redis["database"] = json!(3);
        }
        let mut configuration = json!({
            "redis": redis,
            "limits": limits,
            "emit_metadata": true,
            "deny_cache": {"max_entries": self.deny_cache},
            "overrides": {"refresh_interval": seconds(self.refresh), "per_key": self.per_key},
        });
        if let Some(workers) = self.local {
            configuration["limits"].as_array_mut().into_iter().flatten().for_each(|limit| {
                limit["failure_mode"] = json!("local");
            });
            if workers > 0 {
                // Rounded down to millionths.
                configuration["local"] = json!({"share": 1.0 / workers as f64});
            }
        }
        if !self.heals {
            configuration["heal"] = json!({"max_keys": 0});
        }
        if self.has_events {
            configuration["events"] = json!({"only": "all"});
        }
        configuration.to_string()
    }
}

fn seconds(span: Micros) -> String {
    format!("{}.{:06}s", span.0 / 1_000_000, span.0 % 1_000_000)
}

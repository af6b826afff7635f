//! Start of a limiter: settings that follow from several parts of the configuration.

use alloc::rc::Rc;

use super::local_mode;
use crate::config::{Config, OverridesConfig};
use crate::overrides::{Refresh, Units};
use crate::redis::Transport;
use crate::units::Micros;

/// Maximum interval of the refresh of overrides, where workers decide requests by their shares. The round itself takes
/// time as well.
const MAX_LOCAL_REFRESH: Micros = Micros::from_millis(900);

/// Creates the transport to Redis.
pub(super) fn transport(config: &Config, seed: u64) -> Transport {
    let mut redis = Transport::new(config.redis.transport, config.redis.session(), seed);
    if config.local.is_some() {
        redis.reconnect_within(local_mode::RECONNECT_WITHIN);
    }
    redis
}

/// Creates the refresh of overrides, and of prices where models have them. `None` where it is switched off.
pub(super) fn refresh(config: &Config, units: &Rc<Units>, seed: u64) -> Option<Refresh> {
    let interval = refresh_interval(config, config.overrides?);
    let refresh = Refresh::new(&config.redis.key_prefix, interval, seed).with_units(Rc::clone(units));
    let has_prices = config.usage.as_ref().is_some_and(|usage| usage.prices.is_some());
    Some(if has_prices { refresh.with_prices() } else { refresh })
}

/// Interval of the refresh of overrides: those in force in an outage were read at most a second before it.
pub(super) fn refresh_interval(config: &Config, overrides: OverridesConfig) -> Micros {
    let longest = if config.local.is_some() { MAX_LOCAL_REFRESH } else { overrides.refresh_interval };
    overrides.refresh_interval.min(longest)
}

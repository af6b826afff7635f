//! Rates of token buckets that cannot be held.

use weir_filter::config::Config;
use weir_filter::limit::{Algorithm, Rate};

/// A line for each limit whose token bucket fills noticeably slower than configured.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, limit) in config.limits.iter().enumerate() {
        for algorithm in limit.windows.algorithms() {
            if let Algorithm::TokenBucket(bucket) = algorithm
                && let Some(configured) = bucket.unreached_rate()
            {
                lines.push(format!(
                    "configuration.value: limits[{index}]: with this max_delay, the rate of {:.0} tokens per second is \
                     too fast to be counted exactly: it will be {:.0}",
                    per_second(configured),
                    per_second(bucket.rate()),
                ));
            }
        }
    }
    lines
}

fn per_second(rate: Rate) -> f64 {
    rate.per_micro() as f64 / rate.per_token() as f64 * 1e6
}

#[cfg(test)]
mod tests {
    use weir_filter::config;

    use super::*;

    fn warned(max_delay: &str, tokens: u64, interval: &str) -> Vec<String> {
        let text = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "limits": [{{"name": "bytes", "descriptor": [], {max_delay}
               "token_bucket": {{"max_tokens": 1000, "tokens_per_fill": {tokens}, "fill_interval": "{interval}"}}}}]}}"#
        );
        warnings(&config::parse(text.as_bytes(), &|_| None).unwrap())
    }

    #[test]
    fn a_rate_that_cannot_be_held_is_told_as_it_will_be() {
        assert_eq!(warned("", 4_000_000_007, "0.000999s"), [""; 0]);
        assert_eq!(warned(r#""max_delay": "60s","#, 50_000_000, "60s"), [""; 0]);
        let told = warned(r#""max_delay": "60s","#, 4_000_000_007, "0.000007s");
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("configuration.value: limits[0]: with this max_delay, the rate of 5714"),
            "{told:?}"
        );
    }
}

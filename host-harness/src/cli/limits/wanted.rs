//! The override that an operator wants.

use serde_json::{Value, json};
use weir_filter::overrides::Setting;
use weir_filter::units::Micros;

use super::error::LimitsError;
use super::span;

const WORDS: [&str; 4] = ["unlimited", "blocked", "shadow", "off"];

/// What to set, and for how long.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted<'a> {
    /// The words that are the key.
    pub(super) key: &'a [String],
    ruling: Value,
    /// How long it holds, at least, and less than a second more.
    pub(super) lasting: Option<Micros>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(
        words: &'a [String],
        rate: Option<&str>,
        burst: Option<u64>,
        lasting: Option<&str>,
    ) -> Result<Self, LimitsError> {
        let (key, ruling) = match (rate, words) {
            (Some(rate), key) => (key, json!({ "token_bucket": token_bucket(rate, burst)? })),
            (None, [key @ .., last]) if WORDS.contains(&last.as_str()) => (key, json!({ "is": last })),
            (None, words) => {
                let found = words.last().map_or("nothing".to_owned(), |word| format!("`{word}`"));
                return Err(LimitsError::Ruling { found });
            }
        };
        let lasting = lasting.map(|text| span::parse(text).ok_or_else(|| LimitsError::For { found: text.to_owned() }));
        Ok(Self { key, ruling, lasting: lasting.transpose()? })
    }

    /// The value in Redis, which ends that long after `now`, by Redis' clock.
    pub(super) fn value(&self, now: Micros) -> Result<String, LimitsError> {
        let mut value = self.ruling.clone();
        if let Some(lasting) = self.lasting {
            value["until"] = now.plus(lasting).to_secs_ceil().into();
        }
        let value = value.to_string();
        // As a worker will read it.
        Setting::parse(value.as_bytes())?;
        Ok(value)
    }
}

/// `100/60s`, in Envoy's terms.
fn token_bucket(rate: &str, burst: Option<u64>) -> Result<Value, LimitsError> {
    let parts = || {
        let (tokens, interval) = rate.split_once('/')?;
        let tokens: u64 = tokens.trim().parse().ok()?;
        Some((tokens, span::parse(interval.trim())?))
    };
    let (tokens, interval) = parts().ok_or_else(|| LimitsError::Rate { found: rate.to_owned() })?;
    Ok(json!({
        "max_tokens": burst.unwrap_or(tokens), "tokens_per_fill": tokens, "fill_interval": span::in_seconds(interval),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_795_132_800_000_001);

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_last_word_is_the_ruling_and_the_rest_the_key() {
        let given = words(&["blocked", "x", "off"]);
        let wanted = Wanted::of(&given, None, None, Some("10m")).unwrap();
        assert_eq!(wanted.key, ["blocked", "x"]);
        assert_eq!(wanted.value(NOW).unwrap(), r#"{"is":"off","until":1795133401}"#);
    }

    #[test]
    fn with_a_rate_all_words_are_the_key() {
        let given = words(&["alice"]);
        let wanted = Wanted::of(&given, Some("100/1m"), Some(20), None).unwrap();
        assert_eq!(wanted.key, ["alice"]);
        let value = r#"{"token_bucket":{"fill_interval":"60s","max_tokens":20,"tokens_per_fill":100}}"#;
        assert_eq!(wanted.value(NOW).unwrap(), value);
        let without_burst = Wanted::of(&[], Some("5/s"), None, None).unwrap();
        assert!(without_burst.value(NOW).unwrap().contains(r#""max_tokens":5"#));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_was_expected() {
        let refused = |given: &[&str], rate, burst, lasting| {
            let given = words(given);
            let wanted = Wanted::of(&given, rate, burst, lasting);
            wanted.and_then(|wanted| wanted.value(NOW)).unwrap_err().to_string()
        };
        let last = "expected unlimited, blocked, shadow or off as the last word, or --rate, found ";
        assert_eq!(refused(&["alice", "blokced"], None, None, None), format!("{last}`blokced`"));
        assert_eq!(refused(&[], None, None, None), format!("{last}nothing"));
        let rate = "--rate: expected tokens per time, such as 100/60s, 5/s or 1000/1d, found ";
        for text in ["100", "100/", "x/s", "-1/s", "1/60"] {
            assert_eq!(refused(&[], Some(text), None, None), format!("{rate}{text}"));
        }
        assert!(refused(&[], Some("0/s"), None, None).starts_with("token_bucket.max_tokens: expected an integer"));
        assert!(refused(&[], Some("9/ms"), Some(0), None).starts_with("token_bucket.max_tokens: expected"));
        assert!(refused(&[], Some("9000/ms"), None, None).starts_with("token_bucket: expected at most 1000000"));
        let lasting = "--for: expected a time such as 90s, 10m, 12h or 7d, found forever";
        assert_eq!(refused(&["off"], None, None, Some("forever")), lasting);
        assert!(refused(&["off"], None, None, Some("99999999d")).starts_with("until: expected"));
    }
}

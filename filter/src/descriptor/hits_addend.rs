//! How many tokens a request spends.

use super::attributes::Attributes;
use super::source::Source;
use crate::units::Tokens;

/// How many tokens a request spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HitsAddend {
    /// As many whatever the request, ≤ 1,000,000,000. Zero looks at the bucket and spends nothing.
    Constant(Tokens),
    /// As many as the request says.
    Said {
        /// Where it says so.
        source: Source,
        /// For a request that says nothing. ≤ `max`.
        default: Tokens,
        /// The most that a request spends, ≤ 1,000,000,000.
        max: Tokens,
        /// For a request that says something else than a number up to `max`.
        on_invalid: OnInvalid,
    },
}

/// What becomes of a request whose number of hits is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// It spends the default; where its number is too large, the maximum.
    Default,
    /// It is answered 400.
    Reject,
}

/// A request said something else than how many tokens it spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number of hits up to {}", .max.0)]
pub struct BadHits {
    /// The most that it could have said.
    pub max: Tokens,
    /// What it would spend if it had said nothing.
    pub default: Tokens,
}

impl HitsAddend {
    /// What `request` spends.
    ///
    /// # Errors
    /// Where the request says something malformed and such ones are to be rejected.
    pub fn cost(&self, request: &dyn Attributes) -> Result<Tokens, BadHits> {
        match self {
            Self::Constant(tokens) => Ok(*tokens),
            Self::Said { source, default, max, on_invalid } => {
                let Some(value) = source.value(request) else { return Ok(*default) };
                match (decimal(&value), on_invalid) {
                    (Some(tokens), _) if tokens <= *max => Ok(tokens),
                    (_, OnInvalid::Reject) => Err(BadHits { max: *max, default: *default }),
                    (Some(_), OnInvalid::Default) => Ok(*max),
                    (None, OnInvalid::Default) => Ok(*default),
                }
            }
        }
    }

    /// Whether the request's body must be at hand.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        matches!(self, Self::Said { source, .. } if source.reads_body())
    }
}

/// A number of decimal digits with blanks around; beyond 64 bits the greatest there is.
fn decimal(text: &[u8]) -> Option<Tokens> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit & 0x0f));
    Some(Tokens(digits.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::super::body::JsonPointer;
    use super::*;

    fn addend(on_invalid: OnInvalid) -> HitsAddend {
        let source = Source::RequestHeader { name: "x-cost".to_owned() };
        HitsAddend::Said { source, default: Tokens(3), max: Tokens(1_000), on_invalid }
    }

    fn cost(value: &str) -> u64 {
        addend(OnInvalid::Default).cost(&Request::default().header("x-cost", value)).unwrap().0
    }

    #[test]
    fn a_header_says_what_a_request_costs() {
        assert_eq!(cost("17"), 17);
        assert_eq!(cost(" 0017 "), 17);
        assert_eq!(cost("0"), 0);
    }

    #[test]
    fn nobody_pays_more_than_the_maximum() {
        assert_eq!(cost("1001"), 1_000);
        assert_eq!(cost("99999999999999999999999999"), 1_000);
    }

    #[test]
    fn what_is_no_number_costs_the_default() {
        for value in ["", " ", "-5", "+5", "1.5", "1e3", "5,7", "five", "0x10", "١"] {
            assert_eq!(cost(value), 3, "{value}");
        }
    }

    #[test]
    fn a_strict_limit_rejects_what_is_no_number_up_to_the_maximum() {
        let strict = addend(OnInvalid::Reject);
        for value in ["", "-5", "five", "1001", "99999999999999999999999999"] {
            let bad = strict.cost(&Request::default().header("x-cost", value)).unwrap_err();
            assert_eq!(bad.to_string(), "expected a whole number of hits up to 1000", "{value}");
        }
        assert_eq!(strict.cost(&Request::default().header("x-cost", "1000")), Ok(Tokens(1_000)));
    }

    #[test]
    fn who_says_nothing_pays_the_default() {
        for on_invalid in [OnInvalid::Default, OnInvalid::Reject] {
            assert_eq!(addend(on_invalid).cost(&Request::default()), Ok(Tokens(3)));
        }
    }

    #[test]
    fn a_body_says_it_as_a_number_or_a_string_of_digits() {
        let source = Source::RequestBody(JsonPointer::parse("/max_tokens").unwrap());
        let (default, max, on_invalid) = (Tokens(1), Tokens(100), OnInvalid::Default);
        let addend = HitsAddend::Said { source, default, max, on_invalid };
        let cost = |body: &str| addend.cost(&Request::default().body(body)).unwrap().0;
        assert_eq!(cost(r#"{"max_tokens": 40}"#), 40);
        assert_eq!(cost(r#"{"max_tokens": "40"}"#), 40);
        assert_eq!(cost(r#"{"max_tokens": -40}"#), 1);
        assert_eq!(cost(r#"{"max_tokens": [40]}"#), 1);
        assert!(addend.reads_body());
    }
}

//! Hits addend: the number of tokens that a request spends.

use super::attributes::Attributes;
use super::bad_request::BadRequest;
use super::body::RequestBody;
use super::source::Source;
use super::value::Value;
use crate::units::Tokens;

/// Hits addend of a limit: the number of tokens that a request spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HitsAddend {
    /// Constant number, ≤ 1,000,000,000. With 0, a request checks the bucket and spends nothing.
    Constant(Tokens),
    /// Number read from the request.
    FromRequest(RequestHits),
}

/// Hits addend that is read from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHits {
    /// Source of the number.
    pub source: Source,
    /// Hits addend of a request without a number. From `min` to `max`.
    pub default: Tokens,
    /// Minimum that a request spends, ≤ `max`.
    pub min: Tokens,
    /// Maximum that a request spends, ≤ 1,000,000,000.
    pub max: Tokens,
    /// Handling of a request without a value.
    pub on_missing: OnInvalid,
    /// Handling of a request whose value is not a number up to `max`, or whose body cannot be read.
    pub on_invalid: OnInvalid,
}

/// Handling of a request whose hits addend is missing or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// The request spends the default; if its number is too large, the maximum.
    Default,
    /// The request spends the maximum.
    Max,
    /// The request is rejected with 400, or with 411 if the source is `content-length` and it is missing.
    Reject,
}

impl HitsAddend {
    /// Returns the cost of `request`. If the limit is not `enforced`, a request to be rejected spends the default.
    ///
    /// # Errors
    /// If the hits addend is missing or malformed, is to be rejected, and the limit is enforced.
    pub fn cost(&self, request: &dyn Attributes, enforced: bool) -> Result<Tokens, BadRequest> {
        match self {
            Self::Constant(tokens) => Ok(*tokens),
            Self::FromRequest(hits) => hits.cost(request, enforced),
        }
    }

    /// Source of the number, unless constant.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Constant(_) => None,
            Self::FromRequest(hits) => Some(&hits.source),
        }
    }

    /// Whether the hits addend is the length of the request's body.
    #[must_use]
    pub fn is_length(&self) -> bool {
        self.source().is_some_and(is_length)
    }
}

impl RequestHits {
    fn cost(&self, request: &dyn Attributes, enforced: bool) -> Result<Tokens, BadRequest> {
        let value = self.source.value(request).or_else(|| self.zero_length(request));
        let number = value.as_deref().and_then(decimal);
        let fallback = match (&value, self.source.is_unreadable(request.body())) {
            (None, false) => self.on_missing,
            _ => self.on_invalid,
        };
        match (number, fallback) {
            (Some(tokens), _) if tokens <= self.max => Ok(tokens.max(self.min)),
            (_, OnInvalid::Reject) if enforced && value.is_none() && is_length(&self.source) => Err(BadRequest::Length),
            (_, OnInvalid::Reject) if enforced => Err(BadRequest::Hits { max: self.max }),
            (Some(_), _) | (None, OnInvalid::Max) => Ok(self.max),
            (None, _) => Ok(self.default),
        }
    }

    /// Length 0 for a request without a body, if the source is `content-length`.
    fn zero_length(&self, request: &dyn Attributes) -> Option<Value<'static>> {
        let has_none = is_length(&self.source) && matches!(request.body(), RequestBody::None);
        has_none.then_some(Value::Lent(b"0"))
    }
}

fn is_length(source: &Source) -> bool {
    matches!(source, Source::RequestHeader { name, .. } if name == "content-length")
}

/// Parses a decimal number with optional surrounding blanks; saturates at 64 bits. Also accepts the spelling of JSON
/// numbers with more than 20 digits: digits, `e`, and the number of zeros that follow.
fn decimal(text: &[u8]) -> Option<Tokens> {
    let text = text.trim_ascii();
    let mantissa = text.split(|byte| *byte == b'e').next().unwrap_or_default();
    match text.get(mantissa.len()..)?.split_first() {
        None => digits(mantissa),
        // Numbers of up to 20 digits are written out.
        Some((_, zeros)) => {
            let all = digits(zeros)?.0.saturating_add(u64::try_from(mantissa.len()).unwrap_or(u64::MAX));
            digits(mantissa).filter(|_| all > MAX_DIGITS).map(|_| Tokens(u64::MAX))
        }
    }
}

/// Digits of the longest number that is written out.
const MAX_DIGITS: u64 = 20;

/// Parses digits alone; saturates at 64 bits.
pub(super) fn digits(text: &[u8]) -> Option<Tokens> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit & 0x0f));
    is_number.then(|| Tokens(text.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::super::json_pointer::JsonPointer;
    use super::*;

    const DEFAULT: OnInvalid = OnInvalid::Default;
    const REJECT: OnInvalid = OnInvalid::Reject;
    const MAX: OnInvalid = OnInvalid::Max;

    fn header(name: &str) -> Source {
        Source::request_header(name)
    }

    /// Hits addend of 2 to 1,000, 3 by default.
    fn hits(source: Source, on_invalid: OnInvalid) -> RequestHits {
        let (default, min, max) = (Tokens(3), Tokens(2), Tokens(1_000));
        RequestHits { source, default, min, max, on_missing: on_invalid, on_invalid }
    }

    fn costs(hits: &RequestHits, request: &Request) -> Result<u64, BadRequest> {
        HitsAddend::FromRequest(hits.clone()).cost(request, true).map(|tokens| tokens.0)
    }

    fn by_header(on_invalid: OnInvalid, value: &str) -> Result<u64, BadRequest> {
        costs(&hits(header("x-cost"), on_invalid), &Request::default().header("x-cost", value))
    }

    const NO_HITS: Result<u64, BadRequest> = Err(BadRequest::Hits { max: Tokens(1_000) });

    #[test]
    fn a_header_has_the_cost_of_a_request() {
        for (value, cost) in [("17", 17), (" 0017 ", 17), ("1000", 1_000)] {
            for on_invalid in [DEFAULT, MAX, REJECT] {
                assert_eq!(by_header(on_invalid, value), Ok(cost), "{value}");
            }
        }
    }

    #[test]
    fn no_request_costs_less_than_the_minimum() {
        for value in ["0", "1", "000", "2"] {
            for on_invalid in [DEFAULT, MAX, REJECT] {
                assert_eq!(by_header(on_invalid, value), Ok(2), "{value}");
            }
        }
        let free = RequestHits { min: Tokens(0), ..hits(header("x-cost"), DEFAULT) };
        assert_eq!(costs(&free, &Request::default().header("x-cost", "0")), Ok(0));
    }

    #[test]
    fn no_request_costs_more_than_the_maximum() {
        for value in ["1001", "99999999999999999999999999", "1e20", "12e4000000000000000000000000000"] {
            for (on_invalid, cost) in [(DEFAULT, Ok(1_000)), (MAX, Ok(1_000)), (REJECT, NO_HITS)] {
                assert_eq!(by_header(on_invalid, value), cost, "{value}");
            }
        }
    }

    #[test]
    fn malformed_hits_cost_the_default_or_the_maximum_or_are_rejected() {
        for value in ["", " ", "-5", "+5", "1.5", "1e3", "15e-10", "e20", "1e", "5,7", "five", "0x10", "١", "-1e30"] {
            for (on_invalid, cost) in [(DEFAULT, Ok(3)), (MAX, Ok(1_000)), (REJECT, NO_HITS)] {
                assert_eq!(by_header(on_invalid, value), cost, "{value}");
            }
        }
        assert_eq!(NO_HITS.unwrap_err().to_string(), "expected a whole number of hits up to 1000");
    }

    #[test]
    fn missing_hits_cost_the_default_or_the_maximum_or_are_rejected() {
        let by_query = Source::query_parameter("n");
        let by_body = Source::RequestBody(JsonPointer::parse("/n").unwrap());
        for source in [header("x-cost"), by_query, by_body] {
            for (on_missing, cost) in [(DEFAULT, Ok(3)), (MAX, Ok(1_000)), (REJECT, NO_HITS)] {
                let missing = RequestHits { on_missing, ..hits(source.clone(), DEFAULT) };
                assert_eq!(costs(&missing, &Request::default()), cost, "{source:?}");
            }
        }
    }

    #[test]
    fn a_limit_that_is_not_enforced_rejects_nothing() {
        let shadow = HitsAddend::FromRequest(hits(header("x-cost"), REJECT));
        for request in [Request::default(), Request::default().header("x-cost", "five")] {
            assert_eq!(shadow.cost(&request, false), Ok(Tokens(3)));
        }
        assert_eq!(shadow.cost(&Request::default().header("x-cost", "1001"), false), Ok(Tokens(1_000)));
    }

    #[test]
    fn a_body_has_the_cost_as_a_number_or_a_string_of_digits() {
        let source = Source::RequestBody(JsonPointer::parse("/n").unwrap());
        let cost = |on_invalid, n: &str| {
            costs(&hits(source.clone(), on_invalid), &Request::default().json("/n", &format!(r#"{{"n": {n}}}"#)))
        };
        for (n, expected) in [
            ("40", 40),
            ("4e1", 40),
            ("40.0", 40),
            (r#""40""#, 40),
            ("0", 2),
            (r#""0""#, 2),
            ("0.0", 2),
            ("-0", 2),
            ("1e300", 1_000),
            ("36893488147419103232", 1_000),
            ("1e999999", 1_000),
        ] {
            assert_eq!(cost(DEFAULT, n), Ok(expected), "{n}");
        }
        for n in ["-40", "1.5", "-1e300", "1e-300", "[40]", "null", "{}", "true", r#""""#, r#""-1""#] {
            for (on_invalid, expected) in [(DEFAULT, Ok(3)), (MAX, Ok(1_000)), (REJECT, NO_HITS)] {
                assert_eq!(cost(on_invalid, n), expected, "{n}");
            }
        }
    }

    #[test]
    fn an_unreadable_body_is_invalid_and_not_missing() {
        let source = Source::RequestBody(JsonPointer::parse("/n").unwrap());
        let optional = RequestHits { on_missing: DEFAULT, ..hits(source, MAX) };
        assert_eq!(costs(&optional, &Request::default().json("/n", r#"{"n": 7"#)), Ok(1_000));
        assert_eq!(costs(&optional, &Request::default().body(RequestBody::Unreadable)), Ok(1_000));
        assert_eq!(costs(&optional, &Request::default().json("/n", "{}")), Ok(3));
    }

    #[test]
    fn the_length_of_a_body_is_its_content_length() {
        let sized = |on_invalid| hits(header("content-length"), on_invalid);
        let streamed = |length: Option<&str>| {
            let request = Request::default().body(RequestBody::Unread);
            length.into_iter().fold(request, |request, length| request.header("content-length", length))
        };
        for on_invalid in [DEFAULT, MAX, REJECT] {
            assert_eq!(costs(&sized(on_invalid), &streamed(Some("700"))), Ok(700));
            assert_eq!(costs(&sized(on_invalid), &Request::default()), Ok(2), "a request without a body has length 0");
        }
        for (on_invalid, cost) in [(DEFAULT, Ok(3)), (MAX, Ok(1_000)), (REJECT, Err(BadRequest::Length))] {
            assert_eq!(costs(&sized(on_invalid), &streamed(None)), cost);
        }
        for length in ["5,5", "7 7", "-7", "abc", ""] {
            for (on_invalid, cost) in [(DEFAULT, Ok(3)), (MAX, Ok(1_000)), (REJECT, NO_HITS)] {
                assert_eq!(costs(&sized(on_invalid), &streamed(Some(length))), cost, "{length}");
            }
        }
        assert!(HitsAddend::FromRequest(sized(DEFAULT)).is_length() && !HitsAddend::Constant(Tokens(1)).is_length());
    }
}

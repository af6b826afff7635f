//! How many tokens a request spends.

use super::attributes::Attributes;
use crate::units::Tokens;

/// How many tokens a request spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HitsAddend {
    /// As many whatever the request, ≤ 1,000,000,000. Zero looks at the bucket and spends nothing.
    Constant(Tokens),
    /// As many as a header says.
    RequestHeader {
        /// The header's name, in lower case.
        name: String,
        /// For a request without the header, or with anything but decimal digits in it. ≤ `max`.
        default: Tokens,
        /// However much more the header says, ≤ 1,000,000,000.
        max: Tokens,
    },
}

impl HitsAddend {
    /// What `request` spends.
    #[must_use]
    pub fn cost(&self, request: &dyn Attributes) -> Tokens {
        match self {
            Self::Constant(tokens) => *tokens,
            Self::RequestHeader { name, default, max } => {
                request.header(name).and_then(|value| decimal(&value)).map_or(*default, |tokens| tokens.min(*max))
            }
        }
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
    use super::*;

    fn cost(value: &str) -> u64 {
        let addend = HitsAddend::RequestHeader { name: "x-cost".to_owned(), default: Tokens(3), max: Tokens(1_000) };
        addend.cost(&Request::default().header("x-cost", value)).0
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
        let addend = HitsAddend::RequestHeader { name: "x-cost".to_owned(), default: Tokens(3), max: Tokens(9) };
        assert_eq!(addend.cost(&Request::default()), Tokens(3));
    }
}

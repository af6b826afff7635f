//! Format strings: text with operators between percent signs.

use serde_json::Value;

use super::operator::Operator;
use crate::http::Stream;

/// Parsed format string, such as `%PROTOCOL% %REQ(:PATH)%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    parts: Vec<Part>,
    /// Whether an operator without a value is rendered as an empty text, instead of `-`.
    omit_empty_values: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Operator { operator: Operator, max_length: Option<usize> },
}

/// Error of a text that is not a format string, or not a supported format string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// An operator has no percent sign at its end.
    #[error("`%{rest}`: expected `%` at the end of the operator, or `%%` for a percent sign")]
    Unterminated {
        /// Text after the percent sign, at most 40 characters.
        rest: String,
    },
    /// An operator is not supported by the harness.
    #[error("`%{name}%` is not honoured by the harness; expected one of {}", Operator::NAMES.join(", "))]
    Unknown {
        /// Name of the operator.
        name: String,
    },
    /// An operator has a wrong argument, an argument that it does not take, or lacks its argument.
    #[error("`%{found}%`: expected {expected}")]
    Argument {
        /// The operator as written.
        found: String,
        /// Expected argument.
        expected: &'static str,
    },
    /// An operator has an invalid length, or does not take a length.
    #[error("`%{found}%`: expected {expected} at its end")]
    Length {
        /// The operator as written.
        found: String,
        /// Expected end.
        expected: &'static str,
    },
}

impl Format {
    /// Parses a format string.
    ///
    /// # Errors
    /// See [`FormatError`]; the first error of the text.
    pub fn parse(text: &str, omit_empty_values: bool) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = end_of_operator(after)
                .ok_or_else(|| FormatError::Unterminated { rest: after.chars().take(40).collect() })?;
            let (found, after) = (after.get(..end).unwrap_or(after), after.get(end + 1..).unwrap_or(""));
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(part(found)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts, omit_empty_values })
    }

    /// Renders the format string for a stream.
    pub(crate) fn render(&self, stream: &Stream) -> String {
        let mut line = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Operator { .. } => match part.value(stream) {
                    Some(Value::String(text)) => line.push_str(&text),
                    Some(value) => line.push_str(&value.to_string()),
                    None if self.omit_empty_values => {}
                    None => line.push('-'),
                },
            }
        }
        line
    }

    /// Renders the format string as a JSON value.
    ///
    /// A single operator keeps its type, and is null without a value; any other format string is a JSON string.
    pub(super) fn json(&self, stream: &Stream) -> Value {
        match self.parts.as_slice() {
            [operator @ Part::Operator { .. }] => operator.value(stream).unwrap_or_default(),
            _ => Value::String(self.render(stream)),
        }
    }

    pub(super) fn omits_empty_values(&self) -> bool {
        self.omit_empty_values
    }
}

impl Part {
    fn value(&self, stream: &Stream) -> Option<Value> {
        let Self::Operator { operator, max_length } = self else { return None };
        let value = operator.value(stream)?;
        Some(match (value, max_length) {
            (Value::String(text), Some(length)) => Value::String(text.chars().take(*length).collect()),
            (value, _) => value,
        })
    }
}

/// Returns the position of the percent sign that ends an operator, which is not within parentheses.
fn end_of_operator(text: &str) -> Option<usize> {
    let mut nested = false;
    text.bytes().position(|byte| {
        match byte {
            b'(' => nested = true,
            b')' => nested = false,
            _ => {}
        }
        byte == b'%' && !nested
    })
}

/// Parses an operator as written between its percent signs: `NAME`, `NAME(argument)` or `NAME(argument):length`.
fn part(found: &str) -> Result<Part, FormatError> {
    let length_error = |expected| FormatError::Length { found: found.to_owned(), expected };
    let (name, rest) = found.split_at(found.find(['(', ':']).unwrap_or(found.len()));
    let (argument, rest) = match rest.strip_prefix('(') {
        Some(rest) => {
            let (argument, rest) = rest.split_once(')').ok_or_else(|| length_error("`)`"))?;
            (Some(argument), rest)
        }
        None => (None, rest),
    };
    let operator = Operator::named(name, argument, found)?;
    if rest.is_empty() {
        return Ok(Part::Operator { operator, max_length: None });
    }
    let length = rest.strip_prefix(':').filter(|_| operator.can_be_cut()).and_then(|length| length.parse().ok());
    let expected = if operator.can_be_cut() { "nothing, or a length such as `:100`," } else { "nothing" };
    let max_length = length.ok_or_else(|| length_error(expected))?;
    Ok(Part::Operator { operator, max_length: Some(max_length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let stream = Stream::default();
        stream.request_headers.replace([(":path", "/cart?x=1"), ("x-user", "alice")].into_iter().collect());
        stream.response_headers.replace(Some([(":status", "429"), ("retry-after", "7")].into_iter().collect()));
        stream.info.response_bytes.set(13);
        stream.filter_state.borrow_mut().insert(b"wasm.weir.decision".to_vec(), b"denied".to_vec());
        let claims = serde_json::json!({"claims": {"sub": "alice", "level": 3.0}});
        stream.dynamic_metadata.borrow_mut().insert("jwt".to_owned(), claims);
        stream
    }

    fn rendered(text: &str) -> String {
        Format::parse(text, false).unwrap().render(&stream())
    }

    #[test]
    fn operators_are_rendered_with_values_of_the_stream() {
        assert_eq!(rendered("%REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE%\n"), "/cart?x=1 HTTP/1.1 429\n");
        assert_eq!(rendered("<%RESP(Retry-After)%> %BYTES_SENT%/%BYTES_RECEIVED%"), "<7> 13/0");
        assert_eq!(rendered("%FILTER_STATE(wasm.weir.decision:PLAIN)%"), "denied");
        assert_eq!(rendered("%DYNAMIC_METADATA(jwt:claims:sub)%"), "alice");
        assert_eq!(rendered("%DYNAMIC_METADATA(jwt:claims)%"), r#"{"level":3,"sub":"alice"}"#);
        assert_eq!(rendered("100%% %REQ(x-user)%%REQ(x-user)%"), "100% alicealice");
    }

    #[test]
    fn missing_values_are_a_dash_or_omitted() {
        let format = "<%REQ(x-none)%> <%UPSTREAM_HOST%> <%DYNAMIC_METADATA(jwt:claims:none)%>";
        assert_eq!(rendered(format), "<-> <-> <->");
        assert_eq!(Format::parse(format, true).unwrap().render(&stream()), "<> <> <>");
    }

    #[test]
    fn a_header_operator_can_have_a_fallback_and_a_length() {
        assert_eq!(rendered("%REQ(X-ORIGINAL?:PATH)%"), "/cart?x=1");
        assert_eq!(rendered("%REQ(X-USER?:PATH):3%"), "ali");
        assert_eq!(rendered("%REQ(x-user):0%|%REQ(x-user):99%"), "|alice");
    }

    #[test]
    fn errors_name_the_operator_and_its_expected_form() {
        let refused = |text: &str| Format::parse(text, false).unwrap_err().to_string();
        assert_eq!(refused("%TRACE_ID%").split_once("; ").unwrap().0, "`%TRACE_ID%` is not honoured by the harness");
        assert!(refused("%TRACE_ID%").contains("RESPONSE_CODE_DETAILS, "), "{}", refused("%TRACE_ID%"));
        assert_eq!(refused("50% of"), "`% of`: expected `%` at the end of the operator, or `%%` for a percent sign");
        assert_eq!(refused("%REQ%"), "`%REQ%`: expected a header in parentheses, and perhaps a second: `REQ(x?y)`");
        assert_eq!(refused("%PROTOCOL(x)%"), "`%PROTOCOL(x)%`: expected no argument");
        assert_eq!(refused("%PROTOCOL:3%"), "`%PROTOCOL:3%`: expected nothing at its end");
        assert_eq!(refused("%REQ(x):y%"), "`%REQ(x):y%`: expected nothing, or a length such as `:100`, at its end");
        assert_eq!(refused("%FILTER_STATE(x)%"), "`%FILTER_STATE(x)%`: expected a key and `:PLAIN` in parentheses");
    }
}

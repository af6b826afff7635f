//! Values in the order written, as YAML in flow style and as JSON.

use serde_json::Value as Json;

/// Value of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Number(u64),
    Flag(bool),
    Text(String),
    List(Vec<Self>),
    /// Fields in the order written.
    Object(Vec<(&'static str, Self)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn texts(texts: &[impl AsRef<str>]) -> Self {
        Self::List(texts.iter().map(|text| Self::text(text.as_ref())).collect())
    }

    /// An object of one field.
    pub(super) fn one(name: &'static str, value: Self) -> Self {
        Self::Object(vec![(name, value)])
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Number(number) => Json::from(*number),
            Self::Flag(flag) => Json::from(*flag),
            Self::Text(text) => Json::from(text.as_str()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(fields) => {
                Json::Object(fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())).collect())
            }
        }
    }

    /// The value in flow style. An object of one field is not in braces.
    pub(super) fn unwrapped(&self) -> String {
        match self {
            Self::Object(fields) if fields.len() == 1 => fields.iter().map(field).collect(),
            other => other.flow(),
        }
    }

    /// The value in flow style.
    pub(super) fn flow(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(text) if is_plain(text) => text.clone(),
            Self::Text(text) => Json::from(text.as_str()).to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Object(fields) => format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", ")),
        }
    }
}

fn field((name, value): &(&'static str, Yaml)) -> String {
    format!("{name}: {}", value.flow())
}

/// Whether YAML, also that of Envoy, reads a text without quotes as this text.
fn is_plain(text: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|it| it.is_ascii_alphabetic() || it == b'/');
    let digits = text.strip_suffix('s').unwrap_or_default();
    let is_duration = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    let is_tame = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-./".contains(&it));
    (begins || is_duration) && is_tame && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_yaml_would_read_another_value() {
        for text in ["gold", "/api/v1", "x-user-id", "60s", "0.02s", "s"] {
            assert_eq!(Yaml::text(text).flow(), text);
        }
        for text in ["", "y", "No", "10", "1.5", ":path", "a b", "a: b", "10.0.0.0/8", "\"", "é"] {
            assert_eq!(Yaml::text(text).flow(), Json::from(text).to_string());
        }
    }

    #[test]
    fn fields_keep_their_order() {
        let value = Yaml::one("header", Yaml::Object(vec![("name", Yaml::text("x")), ("exact", Yaml::text("1"))]));
        assert_eq!(value.unwrapped(), "header: {name: x, exact: \"1\"}");
        assert_eq!(value.flow(), "{header: {name: x, exact: \"1\"}}");
        assert_eq!(value.to_json(), serde_json::json!({"header": {"name": "x", "exact": "1"}}));
    }
}

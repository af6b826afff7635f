//! JSON access log lines: an object with format strings as values.

use serde_json::{Map, Value};

use super::format::{Format, FormatError};
use crate::http::Stream;

/// Parsed JSON object of constants and format strings. Fields are rendered in alphabetical order.
#[derive(Debug, Clone)]
pub struct JsonFormat {
    root: Node,
}

#[derive(Debug, Clone)]
enum Node {
    Constant(Value),
    Format(Format),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl JsonFormat {
    /// Parses every string of an object.
    ///
    /// # Errors
    /// Every [`FormatError`], with the path of its string in the object: `a.b[0]`.
    pub fn parse(object: &Map<String, Value>, omit_empty_values: bool) -> Result<Self, Vec<(String, FormatError)>> {
        let mut errors = Vec::new();
        let root = self::object(object, omit_empty_values, "", &mut errors);
        if errors.is_empty() { Ok(Self { root }) } else { Err(errors) }
    }

    /// Renders the object for a stream, on one line without line feed.
    pub(crate) fn render(&self, stream: &Stream) -> String {
        self.root.value(stream).unwrap_or_else(|| Value::Object(Map::new())).to_string()
    }
}

impl Node {
    /// Renders a node; `None` for an empty value that is omitted.
    fn value(&self, stream: &Stream) -> Option<Value> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Format(format) => {
                let value = format.json(stream);
                (!(value.is_null() && format.omits_empty_values())).then_some(value)
            }
            Self::List(items) => Some(items.iter().filter_map(|item| item.value(stream)).collect()),
            Self::Object(fields) => {
                let values: Map<String, Value> =
                    fields.iter().filter_map(|(key, node)| Some((key.clone(), node.value(stream)?))).collect();
                (fields.is_empty() || !values.is_empty()).then_some(Value::Object(values))
            }
        }
    }
}

fn object(object: &Map<String, Value>, omit: bool, path: &str, errors: &mut Vec<(String, FormatError)>) -> Node {
    let mut fields: Vec<(String, Node)> = Vec::with_capacity(object.len());
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        fields.push((key.clone(), node(value, omit, &path, errors)));
    }
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    Node::Object(fields)
}

fn node(value: &Value, omit: bool, path: &str, errors: &mut Vec<(String, FormatError)>) -> Node {
    match value {
        Value::String(text) => match Format::parse(text, omit) {
            Ok(format) => Node::Format(format),
            Err(error) => {
                errors.push((path.to_owned(), error));
                Node::Constant(Value::Null)
            }
        },
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Node::List(items.map(|(index, item)| node(item, omit, &format!("{path}[{index}]"), errors)).collect())
        }
        Value::Object(fields) => object(fields, omit, path, errors),
        constant => Node::Constant(constant.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(object: Value, omit: bool) -> String {
        let stream = Stream::default();
        stream.info.response_bytes.set(6);
        JsonFormat::parse(object.as_object().unwrap(), omit).unwrap().render(&stream)
    }

    #[test]
    fn a_single_operator_keeps_its_json_type() {
        let object = json!({"sent": "%BYTES_SENT%", "text": "%BYTES_SENT% B", "list": ["%PROTOCOL%"], "on": true, "n": 5,
            "none": "%REQ(x)%", "mixed": "a-%REQ(x)%", "in": {"none": "%REQ(x)%"}});
        assert_eq!(
            line(object.clone(), false),
            r#"{"in":{"none":null},"list":["HTTP/1.1"],"mixed":"a--","n":5,"none":null,"on":true,"sent":6,"text":"6 B"}"#
        );
        assert_eq!(line(object, true), r#"{"list":["HTTP/1.1"],"mixed":"a-","n":5,"on":true,"sent":6,"text":"6 B"}"#);
    }

    #[test]
    fn a_header_value_cannot_end_a_string_or_a_line() {
        let stream = Stream::default();
        stream.request_headers.replace([("x", "\",\"decision\":\"admitted\n")].into_iter().collect());
        let format = JsonFormat::parse(json!({"x": "%REQ(x)%"}).as_object().unwrap(), false).unwrap();
        assert_eq!(format.render(&stream), r#"{"x":"\",\"decision\":\"admitted\n"}"#);
    }

    #[test]
    fn every_error_has_the_path_of_its_string() {
        let object = json!({"a": {"b": ["ok", "%NO%"]}, "c": "%REQ%"});
        let errors = JsonFormat::parse(object.as_object().unwrap(), false).unwrap_err();
        let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["a.b[1]", "c"]);
    }
}

//! Cursor over a parsed YAML document that tracks its path and collects problems.
//!
//! Derived deserialisers stop at the first error; the cursor reports all problems of a file at once, and refuses every
//! field of an object that was not taken.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::text::{hidden, quoted, step};

/// Problem of a bootstrap, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path, such as `static_resources.clusters[0].type`; empty for the document itself.
    pub path: String,
    /// Found and expected values, as a text.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

#[derive(Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(super) fn into_found(self) -> Vec<Problem> {
        self.found.into_inner()
    }
}

/// Value of the document, with its path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    secret: bool,
    problems: &'a Problems,
}

/// Fields of an object; [`Fields::finish`] refuses the fields that were not taken.
pub(super) struct Fields<'a> {
    owner: Node<'a>,
    left: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, problems: &'a Problems) -> Self {
        Self { value, path: String::new(), secret: false, problems }
    }

    /// Returns this node with its values hidden in problems.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn refuse(&self, reason: &str) {
        self.problems.found.borrow_mut().push(Problem { path: self.path.clone(), reason: reason.to_owned() });
    }

    /// Returns this value with the path of one of its fields, to report a problem of that field.
    pub(super) fn child(&self, key: &str) -> Self {
        Self { value: self.value, path: join(&self.path, key), ..*self }
    }

    /// Returns another value with this path.
    pub(super) fn with(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    pub(super) fn fields(&self) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(map) => Some(Fields {
                owner: self.clone(),
                left: map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            }),
            _ => self.expected("an object"),
        }
    }

    /// Parses each item of a list; an item that fails is `None`.
    pub(super) fn each<T>(&self, parse: impl Fn(&Node<'a>) -> Option<T>) -> Vec<Option<T>> {
        match self.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, value)| parse(&Node { value, path: format!("{}[{index}]", self.path), ..*self }))
                .collect(),
            _ => {
                self.expected::<()>("a list");
                Vec::new()
            }
        }
    }

    pub(super) fn string(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            _ => self.expected("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(flag) => Some(*flag),
            _ => self.expected("true or false"),
        }
    }

    pub(super) fn integer<T: TryFrom<u64>>(&self, what: &str) -> Option<T> {
        match self.value.as_u64().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.expected(what),
        }
    }

    /// Parses protobuf's JSON form of a duration: seconds with at most nine decimals, and `s`.
    pub(super) fn duration(&self) -> Option<Duration> {
        let parsed = self.value.as_str().and_then(|text| text.strip_suffix('s')).and_then(|seconds| {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if whole.is_empty() || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
                return None;
            }
            Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
        });
        match parsed {
            Some(duration) => Some(duration),
            None => self.expected("a duration such as \"0.25s\""),
        }
    }

    /// Returns the value of a known name; another name is refused, with the supported names in the problem.
    pub(super) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Option<T> {
        let found = self.value.as_str().and_then(|text| known.iter().find(|(name, _)| *name == text));
        match found {
            Some((_, value)) => Some(*value),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                self.expected(&names.join(" or "))
            }
        }
    }

    /// Returns the fields of an `Any` if its `@type` is `message`.
    pub(super) fn typed(&self, message: &str) -> Option<Fields<'a>> {
        let mut fields = self.fields()?;
        let name = fields.message_type()?;
        if name == message {
            return Some(fields);
        }
        self.child("@type").refuse(&format!("`{}` is not honoured by the harness; expected `{message}`", step(&name)));
        None
    }

    fn found(&self) -> String {
        match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::String(text) if self.secret => hidden(text),
            Value::String(text) => quoted(text),
            Value::Number(_) if self.secret => "a number".to_owned(),
            Value::Bool(_) if self.secret => "a boolean".to_owned(),
            scalar => scalar.to_string(),
        }
    }

    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(&format!("expected {what}, found {}", self.found()));
        None
    }
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, key: &str) -> Option<Node<'a>> {
        let value = self.left.remove(key)?;
        Some(Node { value, ..self.owner.child(key) })
    }

    pub(super) fn require(&mut self, key: &str) -> Option<Node<'a>> {
        let node = self.take(key);
        if node.is_none() {
            self.owner.child(key).refuse("missing");
        }
        node
    }

    /// Takes the message name of an `Any`, without its host prefix.
    pub(super) fn message_type(&mut self) -> Option<String> {
        let url = self.require("@type")?.string()?;
        Some(url.rsplit('/').next().unwrap_or(&url).to_owned())
    }

    pub(super) fn owner(&self) -> &Node<'a> {
        &self.owner
    }

    /// Refuses every field that was not taken.
    pub(super) fn finish(self) {
        for key in self.left.keys() {
            self.owner.child(key).refuse("not honoured by the harness");
        }
    }
}

/// Parses Envoy's `Address` as an IP address and a TCP port; see [`host_port`] for host names.
pub(super) fn socket_address(node: &Node<'_>) -> Option<SocketAddr> {
    let (host, port) = host_port(node)?;
    match host.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) => {
            node.child("socket_address")
                .child("address")
                .refuse(&format!("expected an IP address, found {}", quoted(&host)));
            None
        }
    }
}

/// Parses Envoy's `Address` as a host (an IP address or a name) and a TCP port.
pub(super) fn host_port(node: &Node<'_>) -> Option<(String, u16)> {
    let mut fields = node.fields()?;
    let socket = fields.require("socket_address");
    fields.finish();
    let mut fields = socket?.fields()?;
    let protocol = fields.take("protocol").map(|node| node.one_of(&[("TCP", ())]));
    let host = fields.require("address").and_then(|node| node.string());
    let port = fields.require("port_value").and_then(|node| node.integer("a port, 0 to 65535"));
    fields.finish();
    (protocol != Some(None)).then_some(())?;
    Some((host?, port?))
}

fn join(path: &str, key: &str) -> String {
    let key = step(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

//! Cursor over a document that reads protobuf's JSON forms and collects problems.
//!
//! Derived deserialisers stop at the first error; the cursor reports all problems of a file at once, and refuses every
//! field of a message that was neither taken nor is listed as left out.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::support::{self, Message};
use crate::documents::{self, At, Position, Value, hidden, named, quoted, step};
use crate::spelling::nearest;

/// Problem of a bootstrap, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column.
    pub position: Position,
    /// Path, such as `static_resources.clusters[0].type`; empty for the document itself.
    pub path: String,
    /// Found and expected values, as a text.
    pub reason: String,
    /// Whether Envoy supports what was found: `weir serve --host envoy` runs such a file.
    pub is_of_envoy: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

/// Problems and left-out fields of a document.
#[derive(Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Problem>>,
    left_out: RefCell<Vec<Problem>>,
}

impl Problems {
    /// Returns the problems, and the fields that are left out.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.found.into_inner(), self.left_out.into_inner())
    }
}

/// Value of the document, with its path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    at: At<'a>,
    secret: bool,
    problems: &'a Problems,
}

/// Fields of an object; [`Fields::finish`] refuses the fields that were not taken.
pub(super) struct Fields<'a> {
    owner: Node<'a>,
    /// Message of the fields; `None`: a map with keys of the file.
    message: Option<&'static Message>,
    left: Vec<(&'a str, At<'a>)>,
}

impl<'a> Node<'a> {
    pub(super) fn root(at: At<'a>, problems: &'a Problems) -> Self {
        Self { at, secret: false, problems }
    }

    /// Returns this node with its values hidden in problems.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The value as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        self.at.node.to_json()
    }

    pub(super) fn path(&self) -> &str {
        &self.at.path
    }

    pub(super) fn position(&self) -> Position {
        self.at.node.position
    }

    pub(super) fn is_object(&self) -> bool {
        self.at.is_object()
    }

    /// Keys and values of a map.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        if !self.is_object() {
            return self.expected("an object");
        }
        Some(self.at.entries().map(|(key, at)| (key, self.with(at))).collect())
    }

    /// Reports a value that Envoy would refuse as well.
    pub(super) fn refuse(&self, reason: &str) {
        self.report(reason, false, self.at.node.position);
    }

    /// Reports a value that Envoy supports and the embedded host does not.
    pub(super) fn unsupported(&self, reason: &str) {
        self.report(reason, true, self.at.node.position);
    }

    /// Reports a field of JSON that is there again: Envoy refuses it in places, and in others joins lists and messages.
    pub(super) fn refuse_repeated(&self, key: &str, position: Position) {
        let reason = format!("{} is given twice, which is not honoured by the harness", named(key));
        self.report(&reason, true, position);
    }

    /// Notes a part of the file that is not used and does not change what is served.
    pub(super) fn leave_out(&self, what: &str) {
        self.problems.left_out.borrow_mut().push(Problem {
            position: self.at.key,
            path: self.at.path.clone(),
            reason: what.to_owned(),
            is_of_envoy: true,
        });
    }

    /// Notes a document behind the first one.
    pub(super) fn leave_out_document(&self, other: &At<'_>) {
        self.problems.left_out.borrow_mut().push(Problem {
            position: other.node.position,
            path: String::new(),
            reason: "a second document".to_owned(),
            is_of_envoy: true,
        });
    }

    fn report(&self, reason: &str, is_of_envoy: bool, position: Position) {
        let problem = Problem { position, path: self.at.path.clone(), reason: reason.to_owned(), is_of_envoy };
        self.problems.found.borrow_mut().push(problem);
    }

    /// Reports a field that is not honoured: Envoy has it, or not.
    fn report_unknown(&self, key: &str, message: Option<&Message>) {
        let envoys: Vec<&str> = message.map(|message| message.envoys().collect()).unwrap_or_default();
        if envoys.is_empty() || envoys.iter().any(|name| support::is_spelling(key, name)) {
            return self.report("not honoured by the harness", true, self.at.key);
        }
        let meant = nearest(key, &envoys).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        self.report(&format!("a field that Envoy does not have{meant}"), false, self.at.key);
    }

    /// Returns this value with the path of one of its fields, to report a problem of that field.
    pub(super) fn child(&self, key: &str) -> Self {
        let at = self.at.field(key).unwrap_or_else(|| At { path: self.at.path_of(key), ..self.at.clone() });
        self.with(at)
    }

    fn with(&self, at: At<'a>) -> Self {
        Self { at, secret: self.secret, problems: self.problems }
    }

    /// Fields of a map whose keys are the file's.
    pub(super) fn fields(&self) -> Option<Fields<'a>> {
        self.all_fields(None)
    }

    /// Fields of a message.
    pub(super) fn message(&self, message: &'static Message) -> Option<Fields<'a>> {
        self.all_fields(Some(message))
    }

    fn all_fields(&self, message: Option<&'static Message>) -> Option<Fields<'a>> {
        if !self.is_object() {
            return self.expected("an object");
        }
        let left = self.at.entries().filter(|(_, at)| !at.is_null()).collect();
        Some(Fields { owner: self.clone(), message, left })
    }

    /// Parses each item of a list; an item that fails is `None`. A value that is no list is its only item.
    pub(super) fn each<T>(&self, parse: impl Fn(&Node<'a>) -> Option<T>) -> Vec<Option<T>> {
        self.at.items().into_iter().map(|at| parse(&self.with(at))).collect()
    }

    pub(super) fn string(&self) -> Option<String> {
        match self.at.text() {
            Some(text) => Some(text.to_owned()),
            None => self.expected("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.at.flag().or_else(|| self.expected("true or false"))
    }

    pub(super) fn integer<T: TryFrom<u64>>(&self, what: &str) -> Option<T> {
        match self.at.integer().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.expected(what),
        }
    }

    pub(super) fn signed(&self, what: &str) -> Option<i64> {
        let number = match &self.at.node.value {
            Value::Number(number) => number.as_i64(),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        number.or_else(|| self.expected(what))
    }

    /// Parses protobuf's JSON form of a duration: seconds with at most nine decimals, and `s`. Envoy takes its message too,
    /// with `seconds` and `nanos`.
    pub(super) fn duration(&self) -> Option<Duration> {
        if let Some(message) = self.duration_message() {
            return Some(message);
        }
        let parsed = self.at.text().and_then(|text| text.strip_suffix('s')).and_then(|seconds| {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if whole.is_empty() || fraction.len() > 9 || seconds.ends_with('.') || !digits(whole) || !digits(fraction) {
                return None;
            }
            Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
        });
        match parsed {
            Some(duration) => Some(duration),
            None => self.expected("a duration such as \"0.25s\""),
        }
    }

    fn duration_message(&self) -> Option<Duration> {
        if !self.at.is_object() || self.at.entries().any(|(name, _)| !matches!(name, "seconds" | "nanos")) {
            return None;
        }
        let part = |name: &str| self.at.field(name).map_or(Some(0), |at| at.integer());
        let nanos = part("nanos").and_then(|nanos| u32::try_from(nanos).ok()).filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(part("seconds")?, nanos))
    }

    /// Returns the value of a name that is compared exactly; another name is refused, with the known names.
    pub(super) fn named<T: Copy>(&self, known: &[(&str, T)]) -> Option<T> {
        self.find(known, |name, text| name == text)
    }

    /// Returns the value of an enum's name in any case; another name is refused, with the supported names.
    pub(super) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Option<T> {
        self.find(known, |name, text| name.eq_ignore_ascii_case(text))
    }

    fn find<T: Copy>(&self, known: &[(&str, T)], is: impl Fn(&str, &str) -> bool) -> Option<T> {
        let found = self.at.text().and_then(|text| known.iter().find(|(name, _)| is(name, text)));
        match found {
            Some((_, value)) => Some(*value),
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                self.unsupported(&format!("expected {}, found {}", names.join(" or "), self.found()));
                None
            }
        }
    }

    /// Returns the fields of an `Any` if its type is `message`.
    pub(super) fn typed(&self, message: &'static Message) -> Option<Fields<'a>> {
        let mut fields = self.fields()?;
        let name = fields.message_type()?;
        if name == message.name {
            return Some(fields.of(message));
        }
        let reason = format!("`{}` is not honoured by the harness; expected `{}`", step(&name), message.name);
        self.child("@type").unsupported(&reason);
        None
    }

    fn found(&self) -> String {
        match &self.at.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Map(_) => "an object".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Text(text) if self.secret => hidden(text),
            Value::Text(text) => quoted(text),
            Value::Number(_) if self.secret => "a number".to_owned(),
            Value::Bool(_) if self.secret => "a boolean".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
        }
    }

    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        self.refuse(&format!("expected {what}, found {}", self.found()));
        None
    }
}

impl<'a> Fields<'a> {
    /// Names the message of the fields, once it is known from its `@type`.
    pub(super) fn of(self, message: &'static Message) -> Self {
        Self { message: Some(message), ..self }
    }

    /// Takes a field by its name in snake case; the file may spell it in camel case.
    pub(super) fn take(&mut self, key: &str) -> Option<Node<'a>> {
        debug_assert!(
            self.message.is_none_or(|message| message.honoured.contains(&key)),
            "the table of messages lacks `{key}`"
        );
        let camel = documents::camel_case(key);
        let place = self.left.iter().rposition(|(name, _)| *name == key || *name == camel)?;
        let (_, at) = self.left.remove(place);
        self.left.retain(|(name, _)| *name != key && *name != camel);
        Some(self.owner.with(at))
    }

    pub(super) fn require(&mut self, key: &str) -> Option<Node<'a>> {
        let node = self.take(key);
        if node.is_none() {
            self.owner.child(key).refuse("missing");
        }
        node
    }

    /// Takes the message name of an `Any`, without its host prefix. The fields of a `TypedStruct` become those of the
    /// message in it.
    pub(super) fn message_type(&mut self) -> Option<String> {
        let url = self.require("@type")?.string()?;
        if let Some(message) = documents::Message::of(&self.owner.at)
            && documents::Message::outer(&self.owner.at).is_some_and(|outer| outer.name != message.name)
        {
            let is_empty = message.body.path == self.owner.at.path;
            self.owner = self.owner.with(message.body);
            self.left = if is_empty { Vec::new() } else { self.owner.fields()?.left };
            return Some(message.name.to_owned());
        }
        Some(url.rsplit('/').next().unwrap_or(&url).to_owned())
    }

    pub(super) fn owner(&self) -> &Node<'a> {
        &self.owner
    }

    /// Refuses every field that was not taken, but for those that the table of messages lists as left out.
    pub(super) fn finish(self) {
        for (key, at) in self.left {
            let node = self.owner.with(at);
            let message = self.message;
            match message.and_then(|message| message.ignored.iter().find(|name| support::is_spelling(key, name))) {
                Some(name) => node.leave_out(name),
                None => node.report_unknown(key, message),
            }
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
    let mut fields = node.message(&support::ADDRESS)?;
    let socket = fields.require("socket_address");
    fields.finish();
    let mut fields = socket?.message(&support::SOCKET_ADDRESS)?;
    let protocol = fields.take("protocol").map(|node| node.one_of(&[("TCP", ())]));
    let host = fields.require("address").and_then(|node| node.string());
    let port = fields.require("port_value").and_then(|node| node.integer("a port, 0 to 65535"));
    fields.finish();
    (protocol != Some(None)).then_some(())?;
    Some((host?, port?))
}

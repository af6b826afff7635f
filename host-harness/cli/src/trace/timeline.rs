//! Timeline of a request: events of the host as texts, without hidden values.

use std::collections::HashMap;
use std::time::Instant;

use bytes::BytesMut;
use weir_host::resp::Resp;
use weir_host::trace::{Argument, Connection, Event, Value, What};

use super::hidden::{HIDDEN, Hidden};
use super::recorder::TICK;
use super::wire::{self, ScriptNames};

/// Event of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Time since the request's start in microseconds.
    pub(super) at: u128,
    /// Number of callbacks that contain the event.
    pub(super) depth: usize,
    pub(super) kind: Kind,
}

/// Kinds of events.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A callback begins.
    Callback { plugin: String, name: &'static str, arguments: Vec<(&'static str, String)> },
    /// A callback returns, after `took` µs.
    Returned { name: &'static str, result: String, took: u128 },
    /// Call of a host function that took `took` µs.
    Call {
        name: &'static str,
        arguments: Vec<(&'static str, String)>,
        results: Vec<(&'static str, String)>,
        status: &'static str,
        took: u128,
    },
    /// Connection to a cluster.
    Connected { cluster: String, address: String },
    /// Attempt to connect that failed.
    Unreachable { cluster: String, error: String },
    /// Command to Redis, or other bytes.
    Sent { cluster: String, text: String },
    /// Reply of Redis, or other bytes; `took` µs after its command, if that was seen.
    Received { cluster: String, text: String, took: Option<u128> },
    /// The cluster closed or reset the connection.
    Closed { cluster: String, broken: bool },
}

/// Reader of events. It keeps what later events refer to: names of metrics and streams, and parts of commands.
pub(super) struct Reader<'a> {
    scripts: &'a ScriptNames,
    hidden: &'a Hidden,
    /// Names of metrics and tokens, by VM and id.
    names: HashMap<(u64, &'static str, i64), String>,
    connections: HashMap<u64, Conversation>,
}

/// Connection whose commands and replies arrive in parts.
#[derive(Default)]
struct Conversation {
    sent: BytesMut,
    received: BytesMut,
    /// Times of the commands without a reply, in order.
    asked: std::collections::VecDeque<Instant>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(scripts: &'a ScriptNames, hidden: &'a Hidden) -> Self {
        Self { scripts, hidden, names: HashMap::new(), connections: HashMap::new() }
    }

    /// Reads the events of a request that began at `start`. Ticks in which a module calls nothing are left out.
    pub(super) fn steps(&mut self, events: &[Event], start: Instant) -> Vec<Step> {
        let mut open: Vec<Instant> = Vec::new();
        let mut steps: Vec<Step> = Vec::new();
        for event in events {
            let is_idle_tick = matches!(event.what, What::Returned { name: TICK, .. })
                && matches!(steps.last(), Some(Step { kind: Kind::Callback { name: TICK, .. }, .. }));
            if is_idle_tick {
                open.pop();
                steps.pop();
                continue;
            }
            let kinds = self.kinds(event, open.last().copied());
            if matches!(event.what, What::Returned { .. }) {
                open.pop();
            }
            let at = event.at.saturating_duration_since(start).as_micros();
            steps.extend(kinds.into_iter().map(|kind| Step { at, depth: open.len(), kind }));
            if matches!(event.what, What::Callback { .. }) {
                open.push(event.at);
            }
        }
        steps
    }

    fn kinds(&mut self, event: &Event, began: Option<Instant>) -> Vec<Kind> {
        let texts = |reader: &Self, vm: u64, function: &str, arguments: &[Argument]| {
            arguments.iter().map(|(name, value)| (*name, reader.text(vm, function, name, value, arguments))).collect()
        };
        vec![match &event.what {
            What::Callback { plugin, name, arguments } => {
                let names = [&plugin.name, &plugin.root_id].map(String::as_str);
                let plugin = names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join("/");
                Kind::Callback { plugin, name, arguments: texts(self, 0, name, arguments) }
            }
            What::Returned { name, result, trapped } => {
                let result = match result {
                    _ if *trapped => "trap".to_owned(),
                    Some(Value::Word(word)) => (*word).to_owned(),
                    Some(Value::Number(number)) => number.to_string(),
                    _ => String::new(),
                };
                let took = began.map_or(0, |began| event.at.saturating_duration_since(began).as_micros());
                Kind::Returned { name, result, took }
            }
            What::Call { name, vm, arguments, results, status, took } => {
                self.learn(*vm, name, arguments, results);
                Kind::Call {
                    name,
                    arguments: texts(self, *vm, name, arguments),
                    // A result is shown by the call's arguments, such as the name of a header.
                    results: results
                        .iter()
                        .map(|(result, value)| (*result, self.text(*vm, name, result, value, arguments)))
                        .collect(),
                    status,
                    took: took.as_micros(),
                }
            }
            What::Connected { connection, address } => {
                Kind::Connected { cluster: connection.cluster.to_string(), address: address.to_string() }
            }
            What::Unreachable { cluster, error } => {
                Kind::Unreachable { cluster: cluster.to_string(), error: error.clone() }
            }
            What::Closed { connection, broken } => {
                Kind::Closed { cluster: connection.cluster.to_string(), broken: *broken }
            }
            What::Sent { connection, bytes } => return self.sent(connection, bytes, event.at),
            What::Received { connection, bytes } => return self.received(connection, bytes, event.at),
        }]
    }

    fn sent(&mut self, connection: &Connection, bytes: &[u8], at: Instant) -> Vec<Kind> {
        let known = self.connections.entry(connection.number).or_default();
        known.sent.extend_from_slice(bytes);
        let commands = cut(&mut known.sent);
        known.asked.extend(commands.iter().map(|_| at));
        let cluster = connection.cluster.to_string();
        let text = |command: Result<Resp, usize>| match command {
            Ok(command) => wire::command(&command, self.scripts, self.hidden),
            Err(size) => format!("{size} bytes"),
        };
        commands.into_iter().map(|command| Kind::Sent { cluster: cluster.clone(), text: text(command) }).collect()
    }

    fn received(&mut self, connection: &Connection, bytes: &[u8], at: Instant) -> Vec<Kind> {
        let known = self.connections.entry(connection.number).or_default();
        known.received.extend_from_slice(bytes);
        let replies = cut(&mut known.received);
        let cluster = connection.cluster.to_string();
        let mut kinds = Vec::new();
        for reply in replies {
            let asked = known.asked.pop_front();
            let text = match reply {
                Ok(reply) => wire::reply(&reply, self.hidden),
                Err(size) => format!("{size} bytes that are not RESP"),
            };
            let took = asked.map(|asked| at.saturating_duration_since(asked).as_micros());
            kinds.push(Kind::Received { cluster: cluster.clone(), text, took });
        }
        kinds
    }

    /// Keeps the names behind ids that a call has returned.
    fn learn(&mut self, vm: u64, function: &str, arguments: &[Argument], results: &[Argument]) {
        let named = match function {
            "proxy_define_metric" => ("name", "metric"),
            "proxy_http_call" => ("cluster", "token"),
            "proxy_grpc_stream" | "proxy_grpc_call" => ("target", "token"),
            "proxy_register_shared_queue" | "proxy_resolve_shared_queue" => ("name", "queue"),
            _ => return,
        };
        let name = arguments.iter().find(|(name, _)| *name == named.0);
        if let (Some((_, Value::Bytes(name))), Some((id, Value::Number(number)))) =
            (name, results.iter().find(|(name, _)| *name == named.1))
        {
            // A serialised `GrpcService` has the name of its cluster between control characters.
            let longest = name.split(|byte| !byte.is_ascii_graphic()).max_by_key(|part| part.len());
            let name = String::from_utf8_lossy(longest.unwrap_or_default()).into_owned();
            self.names.insert((vm, id, *number), name);
        }
    }

    fn text(&self, vm: u64, function: &str, name: &'static str, value: &Value, arguments: &[Argument]) -> String {
        match value {
            Value::Number(number) if name.starts_with("end_") => (*number != 0).to_string(),
            Value::Number(number) => match self.names.get(&(vm, name, *number)) {
                Some(known) if name == "metric" => known.clone(),
                Some(known) => format!("{number} ({known})"),
                None => number.to_string(),
            },
            Value::Word(word) => (*word).to_owned(),
            Value::Configuration(size) => format!("({size} bytes of configuration)"),
            Value::Unreadable => "(not in the module's memory)".to_owned(),
            Value::Pairs(pairs) => {
                let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
                    format!("{}: {}", String::from_utf8_lossy(name), self.header(name, value))
                };
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            Value::Bytes(bytes) => self.bytes(function, name, bytes, arguments),
        }
    }

    fn header(&self, name: &[u8], value: &[u8]) -> String {
        match self.hidden.header_value(name, value) {
            hidden if hidden == HIDDEN.as_bytes() => HIDDEN.to_owned(),
            shown => wire::quoted(&shown, self.hidden),
        }
    }

    fn bytes(&self, function: &str, name: &str, bytes: &[u8], arguments: &[Argument]) -> String {
        let is_property = function.ends_with("_property");
        if name == "path" && is_property {
            return String::from_utf8_lossy(bytes).replace('\0', ".");
        }
        if name == "target" {
            let longest = bytes.split(|byte| !byte.is_ascii_graphic()).max_by_key(|part| part.len());
            return wire::quoted(longest.unwrap_or_default(), self.hidden);
        }
        if name == "value"
            && function.contains("header_map")
            && let Some((_, Value::Bytes(key))) = arguments.iter().find(|(name, _)| *name == "key")
        {
            return self.header(key, bytes);
        }
        let buffer = arguments.iter().find(|(name, _)| *name == "buffer").map(|(_, value)| value);
        let is_body = buffer == Some(&Value::Word("HttpRequestBody"));
        if is_property && self.hidden.properties() || is_body && self.hidden.bodies() {
            return HIDDEN.to_owned();
        }
        if let (true, Ok(number)) = (is_property, <[u8; 8]>::try_from(bytes))
            && !bytes.iter().all(|byte| byte.is_ascii_graphic())
        {
            return i64::from_le_bytes(number).to_string();
        }
        if matches!(name, "message" | "body" | "bytes")
            && let Some(values) = wire::values(unframed(bytes))
        {
            let texts = values.iter().map(|value| wire::command(value, self.scripts, self.hidden));
            return format!("‹{}›", texts.collect::<Vec<_>>().join("; "));
        }
        wire::quoted(bytes, self.hidden)
    }
}

/// Returns a gRPC message without its frame header, and other bytes unchanged.
fn unframed(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, a, b, c, d, message @ ..] if usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])) == Ok(message.len()) => {
            message
        }
        other => other,
    }
}

/// Takes the complete values; an `Err` has the size of bytes that are not RESP.
fn cut(buffer: &mut BytesMut) -> Vec<Result<Resp, usize>> {
    let mut values = Vec::new();
    while !buffer.is_empty() {
        match Resp::read(buffer) {
            Ok(Some((value, length))) => {
                let _ = buffer.split_to(length);
                values.push(Ok(value));
            }
            Ok(None) => break,
            Err(_) => values.push(Err(buffer.split().len())),
        }
    }
    values
}

//! Timeline as JSON. docs/src/cli.md documents the fields; a change of their meaning raises [`VERSION`].

use serde_json::{Map, Value, json};

use super::timeline::{Kind, Step};
use super::{Exchange, Trace};

const VERSION: u32 = 1;

pub(super) fn render(trace: &Trace) -> Value {
    let exchanges: Vec<Value> = trace.exchanges.iter().map(exchange).collect();
    json!({"version": VERSION, "file": trace.file, "redis": trace.redis, "requests": exchanges})
}

fn exchange(exchange: &Exchange) -> Value {
    let decision = &exchange.decision;
    json!({
        "request": exchange.request,
        "request_headers": pairs(&exchange.headers),
        "status": exchange.status,
        "response_headers": pairs(&exchange.response_headers),
        "took_us": micros(exchange.took),
        "decision": {
            "outcome": decision.outcome,
            "limits": decision.limits,
            "remaining": decision.remaining,
            "retry_after_s": decision.retry_after,
            "why": decision.why,
        },
        "events": exchange.steps.iter().map(event).collect::<Vec<_>>(),
    })
}

fn event(step: &Step) -> Value {
    let mut event = match &step.kind {
        Kind::Callback { plugin, name, arguments } => {
            json!({"event": "callback", "plugin": plugin, "name": name, "arguments": object(arguments)})
        }
        Kind::Returned { name, result, took } => {
            let result = (!result.is_empty()).then_some(result);
            json!({"event": "return", "name": name, "result": result, "took_us": micros(*took)})
        }
        Kind::Call { name, arguments, results, status, took } => json!({
            "event": "call", "name": name, "arguments": object(arguments), "results": object(results),
            "status": status, "took_us": micros(*took),
        }),
        Kind::Connected { cluster, address } => json!({"event": "connected", "cluster": cluster, "address": address}),
        Kind::Unreachable { cluster, error } => json!({"event": "unreachable", "cluster": cluster, "error": error}),
        Kind::Sent { cluster, text } => json!({"event": "sent", "cluster": cluster, "text": text}),
        Kind::Received { cluster, text, took } => {
            json!({"event": "received", "cluster": cluster, "text": text, "took_us": took.map(micros)})
        }
        Kind::Closed { cluster, broken } => json!({"event": "closed", "cluster": cluster, "reset": broken}),
    };
    if let Some(fields) = event.as_object_mut() {
        fields.insert("at_us".to_owned(), micros(step.at).into());
        fields.insert("depth".to_owned(), step.depth.into());
    }
    event
}

fn object(arguments: &[(&'static str, String)]) -> Map<String, Value> {
    arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect()
}

fn pairs(headers: &[(String, String)]) -> Vec<[&str; 2]> {
    headers.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

fn micros(micros: u128) -> u64 {
    u64::try_from(micros).unwrap_or(u64::MAX)
}

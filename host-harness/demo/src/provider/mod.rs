//! Fake provider of language models: it answers as the APIs of real ones do, and tells usage, but has no model.
//!
//! It counts a token for each 4 bytes of a request's body, and answers with half of the tokens that the request allows at
//! most, each a word: so that a budget is settled by less than was reserved. For trying limits without a key.

mod answer;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use hyper::{Method, Request};
use serde_json::{Value, json};

pub use self::answer::{Answer, Api, Usage};
use crate::interrupt::Interrupt;
use crate::output::note;
use crate::upstream::Reply;
pub use crate::upstream::Upstream;

/// Tokens of an answer whose request allows any number.
const DEFAULT_TOKENS: u64 = 50;
/// Most tokens of an answer.
const MAX_TOKENS: u64 = 10_000;
/// Bytes of a token of the request.
const BYTES_PER_TOKEN: u64 = 4;
/// Time between the events of a stream.
const PAUSE: Duration = Duration::from_millis(20);
/// Places of the maximum in a request's body.
const MAXIMA: [&str; 5] = [
    "/max_completion_tokens",
    "/max_tokens",
    "/max_output_tokens",
    "/generationConfig/maxOutputTokens",
    "/inferenceConfig/maxTokens",
];

/// Serves a fake provider of language models, until interrupted: for trying limits without a key.
#[derive(Debug, Args)]
pub struct Provider {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddr,
}

/// Serves the provider until ctrl-c.
///
/// # Errors
/// If the address is not free.
pub fn run(provider: &Provider) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        let address = provider.address;
        let upstream = start(address).await.with_context(|| format!("cannot listen on {address}"))?;
        note(format_args!("weir: a provider without a model answers on {}, until ctrl-c", upstream.addr()));
        interrupt.wait().await;
        Ok(())
    })
}

/// Starts the provider.
///
/// # Errors
/// If the address is not free.
pub async fn start(addr: SocketAddr) -> std::io::Result<Upstream> {
    Upstream::start(addr, respond).await
}

/// Returns the response to a request.
fn respond(request: &Request<Bytes>) -> Reply {
    let body: Value = match serde_json::from_slice(request.body()) {
        Ok(body) if request.method() == Method::POST => body,
        _ => return error("expected a POST with a JSON document"),
    };
    let path = request.uri().path();
    let model = body.get("model").and_then(Value::as_str).unwrap_or("fake-model");
    let maximum = MAXIMA.iter().find_map(|place| body.pointer(place)?.as_u64());
    let output = maximum.map_or(DEFAULT_TOKENS, |maximum| maximum.div_ceil(2)).clamp(1, MAX_TOKENS);
    let input = u64::try_from(request.body().len()).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN);
    let text = (1..=output).map(|nth| format!("word{nth}")).collect::<Vec<_>>().join(" ");
    let usage = Usage { input, output, ..Usage::default() };
    let answer = Answer { api: Api::of_path(path), model, text: &text, usage };
    let wants_stream = body.get("stream") == Some(&Value::Bool(true)) || path.contains(":streamGenerateContent");
    if !wants_stream {
        return reply(200, "application/json", vec![(Duration::ZERO, answer.document().to_string().into())]);
    }
    let tells_usage =
        answer.api != Api::OpenAi || body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    match answer.events(tells_usage) {
        Some(events) => {
            let pieces = events.into_iter().map(|event| (PAUSE, event.into())).collect();
            reply(200, "text/event-stream", pieces)
        }
        None => error("this provider has no streams of Bedrock"),
    }
}

fn reply(status: u16, content_type: &str, pieces: Vec<(Duration, Bytes)>) -> Reply {
    let headers = vec![("content-type".to_owned(), content_type.to_owned())];
    Reply { status, headers, pieces, ..Reply::default() }
}

fn error(message: &str) -> Reply {
    let body = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    reply(400, "application/json", vec![(Duration::ZERO, body.to_string().into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, body: &Value) -> (u16, String) {
        let request = Request::post(path).body(Bytes::from(body.to_string())).expect("a request");
        let reply = respond(&request);
        let text = reply.pieces.iter().flat_map(|(_, piece)| piece.to_vec()).collect();
        (reply.status, String::from_utf8(text).expect("text"))
    }

    #[test]
    fn an_answer_has_half_of_the_tokens_that_its_request_allows() {
        let request = json!({"model": "gpt-4o-mini", "max_tokens": 10, "messages": []});
        let (status, body) = ask("/v1/chat/completions", &request);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let usage = json!({"prompt_tokens": 14, "completion_tokens": 5, "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 0}});
        assert_eq!((status, &body["usage"], &body["model"]), (200, &usage, &json!("gpt-4o-mini")));
        assert_eq!(body["choices"][0]["message"]["content"], "word1 word2 word3 word4 word5");
        let (_, message) = ask("/v1/messages", &request);
        let message: Value = serde_json::from_str(&message).expect("JSON");
        assert_eq!(message["usage"]["output_tokens"], 5);
    }

    #[test]
    fn streams_of_openai_tell_usage_only_if_it_is_asked_for() {
        let mut request = json!({"model": "gpt-4o-mini", "stream": true});
        assert!(!ask("/v1/chat/completions", &request).1.contains("prompt_tokens"));
        request["stream_options"] = json!({"include_usage": true});
        let (_, stream) = ask("/v1/chat/completions", &request);
        assert!(stream.contains("\"completion_tokens\":50") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
        assert!(ask("/v1/messages", &request).1.contains("event: message_delta\n"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let request = Request::post("/v1/chat/completions").body(Bytes::from_static(b"{")).expect("a request");
        assert_eq!(respond(&request).status, 400);
        assert_eq!(ask("/model/m/converse", &json!({"stream": true})).0, 400);
    }
}

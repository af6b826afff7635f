//! Answers of the APIs of language models, with their usage.

use serde_json::{Value, json};

/// Words of the text in one event of a stream.
const WORDS: usize = 16;

/// API of language models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's.
    Gemini,
    /// Bedrock's Converse.
    Bedrock,
}

/// Tokens of a request and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the request, without those of caches.
    pub input: u64,
    /// Tokens of the response.
    pub output: u64,
    /// Tokens read from a cache.
    pub cache_read: u64,
    /// Tokens written to a cache.
    pub cache_write: u64,
}

/// Answer of a model.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// API in whose form the answer is.
    pub api: Api,
    /// Name of the model.
    pub model: &'a str,
    /// Text of the answer.
    pub text: &'a str,
    /// Tokens that it tells.
    pub usage: Usage,
}

impl Api {
    /// Names, and the APIs that they name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("openai", Self::OpenAi),
        ("anthropic", Self::Anthropic),
        ("gemini", Self::Gemini),
        ("bedrock", Self::Bedrock),
    ];

    /// Returns the API that a request's path names: OpenAI's where it names none.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let parts = [("/v1/messages", Self::Anthropic), ("enerateContent", Self::Gemini), ("/converse", Self::Bedrock)];
        parts.into_iter().find(|(part, _)| path.contains(part)).map_or(Self::OpenAi, |(_, api)| api)
    }

    /// Whether responses tell tokens that were written to a cache.
    #[must_use]
    pub fn tells_cache_writes(self) -> bool {
        matches!(self, Self::Anthropic | Self::Bedrock)
    }
}

impl Answer<'_> {
    /// The answer as one document.
    #[must_use]
    pub fn document(&self) -> Value {
        let Self { model, text, .. } = self;
        let usage = self.usage();
        match self.api {
            Api::OpenAi => json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": usage}),
            Api::Anthropic => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": usage}),
            Api::Gemini => self.candidates(text),
            Api::Bedrock => json!({"output": {"message": {"role": "assistant", "content": [{"text": text}]}},
                "stopReason": "end_turn", "usage": usage}),
        }
    }

    /// The answer as server-sent events. `None` where the API has others. OpenAI's `tells_usage` only if it is asked for.
    #[must_use]
    pub fn events(&self, tells_usage: bool) -> Option<Vec<String>> {
        let words: Vec<&str> = self.text.split_inclusive(' ').collect();
        let texts = words.chunks(WORDS).map(<[&str]>::concat);
        let data = |value: Value| format!("data: {value}\n\n");
        Some(match self.api {
            Api::OpenAi => {
                let chunk = |choices: Value, usage: Value| {
                    data(json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                        "model": self.model, "choices": choices, "usage": usage}))
                };
                let choice =
                    |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
                let mut events: Vec<String> =
                    texts.map(|text| chunk(choice(json!({"content": text}), Value::Null), Value::Null)).collect();
                events.push(chunk(choice(json!({}), "stop".into()), Value::Null));
                if tells_usage {
                    events.push(chunk(json!([]), self.usage()));
                }
                events.push("data: [DONE]\n\n".to_owned());
                events
            }
            Api::Anthropic => {
                let named = |value: Value| {
                    format!("event: {}\n{}", value["type"].as_str().unwrap_or_default(), data(value.clone()))
                };
                let mut usage = self.usage();
                usage["output_tokens"] = 1.into();
                let mut events = vec![
                    named(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
                        "role": "assistant", "model": self.model, "content": [], "stop_reason": null,
                        "stop_sequence": null, "usage": usage}})),
                    named(json!({"type": "content_block_start", "index": 0,
                        "content_block": {"type": "text", "text": ""}})),
                ];
                events.extend(texts.map(|text| {
                    named(json!({"type": "content_block_delta", "index": 0,
                        "delta": {"type": "text_delta", "text": text}}))
                }));
                events.push(named(json!({"type": "content_block_stop", "index": 0})));
                let usage = json!({"output_tokens": self.usage.output});
                let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
                events.push(named(json!({"type": "message_delta", "delta": delta, "usage": usage})));
                events.push(named(json!({"type": "message_stop"})));
                events
            }
            Api::Gemini => texts.map(|text| data(self.candidates(&text))).collect(),
            Api::Bedrock => return None,
        })
    }

    /// The document of Gemini's API with this text.
    fn candidates(&self, text: &str) -> Value {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}],
            "modelVersion": self.model, "usageMetadata": self.usage()})
    }

    fn usage(&self) -> Value {
        let Usage { input, output, cache_read, cache_write } = self.usage;
        let prompt = input.saturating_add(cache_read);
        let total = prompt.saturating_add(output);
        match self.api {
            Api::OpenAi => json!({"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": cache_read}}),
            Api::Anthropic => json!({"input_tokens": input, "output_tokens": output,
                "cache_read_input_tokens": cache_read, "cache_creation_input_tokens": cache_write}),
            Api::Gemini => json!({"promptTokenCount": prompt, "candidatesTokenCount": output,
                "cachedContentTokenCount": cache_read, "totalTokenCount": total}),
            Api::Bedrock => json!({"inputTokens": input, "outputTokens": output,
                "totalTokens": total.saturating_add(cache_write), "cacheReadInputTokens": cache_read,
                "cacheWriteInputTokens": cache_write}),
        }
    }
}

//! Responses as the APIs write them, each with its usage.

use super::super::*;
use super::{read_all_ways, usage};

pub(super) struct Fixture {
    name: &'static str,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) usage: Option<Usage>,
    model: Option<&'static str>,
}

fn fixture(
    name: &'static str,
    framing: Framing,
    body: &str,
    usage: Option<Usage>,
    model: Option<&'static str>,
) -> Fixture {
    Fixture { name, framing, body: body.as_bytes().to_vec(), usage, model }
}

pub(super) fn count() -> usize {
    all().len()
}

pub(super) fn all() -> Vec<Fixture> {
    [openai(), likes_of_openai(), anthropic(), gemini(), bedrock(), others()].into_iter().flatten().collect()
}

fn openai() -> Vec<Fixture> {
    use Framing::{Json, ServerSentEvents};
    vec![
        fixture(
            "chat",
            Json,
            r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,
            "message":{"role":"assistant","content":"\"usage\":{\"prompt_tokens\":1}"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":1117,"completion_tokens":46,"total_tokens":1163,
            "prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":0,"rejected_prediction_tokens":0}},
            "service_tier":"default"}"#,
            Some(usage(93, 1024, 0, 0, 46)),
            Some("gpt-4o-mini"),
        ),
        fixture(
            "chat, streamed",
            ServerSentEvents,
            "data: {\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\
            \"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n\
            data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12,\
            \"total_tokens\":21}}\n\ndata: [DONE]\n\n",
            Some(usage(9, 0, 0, 0, 12)),
            Some("gpt-4o"),
        ),
        fixture(
            "chat, streamed without usage",
            ServerSentEvents,
            "data: {\"model\":\"gpt-4o\",\"choices\":[{\"delta\":\
            {\"content\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":5}}\"}}]}\n\ndata: [DONE]\n\n",
            None,
            Some("gpt-4o"),
        ),
        fixture(
            "chat, no blank line at the end",
            ServerSentEvents,
            "\u{feff}: comment\n\nevent: x\nid: 7\ndata:{\"usage\":\n\
            data:{\"prompt_tokens\":3,\ndata: \"completion_tokens\":4}}\n",
            Some(usage(3, 0, 0, 0, 4)),
            None,
        ),
        fixture(
            "responses",
            Json,
            r#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"gpt-4.1",
            "output":[{"type":"message"}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},
            "output_tokens":87,"output_tokens_details":{"reasoning_tokens":12},"total_tokens":123}}"#,
            Some(usage(30, 6, 0, 0, 87)),
            Some("gpt-4.1"),
        ),
        fixture(
            "responses, streamed",
            ServerSentEvents,
            "event: response.created\ndata: {\"type\":\"response.created\",\
            \"response\":{\"model\":\"gpt-4.1\",\"usage\":null}}\n\nevent: response.completed\n\
            data: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-4.1\",\"usage\":{\"input_tokens\":37,\
            \"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":11,\"total_tokens\":48}}}\n\n",
            Some(usage(37, 0, 0, 0, 11)),
            Some("gpt-4.1"),
        ),
        fixture(
            "responses, in the background",
            Json,
            r#"{"object":"response","status":"queued","model":"o3","usage":null}"#,
            None,
            Some("o3"),
        ),
        fixture(
            "embeddings",
            Json,
            r#"{"object":"list","data":[{"embedding":[0.1,-0.2e-3,1e30],"index":0}],
            "model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Some(usage(8, 0, 0, 0, 0)),
            Some("text-embedding-3-small"),
        ),
        fixture(
            "images",
            Json,
            r#"{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"total_tokens":4210,"input_tokens":50,
            "output_tokens":4160,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#,
            Some(usage(50, 0, 0, 0, 4160)),
            None,
        ),
        fixture(
            "transcription, by tokens",
            Json,
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,
            "input_token_details":{"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#,
            Some(usage(14, 0, 0, 0, 45)),
            None,
        ),
        fixture("transcription, by time", Json, r#"{"text":"hi","usage":{"type":"duration","seconds":7}}"#, None, None),
    ]
}

fn likes_of_openai() -> Vec<Fixture> {
    use Framing::{Json, ServerSentEvents};
    vec![
        fixture(
            "xAI: reasoning beside completion",
            Json,
            r#"{"model":"grok-4","usage":{"prompt_tokens":32,
            "completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"cached_tokens":6},
            "completion_tokens_details":{"reasoning_tokens":94}}}"#,
            Some(usage(26, 6, 0, 0, 103)),
            Some("grok-4"),
        ),
        fixture(
            "DeepSeek",
            Json,
            r#"{"model":"deepseek-chat","usage":{"prompt_tokens":100,"completion_tokens":7,
            "total_tokens":107,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}}"#,
            Some(usage(36, 64, 0, 0, 7)),
            Some("deepseek-chat"),
        ),
        fixture(
            "Groq, streamed",
            ServerSentEvents,
            "data: {\"model\":\"llama\",\"choices\":[],\"x_groq\":{\"id\":\"r\",\
            \"usage\":{\"queue_time\":0.03,\"prompt_tokens\":24,\"completion_tokens\":8,\"total_tokens\":32}}}\n\n",
            Some(usage(24, 0, 0, 0, 8)),
            Some("llama"),
        ),
        fixture(
            "vLLM, cumulative",
            ServerSentEvents,
            "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0,\
            \"total_tokens\":5}}\n\ndata: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}\n\n\
            data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n",
            Some(usage(5, 0, 0, 0, 2)),
            None,
        ),
        fixture(
            "Azure, filter results first",
            ServerSentEvents,
            "data: {\"choices\":[],\"model\":\"\",\
            \"prompt_filter_results\":[{\"prompt_index\":0}]}\n\ndata: {\"model\":\"gpt-4o\",\"choices\":[],\
            \"usage\":{\"completion_tokens\":2,\"prompt_tokens\":8,\"total_tokens\":10}}\n\ndata: [DONE]\n\n",
            Some(usage(8, 0, 0, 0, 2)),
            Some("gpt-4o"),
        ),
    ]
}

fn anthropic() -> Vec<Fixture> {
    use Framing::{Json, ServerSentEvents};
    vec![
        fixture(
            "messages",
            Json,
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4",
            "content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":12,
            "cache_creation_input_tokens":300,"cache_read_input_tokens":2000,
            "cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":100},
            "output_tokens":503,"service_tier":"standard"}}"#,
            Some(usage(12, 2000, 200, 100, 503)),
            Some("claude-sonnet-4"),
        ),
        fixture(
            "messages, streamed",
            ServerSentEvents,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":\
            {\"model\":\"claude-sonnet-4\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n\
            event: ping\ndata: {\"type\":\"ping\"}\n\n\
            event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"usage\"}}\n\n\
            event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
            \"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            Some(usage(25, 7, 0, 0, 15)),
            Some("claude-sonnet-4"),
        ),
    ]
}

fn gemini() -> Vec<Fixture> {
    use Framing::{Json, ServerSentEvents};
    let first = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":10,
        "totalTokenCount":12,"candidatesTokenCount":2},"modelVersion":"gemini-2.5-flash"}"#;
    let last = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":20,
        "thoughtsTokenCount":30,"cachedContentTokenCount":4,"toolUsePromptTokenCount":5,"totalTokenCount":65},
        "modelVersion":"gemini-2.5-flash"}"#;
    let expected = Some(usage(11, 4, 0, 0, 50));
    let model = Some("gemini-2.5-flash");
    let one_line = |event: &str| event.replace('\n', "");
    vec![
        fixture("whole", Json, last, expected, model),
        fixture("list of chunks", Json, &format!("[{first}\n,\r\n{last}\n]"), expected, model),
        fixture("lines", Json, &format!("{}\n{}\n", one_line(first), one_line(last)), expected, model),
        fixture(
            "events",
            ServerSentEvents,
            &format!("data: {}\n\ndata: {}\n\n", one_line(first), one_line(last)),
            expected,
            model,
        ),
    ]
}

/// A message of an event stream of AWS.
fn message(headers: &[u8], payload: &str) -> Vec<u8> {
    let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let length = u32::try_from(headers.len()).unwrap();
    [&total.to_be_bytes(), &length.to_be_bytes(), &[0; 4], headers, payload.as_bytes(), &[0; 4]].concat()
}

fn bedrock() -> Vec<Fixture> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let expected = Some(usage(125, 5, 6, 0, 60));
    let metadata = r#"{"metrics":{"latencyMs":1275},"usage":{"inputTokens":125,"outputTokens":60,"totalTokens":196,
        "cacheReadInputTokens":5,"cacheWriteInputTokens":6}}"#;
    let converse =
        [message(b"\x0b:event-type", r#"{"delta":{"text":"Hi"}}"#), message(b"", "{}"), message(b"h", metadata)];
    let chunk = |inner: &str| {
        let bytes = BASE64_STANDARD.encode(inner).replace('/', "\\/");
        message(b"\x0b:event-type", &format!(r#"{{"bytes":"{bytes}","p":"abcdefghij"}}"#))
    };
    let invoke = [
        chunk(
            r#"{"type":"message_start","message":{"model":"claude-3","usage":{"input_tokens":1,"output_tokens":1}}}"#,
        ),
        chunk(r#"{"type":"content_block_delta","delta":{"text":"Ü/ÿ??>"}}"#),
        chunk(
            r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":125,"outputTokenCount":60,
            "invocationLatency":5,"cacheReadInputTokenCount":5,"cacheWriteInputTokenCount":6}}"#,
        ),
    ];
    let stream = |name, body, model| Fixture { name, framing: Framing::AwsEventStream, body, usage: expected, model };
    vec![
        fixture("Converse", Framing::Json, metadata, expected, None),
        stream("Converse, streamed", converse.concat(), None),
        stream("InvokeModel, streamed", invoke.concat(), Some("claude-3")),
    ]
}

fn others() -> Vec<Fixture> {
    use Framing::{Json, ServerSentEvents};
    vec![
        fixture(
            "Cohere",
            Json,
            r#"{"id":"1","message":{"role":"assistant"},"usage":{"billed_units":{"input_tokens":5,
            "output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}}"#,
            Some(usage(5, 0, 0, 0, 418)),
            None,
        ),
        fixture(
            "Cohere, streamed",
            ServerSentEvents,
            "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":\
            {\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":3,\"output_tokens\":4},\
            \"tokens\":{\"input_tokens\":70,\"output_tokens\":4}}}}\n\n",
            Some(usage(3, 0, 0, 0, 4)),
            None,
        ),
        fixture(
            "Ollama",
            Json,
            "{\"model\":\"llama3\",\"response\":\"Hi\",\"done\":false}\n{\"model\":\"llama3\",\
            \"done\":true,\"prompt_eval_count\":26,\"eval_count\":298}\n",
            Some(usage(26, 0, 0, 0, 298)),
            Some("llama3"),
        ),
    ]
}

#[test]
fn each_api_has_its_usage() {
    for Fixture { name, framing, body, usage, model } in all() {
        let readings = read_all_ways(framing, &body);
        assert_eq!(readings.usage(), usage, "{name}");
        assert_eq!(readings.model.as_deref(), model, "{name}");
        assert_eq!((readings.unreadable, readings.malformed, readings.has_error), (0, 0, false), "{name}");
    }
}

//! Figures of a response, and their places in the documents of the known APIs.

/// A figure of a response that tells what it cost.
///
/// Sources: the references of the APIs of OpenAI, Azure, Anthropic, Gemini, Bedrock, Cohere and Ollama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Tokens of the request, those read from a cache included or not, as the API has it.
    Prompt,
    /// Tokens of tools' results, beside [`Prompt`](Self::Prompt).
    ToolPrompt,
    /// Tokens read from a cache, part of [`Prompt`](Self::Prompt).
    Cached,
    /// Tokens read from a cache, beside [`Prompt`](Self::Prompt).
    CacheRead,
    /// Tokens written to a cache, beside [`Prompt`](Self::Prompt).
    CacheWrite,
    /// Tokens written to a cache for an hour, part of [`CacheWrite`](Self::CacheWrite).
    CacheWriteHour,
    /// Tokens written to a cache, part of [`Prompt`](Self::Prompt).
    CacheWritten,
    /// Tokens of the response.
    Completion,
    /// Tokens of reasoning, beside [`Completion`](Self::Completion).
    Thoughts,
    /// All tokens of request and response.
    Total,
    /// Cost in dollars.
    Cost,
    /// Cost in 10⁻¹⁰ dollars.
    CostTicks,
    /// Name of the model that answered.
    Model,
    /// Status of a response that is computed in the background.
    Status,
    /// Service tier by which the response is billed.
    ServiceTier,
    /// An error within a response of status 200.
    Error,
    /// Document in base64, within an event of Bedrock.
    Bytes,
}

/// Number of fields that are numbers: the first ones.
pub(super) const NUMBERS: usize = Field::Total as usize + 1;

/// Formats whose places are read: a bit for each.
pub(super) type Formats = u8;

const OPENAI: Formats = 1;
const RESPONSES: Formats = 2;
const ANTHROPIC: Formats = 4;
const GEMINI: Formats = 8;
const BEDROCK: Formats = 16;
const COHERE: Formats = 32;
const OLLAMA: Formats = 64;
/// Places that every format has.
const ANY: Formats = 0xff;
/// All known formats.
pub(super) const ALL: Formats = 0x7f;

/// Names of formats.
pub(crate) const NAMED: [(&str, Formats); 8] = [
    ("auto", ALL),
    ("openai", OPENAI),
    ("openai_responses", RESPONSES),
    ("anthropic", ANTHROPIC),
    ("gemini", GEMINI),
    ("bedrock", BEDROCK),
    ("cohere", COHERE),
    ("ollama", OLLAMA),
];

/// Headers in which Bedrock tells tokens.
const BEDROCK_HEADERS: [(&str, Field); 2] =
    [("x-amzn-bedrock-input-token-count", Field::Prompt), ("x-amzn-bedrock-output-token-count", Field::Completion)];

/// Objects that contain usage as OpenAI, Anthropic and Bedrock write it.
const USAGE_OBJECTS: [(&str, Formats); 4] = [
    ("/usage", OPENAI | RESPONSES | ANTHROPIC | BEDROCK | COHERE),
    ("/response/usage", RESPONSES),
    ("/message/usage", ANTHROPIC),
    ("/x_groq/usage", OPENAI),
];

/// Members of these objects.
const IN_USAGE: [(&str, Field, Formats); 18] = [
    ("/prompt_tokens", Field::Prompt, OPENAI),
    ("/completion_tokens", Field::Completion, OPENAI),
    ("/total_tokens", Field::Total, OPENAI | RESPONSES),
    ("/prompt_tokens_details/cached_tokens", Field::Cached, OPENAI),
    ("/prompt_cache_hit_tokens", Field::Cached, OPENAI),
    ("/input_tokens", Field::Prompt, OPENAI | RESPONSES | ANTHROPIC),
    ("/output_tokens", Field::Completion, OPENAI | RESPONSES | ANTHROPIC),
    ("/input_tokens_details/cached_tokens", Field::Cached, OPENAI | RESPONSES),
    ("/cache_read_input_tokens", Field::CacheRead, ANTHROPIC),
    ("/cache_creation_input_tokens", Field::CacheWrite, ANTHROPIC),
    ("/cache_creation/ephemeral_1h_input_tokens", Field::CacheWriteHour, ANTHROPIC),
    ("/service_tier", Field::ServiceTier, ANTHROPIC),
    ("/inputTokens", Field::Prompt, BEDROCK),
    ("/outputTokens", Field::Completion, BEDROCK),
    ("/cacheReadInputTokens", Field::CacheRead, BEDROCK),
    ("/cacheWriteInputTokens", Field::CacheWrite, BEDROCK),
    // Cohere counts twice; it bills these.
    ("/billed_units/input_tokens", Field::Prompt, COHERE),
    ("/billed_units/output_tokens", Field::Completion, COHERE),
];

/// Fields in other places.
const ELSEWHERE: [(&str, Field, Formats); 23] = [
    ("/delta/usage/billed_units/input_tokens", Field::Prompt, COHERE),
    ("/delta/usage/billed_units/output_tokens", Field::Completion, COHERE),
    ("/usageMetadata/promptTokenCount", Field::Prompt, GEMINI),
    ("/usageMetadata/toolUsePromptTokenCount", Field::ToolPrompt, GEMINI),
    ("/usageMetadata/cachedContentTokenCount", Field::Cached, GEMINI),
    ("/usageMetadata/candidatesTokenCount", Field::Completion, GEMINI),
    ("/usageMetadata/thoughtsTokenCount", Field::Thoughts, GEMINI),
    ("/usageMetadata/totalTokenCount", Field::Total, GEMINI),
    ("/amazon-bedrock-invocationMetrics/inputTokenCount", Field::Prompt, BEDROCK),
    ("/amazon-bedrock-invocationMetrics/outputTokenCount", Field::Completion, BEDROCK),
    ("/amazon-bedrock-invocationMetrics/cacheReadInputTokenCount", Field::CacheRead, BEDROCK),
    ("/amazon-bedrock-invocationMetrics/cacheWriteInputTokenCount", Field::CacheWrite, BEDROCK),
    ("/prompt_eval_count", Field::Prompt, OLLAMA),
    ("/eval_count", Field::Completion, OLLAMA),
    ("/model", Field::Model, ANY),
    ("/modelVersion", Field::Model, ANY),
    ("/response/model", Field::Model, ANY),
    ("/message/model", Field::Model, ANY),
    ("/service_tier", Field::ServiceTier, ANY),
    ("/status", Field::Status, ANY),
    ("/response/status", Field::Status, ANY),
    ("/error", Field::Error, ANY),
    ("/bytes", Field::Bytes, ANY),
];

/// Places of the provider's own cost: OpenRouter's, and xAI's.
const COSTS: [(&str, &str, Field); 2] =
    [("/usage", "/cost", Field::Cost), ("/usage", "/cost_in_usd_ticks", Field::CostTicks)];

/// All places of formats, as JSON pointers in parts that follow each other.
pub(super) fn places(formats: Formats) -> impl Iterator<Item = (&'static str, &'static str, Field)> {
    let in_usage = USAGE_OBJECTS
        .iter()
        .flat_map(|(object, of)| IN_USAGE.iter().map(move |(rest, field, its)| (*object, *rest, *field, of & its)))
        // Only a guess, of an answer that is still to come.
        .filter(|(object, rest, ..)| (*object, *rest) != ("/message/usage", "/output_tokens"));
    let all = in_usage.chain(ELSEWHERE.iter().map(|(pointer, field, of)| (*pointer, "", *field, *of)));
    all.filter(move |(.., of)| formats == ALL || *of == ANY || of & formats != 0)
        .map(|(object, rest, field, _)| (object, rest, field))
}

/// Places of the provider's own cost.
pub(super) fn costs() -> impl Iterator<Item = (&'static str, &'static str, Field)> {
    COSTS.into_iter()
}

/// Headers of formats.
pub(super) fn headers(formats: Formats) -> impl Iterator<Item = (&'static str, Field)> {
    BEDROCK_HEADERS.into_iter().filter(move |_| formats & BEDROCK != 0)
}

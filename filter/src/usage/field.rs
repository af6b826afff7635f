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
    /// Tokens of the response.
    Completion,
    /// Tokens of reasoning, beside [`Completion`](Self::Completion).
    Thoughts,
    /// All tokens of request and response.
    Total,
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

/// Objects that contain usage as OpenAI, Anthropic and Bedrock write it.
const USAGE_OBJECTS: [&str; 4] = ["/usage", "/response/usage", "/message/usage", "/x_groq/usage"];

/// Members of these objects.
const IN_USAGE: [(&str, Field); 18] = [
    ("/prompt_tokens", Field::Prompt),
    ("/completion_tokens", Field::Completion),
    ("/total_tokens", Field::Total),
    ("/prompt_tokens_details/cached_tokens", Field::Cached),
    ("/prompt_cache_hit_tokens", Field::Cached),
    ("/input_tokens", Field::Prompt),
    ("/output_tokens", Field::Completion),
    ("/input_tokens_details/cached_tokens", Field::Cached),
    ("/cache_read_input_tokens", Field::CacheRead),
    ("/cache_creation_input_tokens", Field::CacheWrite),
    ("/cache_creation/ephemeral_1h_input_tokens", Field::CacheWriteHour),
    ("/service_tier", Field::ServiceTier),
    ("/inputTokens", Field::Prompt),
    ("/outputTokens", Field::Completion),
    ("/cacheReadInputTokens", Field::CacheRead),
    ("/cacheWriteInputTokens", Field::CacheWrite),
    // Cohere counts twice; it bills these.
    ("/billed_units/input_tokens", Field::Prompt),
    ("/billed_units/output_tokens", Field::Completion),
];

/// Fields in other places.
const ELSEWHERE: [(&str, Field); 23] = [
    ("/delta/usage/billed_units/input_tokens", Field::Prompt),
    ("/delta/usage/billed_units/output_tokens", Field::Completion),
    ("/usageMetadata/promptTokenCount", Field::Prompt),
    ("/usageMetadata/toolUsePromptTokenCount", Field::ToolPrompt),
    ("/usageMetadata/cachedContentTokenCount", Field::Cached),
    ("/usageMetadata/candidatesTokenCount", Field::Completion),
    ("/usageMetadata/thoughtsTokenCount", Field::Thoughts),
    ("/usageMetadata/totalTokenCount", Field::Total),
    ("/amazon-bedrock-invocationMetrics/inputTokenCount", Field::Prompt),
    ("/amazon-bedrock-invocationMetrics/outputTokenCount", Field::Completion),
    ("/amazon-bedrock-invocationMetrics/cacheReadInputTokenCount", Field::CacheRead),
    ("/amazon-bedrock-invocationMetrics/cacheWriteInputTokenCount", Field::CacheWrite),
    ("/prompt_eval_count", Field::Prompt),
    ("/eval_count", Field::Completion),
    ("/model", Field::Model),
    ("/modelVersion", Field::Model),
    ("/response/model", Field::Model),
    ("/message/model", Field::Model),
    ("/service_tier", Field::ServiceTier),
    ("/status", Field::Status),
    ("/response/status", Field::Status),
    ("/error", Field::Error),
    ("/bytes", Field::Bytes),
];

/// All places, as JSON pointers in parts that follow each other.
pub(super) fn places() -> impl Iterator<Item = (&'static str, &'static str, Field)> {
    let in_usage = USAGE_OBJECTS
        .iter()
        .flat_map(|object| IN_USAGE.iter().map(|(rest, field)| (*object, *rest, *field)))
        // Only a guess, of an answer that is still to come.
        .filter(|(object, rest, _)| (*object, *rest) != ("/message/usage", "/output_tokens"));
    in_usage.chain(ELSEWHERE.iter().map(|(pointer, field)| (*pointer, "", *field)))
}

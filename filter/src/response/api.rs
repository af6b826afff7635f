//! APIs of language models: the form of errors and of rate-limit headers that their clients expect.
//!
//! Sources: the references of the APIs' errors; `_base_client.py` and `_exceptions.py` of openai-python and
//! anthropic-sdk-python, whose exceptions are of the status and of these bodies.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::client_protocol::ClientProtocol;
use super::grpc_status::GrpcStatus;
use super::headers::Header;
use super::local_reply::push_json;
use super::status::ErrorStatus;
use crate::limit::{Limit, Outcome};
use crate::pairs;
use crate::units::Micros;

/// Longest wait for which all versions of the SDKs of OpenAI and Anthropic wait as they are told. Beyond it, some retry
/// after half a second, and some wait for weeks.
const MAX_WAIT: Micros = Micros::from_secs(60);

/// API of language models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's, and those like it.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Gemini's.
    Gemini,
    /// Bedrock's runtime.
    Bedrock,
}

/// Form of local replies and of rate-limit headers for HTTP clients without RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The configured body.
    Plain,
    /// Form of the API that the request's path names.
    Auto,
    /// Form of one API, for all requests.
    Of(Api),
}

/// Parts of paths, and the API that has them: the first one counts.
const PATHS: [(&str, Api); 16] = [
    (":generateContent", Api::Gemini),
    (":streamGenerateContent", Api::Gemini),
    (":countTokens", Api::Gemini),
    (":embedContent", Api::Gemini),
    (":batchEmbedContents", Api::Gemini),
    // Models of Anthropic in Vertex.
    (":rawPredict", Api::Anthropic),
    (":streamRawPredict", Api::Anthropic),
    ("/v1/messages", Api::Anthropic),
    ("/converse", Api::Bedrock),
    ("/invoke", Api::Bedrock),
    ("/completions", Api::OpenAi),
    ("/responses", Api::OpenAi),
    ("/embeddings", Api::OpenAi),
    ("/moderations", Api::OpenAi),
    ("/images/", Api::OpenAi),
    ("/audio/", Api::OpenAi),
];

/// Cause of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Too many requests.
    Requests,
    /// A limit with a charge, whose tokens return soon.
    Tokens,
    /// A budget that is spent.
    Spent,
    /// Redis did not decide.
    Failure,
    /// A value is missing or malformed.
    BadRequest,
}

/// Error in the form of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) api: Api,
    pub(super) cause: Cause,
    pub(super) retry_after: Option<Micros>,
}

impl Api {
    /// Returns the API that a request with these headers, as proxy-wasm encodes pairs, is for.
    pub(super) fn of(headers: &[u8]) -> Option<Self> {
        let path = pairs::values(headers, b":path").next()?;
        let path = path.split(|byte| *byte == b'?').next()?;
        let has = |part: &str| path.windows(part.len()).any(|window| window == part.as_bytes());
        PATHS.iter().find(|(part, _)| has(part)).map(|(_, api)| *api)
    }

    /// Whether the API has rate-limit headers, and its SDKs read `retry-after-ms` and `x-should-retry`.
    pub(super) fn has_headers(self) -> bool {
        matches!(self, Self::OpenAi | Self::Anthropic)
    }
}

impl Format {
    /// Returns the API in whose form a client of this protocol is answered.
    #[inline]
    pub(super) fn api(self, protocol: ClientProtocol) -> Option<Api> {
        if self == Self::Plain { None } else { self.of(protocol) }
    }

    #[inline(never)]
    fn of(self, protocol: ClientProtocol) -> Option<Api> {
        match (self, protocol) {
            (Self::Of(api), ClientProtocol::Http | ClientProtocol::Api(_)) => Some(api),
            (Self::Auto, ClientProtocol::Api(api)) => Some(api),
            _ => None,
        }
    }
}

impl Cause {
    /// Returns the cause of a denial.
    pub(super) fn of(outcome: &Outcome, limit: Option<&Limit>) -> Self {
        let is_long = match outcome.retry_after {
            Some(wait) => wait > MAX_WAIT,
            // The request alone may exceed the limit, spent or not.
            None => outcome.capacity.0 == 0,
        };
        match limit.and_then(|limit| limit.charge.as_ref()) {
            None => Self::Requests,
            Some(_) if is_long && !outcome.is_only_reserved() => Self::Spent,
            Some(_) => Self::Tokens,
        }
    }

    /// Type and code of OpenAI's error, type of Anthropic's, and Bedrock's exception.
    fn words(self) -> [&'static str; 4] {
        const RATE: &str = "\"rate_limit_exceeded\"";
        match self {
            Self::Requests => ["requests", RATE, "rate_limit_error", "ThrottlingException"],
            Self::Tokens => ["tokens", RATE, "rate_limit_error", "ThrottlingException"],
            Self::Spent => {
                ["insufficient_quota", "\"insufficient_quota\"", "rate_limit_error", "ServiceQuotaExceededException"]
            }
            Self::Failure => ["server_error", "null", "api_error", "ServiceUnavailableException"],
            Self::BadRequest => ["invalid_request_error", "null", "invalid_request_error", "ValidationException"],
        }
    }
}

impl ApiError {
    /// Appends the headers of a denial that tell SDKs whether to retry, and when.
    pub(super) fn push_retry_headers(&self, has_retry_after: bool, headers: &mut Vec<Header>) {
        if !self.api.has_headers() {
            return;
        }
        if let Some(wait) = self.retry_after.filter(|_| has_retry_after) {
            headers.push(("retry-after-ms", wait.to_millis_ceil().max(1).to_string()));
        }
        if self.retry_after.is_none_or(|wait| wait > MAX_WAIT) {
            headers.push(("x-should-retry", "false".to_owned()));
        }
    }

    /// Returns the body, and appends its headers.
    pub(super) fn body(
        &self,
        status: ErrorStatus,
        error: GrpcStatus,
        message: &str,
        headers: &mut Vec<Header>,
    ) -> Vec<u8> {
        let [kind, code, anthropic, exception] = self.cause.words();
        headers.push(("content-type", "application/json".to_owned()));
        let (before, after) = match self.api {
            Api::OpenAi => {
                let after = ["\",\"type\":\"", kind, "\",\"param\":null,\"code\":", code, "}}"].concat();
                ("{\"error\":{\"message\":\"".to_owned(), after)
            }
            Api::Anthropic => {
                let before = ["{\"type\":\"error\",\"error\":{\"type\":\"", anthropic, "\",\"message\":\""].concat();
                (before, "\"}}".to_owned())
            }
            Api::Gemini => {
                let code = status.code().to_string();
                let before = ["{\"error\":{\"code\":", &code, ",\"message\":\""].concat();
                let retry = self.retry_after.map_or_else(String::new, |wait| {
                    let seconds = wait.to_secs_ceil().max(1).to_string();
                    const INFO: &str = ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",";
                    [INFO, "\"retryDelay\":\"", &seconds, "s\"}]"].concat()
                });
                (before, ["\",\"status\":\"", error.name(), "\"", &retry, "}}"].concat())
            }
            Api::Bedrock => {
                headers.push(("x-amzn-errortype", exception.to_owned()));
                ("{\"message\":\"".to_owned(), "\"}".to_owned())
            }
        };
        let mut json = before.into_bytes();
        push_json(&mut json, message);
        json.extend_from_slice(after.as_bytes());
        json
    }
}

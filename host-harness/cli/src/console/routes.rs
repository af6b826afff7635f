//! Requests of the page, and their answers as JSON.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::board::{Board, local_time};
use super::changes::Change;
use crate::limits::live::{BucketName, ChangeError, LimitSet, Preview};
use crate::percent;

/// Number of changes that may wait for Redis at once.
const CHANGES: usize = 4;

/// State of the console that requests read and change.
pub(super) struct Routes {
    limits: Arc<LimitSet>,
    board: Arc<Board>,
    allows_changes: bool,
    changing: Semaphore,
}

/// Answer to a request.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

/// Key by its values, as a request has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    limit: String,
    values: Vec<String>,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body }
    }

    pub(super) fn failed(status: StatusCode, error: &str) -> Self {
        Self { status, body: json!({ "error": error }) }
    }

    fn refused(error: &ChangeError) -> Self {
        let is_away = matches!(error, ChangeError::Limits(error) if error.is_unreachable());
        let status = if is_away { StatusCode::BAD_GATEWAY } else { StatusCode::UNPROCESSABLE_ENTITY };
        Self::failed(status, &error.to_string())
    }
}

impl Routes {
    pub(super) fn new(limits: Arc<LimitSet>, board: Arc<Board>, allows_changes: bool) -> Self {
        Self { limits, board, allows_changes, changing: Semaphore::new(CHANGES) }
    }

    /// Answers a request of a page that has logged in.
    pub(super) async fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
        let is_get = method == Method::GET;
        match path {
            "/api/state" if is_get => self.state(),
            "/api/bucket" if is_get => self.bucket(query),
            "/api/find" if method == Method::POST => self.find(body),
            "/api/preview" | "/api/change" if method == Method::POST => self.change(path == "/api/change", body).await,
            "/api/state" | "/api/bucket" | "/api/find" | "/api/preview" | "/api/change" => {
                Answer::failed(StatusCode::METHOD_NOT_ALLOWED, "another method is expected")
            }
            _ => Answer::failed(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    /// Limits with their figures, limited keys and overrides, and where all of that comes from.
    fn state(&self) -> Answer {
        let (findings, metrics) = self.board.look();
        let mut state = findings.state;
        if !state.is_object() {
            state = json!({ "limits": self.limits.rows(), "redis": null });
        }
        for limit in state["limits"].as_array_mut().into_iter().flatten() {
            let text = |name: &str| limit[name].as_str().unwrap_or_default().to_owned();
            if let Some(figures) = metrics.limits.get(&(text("key_prefix"), text("limit"))) {
                limit["figures"] = figures.clone();
            }
        }
        state["requests"] = metrics.requests;
        state["metrics"] = metrics.sources.into();
        state["console"] = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": self.limits.origin(),
            "time": local_time(),
            "allows_changes": self.allows_changes,
        });
        Answer::ok(state)
    }

    /// State of one bucket, which is read from now on.
    fn bucket(&self, query: &str) -> Answer {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value)).unwrap_or_default()
        };
        let bucket = BucketName { key_prefix: value("key_prefix"), limit: value("limit"), key: value("key") };
        if !self.limits.has(&bucket) {
            return Answer::failed(StatusCode::NOT_FOUND, "no such limit, or no key in the filter's form");
        }
        Answer::ok(json!({ "bucket": self.board.want(&bucket) }))
    }

    /// The bucket of a key that is given by its values: hashed where the limit hashes them.
    fn find(&self, body: &[u8]) -> Answer {
        let Key { limit, values } = match read(body) {
            Ok(key) => key,
            Err(answer) => return answer,
        };
        match self.limits.bucket_of(&limit, &values) {
            Ok(BucketName { key_prefix, limit, key }) => {
                Answer::ok(json!({ "key_prefix": key_prefix, "limit": limit, "key": key }))
            }
            Err(error) => Answer::failed(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        }
    }

    /// Changes an override, or says what the change would be.
    async fn change(&self, is_final: bool, body: &[u8]) -> Answer {
        if !self.allows_changes {
            return Answer::failed(StatusCode::FORBIDDEN, "read-only: start `weir console` with --allow-changes");
        }
        let change: Change = match read(body) {
            Ok(change) => change,
            Err(answer) => return answer,
        };
        let Ok(_place) = self.changing.acquire().await else {
            return Answer::failed(StatusCode::SERVICE_UNAVAILABLE, "the console ends");
        };
        let (limits, arguments) = (Arc::clone(&self.limits), change.arguments());
        let done = spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match is_final {
                true => limits.run(&arguments).map(|(out, notes)| json!({ "done": out, "notes": notes })),
                false => limits.preview(&arguments).map(|preview| preview_json(&preview)),
            }
        });
        let answer = match done.await {
            Ok(Ok(done)) => Answer::ok(done),
            Ok(Err(error)) => Answer::refused(&error),
            Err(_) => Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, "the change was not completed"),
        };
        if is_final {
            let Change { key_prefix, limit, key, .. } = change;
            self.board.has_changed(key.map(|key| BucketName { key_prefix, limit, key }));
        }
        answer
    }
}

fn preview_json(Preview { target, text, now, notes }: &Preview) -> Value {
    json!({ "target": target, "text": text, "now": now, "notes": notes })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Answer> {
    // The error of serde names a field and a place, and may repeat a value of the page.
    serde_json::from_slice(body).map_err(|error| Answer::failed(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// A value of a query, as `encodeURIComponent` writes it.
fn decoded(value: &str) -> String {
    String::from_utf8_lossy(&percent::decoded(value.as_bytes())).into_owned()
}

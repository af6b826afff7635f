//! Running console, and an operator who asks it.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir::{HostKind, Mesh, MeshBuilder};
use weir_harness::console::{Arguments, Console};
use weir_provision::client::{Client, Response};

const WITHIN: Duration = Duration::from_secs(60);

/// A console with its configuration file.
pub(crate) struct Desk {
    pub(crate) console: Console,
    _folder: TempDir,
}

/// Configuration of one limit of users, with this key prefix.
pub(crate) fn configuration(key_prefix: &str) -> Value {
    json!({
        "redis": { "cluster": "redis", "key_prefix": key_prefix },
        "limits": [{
            "name": "per_user",
            "descriptor": [{ "request_header": { "name": "x-user-id" } }],
            "token_bucket": { "max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "3600s" },
        }],
    })
}

/// A mesh with this limit, and with events if `events` is an object.
pub(crate) fn mesh(events: &Value) -> MeshBuilder {
    let events = events.clone();
    Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().bucket(5, 1, "3600s").configure(move |filter| {
        if events.is_object() {
            filter["events"] = events.clone();
        }
    })
}

impl Desk {
    /// Starts a console with these arguments after `--config`.
    pub(crate) async fn of(configuration: &Value, arguments: &[&str]) -> Self {
        Self::start(configuration, arguments).await.expect("the console starts")
    }

    pub(crate) async fn start(configuration: &Value, arguments: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limits.json");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let arguments = Arguments::parse(&[&["--config", file], arguments].concat()).map_err(|it| it.to_string())?;
        let console = Console::start(&arguments).await.map_err(|error| error.to_string())?;
        Ok(Self { console, _folder: folder })
    }

    /// A console of a mesh: with its Redis, its key prefix and its proxy's counters.
    pub(crate) async fn of_mesh(mesh: &Mesh, events: &Value, more: &[&str]) -> Self {
        let mut configuration = configuration(mesh.key_prefix());
        if events.is_object() {
            configuration["events"] = events.clone();
        }
        let metrics = format!("http://{}", mesh.hosts()[0].admin().unwrap());
        let url = mesh.redis().url();
        Self::of(&configuration, &[&["--redis", &url, "--metrics", &metrics], more].concat()).await
    }

    /// Headers of a program that has the token.
    pub(crate) fn headers(&self) -> HeaderMap {
        headers(&[
            ("host", &self.console.addr().to_string()),
            ("authorization", &format!("Bearer {}", self.console.token())),
            ("x-weir-console", "1"),
            ("content-type", "application/json"),
        ])
    }

    pub(crate) async fn sends(&self, method: Method, path: &str, headers: &HeaderMap, body: &str) -> Response {
        let mut client = Client::new(self.console.addr(), WITHIN);
        client.send(&method, path, headers, body.to_owned().into()).await.expect("the console answers")
    }

    /// Asks with the token.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        parts(&self.sends(Method::GET, path, &self.headers(), "").await)
    }

    /// Posts with the token.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        parts(&self.sends(Method::POST, path, &self.headers(), &body.to_string()).await)
    }

    /// Asks for the state until it is as expected.
    ///
    /// # Panics
    /// If it is not within a minute.
    pub(crate) async fn until(&self, is_expected: impl Fn(&Value) -> bool) -> Value {
        self.until_answer("/api/state", is_expected).await
    }

    pub(crate) async fn until_answer(&self, path: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + WITHIN;
        loop {
            let (status, answer) = self.get(path).await;
            assert_eq!(status, 200, "{answer}");
            if is_expected(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within a minute: {answer:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub(crate) fn parts(response: &Response) -> (u16, Value) {
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    pairs.iter().map(pair).collect()
}

/// The row of a key in the table of limited keys.
pub(crate) fn limited<'a>(state: &'a Value, key: &str) -> Option<&'a Value> {
    state["limited"]["rows"].as_array()?.iter().find(|row| row["key"] == key)
}

/// The override of a key in the table of overrides.
pub(crate) fn override_of<'a>(state: &'a Value, key: &str) -> Option<&'a Value> {
    let rows = state["overrides"]["rows"].as_array()?;
    rows.iter().find(|row| row["key"] == key).map(|row| &row["override"])
}

//! SDKs of OpenAI and Anthropic, on both hosts: they raise the right exception, retry when it helps, and only then.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use tokio::task::block_in_place;
use weir::{HostKind, Mesh, Provider, or_skip};
use weir_provision::{checkout, python};

weir::on_both_hosts! {
    openai_raises_and_retries
    anthropic_raises_and_retries
}

/// Retries that reach beyond the pause of a slow stream.
const MANY: u32 = 9;

/// Program that calls a provider by its SDK.
struct Sdk {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
    api: &'static str,
}

impl Sdk {
    /// Starts the program. `None` where its packages are missing, which is printed.
    fn start(api: &'static str, mesh: &Mesh) -> Option<Self> {
        let mut python = block_in_place(|| or_skip(python::SDKS.python()))?;
        let program = checkout::root().unwrap().join("tests/sdks/calls.py");
        python.arg(program).args([api, &format!("http://{}", mesh.ingress()[0])]);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (calls, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, calls, answers, api })
    }

    /// Makes a call, and returns what the program says of it.
    fn call(&mut self, kind: &str, retries: u32, (header, user): (&str, &str), tokens: [u64; 2]) -> Outcome {
        let [input, output] = tokens;
        block_in_place(|| {
            writeln!(self.calls, "{kind} {retries} {header} {user} {input} {output}").unwrap();
            self.calls.flush().unwrap();
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            println!("{}: {}", self.api, line.trim_end());
            Outcome(serde_json::from_str(&line).expect("an answer of the program"))
        })
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        // Fails only where the program has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Result of a call, as the program prints it.
struct Outcome(Value);

impl Outcome {
    /// Asserts that the call raises this exception, of a response with this status, and returns the body's error.
    #[track_caller]
    fn raises(&self, exception: &str, status: u16) -> &Value {
        assert_eq!((self.0["raises"].as_str(), &self.0["status"]), (Some(exception), &json!(status)), "{}", self.0);
        let body = &self.0["body"];
        if body["type"] == "error" { &body["error"] } else { body }
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert_eq!(self.0["text"], text, "{}", self.0);
    }

    /// Values of `x-stainless-retry-count` of the requests of the call.
    #[track_caller]
    fn is_sent(&self, times: usize) {
        let counts: Vec<String> = (0..times).map(|count| count.to_string()).collect();
        assert_eq!(self.0["retries"], json!(counts), "{}", self.0);
    }

    fn times(&self) -> usize {
        self.0["retries"].as_array().map_or(0, Vec::len)
    }

    /// Header of the response at `index`.
    fn header(&self, index: usize, name: &str) -> Option<&str> {
        self.0["headers"][index][name].as_str()
    }

    /// Asserts that the call has waited as each denial told it, and not much longer.
    #[track_caller]
    fn waits_as_told(&self) {
        let told = |index| self.header(index, "retry-after-ms").map_or(0.0, |ms| ms.parse::<f64>().unwrap() / 1_000.0);
        let told: f64 = (0..self.times()).map(told).sum();
        let waited = self.0["seconds"].as_f64().unwrap();
        assert!(told > 0.0 && (told..told + 20.0).contains(&waited), "told {told} s: {}", self.0);
    }
}

/// Builds a mesh with a budget of a dollar a month, of which a token costs a thousandth, for each `x-user-id`, and with
/// 200 tokens and 10 a second for each `x-burst`.
async fn start(host: HostKind, provider: &Provider) -> Option<Mesh> {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().that_sees_bodies().workers(1).configure(|filter| {
        let of = |header: &str| json!([{"request_header": {"name": header}}]);
        let reserve = json!({"input": 10, "output": {"default": 100}});
        let price = |model: &str| json!({"model": {"prefix": model}, "input": 1_000, "output": 1_000});
        filter["request_body"] = json!({"timeout": "10s"});
        filter["response"] = json!({"format": "auto", "body": "limit {limit}: {retry_after} s\n"});
        filter["usage"] = json!({"prices": [price("gpt-4o"), price("claude")]});
        filter["limits"] = json!([
            {"name": "budget", "descriptor": of("x-user-id"), "charge": "cost", "reserve": reserve,
                "quota": {"max_usd": 1, "unit": "month"}},
            {"name": "burst", "descriptor": of("x-burst"), "charge": "total_tokens", "reserve": reserve,
                "token_bucket": {"max_tokens": 200, "tokens_per_fill": 10, "fill_interval": "1s"}},
        ]);
    });
    mesh.edit(|bootstrap| provider.serve_all(bootstrap)).start().await
}

async fn openai_raises_and_retries(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = start(host, &provider).await else { return };
    let Some(mut sdk) = Sdk::start("openai", &mesh) else { return };
    let spent = raises_and_retries(&mut sdk, &mesh, &provider, &"Say: {\"usage\":".repeat(3)).await;
    for outcome in &spent {
        let error = outcome.raises("RateLimitError", 429);
        assert_eq!((&error["code"], &error["type"]), (&json!("insufficient_quota"), &json!("insufficient_quota")));
        assert_eq!(outcome.0["code"], "insufficient_quota", "the exception has it, too");
    }
    let bob = ("x-user-id", "bob");
    let reserved = sdk.call("json", 0, bob, [300, 0]);
    let error = reserved.raises("RateLimitError", 429);
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("tokens")));
    let burst = sdk.call("json", 0, ("x-burst", "erin"), [1, 1]);
    let header = |name| burst.header(0, name);
    assert_eq!(header("x-ratelimit-limit-tokens"), Some("200"));
    // 10 are reserved for the request, 100 for the answer.
    assert_eq!(header("x-ratelimit-remaining-tokens"), Some("90"));
    assert_eq!(header("x-ratelimit-reset-tokens"), Some("11s"));
    let unknown = sdk.call("model", MANY, bob, [1, 1]);
    let error = unknown.raises("BadRequestError", 400);
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(error["message"], "expected a model with a price");
    unknown.is_sent(1);
}

async fn anthropic_raises_and_retries(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = start(host, &provider).await else { return };
    let Some(mut sdk) = Sdk::start("anthropic", &mesh) else { return };
    let spent = raises_and_retries(&mut sdk, &mesh, &provider, "Hi").await;
    for outcome in &spent {
        assert_eq!(outcome.raises("RateLimitError", 429)["type"], "rate_limit_error");
    }
    let burst = sdk.call("json", 0, ("x-burst", "erin"), [1, 1]);
    assert_eq!(burst.header(0, "anthropic-ratelimit-tokens-limit"), Some("200"));
    assert_eq!(burst.header(0, "anthropic-ratelimit-tokens-remaining"), Some("90"));
    let ahead = burst.0["resets_in"].as_f64().unwrap();
    assert!((-10.0..=12.0).contains(&ahead), "{ahead} s");
    let unknown = sdk.call("model", MANY, ("x-user-id", "bob"), [1, 1]);
    assert_eq!(unknown.raises("BadRequestError", 400)["type"], "invalid_request_error");
    unknown.is_sent(1);
}

/// Has the SDK answered, denied for good, denied for a while, and rejected. Returns the denials of a spent budget. At
/// the end, an open stream holds the rest of bob's budget.
async fn raises_and_retries(sdk: &mut Sdk, mesh: &Mesh, provider: &Provider, streamed: &str) -> Vec<Outcome> {
    let alice = ("x-user-id", "alice");
    let answer = sdk.call("json", MANY, alice, [100, 50]);
    answer.says("Hi \"you\"");
    answer.is_sent(1);
    sdk.call("stream", MANY, alice, [100, 50]).says(streamed);
    // With this one, a thousand tokens.
    sdk.call("json", MANY, alice, [400, 300]).says("Hi \"you\"");
    mesh.counts("weir_usage_settled", 3).await;
    let requests = provider.seen().requests;
    let spent = [sdk.call("json", MANY, alice, [1, 1]), sdk.call("stream", MANY, alice, [1, 1])];
    for outcome in &spent {
        outcome.is_sent(1);
        assert_eq!(outcome.header(0, "x-should-retry"), Some("false"));
        assert_eq!(outcome.header(0, "content-type"), Some("application/json"));
        let error = outcome.raises("RateLimitError", 429);
        assert!(error["message"].as_str().unwrap().starts_with("limit budget: "), "{error}");
    }
    assert_eq!(provider.seen().requests, requests, "no denied request reaches the provider");

    // What is spent returns at 10 tokens a second.
    let carol = ("x-burst", "carol");
    sdk.call("json", 0, carol, [100, 50]).says("Hi \"you\"");
    let retried = sdk.call("json", MANY, carol, [1, 1]);
    retried.says("Hi \"you\"");
    assert!(retried.times() >= 2, "{}", retried.0);
    retried.is_sent(retried.times());
    retried.waits_as_told();
    let counted = format!("x-stainless-retry-count: {}\n", retried.times() - 1);
    assert!(provider.seen().head.contains(&counted), "{}", provider.seen().head);

    // Bob has spent 800 thousandths; a stream reserves 110.
    let bob = ("x-user-id", "bob");
    sdk.call("json", 0, bob, [800, 0]).says("Hi \"you\"");
    mesh.counts("weir_usage_settled", 6).await;
    sdk.call("open", 0, bob, [1, 1]);
    let reserved = sdk.call("json", MANY, bob, [1, 1]);
    reserved.says("Hi \"you\"");
    assert!(reserved.times() >= 2, "{}", reserved.0);
    assert_eq!(reserved.header(0, "retry-after-ms"), Some("1000"), "{}", reserved.0);
    assert_eq!(reserved.header(0, "x-should-retry"), None);
    reserved.waits_as_told();
    mesh.counts("weir_usage_settled", 8).await;
    sdk.call("open", 0, bob, [1, 1]);
    spent.into()
}

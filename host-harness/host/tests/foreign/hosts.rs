//! Runs of requests on a host, with the response, log lines and metrics of each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weir_provision::{checkout, wasm_target};

use super::log;
use super::support::{self, Exchange, Kind, Proxy, Scenario, becomes_true, cluster, filter};

/// Request: method, script, trailers, body.
pub(crate) type Sent = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// Response, log lines and metrics of one exchange, in lines.
#[derive(Debug)]
pub(crate) struct Observed {
    pub name: String,
    pub lines: Vec<String>,
}

/// Waits until no other test of this process runs: their embedded hosts share one log. Drops the lines of before.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    log::collect();
    turn
}

/// Serves the guest with a script as its configuration, and sends the requests one after the other.
pub(crate) fn observe(kind: &Kind, script: &str, requests: &[Sent]) -> Vec<Observed> {
    let _turn = turn();
    let proxy = start(kind, script);
    let log = log_of(&proxy);
    let mut seen = log.len();
    // Envoy starts a plugin more often than the harness: the last start is compared.
    let start = log.iter().rposition(|line| line.ends_with(": create_root")).unwrap_or(0);
    let mut observed = vec![Observed { name: format!("start {script}"), lines: log[start..].to_vec() }];
    for (place, (method, own, trailers, body)) in requests.iter().enumerate() {
        let mut request = Request::builder().method(*method).uri(format!("http://test.example/path/{place}?a=b"));
        if !own.is_empty() {
            request = request.header("x-script", *own);
        }
        let response = support::send_http2(proxy.address(), request, body.as_bytes(), trailers);
        // `proxy_on_delete` is a stream's last callback.
        let ended = becomes_true(|| log_of(&proxy).iter().skip(seen).any(|line| line.ends_with(": delete")));
        let has_settled = || log_of(&proxy).iter().skip(seen).any(|line| line.ends_with("log 2 settled: 0"));
        let settled = !script.contains("settled") || becomes_true(has_settled);
        let log = log_of(&proxy);
        let mut lines = response_lines(response);
        lines.extend(log.iter().skip(seen).map(|line| stable(line)));
        if !(ended && settled) {
            lines.push("(the stream has not ended, or the root context has not settled)".to_owned());
        }
        seen = log.len();
        observed.push(Observed { name: format!("{method} {own}{script}"), lines });
    }
    observed.push(Observed { name: "metrics".to_owned(), lines: metrics(&proxy) });
    observed
}

/// Removes what changes from one run to the next, or is Envoy's own: its headers, and the details of a lost connection.
fn stable(line: &str) -> String {
    let line = [", transport failure reason", "{upstream_reset_before"]
        .iter()
        .fold(line, |line, details| line.split_once(details).map_or(line, |(line, _)| line));
    // The size of Envoy's `x-envoy-upstream-service-time` depends on the time.
    let line =
        if line.contains("response_headers: size 2: 0 ") { line.trim_end_matches(char::is_numeric) } else { line };
    let is_stable = |part: &&str| {
        !(part.starts_with("x-envoy-") || line.contains(":status=503") && part.starts_with("content-length="))
    };
    let parts = line.split(',').filter(is_stable);
    parts.collect::<Vec<_>>().join(",")
}

fn start(kind: &Kind, script: &str) -> Proxy {
    let configuration =
        format!("configuration:\n  \"@type\": type.googleapis.com/google.protobuf.StringValue\n  value: \"{script}\"");
    let scenario = Scenario {
        module: Some(std::fs::read(guest()).expect("the guest")),
        filters: filter("script", &configuration),
        routes: r#"- {name: told, match: {prefix: "/"}, route: {cluster: told, timeout: 3s}}"#.to_owned(),
        clusters: [cluster("told", telling_server(), "http2"), cluster("nobody", support::nobody(), "http2")]
            .join("\n"),
        ..Scenario::default()
    };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Builds the guest module, if it is not up to date, and returns its path.
pub(crate) fn guest() -> PathBuf {
    wasm_target::ensure().expect("the wasm target");
    let args = ["build", "--release", "--quiet", "-p", "weir-guest-script", "--target", wasm_target::TARGET];
    let root = checkout::root().expect("the checkout");
    let built = Command::new(env!("CARGO")).current_dir(root).args(args).status().expect("cargo runs");
    assert!(built.success(), "the guest is built");
    let target = checkout::target_dir().expect("the target folder");
    target.join(wasm_target::TARGET).join("release/weir_guest_script.wasm")
}

/// Returns the module's log lines so far, each with its level.
pub(crate) fn log_of(proxy: &Proxy) -> Vec<String> {
    let Some(text) = proxy.envoy_log() else { return log::lines() };
    text.lines().filter(|line| line.contains(" wasm log")).map(str::to_owned).collect()
}

fn response_lines(response: Result<Exchange, &str>) -> Vec<String> {
    let response = match response {
        Ok(response) => response,
        Err(why) => return vec![why.to_owned()],
    };
    let mut lines = vec![response.status.to_string()];
    lines.extend(header_lines(&response.headers));
    lines.push(String::from_utf8_lossy(&response.body).escape_debug().to_string());
    lines.extend(header_lines(&response.trailers.unwrap_or_default()));
    lines
}

/// Returns sorted headers, without those that change from one run to the next, and Envoy's own, which the harness does not
/// add.
fn header_lines(headers: &HeaderMap) -> Vec<String> {
    let is_stable = |name: &str| !matches!(name, "date" | "server" | "x-request-id") && !name.starts_with("x-envoy-");
    let kept = headers.iter().filter(|(name, _)| is_stable(name.as_str()));
    let mut lines: Vec<String> =
        kept.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
    lines.sort();
    lines
}

/// Returns the module's counters and gauges; the text of histograms differs.
fn metrics(proxy: &Proxy) -> Vec<String> {
    let stats = support::text(&support::send(proxy.admin(), Request::get("/stats?filter=wasmcustom"), b""));
    stats.lines().filter(|line| !line.starts_with("wasmcustom.h:")).map(str::to_owned).collect()
}

/// Starts an HTTP/2 server that answers a whole request with a description of it as body.
///
/// The response has the header `x-told: yes` and the trailers `grpc-status: 0` and `x-end: yes`.
fn telling_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), hyper::service::service_fn(tell)));
            }
        });
    });
    address
}

async fn tell(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await?;
    let request_trailers = collected.trailers().cloned().unwrap_or_default();
    let body = collected.to_bytes();
    let grpc = parts.headers.get("content-type").is_some_and(|kind| kind == "application/grpc");
    let told = match grpc {
        true => body,
        false => {
            let mut told = vec![format!("{} {}", parts.method, parts.uri)];
            told.extend(header_lines(&parts.headers));
            told.push(String::from_utf8_lossy(&body).into_owned());
            told.extend(header_lines(&request_trailers));
            Bytes::from(told.join("\n"))
        }
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    trailers.insert("x-end", "yes".parse().expect("a value"));
    let body = Full::new(told).with_trailers(std::future::ready(Some(Ok(trailers))));
    let kind = if grpc { "application/grpc" } else { "text/plain" };
    let response = Response::builder().header("date", "Thu, 01 Jan 1970 00:00:00 GMT").header("x-told", "yes");
    Ok(response.header("content-type", kind).body(body).expect("a response"))
}

//! CPU time of Envoy for a streamed response that a limit with a charge reads, beside a filter that does nothing and one
//! that fetches each chunk and drops it; and the instructions for each byte, as wasmtime counts them. Run it with
//! `cargo bench --bench bodies -- [ROUNDS]`.
//!
//! Each Envoy has one worker. They work side by side, so that a busy machine affects all, and only their CPU time counts.
//! Each chunk is sent by itself, with a pause after it: the proxy reads it in a turn of its own.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir::mesh::MeshBuilder;
use weir::{HostKind, Mesh, provider};
use weir_harness::serving::compiled_modules;
use weir_host::{Bootstrap, Host, HostOptions};
use weir_provision::envoy::{EnvoyOptions, EnvoyServer};

/// Rounds, if no argument says otherwise.
const ROUNDS: usize = 7;
/// Streams at a time.
const STREAMS: usize = 16;
/// Time from a chunk of a stream to the next.
const PAUSE: Duration = Duration::from_millis(2);
/// Sizes of chunks, each with their number in a stream.
const CHUNKS: [(usize, usize); 3] = [(50, 1_000), (1_024, 1_000), (16_384, 250)];
/// Event of a stream: chunks do not end where events do.
const EVENT: &str = "data: {\"id\":\"chatcmpl-CkT7R0pN9fQyZ3bA5u1hXwYd2eG\",\"object\":\"chat.completion.chunk\",\
    \"created\":1796107711,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\
    \"system_fingerprint\":\"fp_560af6e559\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" tokens\"},\
    \"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
const PLUGIN: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";

/// Chunks of one stream.
#[derive(Debug, Clone, Copy)]
struct Stream {
    size: usize,
    count: usize,
}

impl Stream {
    fn bytes(self) -> usize {
        self.size * self.count
    }
}

fn main() {
    let argument = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(run(argument.unwrap_or(ROUNDS)));
}

async fn run(rounds: usize) {
    let upstream = upstream().await;
    let Some(mesh) = limited(HostKind::Envoy, upstream).start().await else { return };
    let weir = (mesh.hosts()[0].envoy().expect("an Envoy").id(), mesh.ingress()[0]);
    let others = [weir_bench::no_op_module(), weir_bench::fetching_module()];
    let others = others.map(|module| other(&mesh, &module.expect("a module")));
    let [no_op, fetch] = others.each_ref().map(|envoy| (envoy.id(), envoy.listener("ingress").expect("a listener")));
    println!("chunk     no-op ms/MB   fetch / no-op   Weir / no-op   (all rounds)");
    for (size, count) in CHUNKS {
        let stream = Stream { size, count };
        let mut all = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            let (no_op, fetch, weir) = tokio::join!(cpu(no_op, stream), cpu(fetch, stream), cpu(weir, stream));
            all.iter_mut().zip([no_op, fetch / no_op, weir / no_op]).for_each(|(all, one)| all.push(one));
        }
        let list = |all: &[f64]| all.iter().map(|one| format!("{one:.2}")).collect::<Vec<_>>().join(" ");
        let [of_no_op, of_fetch, of_weir] = all.each_ref().map(|all| median(all));
        println!(
            "{size:>6} B {of_no_op:>12.2} {of_fetch:>15.3} {of_weir:>14.3}   ({}; {})",
            list(&all[1]),
            list(&all[2])
        );
    }
    println!("chunk     instructions of body callbacks: per byte, per chunk");
    for (size, count) in CHUNKS {
        let stream = Stream { size, count: count.min(200) };
        let fuel = fuel(upstream, stream).await;
        println!("{size:>6} B {:>12.2} {:>12.0}", fuel / stream.bytes() as f64, fuel / stream.count as f64);
    }
}

/// Builds a mesh whose limits charge tokens and money, in front of the upstream.
fn limited(host: HostKind, upstream: SocketAddr) -> MeshBuilder {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").workers(1).patient().that_sees_bodies().configure(|filter| {
        let descriptor = json!([{"request_header": {"name": "x-user-id"}}]);
        filter["usage"] = json!({"prices": [{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]});
        filter["limits"] = json!([
            {"name": "tokens", "descriptor": descriptor, "charge": "total_tokens",
                "quota": {"max_tokens": 1_000_000_000_000_u64, "unit": "month"}},
            {"name": "money", "descriptor": descriptor, "charge": "cost", "quota": {"max_usd": 1_000_000, "unit": "month"}},
        ]);
    });
    mesh.edit(|bootstrap| provider::route_all(bootstrap, upstream))
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Starts an Envoy with the same bootstrap and another module in place of the limiter's.
fn other(mesh: &Mesh, module: &[u8]) -> EnvoyServer {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("other.wasm");
    std::fs::write(&file, module).expect("a file");
    let mut scenario = mesh.scenario().clone();
    scenario.edit(|bootstrap| {
        let plugin = bootstrap.pointer_mut(PLUGIN).expect("a plugin");
        *plugin = json!({"name": "other", "root_id": "other", "vm_config": {
            "vm_id": "other", "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": file}}}});
    });
    EnvoyServer::start(EnvoyOptions::new(scenario.to_yaml())).expect("Envoy starts")
}

/// CPU time that a proxy takes for streams, in milliseconds per MB.
async fn cpu((process, ingress): (u32, SocketAddr), stream: Stream) -> f64 {
    // Connections and code are warm.
    ask(ingress, Stream { count: 20, ..stream }, 1).await;
    let spent = || weir_bench::cpu_time(process).expect("a process").as_secs_f64();
    let before = spent();
    ask(ingress, stream, STREAMS).await;
    (spent() - before) * 1_000.0 / (STREAMS * stream.bytes()) as f64 * 1e6
}

/// Instructions of the callbacks for the body of one stream.
async fn fuel(upstream: SocketAddr, stream: Stream) -> f64 {
    let Some(mesh) = limited(HostKind::Embedded, upstream).start().await else { return f64::NAN };
    let bootstrap = Bootstrap::parse(&mesh.scenario().to_yaml(), "quickstart").expect("a bootstrap");
    let options = HostOptions { counts_fuel: true, compiled_modules: compiled_modules(), ..HostOptions::default() };
    let host = tokio::task::block_in_place(|| Host::start(bootstrap, options)).expect("the host starts");
    let ingress = host.listener("ingress").expect("a listener");
    let spent = || host.stats().values.get("wasm.fuel.proxy_on_response_body").copied().unwrap_or(0);
    // What Redis replies comes by the same callback.
    ask(ingress, Stream { count: 1, ..stream }, 1).await;
    sleep(Duration::from_millis(300)).await;
    let before = spent();
    ask(ingress, Stream { count: 1, ..stream }, 1).await;
    sleep(Duration::from_millis(300)).await;
    let of_one = spent();
    ask(ingress, Stream { count: stream.count + 1, ..stream }, 1).await;
    sleep(Duration::from_millis(300)).await;
    let fuel = (spent() - of_one).saturating_sub(of_one - before);
    tokio::task::block_in_place(|| drop(host));
    fuel as f64
}

/// Asks for streams at once, and reads them.
async fn ask(ingress: SocketAddr, stream: Stream, streams: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..streams {
        clients.spawn(async move {
            let body = r#"{"model":"gpt-4o-mini","stream":true}"#;
            let request = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nx-user-id: alice\r\nconnection: close\r\n\
                x-size: {}\r\nx-count: {}\r\ncontent-length: {}\r\n\r\n{body}",
                stream.size,
                stream.count,
                body.len()
            );
            let mut client = TcpStream::connect(ingress).await.expect("a connection");
            client.write_all(request.as_bytes()).await.expect("a request");
            let (mut read, mut piece, mut start) = (0, vec![0; 65_536], Vec::new());
            loop {
                let size = client.read(&mut piece).await.expect("a response");
                if size == 0 {
                    break;
                }
                if start.len() < 15 {
                    start.extend_from_slice(&piece[..size]);
                }
                read += size;
            }
            assert!(start.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&start));
            assert!(read > stream.bytes(), "{read} bytes");
        });
    }
    clients.join_all().await;
}

/// Server that answers each request by a stream of the chunks that it asks for.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    addr
}

async fn serve(connection: TcpStream) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut connection = BufReader::new(connection);
    let text = EVENT.repeat(16_384_usize.div_ceil(EVENT.len()) + 1);
    loop {
        let (mut head, mut length, mut stream) = (String::new(), 0, Stream { size: 0, count: 0 });
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if connection.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
            let line = head[from..].to_ascii_lowercase();
            let number = |name| line.strip_prefix(name).and_then(|value| value.trim().parse::<usize>().ok());
            length = number("content-length:").unwrap_or(length);
            stream.size = number("x-size:").unwrap_or(stream.size);
            stream.count = number("x-count:").unwrap_or(stream.count);
        }
        connection.read_exact(&mut vec![0; length]).await.ok()?;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes()).await.ok()?;
        let mut at = 0;
        for _ in 0..stream.count {
            let chunk = &text.as_bytes()[at..at + stream.size];
            let framed = [format!("{:x}\r\n", stream.size).as_bytes(), chunk, b"\r\n"].concat();
            connection.write_all(&framed).await.ok()?;
            connection.flush().await.ok()?;
            at = (at + stream.size) % EVENT.len();
            sleep(PAUSE).await;
        }
        connection.write_all(b"0\r\n\r\n").await.ok()?;
        connection.flush().await.ok()?;
    }
}

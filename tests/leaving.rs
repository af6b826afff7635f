//! Clients that disconnect right after their request, on both hosts: their slots are returned.

use std::net::SocketAddr;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};

const STORM: Duration = Duration::from_secs(3);
/// Shorter than a lease, so that no slot is free only because its lease has ended.
const SOON: Duration = Duration::from_secs(45);

weir::on_both_hosts! {
    no_slot_stays_taken_after_many_clients_have_disconnected
}

/// A slot that is taken for a client after it has disconnected would be renewed for ever.
async fn no_slot_stays_taken_after_many_clients_have_disconnected(host: HostKind) {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").patient().workers(1).configure(|filter| {
        let concurrency = json!({"max_requests": 1_000_000, "lease": "60s"});
        filter["limits"] = json!([{"name": "flights", "descriptor": [], "concurrency": concurrency}]);
    });
    let Some(mesh) = mesh.start().await else { return };
    mesh.get("alice").await.admitted();
    storm(mesh.ingress()[0]).await;
    let deadline = Instant::now() + SOON;
    loop {
        let held = slots_held(&mesh);
        if held == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{held} slots are taken without a request in flight");
        sleep(Duration::from_millis(50)).await;
    }
    mesh.get("alice").await.admitted();
}

/// Sends batches of 50 requests from 4 tasks for 3 s. Each client closes its connection right after its request.
async fn storm(ingress: SocketAddr) {
    let end = Instant::now() + STORM;
    let mut lanes = JoinSet::new();
    for _ in 0..4 {
        lanes.spawn(async move {
            while Instant::now() < end {
                let mut crowd = Vec::new();
                for _ in 0..50 {
                    crowd.push(TcpStream::connect(ingress).await.unwrap());
                }
                for mut client in crowd {
                    client.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
                }
            }
        });
    }
    lanes.join_all().await;
}

fn slots_held(mesh: &Mesh) -> u64 {
    let mut redis = mesh.redis_connection();
    let limits: Vec<String> = redis.keys(format!("{}*#concurrency", mesh.key_prefix())).unwrap();
    limits.iter().map(|key| redis.zcard::<_, u64>(key).unwrap()).sum()
}

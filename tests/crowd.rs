//! Requests that a proxy finds in the same turn are decided together, and each as if it had come alone. On both hosts.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir::{HostKind, Mesh};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    requests_with_bodies_are_decided_each_by_its_own
    who_leaves_in_between_takes_nobody_along
}

/// Each user has five tokens by a header, whatever the body, and five by what is in the body.
async fn requests_with_bodies_are_decided_each_by_its_own(host: HostKind) {
    let limit = |name: &str, descriptor| {
        let bucket = json!({"max_tokens": 5, "fill_interval": "3600s"});
        let here = json!([{"path": {"prefix": format!("/{name}")}}]);
        json!({"name": name, "descriptor": [descriptor], "token_bucket": bucket, "when": here})
    };
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).that_sees_bodies().configure(|filter| {
        filter["limits"] = json!([
            limit("header", json!({"request_header": {"name": "x-user-id"}})),
            limit("body", json!({"request_body": {"json_pointer": "/user"}})),
        ]);
    });
    let Some(mesh) = mesh.start().await.map(Arc::new) else { return };
    let mut users = JoinSet::new();
    for user in 0..32 {
        let mesh = Arc::clone(&mesh);
        users.spawn(async move {
            let name = format!("user-{user}");
            let body = json!({"user": name, "pad": "x".repeat(500 * user)}).to_string();
            let (mut by_header, mut by_body) = (Vec::new(), Vec::new());
            for _ in 0..8 {
                by_header.push(mesh.ask("/header").user(&name).method(Method::POST).body(&body).send().await.status);
                by_body.push(mesh.ask("/body").method(Method::POST).body(&body).send().await.status);
            }
            (name, by_header, by_body)
        });
    }
    let expected = [[200; 5].as_slice(), &[429; 3]].concat();
    for (name, by_header, by_body) in users.join_all().await {
        assert_eq!((by_header, by_body), (expected.clone(), expected.clone()), "{name}");
    }
}

/// Of each crowd, every second client closes its connection as soon as it has sent its request.
async fn who_leaves_in_between_takes_nobody_along(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().workers(1).bucket(1, 1, "3600s").start().await else {
        return;
    };
    for crowd in 0..10 {
        let mut clients = Vec::new();
        for _ in 0..32 {
            clients.push(TcpStream::connect(mesh.ingress()[0]).await.unwrap());
        }
        let mut staying = Vec::new();
        for (client, mut connection) in clients.into_iter().enumerate() {
            let request = format!("GET / HTTP/1.1\r\nhost: weir\r\nx-user-id: {crowd}-{client}\r\n\r\n");
            connection.write_all(request.as_bytes()).await.unwrap();
            if client % 2 == 0 {
                staying.push(connection);
            }
        }
        for mut connection in staying {
            let mut answer = [0; 12];
            timeout(Duration::from_secs(10), connection.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer.escape_ascii().to_string(), "HTTP/1.1 200");
        }
    }
    // Each of those who stayed has spent its only token, and no other's.
    for client in (0..32).step_by(2) {
        assert_eq!(mesh.get(&format!("9-{client}")).await.status, 429);
    }
}

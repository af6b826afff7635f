//! Batches on both hosts: requests that arrive in one turn of the event loop are checked together, and each is decided
//! as if it were alone.

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
    bodies_that_no_limit_reads_stay_with_their_requests
    each_request_is_decided_by_its_own_body
    a_client_that_disconnects_does_not_affect_other_requests
}

/// Each user has five tokens, for requests with a body, which arrives before the turn ends, or without a body.
async fn bodies_that_no_limit_reads_stay_with_their_requests(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).that_sees_bodies().bucket(5, 1, "3600s");
    let Some(mesh) = mesh.start().await else { return };
    each_of_a_crowd_has_five_tokens(mesh, Bodies::Unread).await;
}

/// Each user has five tokens, keyed by the body; in between, requests without a body are denied.
async fn each_request_is_decided_by_its_own_body(host: HostKind) {
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
    let Some(mesh) = mesh.start().await else { return };
    each_of_a_crowd_has_five_tokens(mesh, Bodies::Read).await;
}

#[derive(Clone, Copy)]
enum Bodies {
    Read,
    Unread,
}

/// Sends eight requests by each of 32 users, all users at once, with bodies of different sizes. Five of each user's
/// requests are admitted.
async fn each_of_a_crowd_has_five_tokens(mesh: Mesh, bodies: Bodies) {
    let (mesh, mut users) = (Arc::new(mesh), JoinSet::new());
    for user in 0..32 {
        let mesh = Arc::clone(&mesh);
        users.spawn(async move {
            let name = format!("user-{user}");
            let body = json!({"user": name, "pad": "x".repeat(501 * user)}).to_string();
            let mut statuses = Vec::new();
            for _ in 0..8 {
                statuses.push(ask(&mesh, bodies, &name, &body).await);
            }
            (name, statuses)
        });
    }
    let expected = [[200; 5].as_slice(), &[429; 3]].concat();
    for (name, statuses) in users.join_all().await {
        assert_eq!(statuses, expected, "{name}");
    }
}

/// Sends a request of a user, and returns the status of the response.
async fn ask(mesh: &Mesh, bodies: Bodies, name: &str, body: &str) -> u16 {
    let of = |path| mesh.ask(path).user(name);
    let answer = match bodies {
        Bodies::Unread if body.len().is_multiple_of(2) => of("/").send().await,
        Bodies::Unread => of("/").method(Method::POST).body(body).send().await,
        Bodies::Read => {
            mesh.ask("/header").user("all").send().await;
            of("/body").method(Method::POST).body(body).send().await
        }
    };
    answer.status
}

/// Ten batches of 32 clients, of which every second closes its connection as soon as it has sent its request.
async fn a_client_that_disconnects_does_not_affect_other_requests(host: HostKind) {
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
            timeout(Duration::from_secs(60), connection.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer.escape_ascii().to_string(), "HTTP/1.1 200");
        }
    }
    // Each client that stayed has spent its only token.
    for client in (0..32).step_by(2) {
        assert_eq!(mesh.get(&format!("9-{client}")).await.status, 429);
    }
}

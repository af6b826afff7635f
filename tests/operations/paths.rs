//! Limits by path, and the spellings of a path that a client may send.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir::{HostKind, Mesh, MeshBuilder};

use super::{QUICKSTART, head, limit, manager, route_to, serve};

weir::on_both_hosts! {
    all_spellings_of_a_path_share_a_limit_where_the_proxy_normalizes_paths
    other_spellings_of_a_path_pass_its_limit_where_the_proxy_does_not_normalize
    escaped_slashes_are_redirected_or_rejected
    paths_are_normalized_as_envoy_does
}

/// Builds a mesh with one request an hour to `/login` per user, and these settings of the connection manager.
fn login(host: HostKind, settings: &Value) -> MeshBuilder {
    let mut login = limit("login", "x-user-id", 1);
    login["when"] = json!([{"path": {"exact": "/login"}}]);
    let settings = settings.clone();
    Mesh::on(host, QUICKSTART).patient().workers(1).configure(move |filter| filter["limits"] = json!([login])).edit(
        move |bootstrap| {
            let Value::Object(settings) = settings else { panic!("settings") };
            manager(bootstrap).as_object_mut().expect("an object").extend(settings);
        },
    )
}

fn all(action: &str) -> Value {
    json!({"normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": action})
}

async fn all_spellings_of_a_path_share_a_limit_where_the_proxy_normalizes_paths(host: HostKind) {
    let Some(mesh) = login(host, &all("UNESCAPE_AND_FORWARD")).start().await else { return };
    let get = async |path: &str| mesh.ask(path).user("alice").send().await;
    get("/login").await.admitted().remaining(0);
    for path in [
        "/login?",
        "/login?x=1",
        "//login",
        "/./login",
        "/a/../login",
        "/%6cogin",
        "/%2Flogin",
        "/a%2f..%2Flogin",
        "/%2e/login",
        "/login%3f".split('%').next().unwrap_or_default(),
    ] {
        assert_eq!(get(path).await.status, 429, "{path}");
    }
    // To an upstream, these are other pages or at least other texts: `prefix` or `regex` match them, `exact` does not.
    for path in ["/LOGIN", "/login;x", "/login/", "/login%2F", "/login%3Bx"] {
        assert_eq!(get(path).await.without("x-ratelimit-limit").status, 200, "{path}");
    }
}

async fn other_spellings_of_a_path_pass_its_limit_where_the_proxy_does_not_normalize(host: HostKind) {
    let Some(mesh) = login(host, &json!({})).start().await else { return };
    let get = async |path: &str| mesh.ask(path).user("alice").send().await;
    get("/login").await.admitted();
    get("/login?").await.denied();
    for path in ["//login", "/./login", "/%6cogin", "/%2Flogin"] {
        get(path).await.admitted().without("x-ratelimit-limit");
    }
}

async fn escaped_slashes_are_redirected_or_rejected(host: HostKind) {
    for (action, status, location) in
        [("UNESCAPE_AND_REDIRECT", 307, Some("/login?x=%2F")), ("REJECT_REQUEST", 400, None)]
    {
        let Some(mesh) = login(host, &all(action)).start().await else { return };
        let answer = mesh.ask("/%2Flogin?x=%2F").user("alice").send().await.status(status);
        assert_eq!(answer.header("location"), location, "{action}");
        answer.without("x-ratelimit-limit");
        mesh.ask("//login").user("alice").send().await.admitted().remaining(0);
    }
}

/// The upstream returns the target that it received in `x-target`.
async fn paths_are_normalized_as_envoy_does(host: HostKind) {
    fn answer(target: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nx-target: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }
    let upstream = serve(answer).await;
    let mesh = login(host, &all("UNESCAPE_AND_FORWARD")).edit(|bootstrap| route_to(upstream, bootstrap));
    let Some(mesh) = mesh.start().await else { return };
    for (path, expected) in [
        ("/a//b/./c/../d", "/a/b/d"),
        ("/a/%2E%2e/b", "/b"),
        ("/../..", "/"),
        ("/a\\b", "/a/b"),
        ("/a%5Cb", "/a/b"),
        ("/%7Eme/%41%2D%5f%30", "/~me/A-_0"),
        ("/a%20b%3B%3f%zz%4", "/a%20b%3B%3f%zz%4"),
        ("/a|b^c{d}", "/a%7Cb%5Ec%7Bd%7D"),
        ("/a'b(c)*,;=:@!$&+", "/a'b(c)*,;=:@!$&+"),
        ("/.../..a/a..", "/.../..a/a.."),
        ("/a/..", "/"),
        ("//", "//"),
        ("/a//?x=//../%2F", "/a/?x=//../%2F"),
    ] {
        let mut client = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = head(&mut client).await;
        let target = answer.lines().find_map(|line| line.strip_prefix("x-target: "));
        assert_eq!(target, Some(expected), "{path}: {answer}");
    }
}

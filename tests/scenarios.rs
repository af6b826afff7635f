//! The scenarios that users start from, as they are in `envoy/`, on both hosts.

use hyper::Method;
use weir::{HostKind, Mesh};

weir::on_both_hosts! {
    a_public_api_tells_users_anonymous_clients_and_floods_apart
    routes_have_limits_of_their_own
}

async fn a_public_api_tells_users_anonymous_clients_and_floods_apart(host: HostKind) {
    let Some(mesh) = Mesh::on(host, "envoy/public-api.yaml").patient().start().await else { return };
    for left in (0..10).rev() {
        mesh.ask("/").send().await.admitted().remaining(left);
    }
    let denied = mesh.ask("/").send().await.denied();
    let wait: u64 = denied.number("retry-after").unwrap();
    assert_eq!(denied.body, format!("anonymous clients have 10 requests a minute: come back in {wait} s, or log in\n"));

    // The anonymous ones' denials took nothing from the address: 40 are left to it, and users share them.
    for user in ["alice", "bob"] {
        for left in (1..20).rev() {
            mesh.get(user).await.admitted().remaining(left);
        }
    }
    let (mut admitted, mut asked) = (0, 0);
    while mesh.get("carol").await.status == 200 {
        admitted += 1;
        asked += 1;
        assert!(asked < 50, "the flood guard guards");
    }
    assert!((2..20).contains(&admitted), "what was left of 50, and what came back meanwhile: {admitted}");
    for _ in 0..3 {
        mesh.ask("/healthz").user("carol").send().await.admitted().without("x-ratelimit-limit");
    }
}

async fn routes_have_limits_of_their_own(host: HostKind) {
    let Some(mesh) = Mesh::on(host, "envoy/per-route.yaml").patient().start().await else { return };
    for _ in 0..3 {
        mesh.ask("/search?q=weir").user("alice").send().await.admitted();
    }
    mesh.ask("/search?q=weir").user("alice").send().await.denied();
    mesh.ask("/shops").user("alice").send().await.admitted().without("x-ratelimit-limit");

    let order = |shop: &str, items: &str| {
        mesh.ask(&format!("/shops/{shop}/orders?items={items}")).method(Method::POST).user("alice")
    };
    order("north", "30").send().await.admitted();
    order("north", "30").send().await.denied();
    order("south", "30").send().await.admitted();
    order("south", "lots").send().await.status(400);
}

//! Requests that no honest client sends, on both hosts: values that are not UTF-8, and a thousand forwarded addresses.

use serde_json::json;
use weir::{HostKind, Mesh};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    bytes_that_are_not_utf8_are_values_like_any_other
    only_trusted_hops_of_a_thousand_count
}

async fn bytes_that_are_not_utf8_are_values_like_any_other(host: HostKind) {
    let entries = [
        json!({"request_header": {"name": "x-key", "lowercase": true}}),
        json!({"request_header": {"name": "x-key", "hash": true}}),
        json!({"cookie": {"name": "session"}}),
        json!({"remote_address": {"trusted_hops": 1}}),
    ];
    for entry in entries {
        let mesh = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "3600s").configure(|filter| {
            filter["hash_key"] = json!({"inline": "0123456789abcdef"});
            filter["limits"][0]["descriptor"] = json!([entry]);
        });
        let Some(mesh) = mesh.start().await else { return };
        let ask = |value: &[u8]| {
            let cookie = [b"session=", value].concat();
            mesh.ask("/").header("x-key", value).header("cookie", cookie).header("x-forwarded-for", value)
        };
        ask(b"\xff\xfeA").send().await.admitted();
        ask(b"\xff\xfeA").send().await.denied();
        // No address at all: the client is the proxy's peer, whatever the header says.
        let other = ask(b"\xff\xfdA").send().await;
        if entry.get("remote_address").is_some() {
            other.denied()
        } else {
            other.admitted()
        };
    }
}

async fn only_trusted_hops_of_a_thousand_count(host: HostKind) {
    let trusting = [
        json!({"trusted_hops": 1}),
        json!({"trusted_hops": 32}),
        json!({"trusted_cidrs": ["10.0.0.0/8", "127.0.0.0/8"]}),
    ];
    for trusted in trusting {
        let mesh = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "3600s").configure(|filter| {
            filter["limits"][0]["descriptor"] = json!([{"remote_address": trusted}]);
        });
        let Some(mesh) = mesh.start().await else { return };
        // The client writes 1,000 addresses, and the proxies before this one append theirs.
        let proxies = ["203.0.113.9"].into_iter().chain(std::iter::repeat_n("10.0.0.1", 32)).collect::<Vec<_>>();
        let appended = match trusted["trusted_hops"].as_u64() {
            Some(1) => "203.0.113.9, 10.0.0.1".to_owned(),
            _ => proxies.join(", "),
        };
        let ask = |address: &str| {
            let forged = vec![address; 1_000].join(", ");
            mesh.ask("/").header("x-forwarded-for", format!("{forged}, {appended}"))
        };
        ask("6.6.6.6").send().await.admitted();
        ask("7.7.7.7").send().await.denied();
        ask("2001:db8::1").send().await.denied();
    }
}

//! Overrides in an outage of Redis, with `failure_mode: local`: those that `weir limits` has set a second before it hold,
//! and end at their time. On both hosts.

use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep, sleep_until};
use weir::{Answer, HostKind, Mesh};
use weir_harness::limits::Limits;

/// Time within which decisions without Redis heed an override of a limit.
const HEEDED_WITHIN: Duration = Duration::from_secs(1);
/// Length of the overrides that end in the outage.
const LENGTH: Duration = Duration::from_secs(8);
/// Time for what takes as long as it takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const BY_SHARES: &str = "x-weir-failure-mode";

weir::on_both_hosts! {
    an_override_of_a_limit_holds_in_an_outage_from_a_second_on_and_ends_at_its_time
    overrides_of_keys_hold_in_an_outage_from_the_next_request_on_and_end_at_their_time
    overrides_of_keys_hold_in_an_outage_from_a_second_on_without_a_request
}

async fn an_override_of_a_limit_holds_in_an_outage_from_a_second_on_and_ends_at_its_time(host: HostKind) {
    let Some(mesh) = start(host).await else { return };
    until_admitted(&mesh, "alice", |answer| answer.header(BY_SHARES).is_none()).await;
    let set = operator(&mesh, &["per_user", "blocked", "--for", "8s"]);
    sleep(HEEDED_WITHIN).await;
    mesh.redis().kill();
    while set.elapsed() < LENGTH / 2 {
        mesh.get("alice").await.denied();
        sleep(Duration::from_millis(200)).await;
    }
    sleep_until(set + LENGTH).await;
    until_admitted(&mesh, "alice", is_by_shares).await;
}

async fn overrides_of_keys_hold_in_an_outage_from_the_next_request_on_and_end_at_their_time(host: HostKind) {
    let Some(mesh) = start(host).await else { return };
    for user in ["alice", "bob", "carol", "dave"] {
        until_admitted(&mesh, user, |answer| answer.header(BY_SHARES).is_none()).await;
    }
    operator(&mesh, &["per_user", "bob", "--rate", "1/3600s"]);
    operator(&mesh, &["per_user", "carol", "unlimited"]);
    let set = operator(&mesh, &["per_user", "alice", "blocked", "--for", "8s"]);
    // The reply to a request brings the override of its key.
    mesh.get("alice").await.denied();
    mesh.get("bob").await;
    mesh.get("carol").await.admitted();
    mesh.redis().kill();
    until_admitted(&mesh, "dave", is_by_shares).await;
    while set.elapsed() < LENGTH / 2 {
        mesh.get("alice").await.denied();
        mesh.get("bob").await.denied();
        mesh.get("carol").await.admitted().without(BY_SHARES);
        sleep(Duration::from_millis(200)).await;
    }
    sleep_until(set + LENGTH).await;
    until_admitted(&mesh, "alice", is_by_shares).await;
    mesh.get("bob").await.denied();
}

async fn overrides_of_keys_hold_in_an_outage_from_a_second_on_without_a_request(host: HostKind) {
    let Some(mesh) = start(host).await else { return };
    until_admitted(&mesh, "alice", |answer| answer.header(BY_SHARES).is_none()).await;
    until_admitted(&mesh, "dave", |answer| answer.header(BY_SHARES).is_none()).await;
    operator(&mesh, &["per_user", "alice", "blocked"]);
    operator(&mesh, &["per_user", "bob", "blocked"]);
    sleep(HEEDED_WITHIN).await;
    mesh.redis().kill();
    until_admitted(&mesh, "dave", is_by_shares).await;
    mesh.get("alice").await.denied();
    mesh.get("bob").await.denied();
}

/// Starts a host with one worker that has the whole limit in an outage.
async fn start(host: HostKind) -> Option<Mesh> {
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").workers(1).bucket(1_000, 1_000, "1s").configure(|filter| {
        filter["failure_mode"] = "local".into();
        filter["local"]["share"] = 1.into();
    });
    mesh.start().await
}

/// Runs `weir limits set`. Returns the time before.
fn operator(mesh: &Mesh, arguments: &[&str]) -> Instant {
    let config = NamedTempFile::new().unwrap();
    let configuration = format!(
        "redis: {{cluster: redis, key_prefix: \"{}\"}}\nlimits:\n- name: per_user\n  \
         descriptor: [{{request_header: {{name: x-user-id}}}}]\n  \
         token_bucket: {{max_tokens: 1000, tokens_per_fill: 1000, fill_interval: 1s}}\n",
        mesh.key_prefix()
    );
    std::fs::write(config.path(), configuration).unwrap();
    let redis = mesh.redis().url();
    let place = ["--redis", &redis, "--config", config.path().to_str().unwrap()];
    let limits = Limits::parse(&[&["set"], arguments, &place].concat()).unwrap();
    let began = Instant::now();
    limits.perform(&mut Vec::new(), &mut Vec::new()).unwrap();
    began
}

fn is_by_shares(answer: &Answer) -> bool {
    answer.header(BY_SHARES) == Some("local")
}

/// Asks until the answer is an admission of the wanted kind.
async fn until_admitted(mesh: &Mesh, user: &str, is_wanted: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = mesh.get(user).await;
        if answer.status == 200 && is_wanted(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{user}: {} {:?}", answer.status, answer.headers);
        sleep(Duration::from_millis(20)).await;
    }
}

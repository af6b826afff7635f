//! TLS to Redis: certificates of both sides, the name in the handshake, an ACL user, and certificates that are replaced
//! under load. `tests/failures` has certificates that expire.

use std::time::Duration;

use redis::Commands;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use weir::secured::{NAME, Secured, valid};
use weir::tls_proxy::{Authority, Side};
use weir::{HostKind, Load, Mesh, Phases};

const SOON: Duration = Duration::from_secs(60);
/// Load before a fault.
const BEFORE: Duration = Duration::from_secs(1);

weir::on_both_hosts! {
    a_client_with_a_certificate_is_limited_by_an_acl_user
    a_redis_with_another_name_or_of_another_authority_is_not_used
    a_client_whose_certificate_has_expired_is_refused
}

async fn a_client_with_a_certificate_is_limited_by_an_acl_user(host: HostKind) {
    let Some(secured) = Secured::start(valid).await else { return };
    let Some(mesh) = secured.mesh(host).patient().bucket(20, 1, "3600s").start().await else { return };
    secured.with_acl(mesh.key_prefix());
    for left in (0..20).rev() {
        mesh.get("alice").await.admitted().remaining(left);
    }
    mesh.get("alice").await.denied();
    let peer = secured.proxy.last().expect("a handshake");
    assert_eq!(peer.server_name.as_deref(), Some(NAME));
    let keys: Vec<String> = mesh.redis_connection().keys("*").unwrap();
    assert!(keys.iter().all(|key| key.starts_with(mesh.key_prefix())) && !keys.is_empty(), "{keys:?}");
}

async fn a_redis_with_another_name_or_of_another_authority_is_not_used(host: HostKind) {
    let Some(secured) = Secured::start(valid).await else { return };
    let Some(mesh) = secured.mesh(host).configure(denying).start().await else { return };
    secured.with_acl(mesh.key_prefix());
    until_status(&mesh, 200).await;
    let stranger = Authority::new();
    for (authority, name) in [(&secured.authority, "other.example.com"), (&stranger, NAME)] {
        secured.proxy.serve(&authority.sign(Side::Server, name, |_| {}));
        secured.proxy.cut();
        until_status(&mesh, 503).await;
        secured.proxy.serve(&secured.authority.sign(Side::Server, NAME, |_| {}));
        until_status(&mesh, 200).await;
    }
}

async fn a_client_whose_certificate_has_expired_is_refused(host: HostKind) {
    let Some(secured) = Secured::start(|authority| authority.sign_expired(Side::Client, "weir")).await else { return };
    let Some(mesh) = secured.mesh(host).configure(denying).start().await else { return };
    secured.with_acl(mesh.key_prefix());
    for _ in 0..10 {
        mesh.get("alice").await.status(503);
    }
    assert_eq!(secured.proxy.last(), None, "no handshake is completed");
}

/// A new certificate is put in the place of the old one under load. Open connections go on, and new ones have the new
/// certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_without_a_restart() {
    let Some(secured) = Secured::start(valid).await else { return };
    // No check times out on a busy machine.
    let load = Load { timeout: Duration::from_secs(4), ..Load::STEADY };
    let Some(mesh) = loaded(&secured, HostKind::Envoy, load).await else { return };
    let before = secured.proxy.handshakes().0;
    let next = valid(&secured.authority);
    let phases = Phases { before: BEFORE, fault: Duration::from_secs(2), after: Duration::ZERO };
    let replace = async || secured.authority.install(secured.folder.path(), &next).unwrap();
    let trial = load.run(&mesh, phases, replace, async || ()).await;
    println!("certificate replaced: {trial}");
    trial.as_asked();
    assert_eq!((trial.failed, trial.over_admitted), (0, 0), "{trial}");
    assert_eq!(secured.proxy.handshakes().0, before, "open connections go on");

    let phases = Phases { before: Duration::ZERO, fault: Duration::ZERO, after: Duration::from_secs(2) };
    let trial = load.run(&mesh, phases, async || secured.proxy.cut(), async || ()).await;
    println!("connections closed after the certificate was replaced: {trial}");
    trial.as_asked();
    assert_eq!(trial.over_admitted, 0, "{trial}");
    let peer = secured.proxy.last().expect("a handshake");
    assert_eq!(peer.certificate, next.cert.der().to_vec(), "a new connection has the new certificate");
}

fn denying(filter: &mut Value) {
    filter["failure_mode"] = "deny".into();
}

/// A mesh for a load that has reached Redis.
async fn loaded(secured: &Secured, host: HostKind, load: Load) -> Option<Mesh> {
    let mesh = load.configure(secured.mesh(host)).start().await?;
    secured.with_acl(mesh.key_prefix());
    until_status(&mesh, 200).await;
    Some(mesh)
}

/// Waits until 12 requests in a row have this status: each worker has its own connection to Redis.
async fn until_status(mesh: &Mesh, status: u16) {
    let deadline = Instant::now() + SOON;
    let mut in_a_row = 0;
    for nth in 0.. {
        in_a_row = if mesh.get(&format!("warm-up {nth}")).await.status == status { in_a_row + 1 } else { 0 };
        if in_a_row == 12 {
            return;
        }
        assert!(Instant::now() < deadline, "no 12 requests in a row have status {status} within {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

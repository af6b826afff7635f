//! TLS to Redis: certificates of both sides, the name in the handshake, an ACL user, and certificates that are replaced or
//! expire under load.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weir::tls_proxy::{Authority, Identity, Side, TlsProxy};
use weir::{HostKind, Load, Mesh, MeshBuilder, Phases, or_skip};
use weir_provision::checkout;
use weir_provision::redis::{RedisOptions, RedisServer};

const SCENARIO: &str = "envoy/redis-tls.yaml";
const NAME: &str = "redis.example.com";
/// Files of secrets, which the scenario names.
const SECRETS: [&str; 2] = ["envoy/secrets/redis-client.yaml", "envoy/secrets/redis-authority.yaml"];
const CERTIFICATES: &str = "/etc/weir/redis-tls";
const SOON: Duration = Duration::from_secs(60);
/// Load before a fault.
const BEFORE: Duration = Duration::from_secs(1);

/// Redis behind TLS, with the files of a client's certificate.
struct Secured {
    redis: Arc<RedisServer>,
    authority: Arc<Authority>,
    proxy: TlsProxy,
    /// Folder of the certificates, and of the file that names them.
    folder: TempDir,
}

impl Secured {
    async fn start(client: impl FnOnce(&Authority) -> Identity) -> Option<Self> {
        let start = || RedisServer::start(RedisOptions::default());
        let redis = Arc::new(or_skip(tokio::task::spawn_blocking(start).await.unwrap())?);
        let authority = Authority::new();
        let server = authority.sign(Side::Server, NAME, |_| {});
        let proxy = TlsProxy::start(redis.addr(), &authority, &server).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        authority.install(folder.path(), &client(&authority)).unwrap();
        Some(Self { redis, authority, proxy, folder })
    }

    /// The scenario with the files of the folder, and the password in the file.
    fn mesh(&self, host: HostKind) -> MeshBuilder {
        let folder = self.folder.path();
        let mut mesh = Mesh::on(host, SCENARIO).reaching(&self.redis, vec![self.proxy.addr()]);
        for (name, secret) in ["client.yaml", "authority.yaml"].iter().zip(SECRETS) {
            let text = fs::read_to_string(checkout::root().unwrap().join(secret)).unwrap();
            let file = folder.join(name);
            fs::write(&file, text.replace(CERTIFICATES, &folder.display().to_string())).unwrap();
            mesh = mesh.edit(|document| replace(document, secret, &file.display().to_string()));
        }
        // The tests' processes do not have the variable.
        let mesh = mesh.edit(drop_variables);
        mesh.configure(|filter| filter["redis"]["password"] = serde_json::json!({"inline": "open-sesame"}))
    }

    /// Gives the user `weir` the permissions of the documented ACL.
    fn with_acl(&self, key_prefix: &str) {
        let page = include_str!("../docs/src/operations.md");
        let (_, acl) = page.split_once("ACL SETUSER weir ").expect("the page has an ACL");
        let (acl, _) = acl.split_once("```").expect("the ACL is in a code block");
        let commands = acl.split_whitespace().filter(|word| word.starts_with('+'));
        let mut redis = redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap();
        let user = ["weir", "on", ">open-sesame", &format!("~{key_prefix}*")].map(str::to_owned);
        redis::cmd("ACL").arg("SETUSER").arg(&user).arg(commands.collect::<Vec<_>>()).exec(&mut redis).unwrap();
    }
}

weir::on_both_hosts! {
    a_client_with_a_certificate_is_limited_by_an_acl_user
    a_redis_with_another_name_or_of_another_authority_is_not_used
    an_expired_certificate_of_redis_fails_checks_until_it_is_renewed
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

/// An open connection goes on after its certificate has expired.
async fn an_expired_certificate_of_redis_fails_checks_until_it_is_renewed(host: HostKind) {
    let Some(secured) = Secured::start(valid).await else { return };
    let Some(mesh) = loaded(&secured, host, Load::STEADY).await else { return };
    let phases = Phases { before: BEFORE, fault: Duration::from_secs(2), after: Duration::from_secs(3) };
    let expired = secured.authority.sign_expired(Side::Server, NAME);
    let valid = secured.authority.sign(Side::Server, NAME, |_| {});
    let expire = async || {
        secured.proxy.serve(&expired);
        secured.proxy.cut();
    };
    let trial = Load::STEADY.run(&mesh, phases, expire, async || secured.proxy.serve(&valid)).await;
    println!("{host:?}: expired certificate of Redis: {trial}");
    trial.as_asked();
    assert!(trial.failed > 0 && trial.over_admitted == 0, "{trial}");
    assert!(trial.mostly_decided_after < Duration::from_secs(3), "{trial}");
    assert!(secured.proxy.handshakes().1 > 0, "no handshake has failed");
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

fn valid(authority: &Authority) -> Identity {
    authority.sign(Side::Client, "weir", |_| {})
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

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => *text = to.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|value| replace(value, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, from, to)),
        _ => {}
    }
}

fn drop_variables(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_variables),
        Value::Object(fields) => {
            fields.remove("environment_variables");
            fields.values_mut().for_each(drop_variables);
        }
        _ => {}
    }
}

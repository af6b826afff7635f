//! Failover of Redis by Sentinel, found by the proxy's health check: three Redis, three Sentinels, under load.
//!
//! `cargo test --test failover -- --nocapture` prints what each failover costs.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::redis_group::{DOWN_AFTER, Node};
use weir::secured::{NAME, valid};
use weir::tls_proxy::Authority;
use weir::{Fault, HostKind, Load, Mesh, Phases, RedisGroup, Trial};
use weir_harness::limits::Limits;

const SCENARIO: &str = "envoy/failover.yaml";
/// Time for elections among Sentinels, and for two health checks, on a busy machine. A Sentinel that has stalled for
/// 2 s elects nobody for 30 s.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// Time in which Sentinels make a master that is back a replica, and load after it.
const DEMOTED_WITHIN: Duration = Duration::from_secs(15);
/// Decided requests in a row after which the health check has found the master.
const HEALTHY: usize = 12;
/// The most that a bucket admits beyond its promise when its state is lost: once what it holds.
const A_BUCKET: u64 = Load::STEADY.max_tokens;

weir::on_both_hosts! {
    a_killed_master_is_replaced_and_comes_back_as_a_replica
    a_frozen_master_is_replaced_and_comes_back_as_a_replica
    a_master_parted_from_everybody_is_replaced
    a_master_parted_from_the_other_nodes_loses_what_it_admitted
    a_master_that_needs_replicas_refuses_when_it_is_parted_from_them
    a_health_check_needs_the_permission_for_role_alone
    a_group_behind_tls_fails_over_for_proxies_and_commands
}

async fn a_killed_master_is_replaced_and_comes_back_as_a_replica(host: HostKind) {
    let Some((group, mesh)) = group_and_mesh(host, &[]).await else { return };
    let old = &group.nodes()[0];
    let trial = fail_over(&group, &mesh, "kill -9", || old.redis.kill()).await;
    found_in_time(&trial);
    let trial = come_back(&mesh, "kill -9, the old master is back", || old.redis.restart().unwrap()).await;
    stays_decided(&group, &trial);
}

async fn a_frozen_master_is_replaced_and_comes_back_as_a_replica(host: HostKind) {
    let Some((group, mesh)) = group_and_mesh(host, &[]).await else { return };
    let old = &group.nodes()[0];
    let trial = fail_over(&group, &mesh, "SIGSTOP", || old.redis.pause().unwrap()).await;
    found_in_time(&trial);
    let trial = come_back(&mesh, "SIGSTOP, the old master is back", || old.redis.resume().unwrap()).await;
    stays_decided(&group, &trial);
}

async fn a_master_parted_from_everybody_is_replaced(host: HostKind) {
    let Some((group, mesh)) = group_and_mesh(host, &[]).await else { return };
    let old = &group.nodes()[0];
    let part = |node: &Node| [&node.peers, &node.clients].map(|proxy| proxy.set(Fault::Drop));
    let trial = fail_over(&group, &mesh, "parted from everybody", || _ = part(old)).await;
    found_in_time(&trial);
    let heal = || _ = [&old.peers, &old.clients].map(|proxy| proxy.clear());
    let trial = come_back(&mesh, "parted from everybody, the old master is back", heal).await;
    stays_decided(&group, &trial);
}

/// Hosts still reach the old master. All workers stay there, and what it admits is lost once it is a replica.
async fn a_master_parted_from_the_other_nodes_loses_what_it_admitted(host: HostKind) {
    let Some((group, mesh)) = group_and_mesh(host, &[]).await else { return };
    let old = &group.nodes()[0];
    let trial = fail_over(&group, &mesh, "parted from the other nodes", || old.peers.set(Fault::Drop)).await;
    trial.as_asked();
    assert!(trial.over_admitted <= A_BUCKET, "{trial}");
    let heal = || old.peers.clear();
    let trial = come_back(&mesh, "parted from the other nodes, the old master is back", heal).await;
    trial.as_asked();
    assert!(trial.over_admitted <= A_BUCKET, "{trial}");
    assert!(trial.failing < FOUND_WITHIN, "{trial}");
}

async fn a_master_that_needs_replicas_refuses_when_it_is_parted_from_them(host: HostKind) {
    let args = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"];
    let Some((group, mesh)) = group_and_mesh(host, &args).await else { return };
    let old = &group.nodes()[0];
    let part = || old.peers.set(Fault::Drop);
    let trial = fail_over(&group, &mesh, "parted from the other nodes, min-replicas-to-write 1", part).await;
    trial.as_asked();
    assert!(trial.over_admitted <= A_BUCKET, "{trial}");
    // Each worker tries the nodes that say `master` in turn, until one takes its writes.
    assert!(trial.failing < DOWN_AFTER + FOUND_WITHIN && trial.failed < trial.requests / 3, "{trial}");
}

/// A password would have to be in the health check: the user without a password may say ROLE and nothing else.
async fn a_health_check_needs_the_permission_for_role_alone(host: HostKind) {
    let mesh = Load::STEADY.configure(Mesh::on(host, SCENARIO)).configure(|filter| {
        filter["redis"]["timeout"] = "5s".into();
        filter["redis"]["username"] = "weir".into();
        filter["redis"]["password"] = serde_json::json!({"inline": "open-sesame"});
    });
    // Envoy does not check each of several endpoints with one address.
    let mesh = mesh.edit(|document| {
        let endpoints = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
        document.pointer_mut(endpoints).unwrap().as_array_mut().unwrap().truncate(1);
    });
    let Some(mesh) = mesh.start().await else { return };
    let mut operator = mesh.redis_connection();
    for user in ["weir on >open-sesame ~* &* +@all", "default resetkeys resetchannels -@all"] {
        redis::cmd("ACL").arg("SETUSER").arg(user.split(' ').collect::<Vec<_>>()).exec(&mut operator).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while mesh.get("alice").await.status != 503 {
        assert!(Instant::now() < deadline, "a node that refuses ROLE is used for a minute");
        sleep(Duration::from_millis(50)).await;
    }
    let weir = format!("redis://weir:open-sesame@{}", mesh.redis().addr());
    let mut operator = redis::Client::open(weir).unwrap().get_connection().unwrap();
    redis::cmd("ACL").arg("SETUSER").arg("default").arg("+role").exec(&mut operator).unwrap();
    mesh.until_decided(HEALTHY).await;
}

/// Nodes, Sentinels, health checks, checks and `weir limits`: all connections are of TLS, with certificates of both sides.
async fn a_group_behind_tls_fails_over_for_proxies_and_commands(host: HostKind) {
    let [servers, clients] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let authority = Authority::new();
    authority.install(clients.path(), &valid(&authority)).unwrap();
    let Some(group) = RedisGroup::secured(&authority, servers.path()).await else { return };
    let file = |name: &str| clients.path().join(name).display().to_string();
    let own = json!({"certificate_chain": {"filename": file("tls.crt")}, "private_key": {"filename": file("tls.key")}});
    let context = json!({
        "tls_certificates": [own],
        "validation_context": {
            "trusted_ca": {"filename": file("ca.crt")},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": NAME}}],
        },
    });
    let mesh = Mesh::on(host, SCENARIO).reaching(&group.nodes()[0].redis, group.endpoints()).edit(|document| {
        document["static_resources"]["clusters"][0]["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": NAME,
                "common_tls_context": context,
            },
        });
    });
    let Some(mesh) = Load::STEADY.configure(mesh).start().await else { return };
    mesh.until_decided(HEALTHY).await;
    let command = |words: &str| tokio::task::block_in_place(|| command(words, &group.sentinels_url(), clients.path()));
    assert_eq!(command("set per_user alice blocked").as_deref(), Ok("per_user alice: blocked\n"));
    let refused = tokio::task::block_in_place(|| command_without_tls(&group.sentinels_url()));
    assert!(refused.contains("sentinel at 127.0.0.1:"), "{refused}");

    let old = &group.nodes()[0];
    let trial = fail_over(&group, &mesh, "kill -9, behind TLS", || old.redis.kill()).await;
    found_in_time(&trial);
    assert_eq!(command("get per_user alice").as_deref(), Ok("per_user alice: blocked\n"));
    assert!(group.nodes().iter().all(|node| node.clients.connections() > 0), "health checks reach all nodes");
}

/// Runs `weir limits` with the client's certificate.
fn command(words: &str, url: &str, folder: &Path) -> Result<String, String> {
    let files = [("--tls-ca", "ca.crt"), ("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")];
    let mut all: Vec<String> = words.split(' ').map(str::to_owned).collect();
    all.extend(files.iter().flat_map(|(name, file)| [(*name).to_owned(), folder.join(file).display().to_string()]));
    run(all, url)
}

/// Runs `weir limits` without TLS on the same ports, which fails, and returns the error.
fn command_without_tls(url: &str) -> String {
    run(vec!["list".to_owned()], &url.replace("rediss-", "redis-")).expect_err("a port that speaks TLS alone")
}

fn run(mut words: Vec<String>, url: &str) -> Result<String, String> {
    words.extend(["--redis".to_owned(), url.to_owned()]);
    let limits = Limits::parse(&words.iter().map(String::as_str).collect::<Vec<_>>()).map_err(|it| it.to_string())?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    limits.perform(&mut out, &mut notes).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[track_caller]
fn found_in_time(trial: &Trial) {
    trial.as_asked();
    assert!(trial.failed > 0 && trial.failing < DOWN_AFTER + FOUND_WITHIN, "{trial}");
    // Replication is asynchronous: the new master may not have the latest writes.
    assert!(trial.over_admitted <= A_BUCKET, "{trial}");
}

/// Workers keep their connections to the new master. One that connects anew may find the old one, which has no state.
#[track_caller]
fn stays_decided(group: &RedisGroup, trial: &Trial) {
    trial.as_asked();
    assert!(trial.over_admitted <= A_BUCKET, "{trial}");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !group.nodes()[0].role().starts_with("role:slave") {
        assert!(std::time::Instant::now() < deadline, "{}", group.nodes()[0].role());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Breaks the master under load, and waits for the new one.
async fn fail_over(group: &RedisGroup, mesh: &Mesh, name: &str, break_master: impl Fn()) -> Trial {
    let phases = Phases { before: Duration::from_secs(2), fault: Duration::ZERO, after: Duration::from_secs(5) };
    let promoted = async || {
        tokio::task::block_in_place(|| group.until_promoted(0));
    };
    let trial = Load::STEADY.run(mesh, phases, async || break_master(), promoted).await;
    println!("{:?}: {name}: {trial}", mesh.hosts()[0].kind());
    trial
}

/// Mends the old master under load.
async fn come_back(mesh: &Mesh, name: &str, mend: impl Fn()) -> Trial {
    let phases = Phases { before: Duration::from_secs(1), fault: Duration::ZERO, after: DEMOTED_WITHIN };
    let mending = async || tokio::task::block_in_place(&mend);
    let trial = Load::STEADY.run(mesh, phases, mending, async || ()).await;
    println!("{:?}: {name}: {trial}", mesh.hosts()[0].kind());
    trial
}

async fn group_and_mesh(host: HostKind, args: &[&str]) -> Option<(RedisGroup, Mesh)> {
    let group = RedisGroup::start(args).await?;
    let mesh = Mesh::on(host, SCENARIO).reaching(&group.nodes()[0].redis, group.endpoints());
    let mesh = Load::STEADY.configure(mesh).start().await?;
    mesh.until_decided(HEALTHY).await;
    Some((group, mesh))
}

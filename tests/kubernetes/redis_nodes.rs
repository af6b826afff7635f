//! Manifests of Redis: their scripts and files, run as the pods run them.
//!
//! Of several nodes, each has an address of its own. Names of pods are in `/etc/hosts` of a mount namespace, and addresses
//! in a network namespace: both need root.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::task::block_in_place;
use weir::{
    or_skip,
    tls_proxy::{Authority, Side},
};
use weir_provision::{
    filter_wasm, port,
    redis::{RELEASES, Release},
};

use super::{PASSWORD, exhausts};
use crate::{
    chart,
    manifest::{Manifest, text},
    plain, render,
    running::{Running, Surroundings},
};

/// Folders of a pod in the scripts and files; those of the test take their place.
const FOLDERS: [(&str, &str); 2] = [("/etc/redis/", "NODE/"), ("/data", "NODE")];

/// The network, the names of the pods and functions.
const SURROUNDINGS: &str = r#"
ip link set lo up
mount --bind hosts /etc/hosts
within() {
    for try in $(seq 900); do if "$@"; then return; fi; sleep 0.1; done
    echo "never: $*"; head -50 n*/*.log; exit 1
}
is() { [ "$(redis-cli -h 127.0.0.1$1 role | head -n 1)" = $2 ]; }
sentinel() { redis-cli -h 127.0.0.11 -p 26379 --raw sentinel "$@"; }
"#;

const SENTINEL: &str = r#"
start() { HOSTNAME=redis-$1 sh n$1/redis.sh --bind 127.0.0.1$1 >n$1/redis.log 2>&1 & }
start 0; killed=$!; start 1; start 2
within is 0 master; within is 1 slave; within is 2 slave
for n in 0 1 2; do HOSTNAME=redis-$n sh n$n/sentinel.sh --bind 127.0.0.1$n >n$n/sentinel.log 2>&1 & done
usable() { sentinel ckquorum weir | grep -q '^OK 3' && [ $(sentinel replicas weir | grep -c '^runid$') = 2 ]; }
within usable
kill -9 $killed
promoted() { is 1 master || is 2 master; }
within promoted
start 0
within is 0 slave
sentinel get-master-addr-by-name weir | grep -q '^redis-[12].redis.weir.svc.cluster.local$'
"#;

const CLUSTER: &str = r#"
for n in 0 1 2 3 4 5; do
    POD_IP=127.0.0.1$n; (COMMAND --bind $POD_IP) >n$n/redis.log 2>&1 &
done
sh n0/join.sh
joined() { redis-cli -h 127.0.0.1$1 cluster info | grep -q cluster_state:ok; }
for n in 0 1 2 3 4 5; do within joined $n; done
redis-cli -h 127.0.0.10 cluster info | grep -q cluster_size:3
within is 3 slave; within is 4 slave; within is 5 slave
sh n0/join.sh
"#;

#[test]
fn sentinels_replace_a_master_that_fails_and_keep_it_as_a_replica() {
    run(&Manifest::read("plain/redis-sentinel.yaml"), 3, SENTINEL);
}

#[test]
fn nodes_of_a_redis_cluster_are_joined_once() {
    let manifest = Manifest::read("plain/redis-cluster.yaml");
    let container = &manifest.find("StatefulSet").unwrap()["spec"]["template"]["spec"]["containers"][0];
    let command = container["command"][2].as_str().unwrap().replace("/etc/redis/", "n$n/");
    run(&manifest, 6, &CLUSTER.replace("COMMAND", &command));
}

/// Redis with the file of the manifest, and the Envoy that `weir render` makes for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_speaks_tls_alone_takes_the_user_of_its_acl() {
    let Some(wasm) = or_skip(block_in_place(filter_wasm::find_or_build)) else { return };
    let Some(server) = or_skip(block_in_place(|| release().binary())) else { return };
    let Some(held) = or_skip(port::free_port()) else { return };
    let authority = Authority::new();
    let [of_redis, of_proxies] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let certificate = authority.sign(Side::Server, "redis.weir.svc.cluster.local", |_| {});
    authority.install(of_redis.path(), &certificate).unwrap();
    authority.install(of_proxies.path(), &authority.sign(Side::Client, "weir", |_| {})).unwrap();
    let users = format!("user default off\nuser weir on >{PASSWORD} ~weir:* {}\n", weir::permissions().join(" "));
    fs::write(of_redis.path().join("users.acl"), users).unwrap();

    let manifest = Manifest::read("plain/redis-tls.yaml");
    let file = text(manifest.find("ConfigMap").unwrap(), "/data/redis.conf").to_owned();
    let folders = ["/etc/redis-tls", "/etc/redis-acl", "/data"];
    let file = folders.iter().fold(file, |file, folder| file.replace(folder, of_redis.path().to_str().unwrap()));
    let port = held.port().to_string();
    fs::write(of_redis.path().join("redis.conf"), file.replace("tls-port 6379", &format!("tls-port {port}"))).unwrap();
    let address = held.release();
    let mut redis = Command::new(server);
    let redis = redis.arg(of_redis.path().join("redis.conf")).args(["--bind", "127.0.0.1"]).stdout(Stdio::null());
    let _redis = Killed(redis.spawn().unwrap());

    let surroundings = Surroundings {
        folders: vec![("/etc/weir/redis-tls", of_proxies.path().to_owned())],
        variables: vec![("REDIS_PASSWORD", PASSWORD.to_owned())],
        ..Surroundings::new(wasm, address)
    };
    let Some(proxy) = Running::start(plain::render(&render::secured("envoy")), surroundings) else { return };
    exhausts(&proxy, "alice", 20).await;
}

/// Process that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The release whose server speaks TLS, and which has a client.
fn release() -> &'static Release {
    RELEASES.iter().find(|release| release.name == "Redis 8.0").unwrap()
}

/// Writes the files of the ConfigMap for each node, and runs a script beside them.
fn run(manifest: &Manifest, nodes: usize, script: &str) {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        println!("skipped: namespaces need root");
        return;
    }
    let Some(tools) = or_skip(release().client()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let names = (0..nodes).map(|node| format!("127.0.0.1{node} redis-{node}.redis.weir.svc.cluster.local\n"));
    let sentinel = "127.0.0.1 localhost\n127.0.0.11 redis-sentinel.weir.svc.cluster.local\n".to_owned();
    fs::write(folder.path().join("hosts"), names.chain([sentinel]).collect::<String>()).unwrap();
    (0..nodes).for_each(|node| write(manifest, node, &folder));
    let mut unshare = Command::new("unshare");
    let path = format!("{}:{}", tools.parent().unwrap().display(), std::env::var("PATH").unwrap());
    unshare.args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-euc"]);
    let output = unshare.arg(format!("{SURROUNDINGS}{script}")).current_dir(folder.path()).env("PATH", path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", chart::all(&output));
}

/// Writes the files of one node, with its folder in place of those of the pod.
fn write(manifest: &Manifest, node: usize, folder: &TempDir) {
    let own = folder.path().join(format!("n{node}"));
    fs::create_dir(&own).unwrap();
    for (name, text) in manifest.find("ConfigMap").unwrap()["data"].as_object().unwrap() {
        let text = FOLDERS.iter().fold(text.as_str().unwrap().to_owned(), |text, (of_pod, place)| {
            text.replace(of_pod, &place.replace("NODE", own.to_str().unwrap()))
        });
        fs::write(own.join(name), text).unwrap();
    }
}

//! Redis on a Unix socket and behind Sentinels, with a failover between two commands. `tests/redis_cluster` has clusters.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir_provision::or_skip;
use weir_provision::redis::{RedisOptions, RedisServer, Sentinel, SentinelOptions};

use crate::operator::{notes, types};

const KEY: &str = "weir:per_user:alice#override";
const SOON: Duration = Duration::from_secs(90);
/// Time for which a command waits at least for a failover.
const WAITED: Duration = Duration::from_secs(4);
/// Password of the Redis nodes.
const OF_NODES: &str = "s3cret-of-nodes";
/// Password of the Sentinels.
const OF_SENTINELS: &str = "s3cret-of-sentinels";

fn alone(command: &str, redis: &str) -> Result<String, String> {
    types(&[&command.split(' ').collect::<Vec<_>>()[..], &["--redis", redis]].concat())
}

#[test]
fn a_unix_socket_leads_to_redis() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let socket = path.to_str().unwrap();
    let args = vec!["--unixsocket".to_owned(), socket.to_owned()];
    let options = RedisOptions { args, password: Some(OF_NODES.to_owned()), ..RedisOptions::default() };
    let Some(server) = or_skip(RedisServer::start(options)) else { return };
    let stored = |database: u32| -> Option<String> {
        let client = redis::Client::open(format!("{}/{database}", server.url())).unwrap();
        client.get_connection().unwrap().get_del(KEY).unwrap()
    };

    let url = format!("unix://{socket}?db=1&password={OF_NODES}");
    alone("set per_user alice blocked", &url).unwrap();
    assert_eq!((stored(0), stored(1).as_deref()), (None, Some(r#"{"is":"blocked"}"#)));
    let url = format!("redis+unix://:{OF_NODES}@{socket}");
    let set = ["set", "per_user", "--encoded", "alice", "blocked", "--redis", &url];
    assert_eq!(notes(&set), format!("redis: {socket}/0\n"));
    assert_eq!(stored(0).as_deref(), Some(r#"{"is":"blocked"}"#));

    let file = bootstrap(&[pipe(&path)], 1);
    let config = file.path().to_str().unwrap();
    types(&["set", "per_user", "alice", "blocked", "--config", config]).unwrap();
    assert_eq!(stored(1).as_deref(), Some(r#"{"is":"blocked"}"#));

    let refused = alone("list", &format!("unix://{socket}")).unwrap_err();
    assert!(refused.starts_with(&format!("redis at {socket}: NOAUTH")), "{refused}");
    let refused = alone("list", &format!("unix://{socket}x?password={OF_NODES}")).unwrap_err();
    assert!(refused.starts_with(&format!("redis at {socket}x: ")) && !refused.contains("s3cret"), "{refused}");
}

/// A Redis without AUTH repeats the arguments of the command.
#[test]
fn no_refusal_shows_a_password() {
    let args = ["--rename-command", "AUTH", ""].map(str::to_owned).into();
    let Some(server) = or_skip(RedisServer::start(RedisOptions { args, ..RedisOptions::default() })) else { return };
    let addr = server.addr();
    let refused = alone("list", &format!("redis://me:{OF_NODES}@{addr}")).unwrap_err();
    assert_eq!(refused, format!("redis at {addr}: ERR unknown command `AUTH`"));
    let refused = alone("list", &format!("redis-sentinel://{addr}/s3cret")).unwrap_err();
    assert_eq!(refused, format!("sentinel at {addr}: ERR unknown command `SENTINEL`"));
    let refused = alone("list", "redis://me:/s3cret@host").unwrap_err();
    assert_eq!(refused, "--redis: user or password: expected %2F in place of /, found /");
}

/// A master, its replica, and two Sentinels, all with passwords.
struct Group {
    nodes: [RedisServer; 2],
    sentinels: [Sentinel; 2],
}

impl Group {
    fn start() -> Option<Self> {
        let node = |master: Option<SocketAddr>| {
            let mut args = vec!["--masterauth".to_owned(), OF_NODES.to_owned()];
            args.extend(["--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"].map(str::to_owned));
            let master =
                master.map(|master| ["--replicaof".into(), master.ip().to_string(), master.port().to_string()]);
            args.extend(master.into_iter().flatten());
            or_skip(RedisServer::start(RedisOptions {
                args,
                password: Some(OF_NODES.into()),
                ..RedisOptions::default()
            }))
        };
        let master = node(None)?;
        let nodes = [node(Some(master.addr()))?, master];
        let options = SentinelOptions {
            binary: None,
            name: "weir".into(),
            master: nodes[1].addr(),
            quorum: 1,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(5),
            password: Some(OF_SENTINELS.into()),
            nodes_password: Some(OF_NODES.into()),
            lines: Vec::new(),
        };
        let sentinel = || or_skip(Sentinel::start(&options));
        let group = Self { nodes, sentinels: [sentinel()?, sentinel()?] };
        until("a failover is possible", || {
            group.sentinels.iter().all(|sentinel| sentinel.is_usable(1).is_ok_and(|usable| usable))
                && info(&group.nodes[0]).contains("master_link_status:up")
        });
        Some(group)
    }

    /// The URL of a port without a Sentinel, and of the Sentinels.
    fn url(&self, nodes_password: &str, rest: &str) -> String {
        let [one, two] = self.sentinels.each_ref().map(Sentinel::addr);
        format!("redis-sentinel://:{nodes_password}@127.0.0.1:1,{one},{two}/{rest}")
    }
}

fn info(node: &RedisServer) -> String {
    let mut connection = redis::Client::open(node.url()).unwrap().get_connection().unwrap();
    redis::cmd("INFO").arg("replication").query(&mut connection).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sentinels_lead_to_the_master_also_after_a_failover() {
    let Some(group) = Group::start() else { return };
    let [replica, master] = &group.nodes;
    let url = group.url(OF_NODES, &format!("weir/1?sentinel_password={OF_SENTINELS}"));
    let by_file = bootstrap(&group.nodes.each_ref().map(|node| tcp(node.addr())), 1);
    let file = ["--config", by_file.path().to_str().unwrap()];
    sentinel_errors(&group);

    let set = |ruling: &str| {
        let words = ["set", "per_user", "--encoded", "alice", ruling];
        (notes(&[&words[..], &["--redis", &url]].concat()), notes(&[&words[..], &file].concat()))
    };
    let place = |node: &RedisServer| format!("redis: {}/1\n", node.addr());
    let (by_url, by_file) = set("blocked");
    assert!(by_url.ends_with(&place(master)) && by_file.ends_with(&place(master)), "{by_url}{by_file}");
    until("a copy of the override", || {
        let mut connection = redis::Client::open(format!("{}/1", replica.url())).unwrap().get_connection().unwrap();
        connection.exists(KEY).unwrap()
    });

    // A command waits for the new master, and names each Sentinel if that takes too long.
    master.kill();
    let deadline = Instant::now() + SOON;
    let got = loop {
        let began = Instant::now();
        match alone("get per_user alice", &url) {
            Ok(got) => break got,
            Err(error) => {
                println!("{error}");
                let names = group.sentinels.iter().all(|sentinel| error.contains(&format!("at {}: ", sentinel.addr())));
                assert!(names && !error.contains("s3cret"), "{error}");
                assert!(Instant::now() < deadline && began.elapsed() > WAITED, "{error}");
            }
        }
    };
    assert_eq!(got, "per_user alice: blocked\n");
    let got = types(&[&["get", "per_user", "alice"][..], &file].concat());
    assert_eq!(got.as_deref(), Ok("per_user alice: blocked\n"));
    let (by_url, by_file) = set("shadow");
    assert!(by_url.ends_with(&place(replica)) && by_file.ends_with(&place(replica)), "{by_url}{by_file}");
    assert!(alone("list", &url).unwrap().contains("shadow"));
}

fn sentinel_errors(group: &Group) {
    let [one, two] = group.sentinels.each_ref().map(Sentinel::addr);
    let master = group.nodes[1].addr();
    let right = format!("?sentinel_password={OF_SENTINELS}");
    let lines = |url: &str| -> Vec<String> {
        let error = alone("list", url).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        error.lines().map(str::to_owned).collect()
    };
    let found = lines(&group.url(OF_NODES, &format!("other{right}")));
    assert!(found[0].starts_with("sentinel at 127.0.0.1:1: Connection refused"), "{found:?}");
    let unknown = |addr| format!("sentinel at {addr}: expected a master named \"other\", found none");
    assert_eq!(found[1..], [unknown(one), unknown(two)]);
    for (password, expected) in [("", "NOAUTH"), ("?sentinel_password=s3cret", "WRONGPASS")] {
        let found = lines(&group.url(OF_NODES, &format!("weir{password}")));
        assert!(found[1].starts_with(&format!("sentinel at {one}: {expected} ")), "{found:?}");
    }
    let found = lines(&group.url("s3cret", &format!("weir{right}")));
    assert!(found[2].starts_with(&format!("sentinel at {two}: master {master}: WRONGPASS ")), "{found:?}");
}

fn tcp(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}

fn pipe(path: &Path) -> Value {
    json!({"pipe": {"path": path}})
}

/// A bootstrap with a limit, and a cluster at these addresses.
fn bootstrap(addresses: &[Value], database: u32) -> NamedTempFile {
    let limit = json!({
        "name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
        "quota": {"max_requests": 50, "unit": "year"},
    });
    let redis = json!({"cluster": "redis", "database": database, "password": {"inline": OF_NODES}});
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"endpoint": {"address": address}})).collect();
    let bootstrap = json!({"static_resources": {
        "listeners": [{"config": {"root_id": "limiter", "configuration": {
            "@type": "type.googleapis.com/google.protobuf.Struct", "value": {"redis": redis, "limits": [limit]},
        }}}],
        "clusters": [{"name": "redis", "load_assignment": {"endpoints": [{"lb_endpoints": endpoints}]}}],
    }});
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bootstrap.to_string()).unwrap();
    file
}

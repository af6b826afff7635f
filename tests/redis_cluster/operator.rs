//! An operator who runs `weir limits` on a Redis Cluster.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use redis::{Commands, ConnectionLike};
use tempfile::NamedTempFile;
use weir::RedisCluster;
use weir_filter::descriptor::{HashTag, tagged_bucket_key};
use weir_filter::limit::{Algorithms, Check, Scripts, SlotOwner, TokenBucket};
use weir_filter::units::{Micros, Tokens};
use weir_harness::limits::Limits;

/// The scenario, with the ports of its nodes.
const SCENARIO: &str = include_str!("../../envoy/redis-cluster.yaml");
const PORTS: [&str; 3] = ["port_value: 7000", "port_value: 7001", "port_value: 7002"];
/// Number of tenants, whose buckets are on all masters.
const TENANTS: usize = 24;
const SOON: Duration = Duration::from_secs(60);
/// Time for which a command waits at least for the successor of a master.
const WAITED: Duration = Duration::from_secs(9);

/// An operator with the scenario's file, adapted to a cluster.
struct Operator {
    cluster: RedisCluster,
    config: NamedTempFile,
}

impl Operator {
    async fn of_new_cluster() -> Option<Self> {
        let cluster = RedisCluster::start().await?;
        let mut scenario = SCENARIO.to_owned();
        for (port, node) in PORTS.iter().zip(cluster.endpoints()) {
            assert!(scenario.contains(port), "{port}");
            scenario = scenario.replace(port, &format!("port_value: {}", node.port()));
        }
        let config = NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(config.path(), scenario).unwrap();
        Some(Self { cluster, config })
    }

    /// Runs `weir limits` with these words, and returns its output and its notes.
    fn tries(&self, words: &str) -> Result<(String, String), String> {
        let config = self.config.path().to_str().unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        perform(&[&words, &["--config", config][..]].concat())
    }

    fn types(&self, words: &str) -> String {
        self.tries(words).unwrap_or_else(|error| panic!("{words}: {error}")).0
    }

    /// Spends the tokens of a request from the bucket of a tenant.
    fn spends(&self, tenant: &str, cost: u64) {
        let (max_tokens, per_minute) = (NonZeroU64::new(100).unwrap(), NonZeroU64::new(600).unwrap());
        let bucket = TokenBucket::new(max_tokens, per_minute, Micros::from_secs(60)).unwrap();
        let key = tagged_bucket_key("weir:", "per_tenant", HashTag::Entry(0), &[tenant]);
        let check = Algorithms::from(bucket).checks(0, &key[..], Tokens(cost), true).collect();
        let mut wire = Vec::new();
        Check::new(check, SlotOwner::default()).call(&Scripts::default()).encode_with_source(&mut wire);
        let mut node = self.cluster.connection_for(std::str::from_utf8(&key).unwrap());
        node.req_packed_commands(&wire, 0, 1).unwrap();
    }
}

fn perform(words: &[&str]) -> Result<(String, String), String> {
    let limits = Limits::parse(words).map_err(|error| error.to_string())?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    limits.perform(&mut out, &mut notes).map_err(|error| error.to_string())?;
    Ok((String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weir_limits_reaches_the_keys_of_all_masters() {
    let Some(operator) = Operator::of_new_cluster().await else { return };
    tokio::task::block_in_place(|| {
        overrides(&operator);
        buckets(&operator);
        while_a_slot_moves(&operator);
        errors(&operator);
        after_a_failover(&operator);
    });
}

fn overrides(operator: &Operator) {
    let key = "weir:per_user:{acme}:alice#override";
    let stored = || operator.cluster.connection_for(key).get::<_, Option<String>>(key).unwrap();
    assert_eq!(
        operator.types("get per_user acme alice"),
        "per_user acme:alice: no override\n".replace("acme", "{acme}")
    );
    assert_eq!(operator.types("set per_user acme alice blocked"), "per_user {acme}:alice: blocked\n");
    assert_eq!(stored().as_deref(), Some(r#"{"is":"blocked"}"#));
    let (_, notes) = operator.tries("set per_user --encoded {acme}:alice unlimited --for 1h").unwrap();
    assert!(notes.contains("replaced: blocked") && notes.contains("redis: cluster of 127.0.0.1:"), "{notes}");
    assert!(operator.types("get per_user acme alice").starts_with("per_user {acme}:alice: unlimited, for "));
    assert!(operator.types("set per_address 203.0.113.1 off").ends_with("off\n"));
    assert_eq!(operator.types("get per_address 203.0.113.1"), "per_address 203.0.113.1: off\n");
    operator.types("set per_tenant --times 2");
    let listed = operator.types("list");
    for row in ["203.0.113.1", "{acme}:alice", "(times 2)"] {
        assert_eq!(listed.matches(row).count(), 1, "{row}:\n{listed}");
    }
    let of_address = operator.types("list per_address --format json");
    assert!(of_address.contains(r#""key":"203.0.113.1""#) && !of_address.contains("alice"), "{of_address}");
    assert_eq!(operator.types("unset per_user acme alice"), "per_user {acme}:alice: no override any more\n");
    assert_eq!(stored(), None);
    operator.types("unset per_tenant");
    operator.types("unset per_address 203.0.113.1");
    assert_eq!(operator.types("migrate"), "0 overrides of keys moved, 0 expired ones removed, 0 malformed ones left\n");
}

fn buckets(operator: &Operator) {
    (0..TENANTS).for_each(|nth| operator.spends(&format!("tenant-{nth}"), 90));
    let listed = operator.types("list --limited --top 100 --format json");
    let found: BTreeSet<&str> = listed.split('"').filter(|word| word.starts_with("{tenant-")).collect();
    assert_eq!(found.len(), TENANTS, "{listed}");
    assert!(operator.types("peek per_tenant tenant-7").contains("of 100"));
    assert_eq!(operator.types("reset per_tenant tenant-7"), "per_tenant {tenant-7}: deleted, so it is full\n");
    assert!(operator.types("reset per_tenant tenant-7").contains("there is no such bucket"));
}

/// Each command finds its key before, while and after it moves, and waits where the slot has keys on both masters.
fn while_a_slot_moves(operator: &Operator) {
    let key = "weir:per_tenant:{tenant-8}";
    operator.types("set per_tenant tenant-8 shadow");
    let to = (operator.cluster.owner(key).unwrap() + 1) % 3;
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| operator.cluster.move_slot(key, to, Duration::from_millis(300)));
        let mut done = false;
        while !done {
            // Once more after the end.
            done = moving.is_finished();
            assert_eq!(operator.types("get per_tenant tenant-8"), "per_tenant {tenant-8}: shadow\n");
            assert!(operator.types("peek per_tenant tenant-8").contains("of 100"));
            operator.types("set per_tenant tenant-8 blocked");
            operator.types("set per_tenant tenant-8 shadow");
        }
    });
    assert_eq!(operator.cluster.owner(key), Some(to));
}

fn errors(operator: &Operator) {
    let other =
        |words: &str, url: &str| perform(&[&words.split(' ').collect::<Vec<_>>()[..], &["--redis", url]].concat());
    // One of the masters has the key.
    let nodes = operator.cluster.nodes();
    let told: Vec<_> = nodes[..3].iter().map(|node| other("get per_user acme", &node.url())).collect();
    let moved = told.iter().filter_map(|told| told.as_ref().err()).next().unwrap();
    assert!(moved.contains("this is one node of a Redis Cluster, which needs --redis redis+cluster://"), "{moved}");
    let refused = other("get per_user acme", "redis+cluster://me:secret@127.0.0.1/3").unwrap_err();
    assert_eq!(refused, "--redis: database: expected none or 0, the one of a Redis Cluster, found another");
    // Without a configuration, keys have the hash tag that is the default.
    other("set per_user alice blocked", &operator.cluster.url()).unwrap();
    let key = "weir:{per_user:alice}#override";
    assert_eq!(operator.cluster.connection_for(key).get::<_, String>(key).unwrap(), r#"{"is":"blocked"}"#);
    let (listed, _) = other("list", &operator.cluster.url()).unwrap();
    assert!(listed.contains("┆ alice "), "{listed}");
}

/// A command after the loss of a master waits for its replica, and scans find the keys of all masters again.
fn after_a_failover(operator: &Operator) {
    let key = "weir:per_tenant:{tenant-9}#override";
    operator.types("set per_tenant tenant-9 blocked");
    let owner = operator.cluster.owner(key).unwrap();
    let mut master = operator.cluster.connection_for(key);
    let _: () = master.set("{tenant-9}", "written after it").unwrap();
    let copied: i64 = redis::cmd("WAIT").arg(1).arg(30_000).query(&mut master).unwrap();
    assert_eq!(copied, 1, "the replica has the override");
    operator.cluster.nodes()[owner].kill();
    let killed = Instant::now();
    let got = loop {
        let began = Instant::now();
        match operator.tries("get per_tenant tenant-9") {
            Ok((got, _)) => break got,
            Err(error) => assert!(killed.elapsed() < SOON && began.elapsed() > WAITED, "{error}"),
        }
    };
    println!("found {:?} after the master was killed", killed.elapsed());
    assert_eq!(got, "per_tenant {tenant-9}: blocked\n");
    (0..TENANTS).for_each(|nth| operator.spends(&format!("tenant-{nth}"), 90));
    let listed = operator.types("list --limited --top 100 --format json");
    let found: BTreeSet<&str> = listed.split('"').filter(|word| word.starts_with("{tenant-")).collect();
    assert_eq!(found.len(), TENANTS, "{listed}");
    operator.types("unset per_tenant tenant-9");
}

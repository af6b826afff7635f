//! Redis Cluster: three masters and three replicas, whose hash slots can be moved.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Connection, FromRedisValue, RedisResult};
use weir_filter::redis::hash_slot;
use weir_provision::{
    ProvisionError, or_skip, port,
    redis::{RedisOptions, RedisServer},
};

/// Number of masters, each of which has a replica.
const MASTERS: usize = 3;
/// Number of hash slots.
const SLOTS: usize = 16_384;
/// A node's port for other nodes is higher by 10,000. It must be below those of outgoing connections.
const HIGHEST_PORT: u16 = 22_767;
/// Silence after which nodes take another one for down.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(90);

/// Nodes of a Redis Cluster; the first three are the masters at the start.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Arc<RedisServer>>,
}

impl RedisCluster {
    /// Starts the nodes, and waits until all masters serve and have a replica. `None` if Redis is missing, which is
    /// printed.
    ///
    /// # Panics
    /// If the cluster is not ready within 90 s.
    pub async fn start() -> Option<Self> {
        tokio::task::spawn_blocking(Self::start_now).await.expect("provisioning does not panic")
    }

    /// Starts the masters alone at free addresses. `front` says where clients reach a node, which the node announces.
    /// `None` if Redis is missing, which is printed.
    ///
    /// # Panics
    /// If the cluster is not ready within 90 s.
    pub async fn start_behind(front: impl AsyncFn(SocketAddr) -> SocketAddr) -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..MASTERS {
            let port = or_skip(node_port())?;
            let announced = front(([127, 0, 0, 1], port).into()).await.port().to_string();
            nodes.push(Arc::new(or_skip(node(port, &[["--cluster-announce-port", &announced]]))?));
        }
        let cluster = Self { nodes };
        cluster.join();
        Some(cluster)
    }

    fn start_now() -> Option<Self> {
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            nodes.push(Arc::new(or_skip(node_port().and_then(|port| node(port, &[])))?));
        }
        let cluster = Self { nodes };
        cluster.join();
        for place in 0..MASTERS {
            let master: String = ask(&cluster.nodes[place], &["CLUSTER", "MYID"]).expect("a node's id");
            let _: () = ask(&cluster.nodes[MASTERS + place], &["CLUSTER", "REPLICATE", &master]).expect("a replica");
        }
        cluster.until("a replica of each master", |cluster| {
            let is_up = |node: &Arc<RedisServer>| {
                ask::<String>(node, &["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
            };
            cluster.nodes[MASTERS..].iter().all(is_up)
        });
        Some(cluster)
    }

    /// Gives each master its slots, and makes all nodes known to each other.
    fn join(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for (place, node) in self.nodes.iter().enumerate() {
            let mut commands: Vec<Vec<String>> = vec![vec!["SET-CONFIG-EPOCH".into(), (place + 1).to_string()]];
            if place < MASTERS {
                let slots = SLOTS * place / MASTERS..SLOTS * (place + 1) / MASTERS;
                commands.push(["ADDSLOTS".to_owned()].into_iter().chain(slots.map(|slot| slot.to_string())).collect());
            }
            if place > 0 {
                let first = self.nodes[0].addr();
                commands.push(vec!["MEET".into(), first.ip().to_string(), first.port().to_string()]);
            }
            for command in commands {
                let _: () = redis::cmd("CLUSTER").arg(command).query(&mut connect(node)).expect("a new node");
            }
        }
        self.until("a cluster", |cluster| {
            let knows_all = |node: &Arc<RedisServer>| {
                let info: String = ask(node, &["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&known)
            };
            cluster.nodes.iter().all(knows_all)
        });
    }

    /// The nodes; the first three are the masters at the start.
    pub fn nodes(&self) -> &[Arc<RedisServer>] {
        &self.nodes
    }

    /// Waits until a node that was down is a replica with all data of its master.
    ///
    /// # Panics
    /// If that takes longer than 90 s.
    pub fn until_replica(&self, node: usize) {
        self.until("a replica", |cluster| {
            let info = ask::<String>(&cluster.nodes[node], &["INFO", "replication"]).unwrap_or_default();
            info.contains("role:slave") && info.contains("master_link_status:up")
        });
    }

    /// The URL of the nodes for `weir limits`.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.endpoints().iter().map(ToString::to_string).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The addresses of the first three nodes.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.nodes[..MASTERS].iter().map(|node| node.addr()).collect()
    }

    /// The index of the node that serves a key, by the first node that answers.
    pub fn owner(&self, key: &str) -> Option<usize> {
        let slot = i64::from(hash_slot(key.as_bytes()));
        let slots: Vec<Vec<redis::Value>> = self.nodes.iter().find_map(|node| ask(node, &["CLUSTER", "SLOTS"]).ok())?;
        let range = slots.into_iter().find(|range| {
            let bound = |place: usize| i64::from_redis_value(range[place].clone()).unwrap_or(-1);
            (bound(0)..=bound(1)).contains(&slot)
        })?;
        let master = Vec::<redis::Value>::from_redis_value(range.get(2)?.clone()).ok()?;
        let port = u16::from_redis_value(master.get(1)?.clone()).ok()?;
        self.nodes.iter().position(|node| node.addr().port() == port)
    }

    /// A connection to the node that serves a key.
    ///
    /// # Panics
    /// If no node serves it.
    pub fn connection_for(&self, key: &str) -> Connection {
        connect(&self.nodes[self.owner(key).expect("a node serves the key")])
    }

    /// Waits until another node than this serves a key.
    ///
    /// # Panics
    /// If that takes longer than 90 s.
    pub fn until_promoted(&self, key: &str, from: usize) {
        self.until("another master", |cluster| cluster.owner(key).is_some_and(|owner| owner != from));
    }

    /// Moves the slot of a key to another master, key by key, as `redis-cli --cluster reshard` does. Each of the steps
    /// takes at least `pause`.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn move_slot(&self, key: &str, to: usize, pause: Duration) {
        let slot = hash_slot(key.as_bytes()).to_string();
        let from = self.owner(key).expect("a node serves the key");
        let id = |place: usize| ask::<String>(&self.nodes[place], &["CLUSTER", "MYID"]).expect("a node's id");
        let (old, new, target) = (id(from), id(to), self.nodes[to].addr().port().to_string());
        let set = |place: usize, words: &[&str]| {
            let command = [&["CLUSTER", "SETSLOT", &slot], words].concat();
            let _: () = ask(&self.nodes[place], &command).expect("a slot's state is set");
        };
        set(to, &["IMPORTING", &old]);
        set(from, &["MIGRATING", &new]);
        std::thread::sleep(pause);
        loop {
            let keys: Vec<String> =
                ask(&self.nodes[from], &["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).expect("keys of a slot");
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let _: String =
                    ask(&self.nodes[from], &["MIGRATE", "127.0.0.1", &target, &key, "0", "5000"]).expect("a key moves");
                std::thread::sleep(pause);
            }
        }
        set(to, &["NODE", &new]);
        set(from, &["NODE", &new]);
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A free port of a node.
fn node_port() -> Result<u16, ProvisionError> {
    loop {
        let free = port::free_port()?.release().port();
        if free <= HIGHEST_PORT {
            return Ok(free);
        }
    }
}

/// Starts a node that knows no other, with further arguments.
fn node(port: u16, further: &[[&str; 2]]) -> Result<RedisServer, ProvisionError> {
    let timeout = NODE_TIMEOUT.as_millis().to_string();
    let args = [
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", &timeout],
        ["--cluster-require-full-coverage", "no"],
        ["--repl-diskless-sync-delay", "0"],
    ];
    let args = args.as_flattened().iter().chain(further.as_flattened()).copied().map(str::to_owned).collect();
    RedisServer::start(RedisOptions { port, args, ..RedisOptions::default() })
}

fn connect(node: &RedisServer) -> Connection {
    try_connect(node).expect("the node runs")
}

fn try_connect(node: &RedisServer) -> RedisResult<Connection> {
    let connection = redis::Client::open(node.url())?.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

fn ask<T: FromRedisValue>(node: &RedisServer, command: &[&str]) -> RedisResult<T> {
    redis::cmd(command[0]).arg(&command[1..]).query(&mut try_connect(node)?)
}

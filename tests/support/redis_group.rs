//! Master, replicas and Sentinels, with proxies that part a node from the others or from its clients.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use weir_host::fault::FaultProxy;
use weir_provision::{
    ProvisionError, or_skip, port,
    redis::{RedisOptions, RedisServer, Sentinel, SentinelOptions},
};

/// Number of nodes, and of Sentinels.
const SIZE: usize = 3;
const SOON: Duration = Duration::from_secs(90);
/// Silence after which Sentinels take a node for down.
pub const DOWN_AFTER: Duration = Duration::from_secs(1);

/// Three Redis nodes, the first of which is the master at the start, and three Sentinels.
#[derive(Debug)]
pub struct RedisGroup {
    nodes: Vec<Node>,
    sentinels: Vec<Sentinel>,
}

/// Node of a [`RedisGroup`].
#[derive(Debug)]
pub struct Node {
    /// The node's process.
    pub redis: Arc<RedisServer>,
    /// Proxy that hosts use.
    pub clients: FaultProxy,
    /// Proxy that the other nodes and the Sentinels use; the node announces its address.
    pub peers: FaultProxy,
}

impl RedisGroup {
    /// Starts the nodes, with these arguments in addition, and the Sentinels, and waits until a failover is possible.
    /// `None` if Redis is missing, which is printed.
    ///
    /// # Panics
    /// If the group is not ready within 30 s.
    pub async fn start(args: &[&str]) -> Option<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        for _ in 0..SIZE {
            let master = nodes.first().map(|node| node.peers.addr());
            nodes.push(Node::start(master, args).await?);
        }
        let options = SentinelOptions {
            name: "weir".into(),
            master: nodes[0].peers.addr(),
            quorum: 2,
            down_after: DOWN_AFTER,
            failover_timeout: Duration::from_secs(5),
            password: None,
            nodes_password: None,
        };
        let start = move || (0..SIZE).map(|_| Sentinel::start(&options)).collect::<Result<Vec<_>, ProvisionError>>();
        let sentinels = or_skip(tokio::task::spawn_blocking(start).await.expect("provisioning does not panic"))?;
        let group = Self { nodes, sentinels };
        group.until("a failover is possible", |group| {
            group.sentinels.iter().all(|sentinel| sentinel.is_usable(SIZE - 1).is_ok_and(|usable| usable))
                && group.nodes[1..].iter().all(|node| node.role().starts_with("role:slave") && node.has_its_master())
        });
        Some(group)
    }

    /// The nodes, in the order of the cluster's endpoints.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The addresses at which hosts reach the nodes.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.clients.addr()).collect()
    }

    /// The index of the master that most Sentinels know.
    pub fn master(&self) -> Option<usize> {
        let known: Vec<SocketAddr> = self.sentinels.iter().filter_map(|sentinel| sentinel.master().ok()).collect();
        let votes = |node: &Node| known.iter().filter(|master| **master == node.peers.addr()).count();
        self.nodes.iter().position(|node| 2 * votes(node) > SIZE)
    }

    /// Waits until another node than this is the master, and says so itself.
    ///
    /// # Panics
    /// If that takes longer than 30 s.
    pub fn until_promoted(&self, from: usize) -> usize {
        self.until("another master", |group| {
            group.master().is_some_and(|new| new != from && group.nodes[new].role().starts_with("role:master"))
        });
        self.master().expect("a master")
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Node {
    async fn start(master: Option<SocketAddr>, args: &[&str]) -> Option<Self> {
        let addr = port::free_port().expect("a free port").release();
        let proxy = async |name| FaultProxy::start(addr, name, 1).await.expect("a free port");
        let (clients, peers) = (proxy("clients").await, proxy("peers").await);
        let announced = peers.addr().port().to_string();
        let mut all = vec!["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", &announced];
        all.extend(["--repl-ping-replica-period", "1"]);
        let port = master.map(|master| master.port().to_string());
        if let Some(port) = &port {
            all.extend(["--replicaof", "127.0.0.1", port]);
        }
        all.extend(args);
        let args = all.into_iter().map(str::to_owned).collect();
        let options = RedisOptions { port: addr.port(), args, ..RedisOptions::default() };
        let start = move || RedisServer::start(options);
        let redis = or_skip(tokio::task::spawn_blocking(start).await.expect("provisioning does not panic"))?;
        Some(Self { redis: Arc::new(redis), clients, peers })
    }

    /// The replication part of INFO, from its line `role`; empty if the node does not answer.
    pub fn role(&self) -> String {
        let ask = || {
            let client = redis::Client::open(self.redis.url())?;
            let mut connection = client.get_connection_with_timeout(Duration::from_secs(1))?;
            connection.set_read_timeout(Some(Duration::from_secs(1)))?;
            redis::cmd("INFO").arg("replication").query::<String>(&mut connection)
        };
        let info = ask().unwrap_or_default();
        info.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }

    fn has_its_master(&self) -> bool {
        self.role().contains("master_link_status:up")
    }
}

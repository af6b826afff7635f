//! Master, replicas and Sentinels, with proxies that part a node from the others or from its clients.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use weir_host::fault::FaultProxy;
use weir_provision::{
    ProvisionError, or_skip, port,
    redis::{RELEASES, RedisOptions, RedisServer, Sentinel, SentinelOptions},
};

use crate::{
    secured::NAME,
    tls_proxy::{Authority, Side},
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
    /// Addresses at which the Sentinels speak TLS, if the group does.
    secured_sentinels: Vec<SocketAddr>,
}

/// TLS of all servers of a group, by an executable that has it.
struct Tls {
    binary: PathBuf,
    /// Arguments of a node, in pairs, and lines of a Sentinel.
    settings: Vec<[String; 2]>,
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
    /// If the group is not ready within 90 s.
    pub async fn start(args: &[&str]) -> Option<Self> {
        Self::start_all(None, args).await
    }

    /// Starts a group that speaks TLS among its servers and to clients, which need certificates of `authority`. The
    /// servers' files are in `folder`; their certificate names 127.0.0.1 and [`NAME`]. The
    /// fixture itself asks other ports.
    ///
    /// # Panics
    /// If the group is not ready within 90 s, or the folder cannot be written.
    pub async fn secured(authority: &Authority, folder: &Path) -> Option<Self> {
        let release = RELEASES.iter().find(|release| release.name == "Redis 8.0").expect("a release with TLS");
        let binary = or_skip(tokio::task::spawn_blocking(|| release.binary()).await.expect("no panic"))?;
        let server = authority.sign(Side::Server, "127.0.0.1", |params| {
            // Nodes and Sentinels are clients of each other.
            params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
            let name = NAME.try_into().expect("a DNS name");
            params.subject_alt_names.push(rcgen::SanType::DnsName(name));
        });
        authority.install(folder, &server).expect("the folder can be written");
        let file = |name: &str| folder.join(name).display().to_string();
        let settings = [
            ("tls-cert-file", file("tls.crt")),
            ("tls-key-file", file("tls.key")),
            ("tls-ca-cert-file", file("ca.crt")),
            ("tls-replication", "yes".to_owned()),
        ];
        let settings = settings.map(|(name, value)| [name.to_owned(), value]).into();
        Self::start_all(Some(&Tls { binary, settings }), &[]).await
    }

    async fn start_all(tls: Option<&Tls>, args: &[&str]) -> Option<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        for _ in 0..SIZE {
            let master = nodes.first().map(|node| node.peers.addr());
            nodes.push(Node::start(master, tls, args).await?);
        }
        let options = SentinelOptions {
            binary: tls.map(|tls| tls.binary.clone()),
            name: "weir".into(),
            master: nodes[0].peers.addr(),
            quorum: 2,
            down_after: DOWN_AFTER,
            failover_timeout: Duration::from_secs(5),
            password: None,
            nodes_password: None,
            lines: tls.into_iter().flat_map(|tls| &tls.settings).map(|setting| setting.join(" ")).collect(),
        };
        let secured_sentinels: Vec<SocketAddr> =
            tls.into_iter().flat_map(|_| (0..SIZE).map(|_| free_address())).collect();
        let of_tls = secured_sentinels.clone();
        let start = move || {
            let start = |nth: usize| {
                let mut options = options.clone();
                options.lines.extend(of_tls.get(nth).map(|addr| format!("tls-port {}", addr.port())));
                Sentinel::start(&options)
            };
            (0..SIZE).map(start).collect::<Result<Vec<_>, ProvisionError>>()
        };
        let sentinels = or_skip(tokio::task::spawn_blocking(start).await.expect("provisioning does not panic"))?;
        let group = Self { nodes, sentinels, secured_sentinels };
        group.until("a failover is possible", |group| {
            group.sentinels.iter().all(|sentinel| sentinel.is_usable(SIZE - 1).is_ok_and(|usable| usable))
                && group.nodes[1..].iter().all(|node| node.role().starts_with("role:slave") && node.has_its_master())
        });
        Some(group)
    }

    /// URL of the Sentinels of a secured group, for `weir limits`.
    pub fn sentinels_url(&self) -> String {
        let hosts: Vec<String> = self.secured_sentinels.iter().map(SocketAddr::to_string).collect();
        format!("rediss-sentinel://{}/weir", hosts.join(","))
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
    async fn start(master: Option<SocketAddr>, tls: Option<&Tls>, args: &[&str]) -> Option<Self> {
        let own = free_address();
        let addr = if tls.is_some() { free_address() } else { own };
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
        let mut args: Vec<String> = all.into_iter().map(str::to_owned).collect();
        if let Some(tls) = tls {
            args.extend(["--tls-port".to_owned(), addr.port().to_string()]);
            args.extend(tls.settings.iter().flat_map(|[name, value]| [format!("--{name}"), value.clone()]));
        }
        let binary = tls.map(|tls| tls.binary.clone());
        let options = RedisOptions { binary, port: own.port(), args, ..RedisOptions::default() };
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

fn free_address() -> SocketAddr {
    port::free_port().expect("a free port").release()
}

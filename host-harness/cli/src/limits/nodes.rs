//! Masters of a Redis Cluster: each command goes to the master of its key's hash slot.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Instant;

use redis::{
    ConnectionLike, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerError, ServerErrorKind, Value, cmd,
};
use weir_filter::redis::hash_slot;

use super::endpoint::{self, Endpoint};
use super::error::LimitsError;
use super::server::{ANSWER_WITHIN, Connection, FIND_WITHIN, PAUSE, Server};

/// Masters of a Redis Cluster, and the hash slots of each.
pub(super) struct Nodes {
    server: Server,
    nodes: Vec<Node>,
    /// Ranges of hash slots, each with the index of its master.
    slots: Vec<(RangeInclusive<u16>, usize)>,
}

/// Node of a cluster, connected when its first key is asked for.
struct Node {
    endpoint: Endpoint,
    connection: Option<Connection>,
}

impl Nodes {
    /// Reads the hash slots from the first node of `server` that answers.
    pub(super) fn connect(server: Server) -> Result<Self, LimitsError> {
        let endpoints = server.cluster_nodes().unwrap_or_default().to_vec();
        let mut problem = LimitsError::NoMaster { addresses: endpoint::list(&endpoints) };
        let mut nodes = Self { server, nodes: Vec::new(), slots: Vec::new() };
        for endpoint in endpoints {
            let node = nodes.node(endpoint);
            match nodes.read_slots(node) {
                Ok(()) => return Ok(nodes),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// The addresses of all masters.
    pub(super) fn addresses(&self) -> String {
        self.masters().into_iter().map(|node| self.address(node)).collect::<Vec<_>>().join(", ")
    }

    /// The indexes of all masters, in the order of their first hash slots.
    pub(super) fn masters(&self) -> Vec<usize> {
        let mut masters = Vec::new();
        for (_, node) in &self.slots {
            if !masters.contains(node) {
                masters.push(*node);
            }
        }
        masters
    }

    /// Sends a command for a key to its master, and follows the key to another node.
    pub(super) fn ask<T>(
        &mut self,
        key: &[u8],
        ask: &dyn Fn(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<T, LimitsError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let mut importing = None;
        loop {
            let node = importing.map_or_else(|| self.master(key), Ok)?;
            let connection = match self.connection(node) {
                Ok(connection) => connection,
                Err(error) if error.is_unreachable() && Instant::now() < until => {
                    importing = None;
                    self.look_for_another(node);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let done = match importing.take() {
                Some(_) => ask(&mut Asking(connection)),
                None => ask(&mut **connection),
            };
            let error = match done.map_err(|error| (moving(&error), error)) {
                Ok(done) => return Ok(done),
                Err((Some(moving), _)) if Instant::now() < until => moving,
                Err((_, error)) => return Err(self.failed(node, error)),
            };
            let target = error.redirect_node().and_then(|(target, _)| self.target(node, target));
            match target {
                Some(target) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => importing = Some(target),
                Some(target) => self.read_slots(target)?,
                None => thread::sleep(PAUSE),
            }
        }
    }

    /// Sends a command for each key, and returns the replies in their order. `packed` writes the command of a key by
    /// its index, and gets whether it is the first that its node sees.
    pub(super) fn ask_all(
        &mut self,
        keys: &[&[u8]],
        packed: &dyn Fn(usize, bool) -> Vec<u8>,
    ) -> Result<Vec<Value>, LimitsError> {
        let mut of_nodes: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            of_nodes.entry(self.master(key)?).or_default().push((index, key));
        }
        let mut replies = BTreeMap::new();
        for (node, keys) in of_nodes {
            let wire = keys.iter().enumerate().flat_map(|(nth, (index, _))| packed(*index, nth == 0));
            let wire: Vec<u8> = wire.collect();
            let of_node = match self.connection(node) {
                Ok(connection) => Some(connection.req_packed_commands(&wire, 0, keys.len())),
                // Each of the keys waits for its new master.
                Err(error) if error.is_unreachable() => None,
                Err(error) => return Err(error),
            };
            let of_node = of_node.transpose().map_err(|error| self.failed(node, error))?;
            let mut of_node = of_node.unwrap_or_default().into_iter();
            for (index, key) in keys {
                let again = |redis: &mut dyn ConnectionLike| match redis.req_packed_command(&packed(index, true))? {
                    Value::ServerError(error) if is_elsewhere(&error) => Err(error.into()),
                    reply => Ok(reply),
                };
                let is_elsewhere = |reply: &Value| matches!(reply, Value::ServerError(error) if is_elsewhere(error));
                let reply = match of_node.next().filter(|reply| !is_elsewhere(reply)) {
                    Some(reply) => reply,
                    None => self.ask(key, &again)?,
                };
                replies.insert(index, reply);
            }
        }
        Ok(replies.into_values().collect())
    }

    /// The node of a master, by its place in [`masters`](Self::masters). If it is down, its successor is waited for.
    pub(super) fn reach(&mut self, master: usize) -> Result<usize, LimitsError> {
        let until = Instant::now() + ANSWER_WITHIN;
        loop {
            let node = self.masters().get(master).copied().unwrap_or_default();
            match self.connection(node) {
                Ok(_) => return Ok(node),
                Err(error) if error.is_unreachable() && Instant::now() < until => self.look_for_another(node),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the hash slots from the first node that answers other than `down`, after a pause.
    fn look_for_another(&mut self, down: usize) {
        thread::sleep(PAUSE);
        let others = (0..self.nodes.len()).filter(|node| *node != down).collect::<Vec<_>>();
        let _ = others.into_iter().any(|node| self.read_slots(node).is_ok());
    }

    /// Sends a command that has no key to a node.
    pub(super) fn ask_node<T>(
        &mut self,
        node: usize,
        ask: &dyn Fn(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<T, LimitsError> {
        let done = ask(&mut **self.connection(node)?);
        done.map_err(|error| self.failed(node, error))
    }

    fn master(&self, key: &[u8]) -> Result<usize, LimitsError> {
        let slot = hash_slot(key);
        let range = self.slots.iter().find(|(range, _)| range.contains(&slot));
        let unserved = || LimitsError::UnservedSlot { addresses: self.addresses(), slot };
        range.map(|(_, node)| *node).ok_or_else(unserved)
    }

    /// Reads the masters of all hash slots from a node.
    fn read_slots(&mut self, node: usize) -> Result<(), LimitsError> {
        let ranges = self.ask_node(node, &|redis| cmd("CLUSTER").arg("SLOTS").query::<Vec<Vec<Value>>>(redis))?;
        self.slots.clear();
        for range in ranges {
            let number = |place: usize| range.get(place).and_then(|value| u16::from_redis_value_ref(value).ok());
            let master = range.get(2).and_then(|master| Vec::<Value>::from_redis_value_ref(master).ok());
            let master = master.unwrap_or_default();
            let host = master.first().and_then(|host| String::from_redis_value_ref(host).ok());
            let port = master.get(1).and_then(|port| u16::from_redis_value_ref(port).ok());
            if let (Some(first), Some(last), Some(port)) = (number(0), number(1), port) {
                let master = self.other(node, host.unwrap_or_default(), port);
                self.slots.push((first..=last, master));
            }
        }
        Ok(())
    }

    /// The target of a redirection by `node`.
    fn target(&mut self, node: usize, target: &str) -> Option<usize> {
        let (host, port) = target.rsplit_once(':')?;
        Some(self.other(node, host.to_owned(), port.parse().ok()?))
    }

    /// The node at an address that `node` has told: without a host, at its own.
    fn other(&mut self, node: usize, host: String, port: u16) -> usize {
        let own = match self.nodes.get(node).map(|node| &node.endpoint) {
            Some(Endpoint::Tcp(own, _)) if host.is_empty() => own.clone(),
            _ => host,
        };
        self.node(Endpoint::Tcp(own, port))
    }

    fn node(&mut self, endpoint: Endpoint) -> usize {
        let known = self.nodes.iter().position(|node| node.endpoint == endpoint);
        known.unwrap_or_else(|| {
            self.nodes.push(Node { endpoint, connection: None });
            self.nodes.len() - 1
        })
    }

    fn connection(&mut self, node: usize) -> Result<&mut Connection, LimitsError> {
        let none = || LimitsError::NoMaster { addresses: String::new() };
        let node = self.nodes.get_mut(node).ok_or_else(none)?;
        match &mut node.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(self.server.connect_to(&node.endpoint, FIND_WITHIN)?)),
        }
    }

    fn address(&self, node: usize) -> String {
        self.nodes.get(node).map(|node| node.endpoint.to_string()).unwrap_or_default()
    }

    fn failed(&self, node: usize, source: RedisError) -> LimitsError {
        LimitsError::Redis { address: self.address(node), source }
    }
}

/// The error by which a command or a pipeline is to be repeated, since its hash slot is moving or has moved: a script may
/// have found other keys of the slot on another node.
fn moving(error: &RedisError) -> Option<RedisError> {
    let is_moving = |error: &RedisError| error.is_cluster_error() || error.to_string().contains("non local key");
    let errors = error.clone().into_server_errors()?;
    errors.iter().map(|(_, error)| RedisError::from(error.clone())).find(is_moving)
}

/// Whether a command of several is to be repeated: its hash slot is moving or has moved, perhaps to a node without the
/// script.
fn is_elsewhere(error: &ServerError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, NoScript, TryAgain};
    matches!(error.kind(), Some(Ask | ClusterDown | Moved | NoScript | TryAgain))
}

/// Connection to a node that imports the hash slot of a command.
struct Asking<'a>(&'a mut Connection);

impl ConnectionLike for Asking<'_> {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        cmd("ASKING").exec(&mut **self.0)?;
        self.0.req_packed_command(command)
    }

    fn req_packed_commands(&mut self, commands: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        cmd("ASKING").exec(&mut **self.0)?;
        self.0.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }

    fn check_connection(&mut self) -> bool {
        self.0.check_connection()
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }
}

//! Envoy's proxy of a Redis Cluster, a network filter.

use super::Inventory;
use super::cluster::Cluster;
use crate::documents::At;

/// `redis_proxy` of a listener.
pub(crate) struct RedisProxy<'a> {
    /// The message of the filter.
    pub(crate) at: At<'a>,
    /// Name of the listener.
    pub(super) listener: &'a str,
}

impl<'a> RedisProxy<'a> {
    /// Name of the cluster for keys that no prefix routes elsewhere.
    pub(crate) fn cluster(&self) -> &'a str {
        let route = self.at.fields(["prefix_routes", "catch_all_route"]);
        route.map(|route| route.text_of("cluster")).unwrap_or_default()
    }
}

impl<'a> Inventory<'a> {
    /// The proxy behind an internal listener to which a cluster leads.
    pub(crate) fn redis_proxy(&self, cluster: &Cluster<'a>) -> Option<&RedisProxy<'a>> {
        let name = cluster.internal_listener()?;
        self.redis_proxies.iter().find(|proxy| proxy.listener == name)
    }
}

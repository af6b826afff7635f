//! Route tables: parser, and selection of the virtual host and route of a request.
//!
//! Matching is Envoy's: an exact domain, else the longest `*.suffix`, else the longest `prefix.*`, else `*`; then the
//! first matching route. (Envoy, "HTTP route components".)

use std::time::Duration;

use super::document::Node;

/// Route table of a listener (`route_config`).
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Name; empty if the file gives none.
    pub name: String,
    /// Virtual hosts, in the order of the file.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// Virtual host: a set of domains and their routes.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// Name.
    pub name: String,
    /// Domains in lower case: exact, `*.suffix`, `prefix.*` or `*`.
    pub domains: Vec<String>,
    /// Routes in order: the first matching route is used.
    pub routes: Vec<Route>,
}

/// Route of a virtual host.
#[derive(Debug, Clone)]
pub struct Route {
    /// Value of the `xds.route_name` property; empty if the file gives none.
    pub name: String,
    /// Matched paths.
    pub path: PathMatch,
    /// Action for matched requests.
    pub action: Action,
}

/// Match of a request's path; case-sensitive.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// Prefix of the path with its query.
    Prefix(String),
    /// Exact path without its query.
    Exact(String),
}

/// Action of a route.
#[derive(Debug, Clone)]
pub enum Action {
    /// The proxy sends a direct response.
    Direct(DirectResponse),
    /// The request goes to a cluster.
    Cluster {
        /// Name of a cluster of the same file.
        cluster: String,
        /// Time from the end of the request to the end of the response; zero: no timeout. Envoy's default is 15 s.
        timeout: Duration,
        /// Replacement of the matched prefix or path.
        prefix_rewrite: Option<String>,
    },
}

/// Direct response of a route.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// Status, 200 to 599.
    pub status: u16,
    /// Body, possibly empty.
    pub body: String,
}

impl RouteTable {
    /// Returns the route of a request by its `:authority` and its `:path`.
    #[must_use]
    pub fn find(&self, authority: &str, path: &str) -> Option<(&VirtualHost, &Route)> {
        let host = self.virtual_host(&authority.to_ascii_lowercase())?;
        host.routes.iter().find(|route| route.path.matches(path)).map(|route| (host, route))
    }

    /// Returns the cluster name of every route to a cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.virtual_hosts.iter().flat_map(|host| &host.routes).filter_map(|route| match &route.action {
            Action::Cluster { cluster, .. } => Some(cluster.as_str()),
            Action::Direct(_) => None,
        })
    }

    fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        let domains = || self.virtual_hosts.iter().flat_map(|host| host.domains.iter().map(move |name| (name, host)));
        let longest = |matches: &dyn Fn(&str) -> bool| {
            domains().filter(|(name, _)| *name != "*" && matches(name)).max_by_key(|(name, _)| name.len())
        };
        let exact = domains().find(|(name, _)| *name == authority);
        let found = exact
            .or_else(|| {
                longest(&|name| {
                    name.strip_prefix('*').is_some_and(|s| authority.len() > s.len() && authority.ends_with(s))
                })
            })
            .or_else(|| {
                longest(&|name| {
                    name.strip_suffix('*').is_some_and(|p| authority.len() > p.len() && authority.starts_with(p))
                })
            })
            .or_else(|| domains().find(|(name, _)| *name == "*"));
        found.map(|(_, host)| host)
    }
}

impl PathMatch {
    /// Whether a request's `:path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Exact(exact) => path.split('?').next() == Some(exact.as_str()),
        }
    }

    /// Length of the matched part of a path, which `prefix_rewrite` replaces.
    pub(crate) fn matched_len(&self) -> usize {
        match self {
            Self::Prefix(text) | Self::Exact(text) => text.len(),
        }
    }
}

pub(super) fn route_table(node: &Node<'_>) -> Option<RouteTable> {
    let mut fields = node.fields()?;
    let name = fields.take("name").and_then(|node| node.string()).unwrap_or_default();
    let hosts = fields.require("virtual_hosts").map(|node| node.each(virtual_host));
    fields.finish();
    Some(RouteTable { name, virtual_hosts: hosts?.into_iter().flatten().collect() })
}

fn virtual_host(node: &Node<'_>) -> Option<VirtualHost> {
    let mut fields = node.fields()?;
    let name = fields.require("name").and_then(|node| node.string());
    let domains = fields.require("domains").map(|node| node.each(Node::string));
    let routes = fields.take("routes").map(|node| node.each(route)).unwrap_or_default();
    fields.finish();
    let domains = domains?.into_iter().flatten().map(|domain| domain.to_ascii_lowercase()).collect();
    Some(VirtualHost { name: name?, domains, routes: routes.into_iter().flatten().collect() })
}

fn route(node: &Node<'_>) -> Option<Route> {
    let mut fields = node.fields()?;
    let name = fields.take("name").and_then(|node| node.string()).unwrap_or_default();
    let path = fields.require("match").and_then(|node| path_match(&node));
    let direct = fields.take("direct_response").map(|node| direct_response(&node).map(Action::Direct));
    let cluster = fields.take("route").map(|node| cluster_action(&node));
    fields.finish();
    let action = match (direct, cluster) {
        (Some(action), None) | (None, Some(action)) => action,
        _ => node.expected("one of `direct_response` and `route`"),
    };
    Some(Route { name, path: path?, action: action? })
}

pub(super) fn path_match(node: &Node<'_>) -> Option<PathMatch> {
    let mut fields = node.fields()?;
    let prefix = fields.take("prefix").map(|node| node.string().map(PathMatch::Prefix));
    let exact = fields.take("path").map(|node| node.string().map(PathMatch::Exact));
    fields.finish();
    match (prefix, exact) {
        (Some(path), None) | (None, Some(path)) => path,
        _ => node.expected("one of `prefix` and `path`"),
    }
}

fn direct_response(node: &Node<'_>) -> Option<DirectResponse> {
    let mut fields = node.fields()?;
    let status = fields.require("status").and_then(|node| {
        let status = node.integer::<u16>("a status, 200 to 599")?;
        if (200..600).contains(&status) { Some(status) } else { node.expected("a status, 200 to 599") }
    });
    let body = fields.take("body").map(|node| {
        let mut fields = node.fields()?;
        let text = fields.require("inline_string").and_then(|node| node.string());
        fields.finish();
        text
    });
    fields.finish();
    Some(DirectResponse { status: status?, body: body.unwrap_or_else(|| Some(String::new()))? })
}

fn cluster_action(node: &Node<'_>) -> Option<Action> {
    let mut fields = node.fields()?;
    let cluster = fields.require("cluster").and_then(|node| node.string());
    let timeout = fields.take("timeout").map_or(Some(Duration::from_secs(15)), |node| node.duration());
    let prefix_rewrite = fields.take("prefix_rewrite").and_then(|node| node.string());
    fields.finish();
    Some(Action::Cluster { cluster: cluster?, timeout: timeout?, prefix_rewrite })
}

//! Route tables: parser, and selection of the virtual host and route of a request.
//!
//! Matching is Envoy's: an exact domain, else the longest `*.suffix`, else the longest `prefix.*`, else `*`; then the
//! first matching route. (Envoy, "HTTP route components".)

use std::collections::HashSet;
use std::time::Duration;

use super::document::Node;
use super::header_mutation::{HeaderMutations, header_mutations};
use super::http_manager::upgrade;
use super::route_match::{Conditions, PathMatch, route_match};
use super::support;
use crate::documents::quoted;
use crate::http::Headers;

/// Longest body of a direct response in bytes, if a table sets no other limit.
const MAX_DIRECT_BODY: usize = 4096;

/// Route table of a listener (`route_config`).
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Name; empty if the file gives none.
    pub name: String,
    /// Virtual hosts, in the order of the file.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Header changes.
    pub mutations: HeaderMutations,
    /// Whether the changes of a route come last, instead of those of the table.
    pub most_specific_mutations_win: bool,
    /// Whether the clusters of routes have to be in the file.
    pub validates_clusters: bool,
    /// Whether a route has timers of its own.
    pub(crate) has_timers: bool,
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
    /// Header changes.
    pub mutations: HeaderMutations,
}

/// Route of a virtual host.
#[derive(Debug, Clone)]
pub struct Route {
    /// Value of the `xds.route_name` property; empty if the file gives none.
    pub name: String,
    /// Matched paths.
    pub path: PathMatch,
    /// Further conditions of a match.
    pub conditions: Conditions,
    /// Header changes.
    pub mutations: HeaderMutations,
    /// Action for matched requests.
    pub action: Action,
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
        /// Longest time without any event; `None`: the connection manager's; zero: no limit.
        idle_timeout: Option<Duration>,
        /// Longest time of a stream.
        max_duration: Option<Duration>,
        /// Replacement of the matched prefix or path.
        prefix_rewrite: Option<String>,
        /// Authority of the request to the cluster.
        host_rewrite: Option<String>,
        /// Upgrades of this route, and whether it allows them; others are the connection manager's.
        upgrades: Vec<(String, bool)>,
    },
    /// The proxy redirects the client.
    Redirect(Redirect),
}

/// Direct response of a route.
#[derive(Debug, Clone)]
pub struct DirectResponse {
    /// Status, 200 to 599.
    pub status: u16,
    /// Body, possibly empty.
    pub body: String,
}

/// Redirect of a route.
#[derive(Debug, Clone, Default)]
pub struct Redirect {
    /// Status, 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Scheme; `None`: that of the request.
    pub scheme: Option<String>,
    /// Host; `None`: that of the request.
    pub host: Option<String>,
    /// Port; `None`: that of the request.
    pub port: Option<u16>,
    /// Path, perhaps with a query.
    pub path: Option<String>,
    /// Replacement of the matched prefix or path.
    pub prefix_rewrite: Option<String>,
    /// Whether the request's query is dropped.
    pub strips_query: bool,
}

impl Route {
    /// Timers of the route: without any event, and of the whole stream.
    pub(crate) fn timers(&self) -> (Option<Duration>, Option<Duration>) {
        match &self.action {
            Action::Cluster { idle_timeout, max_duration, .. } => (*idle_timeout, *max_duration),
            Action::Direct(_) | Action::Redirect(_) => (None, None),
        }
    }
}

impl RouteTable {
    /// Returns the route of a request by its headers. As in Envoy, a request without a path or without
    /// `x-forwarded-proto` has no route: a filter has removed it.
    #[must_use]
    pub(crate) fn find(&self, headers: &Headers) -> Option<(&VirtualHost, &Route)> {
        headers.first(b"x-forwarded-proto").and(headers.first(b":path"))?;
        let host = self.virtual_host(&headers.text(":authority").unwrap_or_default().to_ascii_lowercase())?;
        host.routes.iter().find(|route| route.conditions.hold(&route.path, headers)).map(|route| (host, route))
    }

    /// Header changes of a route, in the order in which they apply.
    pub(crate) fn mutations<'a>(&'a self, host: &'a VirtualHost, route: &'a Route) -> [&'a HeaderMutations; 3] {
        if self.most_specific_mutations_win {
            [&self.mutations, &host.mutations, &route.mutations]
        } else {
            [&route.mutations, &host.mutations, &self.mutations]
        }
    }

    /// Returns the cluster name of every route to a cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.virtual_hosts.iter().flat_map(|host| &host.routes).filter_map(|route| match &route.action {
            Action::Cluster { cluster, .. } => Some(cluster.as_str()),
            Action::Direct(_) | Action::Redirect(_) => None,
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

pub(super) fn route_table(node: &Node<'_>) -> Option<RouteTable> {
    let mut fields = node.message(&support::ROUTE_TABLE)?;
    let name = fields.take("name").and_then(|node| node.string()).unwrap_or_default();
    let hosts = fields.take("virtual_hosts").map(|node| node.each(virtual_host)).unwrap_or_default();
    let mutations = header_mutations(&mut fields);
    let wins = fields.take("most_specific_header_mutations_wins").map_or(Some(false), |node| node.boolean());
    let validates = fields.take("validate_clusters").map_or(Some(true), |node| node.boolean());
    let longest = fields.take("max_direct_response_body_size_bytes");
    let longest = longest.map_or(Some(MAX_DIRECT_BODY), |node| node.integer("a number of bytes"));
    fields.finish();
    let virtual_hosts: Vec<VirtualHost> = hosts.into_iter().flatten().collect();
    check_domains(node, &virtual_hosts);
    check_bodies(node, &virtual_hosts, longest?);
    let routes = || virtual_hosts.iter().flat_map(|host| &host.routes);
    Some(RouteTable {
        name,
        mutations: mutations?,
        most_specific_mutations_win: wins?,
        validates_clusters: validates?,
        has_timers: routes().any(|route| route.timers() != (None, None)),
        virtual_hosts,
    })
}

/// Refuses a domain that is listed twice, as Envoy does.
fn check_domains(node: &Node<'_>, hosts: &[VirtualHost]) {
    let mut seen = HashSet::new();
    for domain in hosts.iter().flat_map(|host| &host.domains).filter(|domain| !seen.insert(domain.as_str())) {
        node.child("virtual_hosts").refuse(&format!("the domain {} is listed twice", quoted(domain)));
    }
}

/// Refuses a direct response with a body that is longer than the table allows.
fn check_bodies(node: &Node<'_>, hosts: &[VirtualHost], longest: usize) {
    for route in hosts.iter().flat_map(|host| &host.routes) {
        let Action::Direct(DirectResponse { body, .. }) = &route.action else { continue };
        if body.len() > longest {
            let found = body.len();
            node.child("virtual_hosts").refuse(&format!(
                "expected direct responses of at most {longest} bytes (`max_direct_response_body_size_bytes`), found {found}"
            ));
        }
    }
}

fn virtual_host(node: &Node<'_>) -> Option<VirtualHost> {
    let mut fields = node.message(&support::VIRTUAL_HOST)?;
    let name = fields.require("name").and_then(|node| node.string());
    let domains = fields.require("domains").map(|node| match node.each(Node::string) {
        none if none.is_empty() => node.expected("at least one domain").into_iter().collect(),
        domains => domains,
    });
    let routes = fields.take("routes").map(|node| node.each(route)).unwrap_or_default();
    let mutations = header_mutations(&mut fields);
    fields.finish();
    let domains = domains?.into_iter().flatten().map(|domain| domain.to_ascii_lowercase()).collect();
    let routes = routes.into_iter().flatten().collect();
    Some(VirtualHost { name: name?, domains, routes, mutations: mutations? })
}

fn route(node: &Node<'_>) -> Option<Route> {
    let mut fields = node.message(&support::ROUTE)?;
    let name = fields.take("name").and_then(|node| node.string()).unwrap_or_default();
    let path = fields.require("match").and_then(|node| route_match(&node));
    let direct = fields.take("direct_response").map(|node| direct_response(&node).map(Action::Direct));
    let cluster = fields.take("route").map(|node| cluster_action(&node));
    let redirect = fields.take("redirect").map(|node| redirect(&node).map(Action::Redirect));
    let mutations = header_mutations(&mut fields);
    fields.finish();
    let action = match (direct, cluster, redirect) {
        (Some(action), None, None) | (None, Some(action), None) | (None, None, Some(action)) => action,
        _ => node.expected("one of `direct_response`, `redirect` and `route`"),
    };
    let (path, conditions) = path?;
    Some(Route { name, path, conditions, mutations: mutations?, action: action? })
}

fn direct_response(node: &Node<'_>) -> Option<DirectResponse> {
    let mut fields = node.message(&support::DIRECT_RESPONSE)?;
    let status = fields.require("status").and_then(|node| {
        let status = node.integer::<u16>("a status, 200 to 599")?;
        if (200..600).contains(&status) { Some(status) } else { node.expected("a status, 200 to 599") }
    });
    let body = fields.take("body").map(|node| {
        let mut fields = node.message(&support::DATA_SOURCE)?;
        let text = fields.require("inline_string").and_then(|node| node.string());
        fields.finish();
        text
    });
    fields.finish();
    Some(DirectResponse { status: status?, body: body.unwrap_or_else(|| Some(String::new()))? })
}

fn cluster_action(node: &Node<'_>) -> Option<Action> {
    let mut fields = node.message(&support::ROUTE_ACTION)?;
    let cluster = fields.require("cluster").and_then(|node| node.string());
    let timeout = fields.take("timeout").map_or(Some(Duration::from_secs(15)), |node| node.duration());
    let idle = fields.take("idle_timeout").map(|node| node.duration());
    let longest = fields.take("max_stream_duration").map(|node| max_duration(&node));
    let prefix_rewrite = fields.take("prefix_rewrite").and_then(|node| node.string());
    let host_rewrite = fields.take("host_rewrite_literal").and_then(|node| node.string());
    let upgrades = fields.take("upgrade_configs").map(|node| node.each(upgrade)).unwrap_or_default();
    fields.finish();
    let upgrades = upgrades.into_iter().collect::<Option<_>>()?;
    (idle != Some(None) && longest != Some(None)).then_some(())?;
    let (idle_timeout, max_duration) = (idle.flatten(), longest.flatten().flatten());
    let (cluster, timeout) = (cluster?, timeout?);
    Some(Action::Cluster { cluster, timeout, idle_timeout, max_duration, prefix_rewrite, host_rewrite, upgrades })
}

fn max_duration(node: &Node<'_>) -> Option<Option<Duration>> {
    let mut fields = node.message(&support::MAX_STREAM_DURATION)?;
    let duration = fields.take("max_stream_duration").map(|node| node.duration());
    fields.finish();
    duration.map_or(Some(None), |duration| duration.map(Some))
}

fn redirect(node: &Node<'_>) -> Option<Redirect> {
    let mut fields = node.message(&support::REDIRECT)?;
    let https = fields.take("https_redirect").map_or(Some(false), |node| node.boolean());
    let [scheme, host, path, prefix] = ["scheme_redirect", "host_redirect", "path_redirect", "prefix_rewrite"]
        .map(|name| fields.take(name).map(|node| node.string()));
    let port = fields.take("port_redirect").map(|node| node.integer("a port, 0 to 65535"));
    let strips_query = fields.take("strip_query").map_or(Some(false), |node| node.boolean());
    let status = fields.take("response_code").map_or(Some(301), |node| {
        node.one_of(&[
            ("MOVED_PERMANENTLY", 301),
            ("FOUND", 302),
            ("SEE_OTHER", 303),
            ("TEMPORARY_REDIRECT", 307),
            ("PERMANENT_REDIRECT", 308),
        ])
    });
    fields.finish();
    let given = |value: Option<Option<String>>| match value {
        None => Some(None),
        Some(value) => value.map(|text| Some(text).filter(|text| !text.is_empty())),
    };
    let scheme = if https? { Some("https".to_owned()) } else { given(scheme)? };
    (port != Some(None)).then_some(())?;
    Some(Redirect {
        status: status?,
        scheme,
        host: given(host)?,
        port: port.flatten(),
        path: given(path)?,
        prefix_rewrite: given(prefix)?,
        strips_query: strips_query?,
    })
}

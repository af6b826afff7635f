//! Answers and rewrites of the router: redirects, paths, and header changes of routes.

use std::time::Duration;

use crate::bootstrap::{Action, HeaderMutations, PathMatch, Redirect, Route, RouteTable, VirtualHost};
use crate::http::{HeaderChange, Headers, LocalReply, Stream, apply};

/// Header changes of a route at all levels, in the order in which they apply.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteMutations([HeaderMutations; 3]);

impl RouteMutations {
    pub(crate) fn of(table: &RouteTable, host: &VirtualHost, route: &Route) -> Self {
        Self(table.mutations(host, route).map(Clone::clone))
    }

    pub(crate) fn of_request(&self, stream: &Stream) -> Vec<HeaderChange> {
        self.0.iter().flat_map(|level| level.of_request(stream)).collect()
    }

    pub(crate) fn of_response(&self, stream: &Stream) -> Vec<HeaderChange> {
        self.0.iter().flat_map(|level| level.of_response(stream)).collect()
    }

    /// Returns a local reply of the router with the changes of the response; their values can name its details.
    pub(crate) fn changed(&self, reply: LocalReply, stream: &Stream) -> LocalReply {
        stream.info.response_details.replace(reply.details.clone());
        LocalReply { changes: self.of_response(stream), ..reply }
    }
}

/// Headers with which a filter or an internal client steers the router. They are not sent to the upstream.
const STEERING: [&str; 11] = [
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-max-retries",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Takes the headers that steer the router, and returns the timeout of the request: theirs, or the route's.
///
/// Of these headers, only the timeout is honoured.
pub(crate) fn steered(headers: &mut Headers, timeout: Duration) -> Duration {
    let asked = headers.text("x-envoy-upstream-rq-timeout-ms").and_then(|millis| millis.parse().ok());
    STEERING.iter().for_each(|name| headers.remove(name.as_bytes()));
    asked.map_or(timeout, Duration::from_millis)
}

/// Returns the headers of a request as the route sends it to a cluster.
pub(crate) fn sent(route: &Route, mutations: &RouteMutations, stream: &Stream, mut headers: Headers) -> Headers {
    apply(&mutations.of_request(stream), &mut headers);
    let Action::Cluster { prefix_rewrite, host_rewrite, .. } = &route.action else { return headers };
    if let Some(prefix) = prefix_rewrite {
        let path = headers.text(":path").unwrap_or("/").to_owned();
        headers.set(":path", rewritten(&route.path, &path, prefix));
        headers.replace("x-envoy-original-path", path);
    }
    if let Some(host) = host_rewrite {
        let of_request = headers.text(":authority").unwrap_or_default().to_owned();
        headers.replace("x-envoy-original-host", of_request);
        headers.set(":authority", host.clone());
    }
    headers
}

/// Replaces the matched part of a path.
fn rewritten(matched: &PathMatch, path: &str, replacement: &str) -> String {
    format!("{replacement}{}", path.get(matched.matched_len(path)..).unwrap_or(""))
}

/// `location` of a redirect. (Envoy, `RouteEntryImplBase::newUri`.)
pub(crate) fn location(redirect: &Redirect, matched: &PathMatch, headers: &Headers) -> String {
    let of_request = headers.text("x-forwarded-proto").unwrap_or("http");
    let scheme = redirect.scheme.as_deref().unwrap_or(of_request);
    let host = redirect.host.clone().unwrap_or_else(|| {
        let host = headers.text(":authority").unwrap_or_default();
        let port = host.rfind(':').filter(|colon| !host.get(*colon..).unwrap_or_default().contains(']'));
        let Some(colon) = port else { return host.to_owned() };
        let (name, port) = host.split_at(colon);
        let is_default = matches!((of_request, port), ("https", ":443") | ("http", ":80"));
        let is_dropped = redirect.port.is_some() || (scheme != of_request && is_default);
        if is_dropped { name.to_owned() } else { host.to_owned() }
    });
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = headers.text(":path").unwrap_or("/");
    let query = path.find('?').and_then(|mark| path.get(mark..)).filter(|_| !redirect.strips_query).unwrap_or("");
    let path = match (&redirect.path, &redirect.prefix_rewrite) {
        (Some(path), _) if path.contains('?') => path.clone(),
        (Some(path), _) => format!("{path}{query}"),
        (None, prefix) => {
            let path = match prefix {
                Some(prefix) => rewritten(matched, path, prefix),
                None => path.to_owned(),
            };
            if redirect.strips_query { path.split('?').next().unwrap_or_default().to_owned() } else { path }
        }
    };
    format!("{scheme}://{host}{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_of_a_header_takes_the_place_of_the_routes() {
        let steered_by = |value: &'static str| {
            let mut headers: Headers = [("x-envoy-upstream-rq-timeout-ms", value), ("x", "y")].into_iter().collect();
            let timeout = steered(&mut headers, Duration::from_secs(15));
            assert_eq!(headers, [("x", "y")].into_iter().collect());
            timeout
        };
        assert_eq!([steered_by("200"), steered_by("0")], [Duration::from_millis(200), Duration::ZERO]);
        assert_eq!([steered_by("soon"), steered_by("-1")], [Duration::from_secs(15); 2]);
    }

    fn located(redirect: &Redirect, authority: &str, path: &str) -> String {
        let headers = [(":authority", authority), (":path", path), ("x-forwarded-proto", "http")];
        location(
            redirect,
            &PathMatch::Prefix("/old".to_owned()),
            &headers.map(|(name, value)| (name, value.to_owned())).into_iter().collect(),
        )
    }

    #[test]
    fn a_redirect_changes_the_parts_that_it_names() {
        let https = Redirect { scheme: Some("https".to_owned()), ..Redirect::default() };
        assert_eq!(located(&https, "shop:80", "/old?a"), "https://shop/old?a");
        assert_eq!(located(&https, "shop:8080", "/old?a"), "https://shop:8080/old?a");
        assert_eq!(located(&Redirect { port: Some(8443), ..https }, "shop:8080", "/old"), "https://shop:8443/old");
        let prefix = Redirect { prefix_rewrite: Some("/new".to_owned()), ..Redirect::default() };
        assert_eq!(located(&prefix, "shop", "/old/a?b"), "http://shop/new/a?b");
        assert_eq!(located(&Redirect { strips_query: true, ..prefix }, "shop", "/old/a?b"), "http://shop/new/a");
        let path = Redirect { path: Some("/x".to_owned()), host: Some("other".to_owned()), ..Redirect::default() };
        assert_eq!(located(&path, "shop", "/old/a?b"), "http://other/x?b");
    }
}

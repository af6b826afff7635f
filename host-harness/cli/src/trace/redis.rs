//! Redis of a trace: that of `REDIS_URL`, that of the file, or a private one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use weir_filter::config::Config;
use weir_host::Bootstrap;
use weir_host::bootstrap::{Cluster, Endpoint};
use weir_provision::redis::{ExternalRedis, RedisOptions, RedisServer};
use weir_provision::webdis::WebdisOptions;

use crate::front_end::FrontEnd;

/// Time within which the file's Redis has to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Redis of a trace.
pub(super) struct TraceRedis {
    /// Sentence that says which Redis it is.
    pub(super) shown: String,
    _servers: Vec<RedisServer>,
    _front_ends: Vec<FrontEnd>,
}

/// Finds the Redis of each limiter, or starts one, and points the limiters' clusters to it.
pub(super) async fn provide(bootstrap: &mut Bootstrap, limiters: &[Config]) -> anyhow::Result<TraceRedis> {
    let (mut servers, mut front_ends) = (Vec::new(), Vec::new());
    let mut shown: Vec<String> = Vec::new();
    let mut clusters: Vec<&Config> = Vec::new();
    for config in limiters {
        if !clusters.iter().any(|known| known.redis.cluster == config.redis.cluster) {
            clusters.push(config);
        }
    }
    for config in clusters {
        let name = &config.redis.cluster;
        let Some(cluster) = bootstrap.cluster_mut(name) else { continue };
        if let Some(external) = ExternalRedis::from_env()? {
            shown.push(format!("cluster `{name}` is the Redis of REDIS_URL, {}", external.addr()));
            front_ends.extend(lead(cluster, config, external.addr(), external.login().password.clone()).await?);
            continue;
        }
        let first = cluster.endpoints.first().map(|endpoint| (endpoint.host.clone(), endpoint.port));
        if let Some((host, port)) = &first {
            let connecting = TcpStream::connect((host.as_str(), *port));
            if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_WITHIN, connecting).await {
                shown.push(format!(
                    "cluster `{name}` is the file's Redis at {host}:{port}; the request spends its tokens there"
                ));
                continue;
            }
        }
        let options = private(config);
        let server =
            tokio::task::spawn_blocking(|| RedisServer::start(options)).await.context("cannot start a Redis")??;
        let there = first.map_or("nowhere".to_owned(), |(host, port)| format!("at {host}:{port}"));
        shown.push(format!("cluster `{name}` is a private Redis at {}: no Redis answers {there}", server.addr()));
        front_ends.extend(lead(cluster, config, server.addr(), server.password().map(str::to_owned)).await?);
        servers.push(server);
    }
    if shown.is_empty() {
        shown.push("no limiter asks a Redis".to_owned());
    }
    Ok(TraceRedis { shown: shown.join("; "), _servers: servers, _front_ends: front_ends })
}

/// Points a cluster to a Redis, or to a front end of it that is started.
async fn lead(
    cluster: &mut Cluster,
    config: &Config,
    redis: SocketAddr,
    redis_password: Option<String>,
) -> anyhow::Result<Option<FrontEnd>> {
    let mut front_end = None;
    if let Some(kind) = config.redis.transport.front_end() {
        let login = config.redis.credentials.as_ref();
        let login = login.and_then(|it| Some((it.username.clone()?, it.password.expose().to_owned())));
        let options = WebdisOptions { login, redis_password, ..WebdisOptions::default() };
        let token = config.redis.http.token.as_ref().map(|token| token.expose().to_owned());
        front_end = Some(FrontEnd::start(kind, redis, options, token).await?);
        cluster.tls = None;
    }
    let addr = front_end.as_ref().map_or(redis, FrontEnd::addr);
    cluster.endpoints = vec![Endpoint { host: addr.ip().to_string(), port: addr.port() }];
    Ok(front_end)
}

/// Returns options for a Redis with the limiter's credentials, unless these are of a front end.
fn private(config: &Config) -> RedisOptions {
    let mut options = RedisOptions::default();
    if config.redis.transport.front_end().is_none()
        && let Some(credentials) = &config.redis.credentials
    {
        let password = credentials.password.expose();
        match &credentials.username {
            Some(user) if user != "default" => {
                let words = ["--user", user, "on", &format!(">{password}"), "~*", "&*", "+@all"];
                options.args.extend(words.map(str::to_owned));
            }
            _ => options.password = Some(password.to_owned()),
        }
    }
    options
}

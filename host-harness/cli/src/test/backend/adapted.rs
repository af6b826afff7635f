//! Scenario for a real host: the configuration under test on free ports, with the Redis of the run.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use weir_host::scenario::{Scenario, ScenarioError};
use weir_provision::redis::{Login, Redis};

use super::upstream::TestUpstream;
use crate::front_end::FrontEnd;
use crate::test::proxy::Proxy;

/// `redis.timeout` on real hosts: a busy machine must not look like a failed Redis.
const TIMEOUT: &str = "5s";

/// Returns the scenario with free ports, this Redis or its front end, this module, this key prefix, and this upstream.
pub(super) fn adapted(
    proxy: &Proxy,
    redis: &Redis,
    front_end: Option<&FrontEnd>,
    wasm: &Path,
    key_prefix: &str,
    upstream: Option<&TestUpstream>,
) -> Result<Scenario, ScenarioError> {
    let mut scenario = proxy.scenario.clone();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    scenario.every_listener(any_port);
    scenario.edit(|document| {
        drop_access_logs(document);
        if let Some(upstream) = upstream {
            upstream.serve_all(document);
        }
        document["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
    });
    scenario.endpoint(&proxy.redis, front_end.map_or(redis.addr(), FrontEnd::addr))?.wasm(wasm)?;
    // A front end has the login itself.
    let login = if front_end.is_some() { Login::default() } else { redis.login() };
    scenario.filter_configuration(|filter| {
        let redis = &mut filter["redis"];
        redis["key_prefix"] = key_prefix.into();
        redis["timeout"] = TIMEOUT.into();
        if let Some(fields) = redis.as_object_mut() {
            ["username", "password", "database"].iter().for_each(|name| _ = fields.remove(*name));
        }
        if let Some(username) = &login.username {
            redis["username"] = username.clone().into();
        }
        if let Some(password) = &login.password {
            redis["password"] = json!({ "inline": password });
        }
        if login.database != 0 {
            redis["database"] = login.database.into();
        }
    })?;
    front_end.map_or(Ok(()), |front_end| front_end.adapt(&mut scenario))?;
    Ok(scenario)
}

/// Removes access logs: they would be mixed with the report.
fn drop_access_logs(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            ["access_log", "accessLog"].iter().for_each(|name| _ = fields.remove(*name));
            fields.values_mut().for_each(drop_access_logs);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_access_logs),
        _ => {}
    }
}

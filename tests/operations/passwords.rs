//! Passwords are read without a newline at the end, as files have it, and are never logged.

use std::fs;

use serde_json::{Value, json};
use weir::{HostKind, Mesh};
use weir_host::scenario::Scenario;
use weir_provision::{self as provision, checkout, envoy::EnvoyServer, filter_wasm, redis::RedisOptions};

use super::{QUICKSTART, manager};

weir::on_both_hosts! {
    a_password_that_ends_in_a_newline_is_read_without_it
}

async fn a_password_that_ends_in_a_newline_is_read_without_it(host: HostKind) {
    let with_password = RedisOptions { password: Some("correct horse".into()), ..RedisOptions::default() };
    for (scenario, password) in [
        (QUICKSTART, json!({"env": "REDIS_PASSWORD"})),
        ("envoy/callout.yaml", json!({"env": "REDIS_PASSWORD"})),
        (QUICKSTART, json!({"inline": "correct horse\n"})),
    ] {
        let mesh = Mesh::on(host, scenario).patient().redis(with_password.clone()).configure(|filter| {
            filter["redis"]["username"] = "default\n".into();
            filter["redis"]["password"] = password.clone();
        });
        let Some(mesh) = mesh.edit(list_everywhere).start().await else { return };
        mesh.get("alice").await.admitted().remaining(19);
        if let Some(envoy) = mesh.hosts()[0].envoy() {
            let log = envoy.log();
            let expected = if password.get("env").is_some() {
                "redis.password.env: the value of REDIS_PASSWORD ends in a newline; it is read without"
            } else {
                "redis.password.inline: the value ends in a newline; it is read without"
            };
            assert!(log.contains(expected) && log.contains("redis.username: the value ends in a newline"), "{log}");
            assert!(!log.contains("correct horse"), "{log}");
        }
    }
}

/// Lists the variable in the VM configuration of both the limiter and the bridge.
fn list_everywhere(bootstrap: &mut Value) {
    let variables = json!({"key_values": {"REDIS_PASSWORD": "correct horse\n"}});
    manager(bootstrap)["http_filters"][0]["typed_config"]["config"]["vm_config"]["environment_variables"] =
        variables.clone();
    for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().into_iter().flatten() {
        let Some(options) = cluster.get_mut("typed_extension_protocol_options") else { continue };
        let filters = options
            .pointer_mut("/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/config");
        if let Some(bridge) = filters {
            bridge["vm_config"]["environment_variables"] = variables.clone();
        }
    }
}

/// Returns Envoy's error for the quickstart with this section `redis`. `None` if a component is missing.
fn refused_by_envoy(redis: Value) -> Option<String> {
    let wasm = provision::or_skip(filter_wasm::find_or_build())?;
    provision::or_skip(provision::envoy::binary())?;
    let mut scenario = Scenario::load(checkout::root().unwrap().join(QUICKSTART)).unwrap();
    scenario.wasm(&wasm).unwrap();
    scenario.filter_configuration(|filter| filter["redis"] = redis.clone()).unwrap();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), scenario.to_yaml()).unwrap();
    Some(EnvoyServer::validate(file.path()).unwrap_err().to_string())
}

#[test]
fn envoys_error_says_where_to_list_the_variable_of_a_password() {
    let Some(refusal) = refused_by_envoy(json!({"cluster": "redis", "password": {"env": "REDIS_PASSWORD"}})) else {
        return;
    };
    for part in ["redis.password.env: ", "vm_config.environment_variables of both the limiter and the bridge"] {
        assert!(refusal.contains(part), "{refusal}");
    }
}

#[test]
fn envoys_error_contains_no_secret_of_a_malformed_configuration() {
    for redis in [
        json!("redis://:hunter2-hunter2@redis:6379"),
        json!({"cluster": "redis://:hunter2-hunter2@redis:6379"}),
        json!({"cluster": "redis", "password": "hunter2-hunter2"}),
        json!({"cluster": "redis", "pasword": "hunter2-hunter2", "hunter2-hunter2": 1}),
        json!({"cluster": "redis", "password": {"inline": ["hunter2-hunter2"]}}),
        json!({"cluster": "redis", "password": {"env": "hunter2_hunter2"}}),
    ] {
        let Some(refusal) = refused_by_envoy(redis.clone()) else { return };
        assert!(refusal.contains("redis") && !refusal.contains("hunter2"), "{redis}: {refusal}");
    }
}

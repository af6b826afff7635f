//! Validation by a real Envoy: it accepts every scenario of `envoy/` and refuses a wrong configuration.

use std::fs;

use weir_host::scenario::Scenario;
use weir_provision::{self as provision, checkout, envoy::EnvoyServer, filter_wasm};

#[test]
fn envoy_accepts_every_scenario() {
    let Some(wasm) = provision::or_skip(filter_wasm::find_or_build()) else { return };
    if provision::or_skip(provision::envoy::binary()).is_none() {
        return;
    }
    for variable in ["REDIS_PASSWORD", "UPSTASH_REDIS_REST_TOKEN"] {
        if !weir::has_variable("envoy_accepts_every_scenario", variable, "correct horse") {
            return;
        }
    }
    let scenarios = scenarios();
    assert!(!scenarios.is_empty());
    for file in scenarios {
        let mut scenario = Scenario::load(&file).unwrap();
        scenario.wasm(&wasm).unwrap();
        let adapted = tempfile_for(&scenario.to_yaml());
        EnvoyServer::validate(adapted.path()).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    }
}

#[test]
fn envoy_refuses_a_wrong_configuration_and_says_where() {
    let Some(wasm) = provision::or_skip(filter_wasm::find_or_build()) else { return };
    if provision::or_skip(provision::envoy::binary()).is_none() {
        return;
    }
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
    scenario.wasm(&wasm).unwrap();
    scenario
        .filter_configuration(|filter| {
            filter["limits"][0]["token_bucket"]["fill_interval"] = "1 fortnight".into();
            filter["failure_mode"] = "shrug".into();
        })
        .unwrap();
    let adapted = tempfile_for(&scenario.to_yaml());
    let refusal = EnvoyServer::validate(adapted.path()).unwrap_err().to_string();
    for part in [
        r#"limits[0].token_bucket.fill_interval: expected a duration such as "60s", "15m" or "1h30m", found "1 fortnight""#,
        r#"failure_mode: expected "allow" or "deny" or "local", found "shrug""#,
    ] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
}

fn scenarios() -> Vec<std::path::PathBuf> {
    let folder = checkout::root().unwrap().join("envoy");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn tempfile_for(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

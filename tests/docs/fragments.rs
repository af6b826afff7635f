//! YAML and JSON in the pages. The info string of a code block says where its text belongs:
//!
//! | info string | the text is |
//! |---|---|
//! | `yaml bootstrap` | a whole bootstrap |
//! | `yaml bootstrap of files` | a bootstrap whose listeners are in files that are not there |
//! | `yaml filter` | fields of the filter's configuration; `redis` and `limits` may be absent |
//! | `yaml limits` | a list of limits |
//! | `yaml limit` | fields of one limit; `name`, `descriptor` and `token_bucket` may be absent |
//! | `yaml descriptor` | a list of descriptor entries |
//! | `yaml predicates` | a list of predicates |
//! | `yaml connection manager` | fields of the HTTP connection manager of envoy/per-route.yaml, whose limits read paths |
//! | `yaml cluster` | fields of Redis' cluster in envoy/quickstart.yaml |
//! | `yaml vm_config` | fields of `vm_config` of both plugins of envoy/quickstart.yaml |
//! | `yaml manifest FILE` | a part of a file in envoy/kubernetes, which tests/kubernetes runs |
//! | `yaml import FILE` | a part of a file in host-harness/cli/tests/import/files, which `weir import` reads or prints |
//! | `yaml test` | a test file beside envoy/quickstart.yaml, whose tests pass in virtual time |
//! | `yaml stats_config` | a field of a bootstrap, which tests/metrics runs |
//! | `yaml otel NAME` | fields of the HTTP connection manager or clusters, which tests/metrics runs |
//! | `json override` | the value of an override |
//! | `json webdis` | the configuration of a Webdis: any JSON |

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::{Value, json};
use weir_filter::config;
use weir_filter::overrides::Setting;
use weir_provision::filter_wasm;

use crate::page::{Fence, Page, pages, root};

/// Place of the HTTP connection manager in the bootstraps of envoy/.
pub(crate) const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
/// Place of Redis' cluster in the bootstraps of envoy/.
const CLUSTER: &str = "/static_resources/clusters/0";

#[test]
fn every_fragment_is_accepted() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        for fence in page.fences() {
            if fence.info.starts_with("yaml") || fence.info.starts_with("json") {
                count += 1;
                if let Err(problem) = accept(&fence) {
                    problems.push(format!("{}:{}: {problem}", page.path, fence.line));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 20, "only {count} fragments found");
}

/// The README's limits are those of the file that it tells readers to run.
#[test]
fn the_readme_shows_the_quickstart() {
    let readme = Page::read("README.md");
    let fences = readme.fences();
    let shown = fences.iter().find(|fence| fence.info == "yaml filter").expect("the README has a configuration");
    let mut quickstart = bootstrap("envoy/quickstart.yaml");
    assert_eq!(yaml(&shown.text).unwrap(), *limiter(&mut quickstart).pointer("/configuration/value").unwrap());
}

fn accept(fence: &Fence<'_>) -> Result<(), String> {
    match fence.info {
        "yaml bootstrap" => check(&yaml(&fence.text)?),
        "yaml bootstrap of files" => check_by(&["weir", "check"], &yaml(&fence.text)?),
        "yaml filter" => parse(merged(json!({"limits": [limit()]}), yaml(&fence.text)?)),
        "yaml limits" => parse(json!({ "limits": yaml(&fence.text)? })),
        "yaml limit" => {
            let fields = yaml(&fence.text)?;
            let mut base = limit();
            let kinds = ["sliding_window", "fixed_window", "quota", "concurrency", "windows"];
            if kinds.iter().any(|kind| fields.get(kind).is_some()) {
                base.as_object_mut().unwrap().remove("token_bucket");
            }
            parse(json!({"limits": [merged(base, fields)]}))
        }
        "yaml descriptor" => parse(json!({"limits": [merged(limit(), json!({ "descriptor": yaml(&fence.text)? }))]})),
        "yaml predicates" => parse(json!({"limits": [merged(limit(), json!({ "when": yaml(&fence.text)? }))]})),
        "yaml cluster" => check_with("envoy/quickstart.yaml", CLUSTER, fence),
        "yaml connection manager" => check_with("envoy/per-route.yaml", MANAGER, fence),
        "yaml vm_config" => {
            let mut document = bootstrap("envoy/quickstart.yaml");
            let fields = yaml(&fence.text)?;
            for plugin in [limiter, bridge] {
                let place = plugin(&mut document).get_mut("vm_config").unwrap();
                *place = merged(place.take(), fields.clone());
            }
            check(&document)
        }
        "yaml test" => test(&fence.text),
        info if info.starts_with("yaml manifest ") => {
            let file = root().join("envoy/kubernetes").join(&info["yaml manifest ".len()..]);
            let manifest = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            if manifest.contains(&fence.text) { Ok(()) } else { Err(format!("not in {}", file.display())) }
        }
        info if info.starts_with("yaml import ") => {
            let folder = root().join("host-harness/cli/tests/import/files");
            let file = folder.join(&info["yaml import ".len()..]);
            let whole = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            if whole.contains(&fence.text) { Ok(()) } else { Err(format!("not in {}", file.display())) }
        }
        "yaml stats_config" => yaml(&fence.text).map(drop),
        info if info.starts_with("yaml otel ") => yaml(&fence.text).map(drop),
        "json webdis" => serde_json::from_str::<Value>(&fence.text).map(drop).map_err(|error| error.to_string()),
        "json override" => Setting::parse(fence.text.as_bytes()).map(drop).map_err(|error| error.to_string()),
        other => Err(format!("expected an info string that says where the text belongs, found `{other}`")),
    }
}

/// Runs a test file in virtual time.
fn test(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("envoy/quickstart.yaml"), folder.path().join("quickstart.yaml")).unwrap();
    let file = folder.path().join("limits.test.yaml");
    std::fs::write(&file, text).unwrap();
    let arguments = ["weir".into(), "test".into(), file.into_os_string()];
    match weir_harness::run_from(arguments.into_iter()) {
        ExitCode::SUCCESS => Ok(()),
        _ => Err("`weir test` fails".to_owned()),
    }
}

fn yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Parses a configuration of the filter, with a Redis cluster if it names none.
fn parse(configuration: Value) -> Result<(), String> {
    let configuration = merged(json!({"redis": {"cluster": "redis"}}), configuration);
    let env = |_: &str| Some("a password or a key".to_owned());
    config::parse(configuration.to_string().as_bytes(), &env).map(drop).map_err(|errors| errors.to_string())
}

/// A limit with nothing but what is required.
fn limit() -> Value {
    let bucket = json!({"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"});
    json!({"name": "a_limit", "descriptor": [], "token_bucket": bucket})
}

/// `base` with all fields of `more` in place of its own.
fn merged(base: Value, more: Value) -> Value {
    let (Value::Object(mut fields), Value::Object(more)) = (base, more) else { panic!("expected two objects") };
    fields.extend(more);
    Value::Object(fields)
}

/// Checks a bootstrap file with the fields of a fragment at a place.
fn check_with(file: &str, place: &str, fence: &Fence<'_>) -> Result<(), String> {
    let mut document = bootstrap(file);
    let place = document.pointer_mut(place).expect("the file has this place");
    *place = merged(place.take(), yaml(&fence.text)?);
    check(&document)
}

fn bootstrap(file: &str) -> Value {
    yaml(&std::fs::read_to_string(root().join(file)).unwrap()).unwrap()
}

fn limiter(document: &mut Value) -> &mut Value {
    let manager = document.pointer_mut(MANAGER).unwrap();
    plugin(manager.get_mut("http_filters").unwrap(), "limiter")
}

fn bridge(document: &mut Value) -> &mut Value {
    let options = document.pointer_mut("/static_resources/clusters/0/typed_extension_protocol_options").unwrap();
    let http = options.get_mut("envoy.extensions.upstreams.http.v3.HttpProtocolOptions").unwrap();
    plugin(http.get_mut("http_filters").unwrap(), "bridge")
}

fn plugin<'a>(filters: &'a mut Value, root_id: &str) -> &'a mut Value {
    let mut plugins =
        filters.as_array_mut().unwrap().iter_mut().filter_map(|it| it.pointer_mut("/typed_config/config"));
    plugins.find(|plugin| plugin["root_id"] == root_id).expect("the plugin is there")
}

fn check(document: &Value) -> Result<(), String> {
    check_by(&["weir", "check", "--strict"], document)
}

/// Runs `weir check`, which prints its findings.
fn check_by(command: &[&str], document: &Value) -> Result<(), String> {
    let wasm = filter_wasm::find_or_build().map_err(|error| error.to_string())?;
    let module = |text: String| text.replace("target/wasm32-wasip1/release/weir_filter.wasm", &wasm.to_string_lossy());
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = dir.path().join("bootstrap.yaml");
    std::fs::write(&file, module(format!("{document:#}"))).map_err(|error| error.to_string())?;
    let arguments = command.iter().map(OsString::from).chain([file.into()]);
    let code = weir_harness::run_from(arguments);
    if code == ExitCode::SUCCESS { Ok(()) } else { Err(format!("`{}` fails, see above", command.join(" "))) }
}

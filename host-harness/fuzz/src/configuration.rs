//! Target `configuration`: the plugin's configuration, JSON or a serialised `Struct`.

use serde_json::{Value, json};
use weir_filter::config::{self, Config, ConfigErrors};
use weir_filter::units::Micros;

use crate::SECRET;
use crate::proxy::{Proxy, exchange};

/// Longest wait of a request: for its body (60 s), for tokens (`max_delay`), and for Redis (10 s).
const LONGEST: Micros = Micros::from_secs(200);
/// Longest text of an error, in bytes.
const MAX_ERROR: usize = 700;

/// Runs the target.
///
/// # Panics
/// If a configuration that parses is not valid, does not start a worker, or leaves a request undecided; if an error has no
/// path or more than one line; or if a secret is in an error, a log line or a `Debug` text.
pub fn run(input: &[u8]) {
    if input.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return;
    }
    match config::parse(input, &environment) {
        Ok(config) => {
            check_config(&config);
            check_debug(&config);
            serve(input);
        }
        Err(errors) => check_errors(&errors),
    }
    if let Ok(value) = serde_json::from_slice::<Value>(input) {
        let from_json = config::parse(input, &environment);
        assert_eq!(config::parse(value.to_string().as_bytes(), &environment), from_json, "white space matters");
        for value in with_secrets(&value) {
            match config::parse(value.to_string().as_bytes(), &environment) {
                Ok(config) => check_debug(&config),
                Err(errors) => check_errors(&errors),
            }
        }
        // An operator who puts a secret into a name or a header's value has it there: only errors do not repeat it.
        for value in with_urls(&value) {
            if let Err(errors) = config::parse(value.to_string().as_bytes(), &environment) {
                check_errors(&errors);
            }
        }
    }
}

/// Environment in which every variable has the secret.
fn environment(_: &str) -> Option<String> {
    Some(SECRET.to_owned())
}

fn check_config(config: &Config) {
    assert!((1..=32).contains(&config.limits.len()));
    for (nth, limit) in config.limits.iter().enumerate() {
        assert!(!limit.name.is_empty() && !limit.name.contains(':'), "{:?}", limit.name);
        assert!(config.limits.iter().take(nth).all(|other| other.name != limit.name), "two limits {}", limit.name);
        assert!(limit.windows.algorithms().next().is_some());
    }
    assert!(config.redis.timeout > Micros::ZERO && config.redis.timeout <= Micros::from_secs(10));
    assert!(!config.redis.cluster.is_empty());
    for notice in &config.notices {
        assert!(!notice.to_string().contains(SECRET), "{notice}");
    }
}

/// Checks that a configuration shows neither its password nor its key of hashes.
fn check_debug(config: &Config) {
    let debug = format!("{config:?}");
    assert!(!debug.contains(SECRET), "a secret in {debug}");
}

fn check_errors(errors: &ConfigErrors) {
    let all = errors.to_string();
    assert!(errors.iter().next().is_some() && all.lines().count() == errors.iter().count(), "one line each: {all}");
    for error in errors.iter() {
        let line = error.to_string();
        assert!(!error.path.is_empty(), "an error without a path: {line}");
        assert!(line.len() < MAX_ERROR, "{} bytes: {line}", line.len());
        assert!(!line.contains(SECRET), "a secret in {line}");
    }
    assert!(!format!("{errors:?}").contains(SECRET), "a secret in {errors:?}");
}

/// Starts a worker, and has it decide a request.
fn serve(configuration: &[u8]) {
    let proxy = match Proxy::start(configuration) {
        Ok(proxy) => proxy,
        // The worker's environment has a single variable.
        Err(lines) => {
            assert!(lines.iter().all(|line| line.contains("environment variable")), "{lines:?}");
            return;
        }
    };
    proxy.worker.begin(exchange(
        &[(":method", b"POST"), (":path", b"/"), (":authority", b"test"), ("x-user-id", b"alice")],
        Some(br#"{"user": {"id": "alice"}}"#),
    ));
    assert!(proxy.run_until_answered(LONGEST, true), "a request without an answer");
    let log = proxy.worker.take_log();
    assert!(log.iter().all(|(_, line)| !line.contains(SECRET)), "{log:?}");
    assert_eq!(proxy.redis.unknown(), [""; 0]);
}

/// Returns a configuration with a secret in the places of secrets, and in places where it is a mistake.
fn with_secrets(value: &Value) -> Vec<Value> {
    let mut variants = Vec::new();
    if value.get("redis").is_some_and(Value::is_object) {
        let variant = |change: &dyn Fn(&mut Value)| {
            let mut variant = value.clone();
            change(&mut variant);
            variant
        };
        variants.push(variant(&|value| value["redis"]["password"] = json!({ "inline": SECRET })));
        variants.push(variant(&|value| value["redis"]["password"] = json!(SECRET)));
        variants.push(variant(&|value| value["redis"]["password"] = json!({ SECRET: 1 })));
        variants.push(variant(&|value| value["redis"][SECRET] = json!(1)));
        variants.push(variant(&|value| value["hash_key"] = json!({ "inline": SECRET })));
        variants.push(variant(&|value| value["hash_key"] = json!({ "inline": SECRET.repeat(9) })));
    }
    variants
}

/// Returns a configuration with a URL that has a password in the place of each text, one after the other.
fn with_urls(value: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    texts(value, &mut String::new(), &mut places);
    let with_url = |place: &String| {
        let mut variant = value.clone();
        if let Some(text) = variant.pointer_mut(place) {
            *text = json!(format!("redis://weir:{SECRET}@redis.example:6379/0"));
        }
        variant
    };
    places.iter().take(24).map(with_url).collect()
}

/// Collects the places of all texts.
fn texts(value: &Value, at: &mut String, found: &mut Vec<String>) {
    let length = at.len();
    let mut step = |step: &str, value: &Value| {
        at.push('/');
        at.push_str(&step.replace('~', "~0").replace('/', "~1"));
        texts(value, at, found);
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| step(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(nth, value)| step(&nth.to_string(), value)),
        Value::String(_) => found.push(at.clone()),
        _ => {}
    }
}

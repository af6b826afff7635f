//! Target `overrides`: texts of overrides as operators or others write them, and pages of the hash of overrides.
//!
//! Input: a byte for the kind; then a text, or replies of Redis to the calls that read the hash.

use weir_filter::config;
use weir_filter::limit::Algorithms;
use weir_filter::overrides::{Event, KeyOverrides, MAX_ENTRIES, Refresh, Ruling, Setting};
use weir_filter::redis::resp::Decoder;
use weir_filter::units::Micros;

use crate::choices::Choices;
use crate::proxy::{Proxy, exchange};
use crate::{MARK, check_log_line};

const CONFIGURATION: &[u8] = br#"{
    "redis": {"cluster": "redis"}, "overrides": {"refresh_interval": "0.1s"},
    "limits": [
        {"name": "user", "descriptor": [{"request_header": {"name": "x-user"}}],
            "token_bucket": {"max_tokens": 2, "fill_interval": "1s"}},
        {"name": "many", "descriptor": [], "windows": [
            {"token_bucket": {"max_tokens": 9, "tokens_per_fill": 3, "fill_interval": "60s"}},
            {"sliding_window": {"max_requests": 5, "window": "1s"}},
            {"sliding_window": {"max_requests": 7, "window": "60s", "mode": "exact"}},
            {"fixed_window": {"max_requests": 9, "window": "60s"}},
            {"quota": {"max_requests": 100, "unit": "month"}}, {"concurrency": {"max_requests": 3}}
        ]}
    ]}"#;
const KEY: &[u8] = b"weir:user:alice";
const NOW: Micros = Micros::from_secs(1_000);
const REDIS_TIME: Micros = Micros::from_secs(1_767_225_600);

/// Runs the target.
///
/// # Panics
/// If an error repeats more of a text than promised, if limits under an override are not valid, if a request is not
/// decided, or if a worker keeps too many overrides.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    match choices.byte() & 1 {
        0 => text(choices.rest()),
        _ => pages(choices.rest()),
    }
}

/// Reads a text, applies it, and serves requests under it.
fn text(text: &[u8]) {
    match Setting::parse(text) {
        Ok(setting) => {
            assert_eq!(Setting::parse(text).as_ref(), Ok(&setting));
            apply(&setting);
        }
        Err(error) => {
            let shown = error.to_string();
            // A name that is too long ends with dots. Invisible letters are escaped.
            let is_visible = |it| matches!(it, ' '..='~' | '\u{a1}'..='\u{1fff}' | '\u{2070}'..='\u{fdff}' | '…');
            assert!(shown.len() < 1_000 && shown.chars().all(is_visible), "{shown:?}");
            assert!(error.expected().len() < 500);
            let is_repeated = text.len() > 8 && error.expected().contains(&*String::from_utf8_lossy(text));
            assert!(!is_repeated, "{:?} repeats {:?}", error.expected(), String::from_utf8_lossy(text));
        }
    }
    tell(text);
    serve(text);
}

/// Applies a setting to limits: what results are algorithms that a limit can have.
fn apply(setting: &Setting) {
    let Ok(config) = config::parse(CONFIGURATION, &|_| None) else { panic!("the configuration is refused") };
    for limit in &config.limits {
        let applied = setting.ruling.applied_to(&limit.windows);
        let algorithms: Vec<_> = applied.algorithms().cloned().collect();
        assert!(Algorithms::new(&algorithms).is_ok(), "{:?} makes {algorithms:?}", setting.ruling);
        if !matches!(setting.ruling, Ruling::Algorithms(_) | Ruling::Scaled(_)) {
            assert_eq!(*applied, limit.windows);
        }
    }
    assert!(!setting.ruling.name().is_empty());
}

/// Tells a worker the text of a key, as Redis does.
fn tell(text: &[u8]) {
    let mut keys = KeyOverrides::new("weir:");
    let told = keys.tell(NOW, Some(REDIS_TIME), KEY, text);
    assert_eq!(told.is_err(), !text.is_empty() && Setting::parse(text).is_err());
    told.into_iter().for_each(drop);
    assert_eq!(keys.tell(NOW, Some(REDIS_TIME), KEY, text), Ok(()), "a text is reported once");
    let known = keys.of(NOW, KEY);
    assert_eq!(known.text.as_deref().unwrap_or_default(), text);
    assert!(known.is_recent);
}

/// Serves requests while a limit and a key have this override.
fn serve(text: &[u8]) {
    let proxy = match Proxy::start(CONFIGURATION) {
        Ok(proxy) => proxy,
        Err(lines) => panic!("the configuration is refused: {lines:?}"),
    };
    proxy.redis.set_limit_override(b"weir:overrides", b"many", text);
    proxy.redis.set_key_override(KEY, text, None);
    for user in [&b"alice"[..], b"bob", b"alice"] {
        proxy.worker.begin(exchange(&[(":method", b"GET"), (":path", b"/"), ("x-user", user)], None));
        proxy.run_for(Micros::from_millis(150), true);
    }
    let answers = proxy.take_answers();
    assert_eq!(answers.len(), 3, "every request is decided");
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)), "{answers:?}");
    assert_eq!(proxy.redis.unknown(), [""; 0]);
}

/// Reads pages of the hash: one reply for each call.
fn pages(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let mut refresh = Refresh::new("weir:", Micros::from_secs(5), 7);
    let mut now = NOW;
    refresh.wake(now);
    while let Ok(Some(reply)) = decoder.next_reply() {
        let Some(at) = refresh.next_tick(now) else { panic!("no call is due") };
        assert!(at >= now && at.minus(now) <= Micros::from_secs(5));
        now = at;
        assert!(refresh.due(now).is_some(), "the call is due");
        for event in refresh.handle(now, Ok(reply)) {
            if let Event::Ignored(ignored) = event {
                check_log_line(&ignored.to_string());
            }
        }
        // The reply may have been that of another call: that of this one does not come.
        refresh.handle(now, Err(weir_filter::redis::Failure::Timeout));
        assert!(refresh.overrides().len() <= MAX_ENTRIES);
        let _ = refresh.overrides().of(now, "user", KEY);
        let _ = refresh.overrides().of(now, MARK, b"");
    }
}

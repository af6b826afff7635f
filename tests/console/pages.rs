//! The page in Chromium. `WEIR_PICTURES=$PWD/docs/src/console` keeps its pictures, and `WEIR_CONSOLE_SECONDS=180` is
//! the time of traffic before them.

use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::{Value, json};
use weir::{HostKind, Mesh};
use weir_harness::traffic::{self, Pace, Plan};

use crate::browser::Browser;
use crate::desk::{Desk, configuration};

const HOSTILE: &str = "<img src=x onerror=hacked=1>";

/// Limits, of which the first gets this many tokens in a minute.
fn limits(tokens_per_minute: u64) -> Value {
    json!([
        {
            "name": "per_user",
            "descriptor": [{ "request_header": { "name": "x-user-id" } }],
            "token_bucket": { "max_tokens": 20, "tokens_per_fill": tokens_per_minute, "fill_interval": "60s" },
            "near_limit": 0.8,
        },
        {
            "name": "per_user_daily",
            "descriptor": [{ "request_header": { "name": "x-user-id" } }],
            "quota": { "max_requests": 50000, "unit": "day" },
            "shadow_mode": true,
        },
        { "name": "everyone", "descriptor": [], "sliding_window": { "max_requests": 5000, "window": "60s" } },
    ])
}

/// A proxy with users whose requests are more than their limit, and a console about it.
async fn scene(limits: &Value, more: &[&str]) -> Option<(Mesh, Desk)> {
    let mesh = Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().configure(|filter| {
        filter["limits"] = limits.clone();
        filter["events"] = json!({});
    });
    let mesh = mesh.start().await?;
    let mut configuration = configuration(mesh.key_prefix());
    configuration["limits"] = limits.clone();
    configuration["events"] = json!({});
    let metrics = format!("http://{}", mesh.hosts()[0].admin().unwrap());
    let url = mesh.redis().url();
    let desk = Desk::of(&configuration, &[&["--redis", &url, "--metrics", &metrics], more].concat()).await;
    Some((mesh, desk))
}

/// Sends traffic for this time, in the background.
fn traffic_of(mesh: &Mesh, seconds: u64) {
    let users = [("alice", 4.0), ("batch-7", 7.0), ("bob", 1.0), ("carol", 0.5), ("partner", 5.0)];
    let users = users.map(|(name, rate)| Mesh::user(name, Pace::PerSecond(rate)));
    let plan = Plan { users: users.into(), duration: Duration::from_secs(seconds), ..mesh.plan(0) };
    tokio::spawn(traffic::run(plan, Arc::default()));
}

fn seconds() -> u64 {
    std::env::var("WEIR_CONSOLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

const ROW: &str = "[...document.querySelectorAll('#limited .row')].some(row => row.innerText.includes('alice'))";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operator_sees_who_is_limited_and_blocks_a_client() {
    let Some((mesh, desk)) = scene(&limits(100), &["--allow-changes"]).await else { return };
    let Some(mut browser) = tokio::task::block_in_place(Browser::start) else { return };
    let mut redis = mesh.redis_connection();
    let unlimited = json!({ "is": "unlimited", "reason": "contract", "by": "carol" }).to_string();
    let _: () = redis.set(format!("{}per_user:partner#override", mesh.key_prefix()), unlimited).unwrap();
    browser.look(1180, "light");
    browser.open(&desk.console.url());
    browser.until("!document.querySelector('#main').hidden");
    traffic_of(&mesh, seconds() + 60);
    browser.until(ROW);

    // The token is neither in the address any more, nor where scripts could read it.
    assert_eq!(browser.value("location.hash + location.search + document.cookie"), "");
    assert_eq!(browser.value("document.querySelector('#mode').innerText"), "changes allowed");

    browser.value("[...document.querySelectorAll('#limited .link')].find(it => it.innerText === 'alice').click()");
    browser.until("document.querySelector('#bucket-facts').innerText.includes('since')");
    browser.until("document.querySelectorAll('#bucket-charts .left').length > 0");
    browser.until("document.querySelectorAll('#bucket-charts .denied').length > 0");
    browser.until("document.querySelector('#overrides').innerText.includes('contract')");
    browser.until("parseFloat(document.querySelector('#limits .row .hot').innerText) > 0");
    tokio::time::sleep(Duration::from_secs(seconds())).await;
    for (name, width, scheme) in [("light", 1180, "light"), ("dark", 1180, "dark"), ("phone", 420, "light")] {
        browser.look(width, scheme);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert_eq!(overflow, 0, "at a width of {width} nothing is cut off");
        assert!(browser.picture(name, "#overrides").len() > 10_000);
    }

    browser.look(1180, "light");
    browser.click("#set");
    browser.value("document.querySelector('#reason').value = 'abuse <b>'");
    browser.value("document.querySelector('#dialog form').requestSubmit()");
    let asked = browser.until("document.querySelector('#confirm') && document.querySelector('#dialog').innerText");
    let asked = asked.as_str().unwrap().to_owned();
    let place = format!("redis: {}/0", mesh.redis().addr());
    for part in
        ["Set this override?", "per_user alice", "blocked, for 1h; reason: abuse <b>", "now: no override", &place]
    {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let own = format!("{}per_user:alice#override", mesh.key_prefix());
    assert!(!redis.exists::<_, bool>(&own).unwrap(), "nothing changes before the confirmation");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    browser.picture("confirmation", "#dialog");
    browser.click("#confirm");
    browser.until("document.querySelector('#done') && document.querySelector('#done').innerText");
    assert!(redis.exists::<_, bool>(&own).unwrap());
    browser.click("#dialog-body button");
    browser.until("document.querySelector('#bucket-facts').innerText.includes('blocked, for')");

    browser.click("#unset");
    let asked = browser.until("document.querySelector('#confirm') && document.querySelector('#dialog').innerText");
    assert!(asked.as_str().unwrap().contains("Remove this override?"), "{asked}");
    browser.click("#confirm");
    browser.until("document.querySelector('#done') && document.querySelector('#done').innerText");
    assert!(!redis.exists::<_, bool>(&own).unwrap());

    let base = format!("http://{}/", desk.console.addr());
    let foreign: Vec<String> = browser.asked().into_iter().filter(|url| !url.starts_with(&base)).collect();
    assert!(foreign.iter().all(|url| url.starts_with("data:")), "{foreign:?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_of_clients_are_text_and_outages_are_told() {
    let Some((mesh, desk)) = scene(&limits(1), &[]).await else { return };
    let Some(mut browser) = tokio::task::block_in_place(Browser::start) else { return };
    for _ in 0..25 {
        mesh.get("alice").await;
    }
    let mut redis = mesh.redis_connection();
    let bucket = format!("{}per_user:", mesh.key_prefix());
    let copied: bool = redis.copy(format!("{bucket}alice"), format!("{bucket}{HOSTILE}"), Default::default()).unwrap();
    assert!(copied);
    let value = json!({ "is": "blocked", "reason": HOSTILE, "by": HOSTILE }).to_string();
    let _: () = redis.set(format!("{bucket}{HOSTILE}#override"), value).unwrap();

    browser.open(&desk.console.url());
    browser.until(ROW);
    let has = |part: &str| format!("document.querySelector('{part}').innerText.includes({})", json!(HOSTILE));
    browser.until(&has("#limited"));
    browser.until(&has("#overrides"));
    assert_eq!(browser.value("document.querySelectorAll('img, #main script').length"), 0);
    assert_eq!(browser.value("typeof hacked"), "undefined");
    assert_eq!(
        browser.value("[...document.querySelectorAll('button')].filter(it => /Set|Remove/.test(it.innerText)).length"),
        0
    );

    mesh.redis().kill();
    let told = browser.until("document.querySelector('#alerts').innerText");
    assert!(told.as_str().unwrap().starts_with("No answer of Redis since "), "{told}");
    browser.until("document.querySelector('#redis').classList.contains('down')");
    assert_eq!(browser.value(ROW), true, "the last figures stay");
    browser.look(1180, "light");
    browser.picture("outage", "#limited");
    mesh.redis().restart().unwrap();
    browser.until(
        "document.querySelector('#redis').classList.contains('up') && !document.querySelector('#alerts').innerText",
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());

    // Without the token, the page asks for it, and takes it.
    browser.call("Network.clearBrowserCookies", &json!({}));
    browser.open(&format!("http://{}/", desk.console.addr()));
    browser.until("document.querySelector('#login') && !document.querySelector('#login').hidden");
    assert_eq!(browser.value("document.querySelector('#main').hidden"), true);
    let paste = format!("document.querySelector('#token').value = {}", json!(desk.console.token()));
    browser.value(&paste);
    browser.value("document.querySelector('#login').requestSubmit()");
    browser.until("!document.querySelector('#main').hidden");
}

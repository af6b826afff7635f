//! Envoys of both forms of names with one Redis and one provider, and a Prometheus that scrapes them.

use std::{net::SocketAddr, path::Path, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use redis::Commands as _;
use serde_json::{Value, json};
use tokio::{
    task::{block_in_place, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};
use weir::{Mesh, Provider, or_skip};
use weir_harness::traffic::{self, Pace, Plan};
use weir_host::scenario::Scenario;
use weir_provision::{
    checkout,
    envoy::{self, EnvoyOptions, EnvoyServer},
    filter_wasm,
    prometheus::PrometheusServer,
    redis::{RedisOptions, RedisServer},
};

use crate::rules;

/// Labels that shipped files have: see docs/src/metrics.md.
const LABELS: &str = include_str!("../../docs/src/metrics.md");
/// The longest wait for an answer: on a busy machine, an Envoy may have no core for seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Requests of a user, of whom a limit admits four a second.
const BUSY: f64 = 20.0;
const CALM: f64 = 6.0;
/// What the provider is to answer: its form, and the tokens of its usage.
const ANSWER: [(&str, &str); 3] = [("x-answer", "json"), ("x-input", "10"), ("x-output", "25")];

/// Way to run the filter.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Label `instance` of its metrics.
    pub name: &'static str,
    is_oldest: bool,
    /// Whether limiter and bridge share a VM.
    shares_vm: bool,
    tags: Tags,
}

/// Tags of the bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tags {
    /// Tags of Envoy alone.
    None,
    /// Tags of limits and causes as well.
    Weir,
    /// Tags of Istio: no default ones, and the cluster under another name.
    Istio,
}

/// Forms of names: by Envoy's version, by the number of VMs, and by the tags.
pub const FORMS: [Form; 5] = [
    Form { name: "envoy-1.36", is_oldest: true, shares_vm: true, tags: Tags::Weir },
    Form { name: "envoy-1.36-istio", is_oldest: true, shares_vm: true, tags: Tags::Istio },
    Form { name: "envoy-1.36-two-vms", is_oldest: true, shares_vm: false, tags: Tags::None },
    Form { name: "envoy-1.40", is_oldest: false, shares_vm: true, tags: Tags::Weir },
    Form { name: "envoy-1.40-two-vms", is_oldest: false, shares_vm: false, tags: Tags::None },
];

/// Running proxies, their Redis and the Prometheus.
pub struct Fleet {
    proxies: Vec<(Form, EnvoyServer)>,
    pub redis: RedisServer,
    pub prometheus: PrometheusServer,
}

impl Fleet {
    /// Starts everything; `interval` is that of scrapes and of rules, in seconds. `None` if a component is missing.
    pub async fn start(interval: u64) -> Option<Self> {
        let wasm = or_skip(block_in_place(filter_wasm::find_or_build))?;
        let redis = or_skip(block_in_place(|| RedisServer::start(RedisOptions::default())))?;
        let provider = Provider::start().await;
        let mut starting = Vec::new();
        for form in FORMS {
            let binary = block_in_place(|| if form.is_oldest { envoy::oldest_binary() } else { envoy::binary() });
            let config = form.bootstrap(&wasm, redis.addr(), &provider);
            let options = EnvoyOptions { binary: Some(or_skip(binary)?), concurrency: 2, ..EnvoyOptions::new(config) };
            starting.push((form, spawn_blocking(|| EnvoyServer::start(options))));
        }
        let mut proxies = Vec::new();
        for (form, started) in starting {
            proxies.push((form, or_skip(started.await.unwrap())?));
        }
        let targets = proxies
            .iter()
            .map(|(form, envoy)| json!({"targets": [envoy.admin().to_string()], "labels": {"instance": form.name}}));
        let scrape = json!({
            "job_name": "proxies", "metrics_path": "/stats/prometheus",
            "static_configs": targets.collect::<Vec<_>>(),
        });
        let interval = format!("{interval}s");
        let config = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"], "scrape_configs": [scrape],
        });
        let text = rules();
        assert_eq!(text.matches("interval: 15s").count(), 1);
        let text = text.replace("interval: 15s", &format!("interval: {interval}"));
        let started = block_in_place(|| PrometheusServer::start(&config.to_string(), &[("rules.yaml", &text)]));
        Some(Self { proxies, redis, prometheus: or_skip(started)? })
    }

    /// Runs load on all proxies for this time, while Redis stops, refuses commands and is slow. Returns the number of
    /// requests that each proxy answered.
    pub async fn run(&self, time: Duration) -> Vec<(Form, usize)> {
        let stop = traffic::Stop::default();
        let runs: Vec<_> = self
            .proxies
            .iter()
            .map(|(form, envoy)| {
                let mut plan = Plan::new(envoy.listener("ingress").expect("the proxy listens"));
                plan.duration = time + Duration::from_secs(60);
                plan.timeout = ANSWER_WITHIN;
                plan.users = vec![
                    user("alice", Pace::PerSecond(BUSY)).connections(2),
                    user("bob", Pace::PerSecond(CALM)),
                    user("carol", Pace::PerSecond(CALM)),
                ];
                let (form, stop) = (*form, stop.clone());
                tokio::spawn(async move { (form, traffic::run_until(plan, Default::default(), &stop).await) })
            })
            .collect();
        self.disturb(time).await;
        stop.stop();
        let mut answered = Vec::new();
        for run in runs {
            let (form, report) = run.await.unwrap();
            let all = report.together();
            let wrong: Vec<_> = all.outcomes.iter().filter(|it| !it.is_admitted() && !it.is_denied()).collect();
            assert!(wrong.is_empty(), "{}: {:?}", form.name, wrong.first());
            answered.push((form, all.outcomes.len()));
        }
        answered
    }

    /// Troubles of Redis, by their shares of the time: a malformed override, a stop, refused commands, slow replies.
    async fn disturb(&self, time: Duration) {
        let start = Instant::now();
        let until = |share: f64| sleep_until(start + time.mul_f64(share));
        until(0.2).await;
        for form in FORMS {
            let _: () = self.connection().hset(form.key_prefix() + "overrides", "per_user:carol", "nonsense").unwrap();
        }
        until(0.35).await;
        block_in_place(|| self.redis.stop());
        until(0.5).await;
        block_in_place(|| self.redis.restart()).unwrap();
        until(0.65).await;
        self.allow('-');
        until(0.72).await;
        self.allow('+');
        until(0.8).await;
        let mut connection = self.connection();
        while start.elapsed() < time.mul_f64(0.9) {
            let _: () = redis::cmd("CLIENT").arg("PAUSE").arg(45).query(&mut connection).unwrap();
            sleep(Duration::from_millis(90)).await;
        }
        until(1.0).await;
    }

    /// Allows or forbids the commands of checks.
    fn allow(&self, sign: char) {
        let commands = ["evalsha", "eval"].map(|command| format!("{sign}{command}"));
        let mut acl = redis::cmd("ACL");
        let _: () = acl.arg("SETUSER").arg("default").arg(&commands).query(&mut self.connection()).unwrap();
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }
}

/// A user whose answers tell their usage.
fn user(name: &str, pace: Pace) -> traffic::User {
    ANSWER.iter().fold(Mesh::user(name, pace), |user, (name, value)| {
        user.header(HeaderName::from_static(name), HeaderValue::from_static(value))
    })
}

impl Form {
    /// Proxies share a Redis, and no bucket.
    fn key_prefix(self) -> String {
        format!("{}:", self.name)
    }

    /// The quickstart with five limits in front of the provider, and these names. The budget of tokens is spent in 9 of
    /// each 10 s.
    fn bootstrap(self, wasm: &Path, redis: SocketAddr, provider: &Provider) -> String {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
        scenario.listener("ingress", any_port).unwrap().admin(any_port).unwrap();
        scenario.wasm(wasm).unwrap().endpoint("redis", redis).unwrap();
        let change = |filter: &mut Value| {
            filter["redis"]["key_prefix"] = self.key_prefix().into();
            filter["overrides"] = json!({"refresh_interval": "0.5s"});
            let user = json!([{"request_header": {"name": "x-user-id"}}]);
            let reserve = json!({"input": 10, "output": {"default": 30, "json_pointers": []}});
            // Requests are GETs without a body that would name a model.
            let prices = json!([{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]);
            filter["usage"] = json!({"prices": prices, "unknown_model": "dearest", "when": []});
            let bucket = |max: u64| json!({"max_tokens": max, "tokens_per_fill": max, "fill_interval": "1s"});
            filter["limits"] = json!([
                {"name": "per_user", "descriptor": user, "token_bucket": bucket(4), "near_limit": 0.5},
                {"name": "all", "descriptor": [], "token_bucket": bucket(1_000), "lease": {"max": 40, "ttl": "2s"}},
                {"name": "stricter", "descriptor": user, "token_bucket": bucket(2), "shadow_mode": true},
                {"name": "tokens", "descriptor": user, "charge": "total_tokens", "reserve": reserve, "soft_limit": 0.5,
                    "fixed_window": {"max_tokens": 1_200, "window": "10s"}},
                {"name": "money", "descriptor": [], "charge": "cost", "reserve": reserve, "soft_limit": 0.8,
                    "quota": {"max_usd": 1_000, "unit": "month"}},
            ]);
        };
        scenario.filter_configuration(change).unwrap();
        scenario.edit(|bootstrap| {
            provider.serve_all(bootstrap);
            bootstrap["stats_flush_interval"] = "1s".into();
            match self.tags {
                Tags::None => {}
                Tags::Weir => bootstrap["stats_config"] = labels(),
                Tags::Istio => {
                    let regex = r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)";
                    let tags = json!([{"tag_name": "cluster_name", "regex": regex}]);
                    bootstrap["stats_config"] = json!({"use_all_default_tags": false, "stats_tags": tags});
                }
            }
            if !self.shares_vm {
                let bridge = "/static_resources/clusters/0/typed_extension_protocol_options/\
                    envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/config";
                bootstrap.pointer_mut(bridge).expect("the bridge")["vm_config"]["vm_id"] = "bridge".into();
            }
        });
        scenario.to_yaml()
    }
}

/// The `stats_config` of the page on metrics.
fn labels() -> Value {
    let (_, block) = LABELS.split_once("```yaml stats_config\n").expect("the page has the labels");
    let (block, _) = block.split_once("```").unwrap();
    serde_saphyr::from_str::<Value>(block).unwrap()["stats_config"].take()
}

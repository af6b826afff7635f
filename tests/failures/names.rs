//! A name of Redis that changes its address, and a name that goes away. Envoy's resolver can be pointed to a name server
//! of the test; that of the embedded host is the system's.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use weir::{HostKind, Load, Mesh, Phases, Trial};
use weir_provision::redis::RedisOptions;

use crate::dns::{Answer, Forwarder, NameServer};

const OLD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// `dns_refresh_rate` of the cluster; Envoy's default is 5 s.
const REFRESH: Duration = Duration::from_millis(500);
pub(super) const NO_SUCH_NAME: &str = "DNS: no such name for 2 s";
pub(super) const SILENCE: &str = "DNS: no answer for 2 s";
const BACK_WITHIN: Duration = Duration::from_secs(4);
/// A resolver without an answer waits for seconds before it asks again.
const BACK_AFTER_SILENCE: Duration = Duration::from_secs(30);

/// A Redis that is reached by name.
struct Named {
    mesh: Mesh,
    names: NameServer,
    old: Forwarder,
}

impl Named {
    async fn start() -> Option<Self> {
        let names = NameServer::start(Answer::Address(OLD)).await;
        let redis = weir::or_skip(tokio::task::block_in_place(|| {
            weir_provision::redis::RedisServer::start(RedisOptions::default())
        }))?;
        let redis = std::sync::Arc::new(redis);
        let old = Forwarder::start(OLD, redis.addr()).await;
        let port = redis.addr().port();
        let resolver = names.addr.port();
        let mesh = Mesh::on(HostKind::Envoy, "envoy/quickstart.yaml").reaching(&redis, vec![redis.addr()]);
        let mesh = mesh.edit(|document| by_name(document, port, resolver));
        let mesh = Load::STEADY.configure(mesh).configure(|filter| filter["redis"]["cluster"] = "named".into());
        let mesh = mesh.start().await?;
        crate::stage::until_decided(&mesh).await;
        Some(Self { mesh, names, old })
    }
}

/// Adds the cluster `named`: that of Redis, with a name that the resolver on this port knows.
fn by_name(document: &mut Value, port: u16, resolver: u16) {
    let clusters = document["static_resources"]["clusters"].as_array_mut().expect("clusters");
    let mut cluster = clusters.iter().find(|cluster| cluster["name"] == "redis").expect("the cluster").clone();
    cluster["name"] = "named".into();
    cluster["dns_lookup_family"] = "V4_ONLY".into();
    cluster["dns_refresh_rate"] = format!("{}s", REFRESH.as_secs_f64()).into();
    cluster["typed_dns_resolver_config"] = json!({
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": resolver}}],
            "dns_resolver_options": {"no_default_search_domain": true},
        },
    });
    let place = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let address = json!({"address": "redis.weir.test", "port_value": port});
    *cluster.pointer_mut(place).expect("an endpoint") = address;
    clusters.push(cluster);
}

/// The address of Redis changes, and nothing answers at the old one.
pub(super) async fn change() -> Option<(&'static str, Trial)> {
    let Named { mesh, names, old } = Named::start().await?;
    let new = Forwarder::start(NEW, mesh.redis().addr()).await;
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::ZERO, after: BACK_WITHIN };
    let begin = async || {
        names.set(Answer::Address(NEW));
        drop(old);
    };
    let trial = Load::STEADY.run(&mesh, phases, begin, async || ()).await;
    drop(new);
    Some(("DNS: another address", trial))
}

/// The name goes away for two seconds, and with it the connections.
pub(super) async fn vanish(answer: Answer, name: &'static str) -> Option<(&'static str, Trial)> {
    let Named { mesh, names, old } = Named::start().await?;
    let after = if answer == Answer::Silence { BACK_AFTER_SILENCE } else { BACK_WITHIN };
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::from_secs(2), after };
    let begin = async || {
        names.set(answer);
        // Open connections would go on.
        tokio::time::sleep(2 * REFRESH).await;
        drop(old);
    };
    let end = async || names.set(Answer::Address(NEW));
    let new = Forwarder::start(NEW, mesh.redis().addr()).await;
    let trial = Load::STEADY.run(&mesh, phases, begin, end).await;
    drop(new);
    Some((name, trial))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_or_goes_away_is_followed() {
    let vanished = [(Answer::NoSuchName, NO_SUCH_NAME), (Answer::Silence, SILENCE)];
    let Some(changed) = change().await else { return };
    let mut trials = vec![changed];
    for (answer, name) in vanished {
        trials.extend(vanish(answer, name).await);
    }
    for (name, trial) in trials {
        println!("{name}: {trial}");
        trial.as_asked();
        assert!(trial.failed > 0 && trial.over_admitted == 0, "{name}: {trial}");
        let within = if name == SILENCE { BACK_AFTER_SILENCE } else { BACK_WITHIN };
        assert!(trial.mostly_decided_after < within - Duration::from_millis(500), "{name}: {trial}");
    }
}

//! A clock of Redis that is set back or forth by an hour.

use std::time::Duration;

use weir::{HostKind, Load, Mesh, Phases, Trial, or_skip};
use weir_provision::redis::RedisOptions;
use weir_provision::virtual_clock::VirtualClock;

const HOUR: i64 = 3_600;

/// Sets the clock of Redis under load; with `lease`, workers hold leases then.
pub(super) async fn step(host: HostKind, seconds: i64, lease: Option<u64>) -> Option<Trial> {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = or_skip(tokio::task::block_in_place(|| VirtualClock::new(folder.path())))?;
    let redis = RedisOptions { env: clock.env(), ..RedisOptions::default() };
    let mesh = Load::STEADY.configure(Mesh::on(host, "envoy/quickstart.yaml").redis(redis)).configure(|filter| {
        if let Some(max) = lease {
            filter["limits"][0]["lease"] = serde_json::json!({"max": max, "ttl": "1s"});
        }
    });
    let mesh = mesh.start().await?;
    crate::stage::until_decided(&mesh).await;
    let phases = Phases { before: Duration::from_secs(2), fault: Duration::ZERO, after: Duration::from_secs(4) };
    let begin = async || clock.shift(seconds).expect("the file can be written");
    Some(Load::STEADY.run(&mesh, phases, begin, async || ()).await)
}

weir::on_both_hosts! {
    a_clock_that_is_set_gives_a_bucket_once_more_at_most
}

/// An hour forth fills a bucket, as an hour does. An hour back gives nothing.
async fn a_clock_that_is_set_gives_a_bucket_once_more_at_most(host: HostKind) {
    for lease in [None, Some(10)] {
        for seconds in [HOUR, -HOUR] {
            let Some(trial) = step(host, seconds, lease).await else { return };
            println!("{host:?}: clock of Redis {seconds:+} s, lease {lease:?}: {trial}");
            trial.as_asked();
            let most = if seconds > 0 { Load::STEADY.max_tokens } else { 0 };
            assert!(trial.over_admitted <= most, "{seconds:+} s, lease {lease:?}: expected {most} at most: {trial}");
        }
    }
}

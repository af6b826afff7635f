//! A certificate of Redis that expires.

use std::time::Duration;

use weir::secured::{NAME, Secured, valid};
use weir::tls_proxy::Side;
use weir::{HostKind, Load, Phases, Trial};

use crate::stage::until_decided;

pub(super) const EXPIRED: &str = "certificate of Redis expired for 2 s";
const AFTER: Duration = Duration::from_secs(3);

/// Lets the certificate expire under load, and renews it. Open connections would go on: they are closed.
pub(super) async fn expire(host: HostKind) -> Option<Trial> {
    let secured = Secured::start(valid).await?;
    let mesh = Load::STEADY.configure(secured.mesh(host)).start().await?;
    secured.with_acl(mesh.key_prefix());
    until_decided(&mesh).await;
    let phases = Phases { before: Duration::from_millis(500), fault: Duration::from_secs(2), after: AFTER };
    let expired = secured.authority.sign_expired(Side::Server, NAME);
    let renewed = secured.authority.sign(Side::Server, NAME, |_| {});
    let begin = async || {
        secured.proxy.serve(&expired);
        secured.proxy.cut();
    };
    let trial = Load::STEADY.run(&mesh, phases, begin, async || secured.proxy.serve(&renewed)).await;
    assert!(secured.proxy.handshakes().1 > 0, "no handshake has failed");
    Some(trial)
}

weir::on_both_hosts! {
    an_expired_certificate_of_redis_fails_checks_until_it_is_renewed
}

async fn an_expired_certificate_of_redis_fails_checks_until_it_is_renewed(host: HostKind) {
    let Some(trial) = expire(host).await else { return };
    println!("{host:?}: {EXPIRED}: {trial}");
    trial.as_asked();
    assert!(trial.failed > 0 && trial.over_admitted == 0, "{trial}");
    assert!(trial.mostly_decided_after < AFTER, "{trial}");
}

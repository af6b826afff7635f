//! Cluster, with what matters on the way to Redis.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::documents::{At, Message};

const TCP_POOL: &str = "envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Envoy's default of each threshold of a circuit breaker.
const DEFAULT_THRESHOLD: u64 = 1024;

/// Cluster of a document.
pub(crate) struct Cluster<'a> {
    pub(crate) at: At<'a>,
    pub(crate) name: &'a str,
}

/// TLS of a cluster.
pub(crate) struct Tls<'a> {
    /// The `UpstreamTlsContext`.
    pub(crate) context: At<'a>,
    pub(crate) has_server_name: bool,
    pub(crate) checks_certificate: bool,
    pub(crate) checks_name: bool,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(at: At<'a>) -> Self {
        Self { name: at.text_of("name"), at }
    }

    /// Whether bodies of requests are sent as raw TCP.
    pub(crate) fn is_raw_tcp(&self) -> bool {
        let pool = self.at.fields(["upstream_config", "typed_config"]);
        pool.and_then(|at| Message::of(&at)).is_some_and(|message| message.name == TCP_POOL)
    }

    /// Protocol of a cluster that is not raw TCP.
    pub(crate) fn http_protocol(&self) -> &'static str {
        let options = self.http_options();
        let http2 = ["explicit_http_config", "http2_protocol_options"];
        let is_http2 = options.is_some_and(|options| options.fields(http2).is_some());
        if is_http2 || self.at.field("http2_protocol_options").is_some() { "HTTP/2" } else { "HTTP/1.1" }
    }

    fn http_options(&self) -> Option<At<'a>> {
        let options = self.at.field("typed_extension_protocol_options")?;
        let message = options.entries().find_map(|(_, at)| Message::of(&at).filter(|it| it.name == HTTP_OPTIONS))?;
        Some(message.body)
    }

    /// Thresholds for the default priority, with their names and places; the place is that of the cluster for Envoy's
    /// defaults.
    pub(crate) fn thresholds(&self) -> [(&'static str, u64, At<'a>); 3] {
        let all = self.at.field("circuit_breakers").map(|at| at.each("thresholds")).unwrap_or_default();
        let is_default = |at: &At<'a>| at.field("priority").is_none_or(|at| at.one_of(&["DEFAULT", "HIGH"]) == Some(0));
        let own = all.into_iter().find(is_default);
        ["max_connections", "max_pending_requests", "max_requests"].map(|name| {
            let at = own.as_ref().and_then(|at| at.field(name));
            let value = at.as_ref().and_then(At::integer).unwrap_or(DEFAULT_THRESHOLD);
            (name, value, at.or_else(|| own.clone()).unwrap_or_else(|| self.at.clone()))
        })
    }

    /// Endpoints written in the cluster.
    pub(crate) fn endpoints(&self) -> Vec<At<'a>> {
        let localities = self.at.field("load_assignment").map(|at| at.each("endpoints")).unwrap_or_default();
        localities.iter().flat_map(|locality| locality.each("lb_endpoints")).collect()
    }

    /// Name of the internal listener to which the first endpoint leads.
    pub(crate) fn internal_listener(&self) -> Option<&'a str> {
        let endpoint = self.endpoints().into_iter().next()?;
        let address = endpoint.fields(["endpoint", "address", "envoy_internal_address"])?;
        Some(address.text_of("server_listener_name"))
    }

    /// Whether Envoy asks the endpoints for the masters of hash slots.
    pub(crate) fn is_redis_cluster(&self) -> bool {
        self.at.field("cluster_type").is_some_and(|at| at.text_of("name") == "envoy.clusters.redis")
    }

    /// Whether a health check can tell a master from its replicas: it sends the command ROLE and waits for `master`. A
    /// check of another kind that may do so, such as one by a service beside Redis, has the benefit of the doubt.
    pub(crate) fn has_selecting_health_check(&self) -> bool {
        self.at.each("health_checks").iter().any(|check| {
            let by_role = check.field("tcp_health_check").is_some_and(|tcp| {
                let sent: Vec<u8> = tcp.field("send").iter().flat_map(payload).collect();
                let received = tcp.each("receive").iter().map(payload).any(|bytes| contains(&bytes, b"master"));
                contains(&sent.to_ascii_uppercase(), b"ROLE") && received
            });
            by_role || ["http_health_check", "grpc_health_check"].iter().any(|name| check.field(name).is_some())
        })
    }

    /// Whether Envoy uses endpoints that fail their health check if too few others are left. Its default is 50 %.
    pub(crate) fn panics(&self) -> bool {
        let threshold = self.at.fields(["common_lb_config", "healthy_panic_threshold"]);
        // Without `value`, a Percent is 0.
        threshold.is_none_or(|at| at.field("value").is_some_and(|at| at.integer() != Some(0)))
    }

    /// TLS to the endpoints, if the cluster has it: that of each transport socket.
    pub(crate) fn tls(&self) -> Vec<Tls<'a>> {
        let matches = self.at.each("transport_socket_matches");
        let owners = matches.into_iter().chain([self.at.clone()]);
        owners.filter_map(|owner| self.tls_of(&owner)).collect()
    }

    /// TLS of the `transport_socket` of a cluster or of a match.
    fn tls_of(&self, owner: &At<'a>) -> Option<Tls<'a>> {
        let message = Message::of(&owner.fields(["transport_socket", "typed_config"])?)?;
        let context = match message.short_name() {
            "UpstreamTlsContext" => message.body,
            // StartTLS and PROXY protocol wrap a socket of TLS.
            _ => {
                Message::of(&message.body.fields(["transport_socket", "typed_config"])?)
                    .filter(|inner| inner.short_name() == "UpstreamTlsContext")?
                    .body
            }
        };
        let is_set = |name: &str| !context.text_of(name).is_empty() || context.is_set(name);
        let has_server_name = ["sni", "auto_host_sni"].into_iter().any(is_set) || self.sets_sni();
        let common = context.field("common_tls_context");
        let validations = common.iter().flat_map(|common| {
            let combined = common.field("combined_validation_context");
            let own = combined.iter().flat_map(|at| {
                [at.field("default_validation_context"), at.field("validation_context_sds_secret_config")]
            });
            let plain = [common.field("validation_context"), common.field("validation_context_sds_secret_config")];
            own.chain(plain).flatten().collect::<Vec<_>>()
        });
        let (mut checks_certificate, mut checks_name, mut accepts_all) = (false, false, false);
        for validation in validations {
            let has = |name: &str| validation.field(name).is_some();
            let trust = validation.field("trust_chain_verification");
            accepts_all |= trust.and_then(|at| at.one_of(&["VERIFY_TRUST_CHAIN", "ACCEPT_UNTRUSTED"])) == Some(1);
            // A context from a secret is not seen here; the benefit of the doubt is given.
            let is_secret = has("sds_config");
            let pins = has("verify_certificate_hash") || has("verify_certificate_spki");
            let names = has("match_typed_subject_alt_names") || has("match_subject_alt_names");
            let validates = has("trusted_ca") || has("system_root_certs") || has("ca_certificate_provider_instance");
            checks_certificate |= is_secret || pins || validates || has("custom_validator_config");
            checks_name |= is_secret || pins || names || has("custom_validator_config");
        }
        let checks_name = checks_name || is_set("auto_sni_san_validation") || self.checks_san();
        Some(Tls { context, has_server_name, checks_certificate: checks_certificate && !accepts_all, checks_name })
    }

    fn sets_sni(&self) -> bool {
        self.upstream_options().is_some_and(|options| options.is_set("auto_sni"))
    }

    fn checks_san(&self) -> bool {
        self.upstream_options().is_some_and(|options| options.is_set("auto_san_validation"))
    }

    fn upstream_options(&self) -> Option<At<'a>> {
        self.http_options()?.field("upstream_http_protocol_options")
    }
}

/// Bytes of a `HealthCheck.Payload`.
fn payload(at: &At<'_>) -> Vec<u8> {
    let hex = at.text_of("text").as_bytes();
    let digits: Option<Vec<u8>> = hex.iter().map(|byte| char::from(*byte).to_digit(16)?.try_into().ok()).collect();
    let text = digits.unwrap_or_default().chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect::<Vec<u8>>();
    let binary = BASE64_STANDARD.decode(at.text_of("binary")).unwrap_or_default();
    if text.is_empty() { binary } else { text }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

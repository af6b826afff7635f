//! Cluster of Redis in an Envoy configuration: addresses, and TLS.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::tls::{Pem, Tls};

/// A cluster with its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cluster {
    pub(super) name: String,
    /// Hosts and ports. Empty if the endpoints are of other kinds, such as internal addresses.
    pub(super) endpoints: Vec<(String, u16)>,
    pub(super) tls: Option<Tls>,
    /// Whether certificates of the TLS connections come from the proxies' control plane.
    pub(super) has_remote_secrets: bool,
}

impl Cluster {
    /// Reads a cluster. `None` if the value is not a cluster with endpoints.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let name = get(value, "name")?.as_str()?.to_owned();
        let assignment = get(value, "load_assignment")?;
        let localities = items(get(assignment, "endpoints"));
        let hosts = localities.flat_map(|locality| items(get(locality, "lb_endpoints")));
        let endpoints =
            hosts.filter_map(|host| endpoint(at(host, &["endpoint", "address", "socket_address"])?)).collect();
        let context = get(value, "transport_socket").and_then(|socket| get(socket, "typed_config")).filter(|config| {
            config.get("@type").and_then(Value::as_str).is_some_and(|name| name.ends_with(".UpstreamTlsContext"))
        });
        let common = context.and_then(|context| get(context, "common_tls_context"));
        let has_remote_secrets = common.is_some_and(|common| {
            let of = |name: &str| get(common, name).is_some();
            of("validation_context_sds_secret_config")
                || of("tls_certificate_sds_secret_configs")
                || at(common, &["combined_validation_context", "validation_context_sds_secret_config"]).is_some()
        });
        Some(Self { name, endpoints, tls: context.map(tls), has_remote_secrets })
    }

    /// Reads the address in Istio's name of a service's cluster: `outbound|6379||redis.default.svc.cluster.local`.
    pub(super) fn of_service(name: &str) -> Option<Self> {
        let mut parts = name.split('|');
        let (_, port, _, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let endpoints = vec![(host.to_owned(), port.parse().ok()?)];
        Some(Self { name: name.to_owned(), endpoints, tls: None, has_remote_secrets: false })
    }
}

fn endpoint(address: &Value) -> Option<(String, u16)> {
    let port = get(address, "port_value")?.as_u64()?;
    Some((get(address, "address")?.as_str()?.to_owned(), u16::try_from(port).ok()?))
}

/// Reads an `UpstreamTlsContext`.
fn tls(context: &Value) -> Tls {
    let common = get(context, "common_tls_context");
    let validation = common.and_then(|common| {
        let combined = at(common, &["combined_validation_context", "default_validation_context"]);
        get(common, "validation_context").or(combined)
    });
    let certificate = common.and_then(|common| items(get(common, "tls_certificates")).next());
    let of_client = |name: &str| certificate.and_then(|it| get(it, name)).and_then(pem);
    let sni = || get(context, "sni").and_then(Value::as_str).filter(|sni| !sni.is_empty());
    Tls {
        ca: validation.and_then(|validation| get(validation, "trusted_ca")).and_then(pem),
        certificate: of_client("certificate_chain"),
        key: of_client("private_key"),
        name: validation.and_then(exact_name).or_else(sni).map(str::to_owned),
    }
}

/// The first name that the certificate must have exactly.
fn exact_name(validation: &Value) -> Option<&str> {
    let mut typed = items(get(validation, "match_typed_subject_alt_names"))
        .filter(|san| {
            get(san, "san_type").and_then(Value::as_str).is_none_or(|kind| ["DNS", "IP_ADDRESS"].contains(&kind))
        })
        .filter_map(|san| get(san, "matcher"));
    let untyped = || items(get(validation, "match_subject_alt_names")).next();
    typed.next().or_else(untyped).and_then(|matcher| get(matcher, "exact")?.as_str())
}

/// Reads a `DataSource`.
fn pem(source: &Value) -> Option<Pem> {
    let text = |name: &str| get(source, name).and_then(Value::as_str);
    let file = || text("filename").map(|file| Pem::File(PathBuf::from(file)));
    let inline = || text("inline_string").map(|text| Pem::Inline(text.as_bytes().to_vec()));
    let bytes = || text("inline_bytes").and_then(|text| STANDARD.decode(text).ok()).map(Pem::Inline);
    let variable = || text("environment_variable").and_then(|name| std::env::var(name).ok());
    file().or_else(inline).or_else(bytes).or_else(|| variable().map(|text| Pem::Inline(text.into_bytes())))
}

/// The field of this name in Envoy's spelling (`load_assignment`) or in protobuf's for JSON (`loadAssignment`).
pub(super) fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let camel = || {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |camel, word| {
            let (initial, rest) = word.split_at_checked(1).unwrap_or(("", word));
            camel + &initial.to_ascii_uppercase() + rest
        })
    };
    value.get(name).or_else(|| value.get(camel()))
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| get(value, name))
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_read_in_both_spellings() {
        let snake = json!({"name": "redis", "load_assignment": {"endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": "redis.local", "port_value": 6380}}}}]}]}});
        let camel = json!({"name": "redis", "loadAssignment": {"endpoints": [{"lbEndpoints": [
            {"endpoint": {"address": {"socketAddress": {"address": "redis.local", "portValue": 6380}}}}]}]}});
        let cluster = Cluster::of(&snake).unwrap();
        assert_eq!(cluster.endpoints, [("redis.local".to_owned(), 6380)]);
        assert_eq!(Cluster::of(&camel), Some(cluster));
        assert_eq!(Cluster::of(&json!({"name": "redis"})), None);
    }

    #[test]
    fn a_service_of_istio_has_its_address_in_its_name() {
        let cluster = Cluster::of_service("outbound|6379||redis.default.svc.cluster.local").unwrap();
        assert_eq!(cluster.endpoints, [("redis.default.svc.cluster.local".to_owned(), 6379)]);
        assert_eq!(Cluster::of_service("redis"), None);
        assert_eq!(Cluster::of_service("outbound|x||redis"), None);
    }

    #[test]
    fn tls_is_read_from_the_upstream_context() {
        let context = json!({"sni": "redis.sni", "common_tls_context": {
            "validation_context": {"trusted_ca": {"filename": "/ca.pem"}},
            "tls_certificates": [{"certificate_chain": {"inline_string": "C"}, "private_key": {"inline_bytes": "Sw=="}}]}});
        let pem = |text: &str| Some(Pem::Inline(text.into()));
        let expected = Tls {
            ca: Some(Pem::File("/ca.pem".into())),
            certificate: pem("C"),
            key: pem("K"),
            name: Some("redis.sni".into()),
        };
        assert_eq!(tls(&context), expected);
        let combined = json!({"sni": "redis.sni", "commonTlsContext": {"combinedValidationContext": {
            "defaultValidationContext": {"matchTypedSubjectAltNames": [
                {"sanType": "URI", "matcher": {"exact": "spiffe://x"}},
                {"sanType": "DNS", "matcher": {"exact": "redis.san"}}]}}}});
        assert_eq!(tls(&combined).name.as_deref(), Some("redis.san"));
    }
}

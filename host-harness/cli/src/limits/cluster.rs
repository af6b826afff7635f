//! Cluster of Redis in an Envoy configuration: addresses, and TLS.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::endpoint::Endpoint;
use super::error::Misread;
use super::tls::{Pem, Tls};
use crate::documents::{At, Message, Value, quoted};

/// A cluster with its endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cluster {
    /// Addresses of the servers. Empty if they are of other kinds, such as internal addresses.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) tls: Option<Tls>,
    /// Place of the first certificates that come from the proxies' control plane.
    pub(super) remote_secrets: Option<String>,
    /// User and password of the nodes behind a `redis_proxy`.
    pub(super) login: Option<(Option<String>, String)>,
}

impl Cluster {
    /// Reads a cluster.
    ///
    /// # Errors
    /// If an address, or the certificates, have values that Envoy refuses or that are not here.
    pub(super) fn of(cluster: &At<'_>) -> Result<Self, Misread> {
        let localities = cluster.field("load_assignment").map(|at| at.each("endpoints")).unwrap_or_default();
        let hosts = localities.iter().flat_map(|locality| locality.each("lb_endpoints"));
        let addresses = hosts.filter_map(|host| host.fields(["endpoint", "address"]));
        let endpoints = addresses.filter_map(|address| endpoint(&address)).collect::<Result<_, _>>()?;
        let socket = cluster.fields(["transport_socket", "typed_config"]).and_then(|at| Message::of(&at));
        let context = socket.filter(|it| it.short_name() == "UpstreamTlsContext").map(|message| message.body);
        let common = context.as_ref().and_then(|context| context.field("common_tls_context"));
        let remote_secrets = common.and_then(|common| {
            let combined = common.fields(["combined_validation_context", "validation_context_sds_secret_config"]);
            let of = |name: &str| common.field(name);
            of("validation_context_sds_secret_config").or_else(|| of("tls_certificate_sds_secret_configs")).or(combined)
        });
        Ok(Self {
            endpoints,
            tls: context.as_ref().map(tls).transpose()?,
            remote_secrets: remote_secrets.as_ref().map(place),
            login: login(cluster)?,
        })
    }

    /// Reads the address in Istio's name of a service's cluster: `outbound|6379||redis.default.svc.cluster.local`.
    pub(super) fn of_service(name: &str) -> Option<Self> {
        let mut parts = name.split('|');
        let (_, port, _, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { endpoints: vec![Endpoint::Tcp(host.to_owned(), port.parse().ok()?)], ..Self::default() })
    }
}

/// File, line and column of a value.
pub(super) fn place(at: &At<'_>) -> String {
    format!("{}:{}", at.document.origin, at.node.position)
}

fn misread(at: &At<'_>, expected: &'static str, found: String) -> Misread {
    Misread { place: place(at), path: at.path.clone(), expected, found }
}

/// Reads an `Address`. `None` if it is of another kind than a host or a socket.
fn endpoint(address: &At<'_>) -> Option<Result<Endpoint, Misread>> {
    if let Some(address) = address.field("socket_address") {
        return Some(socket_address(&address).map(|(host, port)| Endpoint::Tcp(host, port)));
    }
    let path = address.fields(["pipe", "path"])?;
    let text = path.text().ok_or_else(|| misread(&path, "a path", path.kind()));
    Some(text.map(|path| Endpoint::Socket(path.into())))
}

/// Reads a `SocketAddress`.
fn socket_address(address: &At<'_>) -> Result<(String, u16), Misread> {
    let of = |name: &'static str, expected: &'static str| {
        address.field(name).ok_or_else(|| misread(address, expected, "nothing".to_owned()))
    };
    let host = of("address", "a host in `address`")?;
    let name = host.text().ok_or_else(|| misread(&host, "a host", host.kind()))?;
    let port = of("port_value", "a port in `port_value`")?;
    let number = port.integer().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    let found = || match &port.node.value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        _ => port.kind(),
    };
    Ok((name.to_owned(), number.ok_or_else(|| misread(&port, "a port from 1 to 65535", found()))?))
}

/// Reads an `UpstreamTlsContext`.
fn tls(context: &At<'_>) -> Result<Tls, Misread> {
    let common = context.field("common_tls_context");
    let validation = common.as_ref().and_then(|common| {
        let combined = common.fields(["combined_validation_context", "default_validation_context"]);
        common.field("validation_context").or(combined)
    });
    let certificate = common.and_then(|common| common.each("tls_certificates").into_iter().next());
    let source = |owner: &Option<At<'_>>, name: &str| match owner.as_ref().and_then(|owner| owner.field(name)) {
        Some(source) => pem(&source),
        None => Ok(None),
    };
    let sni = Some(context.text_of("sni")).filter(|sni| !sni.is_empty()).map(str::to_owned);
    Ok(Tls {
        ca: source(&validation, "trusted_ca")?,
        certificate: source(&certificate, "certificate_chain")?,
        key: source(&certificate, "private_key")?,
        name: validation.as_ref().and_then(exact_name).or(sni),
    })
}

/// Reads the credentials in `RedisProtocolOptions`.
fn login(cluster: &At<'_>) -> Result<Option<(Option<String>, String)>, Misread> {
    let options = cluster.field("typed_extension_protocol_options");
    let mut messages = options.into_iter().flat_map(|at| at.entries()).filter_map(|(_, at)| Message::of(&at));
    let Some(options) = messages.find(|it| it.short_name() == "RedisProtocolOptions") else { return Ok(None) };
    let of = |name: &str| options.body.field(name).map(|at| secret(&at)).transpose().map(Option::flatten);
    of("auth_password")?.map(|password| Ok((of("auth_username")?, password))).transpose()
}

/// Reads a `DataSource` of a text.
fn secret(source: &At<'_>) -> Result<Option<String>, Misread> {
    let expected = |found: &str| misread(source, "a text that can be read here", found.to_owned());
    let bytes = match pem(source)? {
        Some(Pem::Inline { text, .. }) => text,
        Some(Pem::File { file, .. }) => std::fs::read(file).map_err(|error| expected(&error.to_string()))?,
        None => return Ok(None),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| expected("bytes that are not UTF-8"))
}

/// The first name that the certificate must have exactly.
fn exact_name(validation: &At<'_>) -> Option<String> {
    const KINDS: [&str; 6] = ["SAN_TYPE_UNSPECIFIED", "EMAIL", "DNS", "URI", "IP_ADDRESS", "OTHER_NAME"];
    let is_name = |kind: &At<'_>| matches!(kind.one_of(&KINDS), Some(2 | 4));
    let typed = validation.each("match_typed_subject_alt_names").into_iter();
    let typed = typed.filter(|san| san.field("san_type").as_ref().is_none_or(is_name));
    let mut matchers = typed.filter_map(|san| san.field("matcher"));
    let untyped = || validation.each("match_subject_alt_names").into_iter().next();
    let exact = matchers.next().or_else(untyped)?.field("exact")?;
    exact.text().map(str::to_owned)
}

/// Reads a `DataSource`. `None` if it is of another kind.
fn pem(source: &At<'_>) -> Result<Option<Pem>, Misread> {
    let inline = |at: &At<'_>, text: Vec<u8>| Some(Pem::Inline { text, place: place(at) });
    let text = |at: &At<'_>| {
        let text = at.text().ok_or_else(|| misread(at, "a string", at.kind()));
        text.map(str::to_owned)
    };
    if let Some(at) = source.field("filename") {
        return Ok(Some(Pem::File { file: PathBuf::from(text(&at)?), place: Some(place(&at)) }));
    }
    if let Some(at) = source.field("inline_string") {
        return Ok(inline(&at, text(&at)?.into_bytes()));
    }
    if let Some(at) = source.field("inline_bytes") {
        let bytes = STANDARD.decode(text(&at)?).map_err(|_| misread(&at, "bytes in base64", at.kind()))?;
        return Ok(inline(&at, bytes));
    }
    let Some(at) = source.field("environment_variable") else { return Ok(None) };
    let value = std::env::var(text(&at)?);
    let value = value.map_err(|_| misread(&at, "a variable that is set", "one that is not set here".to_owned()))?;
    Ok(inline(&at, value.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Source;

    /// The cluster in a text of YAML.
    fn read(text: &str) -> Result<Cluster, String> {
        let source = Source::parse(text, "envoy.yaml".to_owned());
        Cluster::of(&At::root(&source.documents[0])).map_err(|error| error.to_string())
    }

    fn with_tls(context: &str) -> Result<Option<Tls>, String> {
        let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        let cluster =
            read(&format!("{{name: redis, transport_socket: {{typed_config: {{\"@type\": {url}, {context}}}}}}}"));
        cluster.map(|cluster| cluster.tls)
    }

    #[test]
    fn a_cluster_is_read_in_both_spellings() {
        let text = |assignment: &str, socket: &str, port: &str| {
            format!(
                "name: redis\n{assignment}:\n  endpoints:\n    lb_endpoints: {{endpoint: {{address: {{{socket}: \
                 {{address: redis.local, {port}: 6380}}}}}}}}\n"
            )
        };
        let cluster = read(&text("load_assignment", "socket_address", "port_value")).unwrap();
        assert_eq!(cluster.endpoints, [Endpoint::Tcp("redis.local".to_owned(), 6380)]);
        assert_eq!(read(&text("loadAssignment", "socketAddress", "portValue")), Ok(cluster));
        assert_eq!(read("name: redis"), Ok(Cluster::default()));
    }

    #[test]
    fn an_address_that_is_none_has_its_place() {
        let text = |address: &str| {
            format!(
                "name: redis\nload_assignment:\n  endpoints:\n  - lb_endpoints:\n    - endpoint: {{address: \
                 {{socket_address: {{{address}}}}}}}\n"
            )
        };
        let path = "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address";
        for (address, expected) in [
            (
                "address: a, port_value: 70000",
                format!("envoy.yaml:5:69: {path}.port_value: expected a port from 1 to 65535, found 70000"),
            ),
            (
                "address: a, port_value: x",
                format!("envoy.yaml:5:69: {path}.port_value: expected a port from 1 to 65535, found \"x\""),
            ),
            (
                "address: [a], port_value: 1",
                format!("envoy.yaml:5:54: {path}.address: expected a host, found a list of 1"),
            ),
            ("address: a", format!("envoy.yaml:5:44: {path}: expected a port in `port_value`, found nothing")),
        ] {
            assert_eq!(read(&text(address)).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_service_of_istio_has_its_address_in_its_name() {
        let cluster = Cluster::of_service("outbound|6379||redis.default.svc.cluster.local").unwrap();
        assert_eq!(cluster.endpoints, [Endpoint::Tcp("redis.default.svc.cluster.local".to_owned(), 6379)]);
        assert_eq!(Cluster::of_service("redis"), None);
        assert_eq!(Cluster::of_service("outbound|x||redis"), None);
    }

    #[test]
    fn tls_is_read_from_the_upstream_context() {
        let context = "sni: redis.sni, common_tls_context: {validation_context: {trusted_ca: {filename: /ca.pem}}, \
                       tls_certificates: {certificate_chain: {inline_string: C}, private_key: {inline_bytes: Sw==}}}";
        let tls = with_tls(context).unwrap().unwrap();
        let inline = |pem: &Option<Pem>, expected: &str| matches!(pem, Some(Pem::Inline { text, .. }) if text == expected.as_bytes());
        assert!(matches!(&tls.ca, Some(Pem::File { file, place: Some(_) }) if file.ends_with("ca.pem")), "{tls:?}");
        assert!(inline(&tls.certificate, "C") && inline(&tls.key, "K"), "{tls:?}");
        assert_eq!(tls.name.as_deref(), Some("redis.sni"));
        let combined = "sni: redis.sni, commonTlsContext: {combinedValidationContext: {defaultValidationContext: \
                        {matchTypedSubjectAltNames: [{sanType: URI, matcher: {exact: \"spiffe://x\"}}, {sanType: dns, \
                        matcher: {exact: redis.san}}]}}}";
        assert_eq!(with_tls(combined).unwrap().unwrap().name.as_deref(), Some("redis.san"));
        let wrong =
            with_tls("common_tls_context: {validation_context: {trusted_ca: {inline_bytes: \"*\"}}}").unwrap_err();
        let expected = "common_tls_context.validation_context.trusted_ca.inline_bytes: expected bytes in base64, found a string of 1 bytes";
        assert!(wrong.starts_with("envoy.yaml:1:") && wrong.ends_with(expected), "{wrong}");
    }
}

//! Plan: the file of `weir render`, with every mistake at its place.

use serde_json::{Map, json};

use super::Form;
use super::configuration::{Configuration, flow};
use crate::documents::Source;
use crate::reader::{Fields, Mistake, Mistakes, Reader};

/// Fields of manifests. All others are the filter's.
pub(super) const FIELDS: [&str; 7] = ["image", "namespace", "gateway", "waypoint", "labels", "upstream", "redis"];
/// Fields of `redis` of manifests. All others are the filter's.
pub(super) const REDIS: [&str; 5] = ["address", "password_env", "token_env", "tls", "failover"];
/// Fields of `redis` that manifests imply.
pub(super) const IMPLIED: [(&str, &str); 3] = [
    ("cluster", "no field: the manifests name it"),
    ("password", "`password_env`, the name of a variable: a manifest shows its texts"),
    ("token", "`token_env`, the name of a variable: a manifest shows its texts"),
];

/// File of limits and Redis.
pub(super) struct Plan {
    /// Reference of the image, without a scheme.
    pub(super) image: String,
    /// Version of the image for names of Kubernetes, such as `0-1-0`.
    pub(super) version: String,
    pub(super) namespace: Option<String>,
    pub(super) workload: Option<Workload>,
    /// Service that a deployment of Envoy forwards to.
    pub(super) upstream: Option<Address>,
    pub(super) way: Way,
    pub(super) address: Address,
    /// User of the nodes of a Redis Cluster. Other users are part of the filter's configuration.
    pub(super) username: Option<String>,
    /// Variable with the password of Redis, or with the token of its front end.
    pub(super) password_env: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) configuration: Configuration,
}

/// Way to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Single node.
    Node,
    /// The master among the nodes of one name.
    Failover,
    /// Redis Cluster, through `redis_proxy`.
    Cluster,
    Webdis,
    Upstash,
}

impl Way {
    /// Reads the fields that select a way. Each goes with some of the others.
    fn read(redis: &Fields<'_>) -> Option<Self> {
        let transport = redis.take("transport");
        let topology = redis.take("topology").filter(|at| at.exact_text() == Some("cluster"));
        let (way, excluded): (_, &[&str]) =
            match (transport.as_ref().and_then(|at| at.exact_text()), topology, redis.take("failover")) {
                (Some("webdis"), ..) => (Self::Webdis, &["token_env"]),
                (Some("upstash"), ..) => (Self::Upstash, &["password_env"]),
                (_, Some(_), _) => (Self::Cluster, &["token_env"]),
                (_, None, Some(at)) => {
                    let way = if at.flag()? { Self::Failover } else { Self::Node };
                    (way, &["token_env"])
                }
                (_, None, None) => (Self::Node, &["token_env"]),
            };
        let others: &[&str] = if way.is_front_end() { &["tls", "failover", "topology"] } else { &[] };
        let with_cluster = (way == Self::Cluster).then_some("failover");
        let mut is_sound = true;
        for name in excluded.iter().copied().chain(others.iter().copied()).chain(with_cluster) {
            if let Some(at) = redis.take(name) {
                is_sound = false;
                at.refuse::<()>(format!("redis.{name}: expected none with {}", way.name()));
            }
        }
        is_sound.then_some(way)
    }

    pub(super) fn is_front_end(self) -> bool {
        matches!(self, Self::Webdis | Self::Upstash)
    }

    fn port(self) -> u16 {
        match self {
            Self::Node | Self::Failover | Self::Cluster => 6379,
            Self::Webdis => 7379,
            Self::Upstash => 443,
        }
    }

    /// Timeout where the file has none: as in the chart. `None`: the filter's default.
    fn timeout(self) -> Option<&'static str> {
        match self {
            Self::Node | Self::Failover => None,
            Self::Cluster | Self::Webdis => Some("0.2s"),
            Self::Upstash => Some("0.5s"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Node | Self::Failover => "a Redis",
            Self::Cluster => "`topology: cluster`",
            Self::Webdis => "`transport: webdis`",
            Self::Upstash => "`transport: upstash`",
        }
    }
}

/// Proxies that get the limiter.
pub(super) enum Workload {
    Gateway(String),
    Waypoint(String),
    /// Labels of pods with sidecars, in YAML's flow style.
    Labels(String),
}

/// Host and port.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// TLS to Redis.
pub(super) struct Tls {
    /// Name in the certificate of Redis.
    pub(super) server_name: String,
    /// Secret with `ca.crt`, and for a client's certificate `tls.crt` and `tls.key`.
    pub(super) secret: String,
    pub(super) has_client_certificate: bool,
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// All mistakes.
    pub(super) fn read(form: Form, source: &Source, text: &str) -> Result<Self, Vec<Mistake>> {
        let mistakes = Mistakes::of(&source.origin);
        let document = match source.only() {
            Ok(document) => document,
            Err((position, found)) => {
                mistakes.add(position, format!("expected one document of YAML, found {found}"));
                return Err(mistakes.into_found());
            }
        };
        let root = Reader { node: &document.root, mistakes: &mistakes };
        let plan = Self::of(form, root, |implied| Configuration::read(document, text, implied, &mistakes));
        let found = mistakes.into_found();
        plan.filter(|_| found.is_empty()).ok_or(found)
    }

    fn of(
        form: Form,
        root: Reader<'_>,
        configuration: impl FnOnce(Map<String, serde_json::Value>) -> Option<Configuration>,
    ) -> Option<Self> {
        let fields = root.any_fields()?;
        let image = required(&fields, "image", "an image with a version, such as registry.example.com/weir:0.1.0");
        let image = image.and_then(image_of);
        let namespace = fields.take("namespace").map(label);
        let workload = workload(form, &fields);
        let upstream = fields.take("upstream").map(|at| address(at, None));
        if form == Form::Envoy && upstream.is_none() {
            root.refuse::<()>("expected `upstream`: HOST:PORT of the service behind the proxy, found none");
        }
        let redis = required(&fields, "redis", "`address` of Redis").and_then(Reader::any_fields);
        let mut implied = Map::from_iter([("cluster".to_owned(), json!("weir-redis"))]);
        let (mut of_redis, mut username) = (None, None);
        if let Some(redis) = redis {
            for (field, expected) in IMPLIED {
                if let (Some(_), Some(place)) = (redis.take(field), redis.key(field)) {
                    root.mistakes.add(place, format!("redis.{field}: expected {expected}"));
                }
            }
            let way = Way::read(&redis);
            let of_way = way.unwrap_or(Way::Node);
            let address = required(&redis, "address", "HOST:PORT").and_then(|at| address(at, Some(of_way.port())));
            let secret = if of_way == Way::Upstash { ("token", "token_env") } else { ("password", "password_env") };
            let password_env = redis.take(secret.1).map(variable);
            if of_way == Way::Cluster {
                // The proxy of the nodes has their login.
                implied.insert("username".to_owned(), serde_json::Value::Null);
                username = redis.take("username").and_then(|at| at.exact_text().map(str::to_owned));
            } else if let Some(Some(name)) = &password_env {
                implied.insert(secret.0.to_owned(), json!({"env": name}));
            }
            let host = address.as_ref().map(|it| it.host.clone()).unwrap_or_default();
            if let Some(it) = address.as_ref().filter(|_| of_way.is_front_end() && form == Form::Istio) {
                implied.insert("cluster".to_owned(), json!(format!("outbound|{}||{host}", it.port)));
            }
            if let (Some(timeout), None) = (of_way.timeout(), redis.take("timeout")) {
                implied.insert("timeout".to_owned(), json!(timeout));
            }
            if of_way == Way::Upstash {
                implied.insert("authority".to_owned(), json!(host));
            }
            of_redis = Some((way, address, password_env, redis.take("tls").map(|at| tls(at, host))));
        }
        let configuration = configuration(implied);
        let (way, address, password_env, tls) = of_redis?;
        let is_waypoint = matches!(workload, Some(Some(Workload::Waypoint(_))));
        if is_waypoint && way.is_some_and(Way::is_front_end) {
            root.refuse::<()>(
                "expected `gateway` or `labels` with an HTTP front end: a waypoint has no other clusters",
            );
        }
        if is_waypoint && way == Some(Way::Cluster) {
            root.refuse::<()>(
                "expected `gateway` or `labels` with a Redis Cluster: Istio adds no listener of an EnvoyFilter to a waypoint",
            );
        }
        let reads_bodies = configuration.as_ref().is_some_and(|it| it.reads_bodies);
        if reads_bodies && form == Form::Istio && way.is_some_and(Way::is_front_end) {
            root.refuse::<()>("expected no limit that reads bodies with an HTTP front end: it needs an EnvoyFilter");
        }
        let (image, version) = image?;
        Some(Self {
            image,
            version,
            namespace: all(namespace)?,
            workload: all(workload)?,
            upstream: all(upstream)?,
            way: way?,
            address: address?,
            username,
            password_env: all(password_env)?,
            tls: all(tls)?,
            configuration: configuration?,
        })
    }
}

/// A value that may be absent, and is not if it is wrong.
fn all<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn required<'a>(fields: &Fields<'a>, name: &str, what: &str) -> Option<Reader<'a>> {
    fields.take(name).or_else(|| fields.owner().refuse(format!("expected `{name}`: {what}, found none")))
}

/// The proxies of a form; `None` for a deployment of Envoy.
fn workload(form: Form, fields: &Fields<'_>) -> Option<Option<Workload>> {
    let known: &[&str] = match form {
        Form::Istio => &["gateway", "waypoint", "labels"],
        Form::EnvoyGateway => &["gateway"],
        Form::Envoy => return None,
    };
    let mut given = known.iter().filter_map(|name| Some((*name, fields.take(name)?)));
    let Some((name, at)) = given.next() else {
        let names = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Some(fields.owner().refuse(format!("expected one of {names}: the proxies of the limiter, found none")));
    };
    if let Some((other, at)) = given.next() {
        return Some(at.refuse(format!("expected one workload, found both `{name}` and `{other}`")));
    }
    Some(match name {
        "gateway" => label(at).map(Workload::Gateway),
        "waypoint" => label(at).map(Workload::Waypoint),
        _ => labels(at).map(Workload::Labels),
    })
}

/// Labels of pods, in YAML's flow style.
fn labels(at: Reader<'_>) -> Option<String> {
    let entries = at.entries()?;
    let texts = entries.iter().map(|entry| at.of(&entry.value).exact_text().is_some());
    if entries.is_empty() || texts.into_iter().any(|is_text| !is_text) {
        return at.expected("labels of pods such as {app: orders}, each a text");
    }
    Some(flow(&at.node.to_json()))
}

/// The reference of an image, and its version for names.
fn image_of(at: Reader<'_>) -> Option<(String, String)> {
    let expected = "an image with a version, such as registry.example.com/weir/weir-filter:0.1.0";
    let Some(text) = at.exact_text() else { return at.expected(expected) };
    let reference = text.strip_prefix("oci://").unwrap_or(text);
    let is_known = |char: char| char.is_ascii_alphanumeric() || "./:_-@".contains(char);
    let name = reference.rsplit('/').next().unwrap_or_default();
    let (tagged, digest) = name.split_once('@').unwrap_or((name, ""));
    let tag = tagged.split_once(':').map_or("", |(_, tag)| tag);
    let version = if tag.is_empty() { digest.trim_start_matches("sha256:").get(..12).unwrap_or_default() } else { tag };
    if !reference.contains('/') || !reference.chars().all(is_known) || !version.contains(|it: char| it.is_ascii_digit())
    {
        return at.expected(expected);
    }
    let slug = version.to_ascii_lowercase().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
    Some((reference.to_owned(), slug.trim_matches('-').to_owned()))
}

/// A name of Kubernetes.
fn label(at: Reader<'_>) -> Option<String> {
    let is_known = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    match at.exact_text() {
        Some(text)
            if (1..=63).contains(&text.len())
                && text.chars().all(is_known)
                && text.starts_with(|it: char| it.is_ascii_lowercase()) =>
        {
            Some(text.to_owned())
        }
        _ => at.expected("a name of lower-case letters, digits and dashes, at most 63"),
    }
}

fn variable(at: Reader<'_>) -> Option<String> {
    let is_known = |char: char| char.is_ascii_alphanumeric() || char == '_';
    match at.exact_text() {
        Some(text) if text.starts_with(|it: char| it.is_ascii_alphabetic()) && text.chars().all(is_known) => {
            Some(text.to_owned())
        }
        // It may be the password itself, and is not shown.
        _ => at.refuse("expected the name of an environment variable, such as REDIS_PASSWORD, found another value"),
    }
}

fn address(at: Reader<'_>, port: Option<u16>) -> Option<Address> {
    let text = at.exact_text().unwrap_or_default();
    let (host, written) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_known = |char: char| char.is_ascii_alphanumeric() || ".-".contains(char);
    let port = written.map_or(port, |port| port.parse().ok().filter(|port| *port > 0));
    match port.filter(|_| !host.is_empty() && host.chars().all(is_known)) {
        Some(port) => Some(Address { host: host.to_owned(), port }),
        None => at.expected("HOST:PORT, such as redis.weir.svc.cluster.local:6379"),
    }
}

/// TLS with its defaults; `true` for all of them.
fn tls(at: Reader<'_>, host: String) -> Option<Tls> {
    let mut tls = Tls { server_name: host, secret: "weir-redis-tls".to_owned(), has_client_certificate: true };
    if !at.is_map() {
        let is_on = at.flag()?;
        return if is_on { Some(tls) } else { at.refuse("expected `true` or a map, or no `tls`, found false") };
    }
    let fields = at.fields(&["server_name", "secret", "client_certificate"])?;
    if let Some(name) = fields.take("server_name") {
        tls.server_name = address(name, Some(1))?.host;
    }
    if let Some(secret) = fields.take("secret") {
        tls.secret = label(secret)?;
    }
    if let Some(flag) = fields.take("client_certificate") {
        tls.has_client_certificate = flag.flag()?;
    }
    Some(tls)
}

impl Plan {
    /// The variable that the filter reads. The password of a Redis Cluster is read by Envoy.
    pub(super) fn filter_env(&self) -> Option<&String> {
        self.password_env.as_ref().filter(|_| self.way != Way::Cluster)
    }

    /// The namespace, or that of the shipped manifest.
    pub(super) fn namespace<'a>(&'a self, of_template: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(of_template)
    }
}

//! Redis behind TLS and a scenario that reaches it, with certificates of both sides.

use std::{fs, sync::Arc};

use serde_json::Value;
use tempfile::TempDir;
use weir_provision::{
    checkout, or_skip,
    redis::{RedisOptions, RedisServer},
};

use crate::{
    HostKind, Mesh, MeshBuilder,
    tls_proxy::{Authority, Identity, Side, TlsProxy},
};

const SCENARIO: &str = "envoy/redis-tls.yaml";
/// Name in the certificate of Redis.
pub const NAME: &str = "redis.example.com";
/// Files of secrets, which the scenario names.
const SECRETS: [&str; 2] = ["envoy/secrets/redis-client.yaml", "envoy/secrets/redis-authority.yaml"];
const CERTIFICATES: &str = "/etc/weir/redis-tls";

/// Redis behind TLS, with the files of a client's certificate.
#[derive(Debug)]
pub struct Secured {
    /// The Redis behind the proxy, without TLS.
    pub redis: Arc<RedisServer>,
    /// Authority of all certificates.
    pub authority: Arc<Authority>,
    /// Proxy that ends TLS.
    pub proxy: TlsProxy,
    /// Folder of the certificates, and of the file that names them.
    pub folder: TempDir,
}

impl Secured {
    /// Starts a Redis and its proxy, and writes the certificate that `client` signs. `None` if Redis is missing, which is
    /// printed.
    ///
    /// # Panics
    /// If a port or a folder cannot be had.
    pub async fn start(client: impl FnOnce(&Authority) -> Identity) -> Option<Self> {
        let start = || RedisServer::start(RedisOptions::default());
        let redis = Arc::new(or_skip(tokio::task::spawn_blocking(start).await.expect("provisioning does not panic"))?);
        let authority = Authority::new();
        let server = authority.sign(Side::Server, NAME, |_| {});
        let proxy = TlsProxy::start(redis.addr(), &authority, &server).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        authority.install(folder.path(), &client(&authority)).expect("the folder can be written");
        Some(Self { redis, authority, proxy, folder })
    }

    /// Returns the scenario with the files of the folder, and the password in the file.
    ///
    /// # Panics
    /// If the checkout lacks the scenario's files.
    pub fn mesh(&self, host: HostKind) -> MeshBuilder {
        let folder = self.folder.path();
        let mut mesh = Mesh::on(host, SCENARIO).reaching(&self.redis, vec![self.proxy.addr()]);
        for (name, secret) in ["client.yaml", "authority.yaml"].iter().zip(SECRETS) {
            let text = fs::read_to_string(checkout::root().expect("a checkout").join(secret)).expect("the file");
            let file = folder.join(name);
            fs::write(&file, text.replace(CERTIFICATES, &folder.display().to_string()))
                .expect("the folder can be written");
            mesh = mesh.edit(|document| replace(document, secret, &file.display().to_string()));
        }
        // The tests' processes do not have the variable.
        let mesh = mesh.edit(drop_variables);
        mesh.configure(|filter| filter["redis"]["password"] = serde_json::json!({"inline": "open-sesame"}))
    }

    /// Gives the user `weir` the permissions of the documented ACL, for keys with this prefix.
    ///
    /// # Panics
    /// If Redis does not run.
    pub fn with_acl(&self, key_prefix: &str) {
        let page = include_str!("../../docs/src/operations.md");
        let (_, acl) = page.split_once("ACL SETUSER weir ").expect("the page has an ACL");
        let (acl, _) = acl.split_once("```").expect("the ACL is in a code block");
        let commands = acl.split_whitespace().filter(|word| word.starts_with('+'));
        let client = redis::Client::open(self.redis.url()).expect("a URL");
        let mut redis = client.get_connection().expect("Redis runs");
        let user = ["weir", "on", ">open-sesame", &format!("~{key_prefix}*")].map(str::to_owned);
        redis::cmd("ACL").arg("SETUSER").arg(&user).arg(commands.collect::<Vec<_>>()).exec(&mut redis).expect("a user");
    }
}

/// Signs a certificate of a client.
pub fn valid(authority: &Authority) -> Identity {
    authority.sign(Side::Client, "weir", |_| {})
}

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => *text = to.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|value| replace(value, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, from, to)),
        _ => {}
    }
}

fn drop_variables(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_variables),
        Value::Object(fields) => {
            fields.remove("environment_variables");
            fields.values_mut().for_each(drop_variables);
        }
        _ => {}
    }
}

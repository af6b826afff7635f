//! The Redis of a command: from a bootstrap, a limiter's configuration, Kubernetes manifests, or a URL.

use redis::Commands;
use weir_provision::redis::RedisServer;

use crate::{Folder, bootstrap, cluster, limiter, redis};

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// Sets an override, and returns whether this Redis has it in this database.
fn sets(folder: &Folder, words: &[&str], variables: &[(&str, &str)], server: &RedisServer, database: u32) -> bool {
    let set = folder.limits(&[&["set", "per_user", "alice", "blocked"], words].concat(), variables);
    assert_eq!(set.as_deref(), Ok("per_user alice: blocked\n"), "{words:?}");
    let url = format!("{}/{database}", server.url());
    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis.del::<_, u32>("test:per_user:alice#override").unwrap() == 1
}

#[test]
fn every_form_of_configuration_leads_to_the_redis_of_the_proxies() {
    let Some(server) = redis(Some("s3cret")) else { return };
    let folder = Folder::new();
    let port = server.addr().port();
    let limiter = limiter(r#", "database": 2, "password": {"env": "REDIS_PASSWORD"}"#);
    let envoy = bootstrap(&limiter, &cluster(port, ""));
    let camel = cluster(port, "").replace("load_assignment", "loadAssignment").replace("lb_endpoints", "lbEndpoints");
    let camel = camel.replace("socket_address", "socketAddress").replace("port_value", "portValue");
    let as_text = limiter.replace('\'', "''");
    let wasm = r#""@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"#;
    let filter = format!(
        r#"apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: weir}}
spec:
  configPatches:
  - applyTo: CLUSTER
    patch: {{operation: ADD, value: {camel}}}
"#
    );
    let inserted = format!(
        r#"  - applyTo: HTTP_FILTER
    patch:
      operation: INSERT_BEFORE
      value:
        name: weir
        typed_config:
          {wasm}
          config:
            root_id: limiter
            configuration: {{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{as_text}'}}
"#
    );
    let plugin = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nspec: {{pluginName: limiter, \
         pluginConfig: {limiter}}}\n"
    );
    let policy = format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyExtensionPolicy\nspec:\n  wasm:\n  \
         - {{name: weir, rootID: limiter, config: {limiter}}}\n"
    );
    let proxy = format!(
        "kind: EnvoyProxy\nspec:\n  bootstrap:\n    value: |\n      static_resources:\n        clusters:\n        \
         - {}\n",
        cluster(port, "")
    );
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  other: |\n    x: [\n  envoy.yaml: |\n{}",
        indented(&envoy, 4)
    );
    let service = limiter.replace(r#""cluster": "redis""#, &format!(r#""cluster": "outbound|{port}||127.0.0.1""#));
    let files = [
        ("bootstrap.yaml", envoy.clone()),
        ("config-map.yaml", map),
        ("istio.yaml", format!("{plugin}---\n{filter}")),
        ("filter.yaml", format!("{filter}{inserted}")),
        ("gateway.yaml", format!("{policy}---\n{proxy}")),
        ("service.yaml", plugin.replace(&limiter, &service)),
    ];
    for (name, text) in files {
        folder.write(name, text);
        assert!(sets(&folder, &["--config", name], &[("REDIS_PASSWORD", "s3cret\n")], &server, 2), "{name}");
    }

    let refused = folder.limits(&["list", "--config", "bootstrap.yaml"], &[]).unwrap_err();
    let expected =
        ": redis.password.env: expected the password of Redis in REDIS_PASSWORD, found it empty or not set here\n";
    assert_eq!(refused, format!("{}{expected}", place_of("bootstrap.yaml", &envoy, "\"REDIS_PASSWORD\"")));
    let refused = folder.limits(&["list", "--config", "bootstrap.yaml"], &[("REDIS_PASSWORD", "wr0ng")]).unwrap_err();
    assert!(refused.starts_with(&format!("redis at 127.0.0.1:{port}: ")) && !refused.contains("wr0ng"), "{refused}");
}

#[test]
fn a_url_replaces_what_it_names() {
    let Some(server) = redis(Some("s3cret")) else { return };
    let folder = Folder::new();
    folder.write("limiter.yaml", limiter(r#", "database": 2, "password": {"inline": "s3cret"}"#));
    folder.write("bootstrap.yaml", bootstrap(&limiter(r#", "password": {"env": "UNSET"}"#), &cluster(1, "")));
    let (own, url) = (server.url(), format!("redis://{}", server.addr()));
    let of = |file: &'static str| ["--config", file];
    assert!(
        sets(&folder, &[&of("limiter.yaml")[..], &["--redis", &url]].concat(), &[], &server, 2),
        "login and database of the file"
    );
    assert!(sets(&folder, &[&of("limiter.yaml")[..], &["--redis", &format!("{own}/1")]].concat(), &[], &server, 1));
    assert!(sets(&folder, &[&of("bootstrap.yaml")[..], &["--redis", &own]].concat(), &[], &server, 0));

    let no_address = folder.limits(&["list", "--config", "limiter.yaml"], &[]).unwrap_err();
    let expected = "limiter.yaml:1:23: no cluster \"redis\" with a host and a port; expected --redis URL with the \
                    address of Redis\n";
    assert_eq!(no_address, expected);
}

#[test]
fn an_address_that_is_none_has_its_place() {
    let folder = Folder::new();
    let text = bootstrap(&limiter(""), &cluster(1, "").replace(r#""port_value": 1"#, r#""port_value": 70000"#));
    folder.write("bootstrap.yaml", &text);
    let path =
        "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address";
    let place = place_of("bootstrap.yaml", &text, "70000");
    let expected = format!("{place}: {path}.port_value: expected a port from 1 to 65535, found 70000\n");
    assert_eq!(folder.limits(&["list", "--config", "bootstrap.yaml"], &[]), Err(expected));
    // Mistakes of other clusters are of no concern.
    let other = cluster(1, "").replace(r#""port_value": 1"#, r#""port_value": x"#).replace("redis", "other");
    folder.write("bootstrap.yaml", bootstrap(&limiter(""), &cluster(1, "")) + &format!("  - {other}\n"));
    let lost = folder.limits(&["list", "--config", "bootstrap.yaml"], &[]).unwrap_err();
    assert!(lost.starts_with("redis at 127.0.0.1:1: "), "{lost}");
}

/// File, line and column of a text in a file.
fn place_of(file: &str, text: &str, part: &str) -> String {
    let before = &text[..text.find(part).expect("the part")];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{file}:{}:{column}", before.matches('\n').count() + 1)
}

#[test]
fn the_variable_is_used_only_without_another_address_and_never_with_the_files_password() {
    let (Some(server), Some(other)) = (redis(Some("s3cret")), redis(None)) else { return };
    let folder = Folder::new();
    let limiter = limiter(r#", "database": 2, "password": {"inline": "s3cret"}"#);
    folder.write("limiter.yaml", &limiter);
    folder.write("bootstrap.yaml", bootstrap(&limiter, &cluster(server.addr().port(), "")));
    let (own, url, elsewhere) = (server.url(), format!("redis://{}", server.addr()), other.url());
    let of = |file: &'static str| ["--config", file];
    assert!(sets(&folder, &of("bootstrap.yaml"), &[("REDIS_URL", &elsewhere)], &server, 2), "the file goes before it");
    let both = [&of("limiter.yaml")[..], &["--redis", &url]].concat();
    assert!(sets(&folder, &both, &[("REDIS_URL", &elsewhere)], &server, 2), "the option goes before it");
    assert!(sets(&folder, &of("limiter.yaml"), &[("REDIS_URL", &own)], &server, 2), "the file has no address");
    assert!(sets(&folder, &["--key-prefix", "test:"], &[("REDIS_URL", &elsewhere)], &other, 0), "there is no file");
    let refused = folder.limits(&["list", "--config", "limiter.yaml"], &[("REDIS_URL", &url)]).unwrap_err();
    assert!(refused.contains(": NOAUTH "), "the file's password is for another Redis: {refused}");
    let malformed = folder.limits(&["list"], &[("REDIS_URL", "u:s3cret@host")]).unwrap_err();
    assert!(
        malformed.starts_with("REDIS_URL: scheme: expected redis, ") && !malformed.contains("s3cret"),
        "{malformed}"
    );

    let set = ["set", "per_user", "alice", "blocked", "--config", "bootstrap.yaml"];
    assert_eq!(folder.notes(&set, &[]), format!("redis: {}/2\n", server.addr()));
}

#[test]
fn without_a_configuration_overrides_can_still_be_set_and_listed() {
    let Some(server) = redis(None) else { return };
    let folder = Folder::new();
    let url = server.url();
    let told = |words: &[&str]| folder.limits(&[words, &["--redis", &url]].concat(), &[]);
    let set = |words: &[&str], expected: &str| assert_eq!(told(&[&["set"], words].concat()).as_deref(), Ok(expected));
    set(&["per_route", "GET", "/a b", "--max", "5"], "per_route GET:/a%20b: max 5\n");
    set(&["per_user", "--times", "0.5", "--by", "carol"], "per_user (every key): times 0.5; by carol\n");
    set(&["per_user", "bob", "--rate", "5/s"], "per_user bob: 5 at once, then 1 per 200ms\n");
    let warning = "warning: no configuration of limit `per_user`: the key is taken as it is, \
                   without the limit's `hash` and \
                   `lowercase`; give --config FILE if it has any\n";
    let bob = ["set", "per_user", "bob", "--rate", "5/s", "--redis", &url];
    assert!(folder.notes(&bob, &[]).starts_with(warning));
    assert!(!folder.notes(&[&bob[..], &["--encoded"]].concat(), &[]).contains("warning"));
    let listed = told(&["list"]).unwrap();
    assert!(listed.contains("GET:/a%20b") && listed.contains("times 0.5") && !listed.contains("no such"), "{listed}");
    assert!(told(&["list", "per_user"]).unwrap().contains("bob"));
    assert!(!told(&["list", "per_*"]).unwrap().contains("bob"), "a name is no pattern");
    assert_eq!(told(&["unset", "per_user", "bob"]).as_deref(), Ok("per_user bob: no override any more\n"));
    assert_eq!(told(&["list", "--key-prefix", "other:"]).unwrap().matches("per_").count(), 0);
    for needs in [&["peek", "per_user", "bob"][..], &["reset", "per_user", "bob"], &["list", "--limited"]] {
        let expected = "expected --config FILE with the limit, found no configuration of it\n";
        assert_eq!(told(needs), Err(expected.to_owned()), "{needs:?}");
    }
}

#[test]
fn a_place_that_is_not_given_is_an_error() {
    let folder = Folder::new();
    let neither = "expected --config FILE (an Envoy bootstrap, a limiter's configuration or a Kubernetes manifest), or \
                   --redis URL (redis://[user[:password]@]host[:port][/database]), found neither\n";
    assert_eq!(folder.limits(&["list"], &[]), Err(neither.to_owned()));
    folder.write("none.yaml", "kind: ConfigMap\ndata: {x: y}\n");
    let none = "none.yaml: no limiter's configuration, which has `redis` and `limits`\n";
    assert_eq!(folder.limits(&["list", "--config", "none.yaml"], &[]), Err(none.to_owned()));
    folder.write("broken.yaml", "kind: ConfigMap\ndata:\n  envoy.yaml: |\n    limits: [\n");
    let broken = folder.limits(&["list", "--config", "broken.yaml"], &[]).unwrap_err();
    assert!(broken.starts_with("broken.yaml:4:13: expected YAML or JSON, found "), "{broken}");
    folder.write("wrong.yaml", "kind: ConfigMap\ndata:\n  envoy.yaml: |\n    limits: 7\n    redis: {cluster: redis}\n");
    let wrong = folder.limits(&["list", "--config", "wrong.yaml"], &[]).unwrap_err();
    assert!(wrong.starts_with("wrong.yaml:4:13: limits: expected a list of 1 to 32 items, found 7"), "{wrong}");
    let two = [bootstrap(&limiter(""), &cluster(1, "")), limiter(r#", "database": 1"#)].join("---\n");
    folder.write("two.yaml", &two);
    let place = place_of("two.yaml", &two, r#"{"cluster": "redis", "key_prefix": "test:", "database""#);
    let several =
        format!("{place}: the limiters use several Redis or databases; expected --redis URL with one of them\n");
    assert_eq!(folder.limits(&["list", "--config", "two.yaml"], &[]), Err(several));
    folder.write("one.yaml", bootstrap(&limiter(""), &cluster(1, "")));
    let lost = folder.limits(&["list", "--config", "one.yaml"], &[]).unwrap_err();
    assert!(lost.starts_with("redis at 127.0.0.1:1: "), "{lost}");
}

#[test]
fn of_several_endpoints_the_master_is_used() {
    let (Some(master), Some(replica)) = (redis(None), redis(None)) else { return };
    let mut connection = redis::Client::open(replica.url()).unwrap().get_connection().unwrap();
    let port = master.addr().port().to_string();
    let _: () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).query(&mut connection).unwrap();
    let folder = Folder::new();
    let both = cluster(replica.addr().port(), "").replace(
        r#"{"lb_endpoints": ["#,
        &format!(r#"{{"lb_endpoints": [{{"endpoint": {{"address": {{"pipe": {{"path": "x"}}}}}}}}, {}, "#, endpoint(1)),
    );
    let both = both.replace("}}}}]}]", &format!("}}}}}}}}, {}]}}]", endpoint(master.addr().port())));
    folder.write("bootstrap.yaml", bootstrap(&limiter(""), &both));
    assert!(sets(&folder, &["--config", "bootstrap.yaml"], &[], &master, 0), "{both}");

    folder.write("replica.yaml", bootstrap(&limiter(""), &both.replace(&endpoint(master.addr().port()), &endpoint(1))));
    let none = folder.limits(&["list", "--config", "replica.yaml"], &[]).unwrap_err();
    assert!(none.starts_with("redis at 127.0.0.1:1: "), "{none}");
}

fn endpoint(port: u16) -> String {
    format!(r#"{{"endpoint": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}}}}}}"#)
}

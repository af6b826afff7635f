//! No output repeats a secret.

use std::process::Command;

use crate::QUICKSTART;
use crate::support::weir;

#[test]
fn no_secret_of_a_malformed_file_is_repeated() {
    let redis = "redis: {cluster: redis}";
    let vm_id = "                  vm_id: weir\n";
    let variables = |list: &str| format!("                  environment_variables: {list}\n{vm_id}");
    let (values, keys) = (variables("{key_values: {P: [hunter2]}}"), variables("{host_env_keys: hunter2}"));
    // Whether `weir check` refuses the file: it has no opinion of what does not concern it.
    for (from, to, is_refused) in [
        (redis, "redis: \"redis://:hunter2@redis\"", true),
        (redis, "redis: {cluster: \"redis://:hunter2@redis\"}", true),
        (redis, "redis: {cluster: hunter2}", true),
        (redis, "redis: {cluster: redis, password: hunter2}", true),
        (redis, "redis: {cluster: redis, pasword: hunter2}", true),
        (redis, "redis: {cluster: redis, hunter2: 1}", true),
        (redis, "redis: {cluster: redis, password: {env: hunter2}}", true),
        (redis, "redis: {cluster: redis, key_prefix: \"hunter2\\n\"}", true),
        (redis, "redis: [hunter2", true),
        (redis, "redis: {hunter2: 1, hunter2: 2}", true),
        (redis, "redis: {hunter2: {a: 1, a: 2}}", true),
        (redis, "redis: *hunter2", true),
        (redis, "redis: !hunter2 [1, {", true),
        (redis, "redis: \"hunter2\\q\"", true),
        ("value:", "value: hunter2 hunter2:", true),
        (vm_id, &values, true),
        (vm_id, &keys, false),
        (
            "address: 127.0.0.1, port_value: 6379",
            "address: \"redis://:hunter2@redis\", port_value: hunter2@redis",
            true,
        ),
        ("address: 127.0.0.1, port_value: 10000", "address: \":hunter2@redis\", port_value: 10000", false),
        ("type: STRICT_DNS", "\"redis://:hunter2@redis\": STRICT_DNS", true),
        ("type: STRICT_DNS", "type: \"redis://:hunter2@redis\"", true),
        ("cluster_name: redis", "cluster_name: {\"redis://:hunter2@redis\": 1}", true),
        ("- name: redis", "- name: \"redis://:hunter2@redis\"", true),
        ("filename: target", "filename: \"https://:hunter2@files/weir.wasm\" #", true),
    ] {
        assert!(QUICKSTART.contains(from), "{from}");
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        std::fs::write(file.path(), QUICKSTART.replacen(from, to, 1)).expect("written");
        let said = |command: &mut Command| {
            let command = command.arg(file.path()).env("REDIS_URL", "redis://:hunter2@127.0.0.1:bad/");
            let output = command.output().expect("`weir` runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!said.contains("hunter2"), "{command:?} {to}: {said}");
            (output.status.success(), said)
        };
        for format in ["text", "json", "github"] {
            let (is_well, said) = said(weir().args(["check", "--format", format]));
            assert_eq!(is_well, !is_refused, "{to}: {said}");
        }
        // The harness accepts any name of a cluster, one variable in place of a list, and WEIR_WASM instead of the
        // file: `weir serve` would start.
        let starts =
            to.contains("cluster: hunter2") || to == keys || ["- name: redis", "filename: target"].contains(&from);
        if !starts {
            assert!(!said(weir().arg("serve")).0, "serve: {to}");
        }
        assert!(!said(weir().args(["limits", "list", "--config"])).0, "limits: {to}");
    }
}

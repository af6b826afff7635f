//! Findings about modules and root ids.

use crate::support::{Folder, changed, check_changed, place_of, weir};
use crate::{LIMITER, QUICKSTART};

const FILE: &str = "filename: target/wasm32-wasip1/release/weir_filter.wasm";

/// A module of one function, with the given exports.
fn exporting(names: &[&str]) -> Vec<u8> {
    let exports = names.iter().map(|name| format!(r#"(export "{name}" (func 0))"#)).collect::<String>();
    wat::parse_str(format!("(module (func) {exports})")).expect("a module")
}

#[test]
fn a_wasm_file_that_is_not_there_is_an_error() {
    let text = changed(QUICKSTART, [("weir_filter.wasm", "weir_fitler.wasm")]);
    let checked = crate::support::check(&text);
    let missing = checked.only();
    assert_eq!((missing.rule.as_str(), missing.severity.as_str()), ("missing-module", "error"));
    assert_eq!(missing.path, format!("{LIMITER}.vm_config.code.local.filename"));
    assert_eq!(missing.place, place_of(&text, "target/wasm32-wasip1"));
    assert_eq!(missing.found, "no such file: \"target/wasm32-wasip1/release/weir_fitler.wasm\"");

    // Without WEIR_WASM, the path is relative to the current directory.
    let folder = Folder::new().with("envoy.yaml", QUICKSTART);
    let file = folder.path("envoy.yaml");
    let output = weir().env_remove("WEIR_WASM").current_dir("/").arg("check").arg(file).output().expect("`weir` runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("or set WEIR_WASM"), "{text}");
    let folder = Folder::new().with("envoy.yaml", QUICKSTART);
    let mut wrong = weir();
    wrong.env("WEIR_WASM", "/nowhere.wasm").arg("check").arg(folder.path("envoy.yaml"));
    let text = String::from_utf8_lossy(&wrong.output().expect("`weir` runs").stdout).into_owned();
    assert!(text.contains("\"/nowhere.wasm\"") && text.contains("set WEIR_WASM to the path of"), "{text}");
}

#[test]
fn a_module_of_others_at_an_absolute_path_may_be_on_another_machine() {
    let others = |path: &str| {
        let filename = format!("filename: {path}");
        check_changed(
            QUICKSTART,
            [("root_id: limiter", "root_id: auth"), ("vm_id: weir", "vm_id: auth"), (FILE, &filename)],
        )
    };
    let absent = others("/etc/envoy/auth.wasm");
    assert_eq!((absent.about("absent-module").severity.as_str(), absent.is_well), ("warning", true));
    assert_eq!((absent.number("other_plugins"), absent.number("bridges")), (1, 1));
    assert_eq!(others("auth.wasm").about("missing-module").severity, "error");
    assert_eq!(others("/etc/envoy/weird.wasm").about("absent-module").severity, "warning");
    assert_eq!(others("/etc/envoy/weir.wasm").about("missing-module").severity, "error");
}

#[test]
fn a_misspelt_root_id_of_weir_is_an_error() {
    for (root_id, meant) in [("limter", "limiter"), ("Limiter", "limiter"), ("bridg", "bridge"), ("briefcase", "")] {
        let text = changed(QUICKSTART, [("root_id: limiter", &format!("root_id: {root_id}"))]);
        let checked = crate::support::check(&text);
        let misspelt = checked.about("root-id");
        assert_eq!(
            (misspelt.path.as_str(), &misspelt.place),
            (&*format!("{LIMITER}.root_id"), &place_of(&text, root_id))
        );
        assert_eq!(
            (misspelt.expected.as_str(), &misspelt.found),
            ("\"limiter\" or \"bridge\"", &format!("{root_id:?}"))
        );
        let help =
            if meant.is_empty() { "in a listener's filters, or" } else { &format!("write `root_id: {meant}`; ") };
        assert!(misspelt.help.contains(help), "{misspelt:?}");
    }
    let absent = check_changed(QUICKSTART, [("                root_id: limiter\n", "")]);
    assert_eq!(absent.about("root-id").found, "nothing");
    // The module is Weir's, whatever its names say.
    let renamed = check_changed(QUICKSTART, [("root_id: limiter", "root_id: other"), ("vm_id: weir", "vm_id: other")]);
    assert_eq!(renamed.about("root-id").found, "\"other\"");
}

#[test]
fn the_root_id_of_another_module_is_its_own_business() {
    let folder = Folder::new().with("other.wasm", exporting(&["proxy_abi_version_0_2_0", "malloc"]));
    let text = changed(
        QUICKSTART,
        [
            (FILE, "filename: other.wasm"),
            ("redis: {cluster: redis}", "colour: red"),
            ("          - name: weir\n", "          - name: weir\n            disabled: true\n"),
            ("                failure_policy: FAIL_RELOAD\n", ""),
        ],
    );
    let checked = folder.with("envoy.yaml", text).check(&["envoy.yaml"]);
    assert_eq!((checked.rules(), checked.number("limiters")), (vec!["no-limiter"], 0));
}

#[test]
fn a_file_that_is_no_module_for_proxy_wasm_is_an_error() {
    for (bytes, found) in [
        (b"#!/bin/sh".to_vec(), "9 bytes that are no wasm module"),
        (exporting(&["main"]), "a wasm module without it"),
        (exporting(&["proxy_abi_version_0_2_1", "proxy_on_memory_free"]), "a wasm module without them"),
        (exporting(&["proxy_abi_version_0_9_0"]), "a wasm module with \"proxy_abi_version_0_9_0\""),
    ] {
        let folder = Folder::new().with("other.wasm", bytes);
        let text = changed(QUICKSTART, [(FILE, "filename: other.wasm")]);
        let checked = folder.with("envoy.yaml", text).check(&["envoy.yaml"]);
        assert_eq!(checked.about("module").found, found);
    }
}

#[test]
fn unknown_fields_of_a_plugin_are_errors_with_the_name_that_was_meant() {
    const POLICY: &str = "                failure_policy: FAIL_RELOAD";
    for (change, place, help) in [
        (("root_id: limiter", "root_id: limiter\n                rootid: limiter"), "rootid", "did you mean root_id?"),
        (
            (POLICY, "                failure_policy: FAIL_RELOAD\n                failure_polcy: x"),
            "failure_polcy",
            "did you mean failure_policy?",
        ),
        (
            ("vm_id: weir", "vm_id: weir\n                  enviroment_variables: {}"),
            "enviro",
            "did you mean environment_variables?",
        ),
        (("{local:", "{locale: {}, local:"), "locale", "did you mean local?"),
        (("{filename:", "{filenam: x, filename:"), "filenam:", "did you mean filename?"),
        (("vm_id: weir", "vm_id: weir\n                  colour: red"), "colour", "remove it"),
        (
            ("              config:\n", "              failure_policy: FAIL_RELOAD\n              config:\n"),
            "failure_policy",
            "move it to static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].\
             typed_config.config;",
        ),
    ] {
        let text = changed(QUICKSTART, [change]);
        let checked = crate::support::check(&text);
        let unknown = checked.only();
        assert_eq!((unknown.rule.as_str(), unknown.severity.as_str()), ("unknown-field", "error"));
        assert_eq!(unknown.place, place_of(&text, place));
        assert!(unknown.help.starts_with(help), "{unknown:?}");
    }
}

#[test]
fn all_fields_of_a_plugin_are_known_in_both_spellings() {
    let plugin = "root_id: limiter
                reload_config: {backoff: {base_interval: 1s, max_interval: 5s}}
                capabilityRestrictionConfig: {allowed_capabilities: {}}
                allowOnHeadersStopIteration: true";
    let vm = "vm_id: weir
                  allow_precompiled: false
                  nackOnCodeCacheMiss: false
                  configuration: {\"@type\": type.googleapis.com/google.protobuf.StringValue, value: a}
                  capability_restriction_config: {allowedCapabilities: {}}
                  environment_variables: {hostEnvKeys: [A], key_values: {B: c}}";
    let local = ("{filename:", "{watched_directory: {path: /etc, watch_modify: true}, filename:");
    let checked = check_changed(QUICKSTART, [("root_id: limiter", plugin), ("vm_id: weir", vm), local]);
    assert!(!checked.rules().contains(&"unknown-field"), "{checked:?}");
}

#[test]
fn modules_variables_names_and_runtimes_that_envoy_refuses_are_errors() {
    let second = "  clusters:\n  - {name: redis}\n";
    for (change, rule, found) in [
        ((FILE, "inline_bytes: AGFzbQEAAAA="), "module", "a wasm module without it"),
        ((FILE, "inlineBytes: AGFzbQE"), "module", "5 bytes that are no wasm module"),
        ((FILE, "inline_bytes: '!!!'"), "module", "a string of 3 bytes"),
        (("runtime.v8", "runtime.wamr"), "runtime", "\"envoy.wasm.runtime.wamr\""),
        (("runtime.v8", "runtime.null"), "runtime", "\"envoy.wasm.runtime.null\""),
        (("vm_id: weir", "environment_variables: {host_env_keys: [A, A]}"), "duplicate-variable", "a variable twice"),
        (("  clusters:\n", second), "duplicate-cluster", "\"redis\" again"),
        (("          - name: weir\n            typed", "          - typed"), "filter-name", "nothing"),
    ] {
        let checked = check_changed(QUICKSTART, [change]);
        assert_eq!((checked.about(rule).severity.as_str(), checked.about(rule).found.as_str()), ("error", found));
    }
}

#[test]
fn a_misspelt_message_is_an_error_without_other_advice() {
    let checked = check_changed(QUICKSTART, [("http.wasm.v3.Wasm\n", "http.wasm.v3.Wasmm\n")]);
    assert_eq!((checked.only().rule.as_str(), checked.only().severity.as_str()), ("type", "error"));
    assert!(checked.only().path.ends_with("http_filters[0].typed_config.@type"), "{checked:?}");
}

#[test]
fn types_that_envoy_refuses_are_errors() {
    let field = |field: &'static str| ("root_id: limiter", field);
    for (change, expected, found) in [
        (field("root_id: 5"), "a string", "a number"),
        (
            field("root_id: limiter\n                failure_policy: FAIL_RELAOD"),
            "UNSPECIFIED, FAIL_RELOAD",
            "a string of 11",
        ),
        (
            field("root_id: limiter\n                allow_on_headers_stop_iteration: maybe"),
            "true or false",
            "a string of 5",
        ),
        (("vm_id: weir", "vm_id: [weir]"), "a string", "a list of 1"),
        (("vm_id: weir", "environment_variables: {key_values: {A: 1}}"), "a string", "a number"),
        ((FILE, "filename: {a: b}"), "a string", "an object"),
        (
            ("type.googleapis.com/envoy.extensions.filters.http.wasm", "envoy.extensions.filters.http.wasm"),
            "a type with a host",
            "\"envoy.",
        ),
        (
            (
                "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "type.googleapis.com/xds.type.v3.TypedStruc",
            ),
            "xds.type.v3.TypedStruct",
            "\"type.googleapis.com/xds",
        ),
    ] {
        let checked =
            check_changed(&QUICKSTART.replacen("                failure_policy: FAIL_RELOAD\n", "", 1), [change]);
        let wrong = checked.about("type");
        assert!(wrong.expected.starts_with(expected) && wrong.found.starts_with(found), "{wrong:?}");
    }
}

#[test]
fn misspelt_fields_at_the_top_of_a_bootstrap_are_errors() {
    for (field, wrong) in
        [("static_resources:", "static_resorces:"), ("  listeners:", "  listener:"), ("admin:", "amdin:")]
    {
        let text = changed(QUICKSTART, [(field, wrong)]);
        let checked = check_changed(&text, []);
        let unknown = checked.about("unknown-field");
        let (meant, wrong) = (field.trim().trim_end_matches(':'), wrong.trim());
        assert!(unknown.help.starts_with(&format!("did you mean {meant}?")), "{unknown:?}");
        assert_eq!(unknown.place, place_of(&text, wrong));
    }
}

#[test]
fn a_wasm_filter_without_its_configuration_is_an_error() {
    let wasm = "envoy.extensions.filters.http.wasm.v3.Wasm\n            config:";
    let text = changed(QUICKSTART, [(wasm, &wasm.replace("config", "cofnig"))]);
    let misspelt = check_changed(&text, []);
    let unknown = misspelt.about("unknown-field");
    assert!(unknown.help.starts_with("did you mean config?"), "{unknown:?}");
    assert_eq!(unknown.place, place_of(&text, "cofnig:"));
    let absent = check_changed(
        QUICKSTART,
        [(
            "          - name: weir\n",
            "          - {name: empty, typed_config: {\"@type\": \
             type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm}}\n          - name: weir\n",
        )],
    );
    assert_eq!(absent.about("missing-config").severity, "error");
    for (field, meant) in
        [("vm_config:", "vm_config"), ("configuration:", "configuration"), ("code:", "code"), ("local:", "local")]
    {
        let wrong = field.replacen(['m', 'g', 'e', 'l'], "x", 1);
        let checked = check_changed(QUICKSTART, [(field, &wrong)]);
        let help = &checked.about("unknown-field").help;
        assert!(help.starts_with(&format!("did you mean {meant}?")), "{wrong}: {help}");
    }
}

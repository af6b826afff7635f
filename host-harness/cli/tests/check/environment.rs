//! Findings about environment variables.

use crate::support::{Folder, check, check_changed, place_of, scenarios, weir};
use crate::{LIMITER, QUICKSTART};

const FILE_AND_LINE: (&str, &str) = ("                  vm_id: weir\n", "                vm_id: weir\n");

/// Returns the quickstart with a password, and a list of environment variables at both plugins or at the limiter alone.
fn listed(at_both: bool, list: &str) -> String {
    let (limiter, bridge) = FILE_AND_LINE;
    let with = |indent: &str| format!("{indent}environment_variables: {list}\n{indent}vm_id: weir\n");
    let text = QUICKSTART.replacen(limiter, &with("                  "), 1);
    let password = "redis: {cluster: redis, password: {env: REDIS_PASSWORD}}";
    let text = text.replacen("redis: {cluster: redis}", password, 1);
    let (head, tail) = text.split_at(text.find("clusters:").expect("clusters"));
    assert!(tail.contains(bridge), "{tail}");
    if at_both { format!("{head}{}", tail.replacen(bridge, &with("                "), 1)) } else { text }
}

#[test]
fn a_variable_without_a_value_is_a_note() {
    let file = scenarios().join("redis-password.yaml");
    let output = weir().args(["check", "--strict"]).arg(&file).output().expect("`weir` runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the proxy's environment may have the variable: {text}");
    let note =
        ": note: expected the environment variable REDIS_PASSWORD to have a value, found none here [unset-variable]";
    assert!(text.lines().next().is_some_and(|line| line.ends_with(note)), "{text}");
    assert!(text.lines().any(|line| line.trim() == format!("at {LIMITER}.vm_config.environment_variables")), "{text}");
    assert!(text.ends_with(": all is well\n"), "{text}");
}

#[test]
fn the_variable_of_a_password_is_listed_at_both_plugins_of_a_vm() {
    let given = "{key_values: {REDIS_PASSWORD: hunter2}}";
    assert_eq!(check(&listed(true, given)).rules(), [""; 0]);
    for list in [given, "{host_env_keys: [REDIS_PASSWORD]}", "{hostEnvKeys: REDIS_PASSWORD}"] {
        let text = listed(false, list);
        let checked = check(&text);
        let unlisted = checked.about("unlisted-variable");
        assert!(!checked.rules().contains(&"environments"), "one finding is enough: {checked:?}");
        let bridge = place_of(&text, "config:\n              name: weir_bridge");
        let expected = format!("REDIS_PASSWORD in the lists of both this plugin and the plugin at {bridge}");
        assert_eq!((unlisted.expected.as_str(), unlisted.found.as_str()), (expected.as_str(), "it in this one alone"));
        assert_eq!(unlisted.path, format!("{LIMITER}.vm_config.environment_variables"));
        assert!(!format!("{checked:?}").contains("hunter2"), "{checked:?}");
    }
    let nowhere = check(&listed(true, "{host_env_keys: [REDIS_PASS]}"));
    assert_eq!(nowhere.only().path, format!("{LIMITER}.configuration.value.redis.password.env"));
    assert_eq!(nowhere.only().expected, "a value in the environment variable of this name");
    assert!(nowhere.only().help.contains("of both the limiter and the bridge"), "{nowhere:?}");
}

#[test]
fn a_value_that_this_process_does_not_know_is_long_enough_for_a_key_of_hashes() {
    let listed = listed(true, "{host_env_keys: [REDIS_PASSWORD]}");
    let hash_key = (
        "redis: {cluster: redis, password: {env: REDIS_PASSWORD}}",
        "redis: {cluster: redis}\n                    hash_key: {env: REDIS_PASSWORD}",
    );
    assert_eq!(check_changed(&listed, [hash_key]).only().rule, "unset-variable");
}

#[test]
fn white_space_around_a_password_is_a_warning() {
    let checked = check(&listed(true, "{key_values: {REDIS_PASSWORD: \"hunter2\\n\"}}"));
    let padded = checked.only();
    assert_eq!((padded.rule.as_str(), padded.severity.as_str()), ("corrected", "warning"));
    assert_eq!(padded.path, format!("{LIMITER}.configuration.value.redis.password.env"));
    assert_eq!(padded.expected, "the value of REDIS_PASSWORD without white space around it");
    assert_eq!(padded.found, "a newline at its end");
}

#[test]
fn different_lists_are_a_warning() {
    let other = (
        FILE_AND_LINE.0,
        "                  environment_variables: {key_values: {A: b}}\n                  vm_id: weir\n",
    );
    let checked = check_changed(QUICKSTART, [other]);
    let different = checked.only();
    assert_eq!((different.rule.as_str(), different.severity.as_str()), ("environments", "warning"));
    assert!(different.expected.starts_with("the same list as the plugin at envoy.yaml:"), "{different:?}");
    let (is_well, _) =
        Folder::new().with("a.yaml", crate::support::changed(QUICKSTART, [other])).run(&["--strict", "a.yaml"]);
    assert!(!is_well, "--strict fails on warnings");
}

//! Findings about a limiter's configuration and its plugin.

use crate::support::{changed, check, check_changed, place_of, scenarios, weir};
use crate::{BUCKET, BY_USER, LIMITER, QUICKSTART};

#[test]
fn a_configuration_alone_is_checked_as_the_filter_reads_it() {
    let text = format!(
        "redis: {{cluster: redis, password: {{env: NOWHERE}}}}\nlimits:\n- name: a\n  descriptor:\n  {BY_USER}\n  \
         {BUCKET}\n"
    );
    let sound = check(&text);
    assert_eq!((sound.rules(), sound.number("limiters")), (vec![], 1));
    let wrong = changed(&text, [("max_tokens: 20", "max_tokens: -1")]);
    let checked = check(&wrong);
    assert_eq!(
        (checked.only().rule.as_str(), checked.only().path.as_str()),
        ("configuration", "limits[0].token_bucket.max_tokens")
    );
    assert_eq!(checked.only().place, place_of(&wrong, "-1"));
}

#[test]
fn a_number_with_a_point_or_an_exponent_is_text_as_in_envoy() {
    for number in ["20.0", "1e3"] {
        let checked = check_changed(QUICKSTART, [("max_tokens: 20", &format!("max_tokens: {number}"))]);
        assert_eq!(
            (checked.only().rule.as_str(), checked.only().found.as_str()),
            ("configuration", &*format!("{number:?}"))
        );
    }
}

#[test]
fn every_scenario_passes() {
    let paths = std::fs::read_dir(scenarios()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let output = weir().arg("check").arg(&file).env("REDIS_PASSWORD", "hunter2").output().expect("`weir` runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(line.starts_with(file.to_str().unwrap()) && line.ends_with(": all is well"), "{line}");
    }
}

#[test]
fn errors_of_the_filter_have_the_place_of_the_value() {
    let text = changed(QUICKSTART, [("max_tokens: 20", "max_tokens: -1"), ("redis: {cluster: redis}", "redis: {}")]);
    let checked = check(&text);
    let [cluster, tokens] = checked.findings.as_slice() else { panic!("{checked:?}") };
    assert_eq!(cluster.path, format!("{LIMITER}.configuration.value.redis.cluster"));
    assert_eq!((cluster.expected.as_str(), cluster.found.as_str()), ("the name of a cluster", "nothing"));
    assert_eq!(cluster.place, place_of(&text, "{}"), "what is missing is missing in the object");
    assert_eq!(tokens.path, format!("{LIMITER}.configuration.value.limits[0].token_bucket.max_tokens"));
    assert_eq!((tokens.expected.as_str(), tokens.found.as_str()), ("an integer from 0 to 4294967295", "-1"));
    assert_eq!(tokens.place, place_of(&text, "-1"));

    let text = changed(QUICKSTART, [("fill_interval: 60s", "fil_interval: 60s")]);
    let unknown = check(&text);
    let unknown = unknown.findings.iter().find(|finding| finding.found == "an unknown field").expect("found");
    assert_eq!(
        (unknown.place.as_str(), unknown.help.as_str()),
        (&*place_of(&text, "fil_"), "rename it to fill_interval")
    );
}

#[test]
fn a_configuration_may_be_text_in_json_or_a_message_in_a_typed_struct() {
    let (head, _) = QUICKSTART.split_once("                configuration:\n").unwrap();
    let (_, tail) = QUICKSTART.split_once(BUCKET).unwrap();
    let with = |configuration: &str| format!("{head}                configuration: {configuration}{tail}");
    let string =
        |text: &str| with(&format!(r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{text}'}}"#));
    let limits = "{\"name\": \"a\", \"descriptor\": [], \"token_bucket\": {\"max_tokens\": 1, \"tokens_per_fill\": 1, \
                  \"fill_interval\": \"1s\"}}";
    let sound = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{limits}]}}"#);
    assert_eq!(check(&string(&sound)).rules(), [""; 0]);

    let text = string(&sound.replace("1s", "1 fortnight"));
    let checked = check(&text);
    assert_eq!(checked.only().place, place_of(&text, "\"1 fortnight\""), "the place in the text");
    assert!(checked.only().path.ends_with(".value.limits[0].token_bucket.fill_interval"), "{checked:?}");
    assert!(check(&string("{")).only().found.contains("syntax error at line 1"));

    let typed = r#"{"@type": type.googleapis.com/xds.type.v3.TypedStruct, value: {redis: {}}}"#;
    let checked = check(&with(typed));
    assert_eq!((checked.only().rule.as_str(), checked.only().found.as_str()), ("configuration", "a TypedStruct"));
    assert!(checked.only().path.ends_with(".configuration.@type"));

    for (configuration, found) in [
        ("{}", "a value without \"@type\""),
        ("null", "nothing"),
        (r#"{"@type": type.googleapis.com/google.protobuf.Struct}"#, "a message without `value`"),
        (r#"{"@type": type.googleapis.com/google.protobuf.Struct, value: 5}"#, "a number"),
    ] {
        assert_eq!(check(&with(configuration)).only().found, found, "{configuration}");
    }
}

#[test]
fn numbers_are_those_that_envoy_passes_on() {
    // Envoy turns an integer beyond 32 bits into text.
    let checked = check_changed(QUICKSTART, [("max_tokens: 20", "max_tokens: 5000000000")]);
    assert_eq!(checked.only().found, "\"5000000000\"");
    for accepted in ["max_tokens: 3000000000", "max_tokens: 0x14"] {
        assert_eq!(check_changed(QUICKSTART, [("max_tokens: 20", accepted)]).rules(), [""; 0], "{accepted}");
    }
}

#[test]
fn limits_that_read_a_body_need_allow_on_headers_stop_iteration() {
    const FIELD: &str = "allow_on_headers_stop_iteration";
    let by_body = (BY_USER, "- request_body: {json_pointer: /user}");
    let shown = |to: &'static str| ("root_id: limiter", to);
    let unseen = check_changed(QUICKSTART, [by_body]);
    let unseen = unseen.only();
    assert_eq!((unseen.rule.as_str(), unseen.severity.as_str()), ("unseen-body", "error"));
    assert_eq!(unseen.path, format!("{LIMITER}.{FIELD}"));
    assert!(unseen.help.contains("the body is read by limits[0], "), "{unseen:?}");
    let no = shown("root_id: limiter\n                allow_on_headers_stop_iteration: false");
    assert_eq!(check_changed(QUICKSTART, [by_body, no]).rules(), ["unseen-body"]);
    // Estimates are of bodies.
    let charge = ("- name: per_user", "- charge: total_tokens\n                      name: per_user");
    let large = ("max_tokens: 20,", "max_tokens: 200000,");
    assert_eq!(check_changed(QUICKSTART, [charge, large]).rules(), ["unseen-body"]);
    for yes in [
        "root_id: limiter\n                allow_on_headers_stop_iteration: true",
        "root_id: limiter\n                allowOnHeadersStopIteration: true",
    ] {
        assert_eq!(check_changed(QUICKSTART, [by_body, shown(yes)]).rules(), [""; 0]);
    }
    const BUCKET: &str = "token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 60s}";
    for (usage, reserve, unwritten) in [
        ("", "", "request_body.timeout"),
        (", usage: {include_usage: inject}", "", "usage.include_usage: inject would add nothing to bodies"),
        ("", ", reserve: {output: {enforce: true}}", "reserve.output.enforce would add nothing to bodies"),
    ] {
        let charge = format!("{{charge: output_tokens, fixed_window: {{max_tokens: 5000, window: 60s}}{reserve}}}");
        let limit = format!("descriptor: [], {}", &charge[1..charge.len() - 1]);
        let limits =
            format!("limits: [{{name: per_user, {limit}}}]{}", usage.replacen(", ", "\n                    ", 1));
        let charged = check_changed(
            QUICKSTART,
            [
                ("limits:\n                    - name: per_user\n                      descriptor:\n", &*limits),
                ("                      - request_header: {name: x-user-id}\n", "\n"),
                (BUCKET, ""),
            ],
        );
        let unseen = charged.only();
        assert_eq!((unseen.rule.as_str(), unseen.severity.as_str()), ("unseen-body", "error"));
        assert!(unseen.help.ends_with(unwritten), "{unseen:?}");
    }

    // A hits addend can read the body too. The finding names the limits that read a body.
    let limits = format!(
        "{BUCKET}
                    - {{name: by_length, descriptor: [], hits_addend: {{content_length: {{}}}}, {BUCKET}}}
                    - {{name: by_cost, descriptor: [], hits_addend: {{request_body: {{json_pointer: /n}}}}, {BUCKET}}}"
    );
    let costly = (BUCKET, limits.as_str());
    assert!(check_changed(QUICKSTART, [costly]).only().help.contains("by limits[2], "));
    assert!(check_changed(QUICKSTART, [costly, by_body]).only().help.contains("by limits[0], limits[2], "));
}

//! Fields and documents that are not read.

use super::*;

#[test]
fn a_field_that_envoy_does_not_have_is_none_of_envoys() {
    let text = "admin: {}\nstatic_resource: {}\nstats_flush_intervall: 1s\nheader_prefix: x\n";
    let BootstrapError::Refused { problems, .. } = Bootstrap::parse(text, "a.yaml").unwrap_err() else { panic!() };
    let shown: Vec<_> = problems.iter().map(|problem| (problem.to_string(), problem.is_of_envoy)).collect();
    let expected = [
        ("static_resource: a field that Envoy does not have; did you mean `static_resources`?", false),
        ("stats_flush_intervall: a field that Envoy does not have; did you mean `stats_flush_interval`?", false),
        ("header_prefix: not honoured by the harness", true),
    ];
    assert_eq!(shown, expected.map(|(text, is_of_envoy)| (text.to_owned(), is_of_envoy)));
}

#[test]
fn documents_behind_the_first_one_are_left_out() {
    let bootstrap = Bootstrap::parse("node: {}\n---\nnode: {id: 5}\n---\n", "envoy/two.yaml").unwrap();
    let [problem] = bootstrap.left_out.as_slice() else { panic!("{:?}", bootstrap.left_out) };
    assert_eq!((problem.reason.as_str(), problem.position), ("a second document", Position { line: 3, column: 1 }));
    assert!(Bootstrap::parse("node: {}\n---\n", "envoy/two.yaml").unwrap().left_out.is_empty());
}

#[test]
fn a_duration_may_be_written_as_its_message() {
    let parsed = |written: &str| Bootstrap::parse(&QUICKSTART.replacen("connect_timeout: 1s", written, 1), "file.yaml");
    let bootstrap = parsed("connect_timeout: {seconds: 2, nanos: 5}").unwrap();
    assert_eq!(bootstrap.clusters[0].connect_timeout, std::time::Duration::new(2, 5));
    assert!(parsed("connect_timeout: {nanos: 1000000000}").is_err() && parsed("connect_timeout: {second: 1}").is_err());
}

#[test]
fn server_names_by_the_request_are_refused_and_their_absence_is_not() {
    let with = |names: &str| {
        let explicit = "explicit_http_config:";
        let column = QUICKSTART.lines().find_map(|line| line.find(explicit)).expect("the options of HTTP");
        let more = format!("upstream_http_protocol_options: {names}\n{}{explicit}", " ".repeat(column));
        Bootstrap::parse(&QUICKSTART.replacen(explicit, &more, 1), "names.yaml").map(drop)
    };
    assert!(with("{auto_sni: false, auto_san_validation: false}").is_ok());
    let refused = with("{auto_sni: true}").unwrap_err().to_string();
    assert!(refused.ends_with("auto_sni: expected false, found true"), "{refused}");
}

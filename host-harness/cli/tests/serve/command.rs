//! The command `weir serve`: its output, its errors, and its end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use weir_provision::{envoy, or_skip};

use crate::support::{exchange, http_file};

const HELLO: &str = r#"- {match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: hello}}}"#;

/// Starts `weir serve` with a file.
fn serve(arguments: &[&str], file: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("serve").args(arguments).arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("weir starts")
}

/// Writes a file with the text in a new folder.
fn file_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("edge.yaml");
    std::fs::write(&file, text).expect("the file");
    (dir, file)
}

/// Waits for the line about the listener, asks it once, and interrupts the process. Returns the answer, whether the
/// process ended well, and its log.
fn asked_and_interrupted(mut process: Child) -> (String, bool, String) {
    let mut lines = BufReader::new(process.stdout.take().expect("standard output")).lines();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("listener `ingress` on http://")?.parse::<SocketAddr>().ok()
    });
    let answer = address.map(|address| exchange(address, "GET / HTTP/1.1\r\nhost: a\r\n")).unwrap_or_default();
    let id = Pid::from_child(&process);
    kill_process(id, Signal::INT).expect("an interrupt");
    let mut log = String::new();
    process.stderr.take().expect("standard error").read_to_string(&mut log).expect("its log");
    (answer, process.wait().expect("its end").success(), log)
}

#[test]
fn what_is_left_out_is_warned_of_once() {
    let text = http_file(HELLO, "", "");
    let text = text.replacen("stat_prefix: ingress", "stat_prefix: ingress\n          tracing: {}", 1);
    let text = text.replacen(
        "direct_response:",
        "decorator: {operation: a}, direct_response: {status: 200, body: {inline_string: hello}}}\n              - \
         {match: {prefix: \"/b\"}, decorator: {operation: b}, direct_response:",
        1,
    );
    let (_dir, file) = file_with(&text);
    let (answer, is_success, log) = asked_and_interrupted(serve(&[], &file));
    assert!(answer.ends_with("hello") && is_success, "{answer}\n{log}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("is left out")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(
        warnings.iter().any(|line| line.contains("edge.yaml:12:11: `tracing` is left out (static_resources.")),
        "{log}"
    );
    assert!(warnings.iter().any(|line| line.contains("`decorator` is left out")), "{log}");
}

#[test]
fn an_interrupt_right_after_the_first_line_ends_the_command_well() {
    let (_dir, file) = file_with(&http_file(HELLO, "", ""));
    for nth in 0..10 {
        let mut process = serve(&[], &file);
        let mut lines = BufReader::new(process.stdout.take().expect("standard output")).lines();
        lines.next().expect("a line").expect("a line");
        kill_process(Pid::from_child(&process), Signal::INT).expect("an interrupt");
        assert!(process.wait().expect("its end").success(), "interrupt {nth}");
    }
}

#[test]
fn what_would_change_the_answer_is_an_error_with_the_way_on() {
    let text = http_file(HELLO, "", "").replacen("http.router.v3.Router", "http.csrf.v3.CsrfPolicy", 1);
    let (_dir, file) = file_with(&text);
    let output = serve(&[], &file).wait_with_output().expect("its end");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let name = file.display();
    assert!(log.contains(&format!("{name}:")) && log.contains("csrf.v3.CsrfPolicy` is not honoured"), "{log}");
    assert!(log.ends_with(&format!("A real Envoy does: weir serve --host envoy {name}\n")), "{log}");
    // A file that Envoy refuses as well has no way on.
    let (_dir, file) = file_with(&http_file(HELLO, "", "").replacen("status: 200", "status: 99", 1));
    let output = serve(&[], &file).wait_with_output().expect("its end");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !log.contains("--host envoy"), "{log}");
}

#[test]
fn a_message_that_official_builds_lack_is_named_as_such() {
    let text = http_file(HELLO, "", "").replacen("http.router.v3.Router", "http.golang.v3alpha.Config", 1);
    let (_dir, file) = file_with(&text);
    let output = serve(&[], &file).wait_with_output().expect("its end");
    let log = String::from_utf8_lossy(&output.stderr);
    let way_on =
        "Official builds of Envoy do not either: they lack envoy.extensions.filters.http.golang.v3alpha.Config.";
    assert!(!output.status.success() && log.contains(way_on) && log.contains("WEIR_ENVOY"), "{log}");
}

#[test]
fn an_error_of_envoys_validation_has_its_place() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let (_dir, file) = file_with(&http_file(HELLO, "", "").replacen("stat_prefix: ingress", "stat_prefix: ''", 1));
    let output = serve(&["--host", "envoy"], &file).wait_with_output().expect("its end");
    let log = String::from_utf8_lossy(&output.stderr);
    let place = format!("{}:11:11: ", file.display());
    assert!(log.contains(&place) && log.contains("HttpConnectionManagerValidationError.StatPrefix"), "{log}");
}

#[test]
fn a_listener_is_announced_with_its_protocol() {
    let cluster = "address: {socket_address: {address: 127.0.0.1, port_value: 9}}";
    let assignment = format!("{{cluster_name: a, endpoints: {{lb_endpoints: {{endpoint: {{{cluster}}}}}}}}}");
    let proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let text = |port: u16| {
        format!(
            "static_resources:\n  clusters: {{name: a, load_assignment: {assignment}}}\n  \
             listeners:\n  - name: bytes\n    \
             address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n    \
             filter_chains: {{filters: {{name: a, typed_config: \
             {{\"@type\": {proxy}, stat_prefix: a, cluster: a}}}}}}\n"
        )
    };
    let first_line = |arguments: &[&str], port| {
        let (_dir, file) = file_with(&text(port));
        let mut process = serve(arguments, &file);
        let line = BufReader::new(process.stdout.take().expect("standard output")).lines().next();
        kill_process(Pid::from_child(&process), Signal::INT).expect("an interrupt");
        process.wait().expect("its end");
        line.expect("a line").expect("a line")
    };
    assert!(first_line(&[], 0).starts_with("listener `bytes` on tcp://127.0.0.1:"));
    if or_skip(envoy::binary()).is_some() {
        let port = weir_provision::port::free_port().expect("a port").release().port();
        assert_eq!(first_line(&["--host", "envoy"], port), format!("listener `bytes` on tcp://127.0.0.1:{port}"));
    }
}

#[test]
fn an_upstream_without_an_address_has_a_line_in_the_log() {
    let route = "- {match: {prefix: \"/\"}, route: {cluster: lost}}";
    let cluster = "  - {name: lost, type: STRICT_DNS, load_assignment: {cluster_name: lost, endpoints: {lb_endpoints: \
                   {endpoint: \
                   {address: {socket_address: {address: nowhere.invalid, port_value: 80}}}}}}}\n";
    let (_dir, file) = file_with(&format!("{}{cluster}", http_file(route, "", "")));
    let (answer, _, log) = asked_and_interrupted(serve(&[], &file));
    assert!(answer.starts_with("503 "), "{answer}");
    let line = "][warning][upstream] cluster `lost`: cannot connect to nowhere.invalid:80: ";
    assert_eq!(log.matches(line).count(), 1, "{log}");
}

#[test]
fn a_real_envoy_serves_the_same_file_until_it_is_interrupted() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let port = weir_provision::port::free_port().expect("a port").release().port();
    let text = http_file(HELLO, "", "").replacen(
        "port_value: 0}}\n    filter",
        &format!("port_value: {port}}}}}\n    filter"),
        1,
    );
    // The embedded host refuses this filter.
    let csrf = "{name: csrf, typed_config: {\"@type\": \
                type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy, \
                filter_enabled: {default_value: {numerator: 0}}}}";
    let text = text.replacen("          - name: router", &format!("          - {csrf}\n          - name: router"), 1);
    let (_dir, file) = file_with(&text);
    let (answer, is_success, log) = asked_and_interrupted(serve(&["--host", "envoy"], &file));
    assert!(answer.ends_with("hello") && is_success, "{answer}\n{log}");
    // Of Envoy's log, warnings and errors are shown.
    let served = format!("][info][serve] {} is served by Envoy 1.", file.display());
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("][warning]")).collect();
    assert!(lines.len() == 1 && lines[0].contains(&served), "{log}");
    let (_, _, log) = asked_and_interrupted(serve(&["--log-level", "info", "--host", "envoy"], &file));
    assert!(log.lines().filter(|line| line.contains("][info][main] ")).count() > 5, "{log}");
    // A file that Envoy refuses ends with its error.
    let (_dir, file) = file_with(&http_file(HELLO, "", "").replacen("status: 200", "status: 99", 1));
    let output = serve(&["--host", "envoy"], &file).wait_with_output().expect("its end");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("Envoy ended"), "{log}");
}

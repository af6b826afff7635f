//! Signals: nothing of a command is left behind.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use weir_provision::{checkout as provisioned, envoy, filter_wasm, or_skip, redis};

use crate::{Folder, PLAIN, checkout, log};

/// Time in which a process must have ended, on a machine that stalls.
const WITHIN: Duration = Duration::from_secs(60);

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ids of the processes that a process has started.
fn children(id: u32) -> Vec<u32> {
    let all = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    all.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Whether a process runs an Envoy.
fn is_envoy(id: u32) -> bool {
    let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).split('\0').any(|word| word == "--disable-hot-restart")
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Folders that a command has made in its scratch folder.
fn scratch(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn envoy_ends_with_the_command_that_serves() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let file = format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n{PLAIN}");
    let folder = Folder::new().with("admin.yaml", &file);
    let tmp = folder.path("tmp");
    std::fs::create_dir(&tmp).unwrap();
    for signal in [Signal::HUP, Signal::TERM, Signal::INT, Signal::QUIT, Signal::KILL] {
        // A pipe is copied to a folder; a file is not.
        let is_copied = signal != Signal::INT;
        let file = if is_copied { "/dev/stdin" } else { "admin.yaml" };
        let mut weir = folder.weir(&["serve", "--host", "envoy", file]);
        weir.stdin(std::fs::File::open(folder.path("admin.yaml")).unwrap()).env("TMPDIR", &tmp);
        let mut weir = weir.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(weir.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("listener `ingress`"));
        let envoys: Vec<u32> = children(weir.id()).into_iter().filter(|id| is_envoy(*id)).collect();
        assert_eq!(envoys.len(), 1, "{signal:?}");
        assert_eq!(!scratch(&tmp).is_empty(), is_copied, "{signal:?}");
        send(&weir, signal);
        let status = weir.wait().unwrap();
        assert_eq!(status.success(), signal != Signal::KILL, "{signal:?}: {status}");
        wait_until("Envoy still runs", || !is_envoy(envoys[0]));
        wait_until("a folder is left", || scratch(&tmp).is_empty());
    }
}

#[test]
fn a_failed_start_of_envoy_shows_its_cause_alone() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let folder = Folder::new().with("bad.yaml", &PLAIN.replace("status: 200", "status: 99"));
    let output = folder.weir(&["serve", "--host", "envoy", "bad.yaml"]).output().unwrap();
    let text = log(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(!output.status.success() && lines.len() <= 3, "{text}");
    assert!(lines.iter().any(|line| line.contains("][critical][main] ") && line.contains("Status")), "{text}");
    assert!(lines.last().unwrap().starts_with("Envoy ended: "), "{text}");
    // What Envoy says of a file that is no bootstrap repeats the file.
    let folder = folder.with("worse.yaml", &PLAIN.replace("stat_prefix: ingress", "stat_prefix: {a: [ingress]}"));
    let output = folder.weir(&["serve", "--host", "envoy", "worse.yaml"]).output().unwrap();
    let text = log(&output);
    assert!(text.lines().count() <= 3 && text.contains("][critical][main] worse.yaml:10:11: "), "{text}");
    assert!(!text.contains("domains"), "{text}");
    // With a level, all of the log is shown.
    let output = folder.weir(&["--log-level", "info", "serve", "--host", "envoy", "bad.yaml"]).output().unwrap();
    assert!(log(&output).lines().filter(|line| line.contains("][info]")).count() > 5, "{}", log(&output));
}

#[test]
fn envoy_reads_a_pipe() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let folder = Folder::new();
    let mut weir = folder.weir(&["serve", "--host", "envoy", "/dev/stdin"]);
    weir.stdin(std::fs::File::open(folder.path("envoy.yaml")).unwrap());
    let mut weir = weir.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(weir.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("listener `ingress`"));
    send(&weir, Signal::INT);
    assert!(weir.wait().unwrap().success());
}

/// Both commands start a Redis of their own, with folders below cargo's target folder.
#[test]
fn scratch_folders_and_servers_end_with_a_signal() {
    let (Some(wasm), Some(_)) = (or_skip(filter_wasm::find_or_build()), or_skip(redis::binary())) else { return };
    let steps = "steps: [{advance: 5s}, {advance: 5s}, {advance: 5s}, {advance: 5s}, {advance: 5s}, {advance: 5s}]";
    let tests = crate::TESTS.replace("steps: [{request: {}, expect: {status: 200}}]", steps);
    let quickstart = std::fs::read_to_string(checkout("envoy/quickstart.yaml")).unwrap();
    let folder = Folder::new().with("slow.test.yaml", &tests);
    let folder = folder.with("limited.yaml", &quickstart.replace("port_value: 6379", "port_value: 1"));
    std::fs::create_dir(folder.path("target")).unwrap();
    std::os::unix::fs::symlink(provisioned::target_dir().unwrap().join("tools"), folder.path("target/tools")).unwrap();
    let tmp = folder.path("target/tmp");
    for (words, signal) in [
        (&["test", "--on", "redis", "slow.test.yaml"][..], Signal::TERM),
        (&["test", "--on", "redis", "slow.test.yaml"], Signal::HUP),
        (&["trace", "limited.yaml", "--times", "1000"], Signal::INT),
        (&["trace", "limited.yaml", "--times", "1000"], Signal::QUIT),
    ] {
        let mut weir = folder.weir(words);
        weir.env("CARGO_TARGET_DIR", folder.path("target")).env("WEIR_WASM", &wasm);
        let mut weir = weir.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("no scratch folder", || !scratch(&tmp).is_empty());
        send(&weir, signal);
        let code = weir.wait().unwrap().code();
        // On a machine that stalls, the command may end before the signal.
        assert!(code == Some(128 + signal.as_raw()) || code == Some(0), "{words:?}: {code:?}");
        assert_eq!(scratch(&tmp), [""; 0], "{words:?} {signal:?}");
    }
}

#[test]
fn a_console_prints_its_address_and_ends_with_a_signal_while_redis_is_away() {
    const LIMITS: &str = "redis: {cluster: redis}
limits: [{name: all, descriptor: [], token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 60s}}]\n";
    let folder = Folder::new().with("limits.yaml", LIMITS);
    let mut weir = folder.weir(&["console", "--config", "limits.yaml", "--redis", "redis://127.0.0.1:1"]);
    let mut weir = weir.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(weir.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.strip_prefix("console on http://127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    let (port, token) = address.split_once("/#token=").unwrap();
    assert!(port.parse::<u16>().is_ok() && token.len() == 64, "{line}");
    send(&weir, Signal::TERM);
    let output = weir.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(log(&output), "weir: the page is read-only; --allow-changes lets it set and remove overrides\n");
}

//! Starts of `weir serve` that do not come to serving: errors, and an interrupt.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_provision::{checkout, or_skip};

use crate::support::{free_port, http_file};

const HELLO: &str = r#"- {match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: hello}}}"#;

/// Module that does not end its initialisation.
const ENDLESS: &str = r#"(module (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8))
    (func (export "_start") (loop $forever (br $forever))))"#;

fn serve(arguments: &[&str], file: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("serve").args(arguments).arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("weir starts")
}

fn failed(arguments: &[&str], file: &Path) -> String {
    let Output { status, stderr, .. } = serve(arguments, file).wait_with_output().expect("its end");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{stderr}");
    stderr
}

/// Returns a bootstrap with a wasm filter of this module.
fn with_module(module: &Path) -> String {
    let wasm = format!(
        "http_filters:\n          - {{name: guest, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, config: {{vm_config: {{runtime: \
         envoy.wasm.runtime.v8, code: {{local: {{filename: {}}}}}}}}}}}}}",
        module.display()
    );
    http_file(HELLO, "", "").replacen("http_filters:", &wasm, 1)
}

/// Whether a process handles SIGINT.
fn handles_interrupt(process: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    // The second bit is that of signal 2, SIGINT.
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
}

/// Waits for a condition for at most 60 s; returns whether it holds.
fn holds(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn an_interrupt_ends_a_start_that_takes_long() {
    let files = tempfile::tempdir().expect("a folder");
    let (module, file) = (files.path().join("guest.wasm"), files.path().join("edge.yaml"));
    std::fs::write(&module, wat::parse_str(ENDLESS).expect("the module")).expect("written");
    std::fs::write(&file, with_module(&module)).expect("written");
    let mut process = serve(&["--callback-limit", "600s"], &file);
    assert!(holds(|| handles_interrupt(&process)), "the command handles interrupts");
    kill_process(Pid::from_child(&process), Signal::INT).expect("an interrupt");
    let has_ended = holds(|| process.try_wait().is_ok_and(|ended| ended.is_some()));
    let _ = process.kill();
    assert!(has_ended, "the command ends before the module's initialisation does");
    assert_eq!(process.wait().expect("its end").code(), Some(130));
}

#[test]
fn files_without_an_end_are_errors() {
    let files = tempfile::tempdir().expect("a folder");
    let (pipe, file) = (files.path().join("pipe"), files.path().join("edge.yaml"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for special in [Path::new("/dev/zero"), &pipe, files.path()] {
        std::fs::write(&file, with_module(special)).expect("written");
        let error = failed(&[], &file);
        assert!(error.contains(&format!("{}: cannot be read: a ", special.display())), "{error}");
    }
    for (special, why) in [(Path::new("/dev/zero"), "a device"), (files.path(), "Is a directory")] {
        let error = failed(&[], special);
        assert!(error.contains(&format!("{}: cannot be read: {why}", special.display())), "{error}");
    }
}

#[test]
fn an_error_of_a_module_has_its_place_and_its_cause_once() {
    let files = tempfile::tempdir().expect("a folder");
    let (module, file) = (files.path().join("guest.wasm"), files.path().join("edge.yaml"));
    let yaml = with_module(&module);
    std::fs::write(&file, &yaml).expect("written");
    let before: Vec<&str> = yaml.split("filename: ").next().unwrap_or_default().lines().collect();
    let column = before.last().map_or(0, |line| line.len()) + "filename: ".len() + 1;
    let start = format!("{}:{}:{column}: {}: ", file.display(), before.len(), module.display());
    assert_eq!(failed(&[], &file), format!("{start}cannot be read: No such file or directory (os error 2)\n"));
    std::fs::write(&module, "this is text").expect("written");
    let expected = "not a wasm module: 12 bytes that do not begin with `\\0asm`";
    assert_eq!(failed(&[], &file), format!("{start}{expected}\n"));
}

#[test]
fn the_lines_of_a_module_that_refuses_its_configuration_are_shown_once() {
    let guest = r#"(module (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "limits: missing")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $log (i32.const 4) (i32.const 16) (i32.const 15))) (i32.const 0)))"#;
    let files = tempfile::tempdir().expect("a folder");
    let (module, file) = (files.path().join("guest.wasm"), files.path().join("edge.yaml"));
    std::fs::write(&module, wat::parse_str(guest).expect("the module")).expect("written");
    std::fs::write(&file, with_module(&module)).expect("written");
    let error = failed(&[], &file);
    assert!(error.contains("wasm log") && error.ends_with("refused its configuration\n"), "{error}");
    assert_eq!(error.matches("limits: missing").count(), 1, "{error}");
    let quiet = failed(&["--log-level", "off"], &file);
    assert!(quiet.ends_with("refused its configuration\n  limits: missing\n"), "{quiet}");
}

#[test]
fn a_port_in_use_is_an_error_with_its_cause_once() {
    is_refused_twice("embedded");
}

#[test]
fn a_port_that_another_envoy_would_share_is_an_error() {
    let Some(_) = or_skip(weir_provision::envoy::binary()) else { return };
    is_refused_twice("envoy");
}

/// Serves a file without `admin` on a host, and once more.
fn is_refused_twice(host: &str) {
    let files = tempfile::tempdir().expect("a folder");
    let file = files.path().join("edge.yaml");
    let port = free_port();
    let yaml = http_file(HELLO, "", "");
    let (admin, listeners) = yaml.split_once("listeners:").expect("listeners");
    let listeners = listeners.replace("port_value: 0", &format!("port_value: {port}"));
    let resources = admin.split_once("static_resources:").map_or(admin, |(_, rest)| rest);
    let yaml = format!("static_resources:{resources}listeners:{listeners}");
    std::fs::write(&file, yaml).expect("written");
    let mut first = serve(&["--host", host, "--workers", "2"], &file);
    assert!(holds(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()), "the first one listens");
    let error = failed(&["--host", host, "--workers", "2"], &file);
    kill_process(Pid::from_child(&first), Signal::INT).expect("an interrupt");
    first.wait().expect("its end");
    assert!(error.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{error}");
    assert_eq!(error.matches("Address already in use").count(), 1, "{error}");
}

#[test]
fn a_number_of_workers_that_no_host_has_is_an_error() {
    let files = tempfile::tempdir().expect("a folder");
    let file = files.path().join("edge.yaml");
    std::fs::write(&file, http_file(HELLO, "", "")).expect("written");
    for (host, workers) in [("embedded", "99999999999"), ("embedded", "0"), ("envoy", "0"), ("envoy", "1025")] {
        let error = failed(&["--host", host, "--workers", workers], &file);
        assert!(error.contains(&format!("expected 1 to 1024 workers, found {workers}")), "{error}");
    }
}

#[test]
fn a_start_that_takes_long_says_so() {
    let files = tempfile::tempdir().expect("a folder");
    let (module, file) = (files.path().join("guest.wasm"), files.path().join("edge.yaml"));
    std::fs::write(&module, wat::parse_str(ENDLESS).expect("the module")).expect("written");
    std::fs::write(&file, with_module(&module)).expect("written");
    let Some(_) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let suite = checkout::root().expect("the checkout").join("envoy/tests/quickstart.test.yaml");
    for arguments in [&["trace"][..], &["test", "--on", "redis"]] {
        let file = if arguments.len() == 1 { &file } else { &suite };
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).arg(file).env("WEIR_WASM", &module).env_remove("REDIS_URL");
        let mut weir = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("weir starts");
        // The module fails after 10 s: then the log ends.
        let mut lines = BufReader::new(weir.stderr.take().expect("a log")).lines().map_while(Result::ok);
        let is_said = lines.any(|line| line.contains("compiling and starting the wasm modules"));
        kill_process(Pid::from_child(&weir), Signal::INT).expect("an interrupt");
        weir.wait().expect("its end");
        assert!(is_said, "{arguments:?}");
    }
}

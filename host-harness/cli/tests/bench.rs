//! `weir bench` as a command: it runs the binary of another package.

use std::process::Command;

#[test]
fn the_bench_gets_its_arguments_and_gives_its_exit_code() {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    let done = weir.args(["bench", "--subjects", "no-such"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.contains("'no-such'") && stderr.contains("weir-denied"), "{stderr}");
    assert_eq!(done.status.code(), Some(2), "{stderr}");
}

#[test]
fn the_help_is_that_of_the_bench() {
    let help = Command::new(env!("CARGO_BIN_EXE_weir")).args(["bench", "--help"]).output().unwrap();
    let stdout = String::from_utf8_lossy(&help.stdout);
    assert!(stdout.contains("Usage: weir bench [OPTIONS]") && stdout.contains("--full"), "{stdout}");
}

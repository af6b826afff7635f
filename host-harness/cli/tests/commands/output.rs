//! Standard output and standard error that cannot be written.

use std::fs::File;
use std::process::Stdio;

use crate::{Folder, log};

/// Commands that write to standard output, and need neither Redis nor Envoy.
const COMMANDS: [&str; 9] = [
    "check envoy.yaml",
    "check --format json envoy.yaml",
    "test limits.test.yaml",
    "trace envoy.yaml",
    "trace envoy.yaml --format json",
    "sim --seeds 1 --seconds 30 --proxies 1 --workers 1 --threads 1",
    "serve envoy.yaml",
    "--help",
    "check --help",
];

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_full_standard_output_is_an_error_of_one_line() {
    let folder = Folder::new();
    for command in COMMANDS {
        let words: Vec<&str> = ["--log-level", "error"].into_iter().chain(command.split(' ')).collect();
        let output = folder.weir(&words).stdout(full()).output().unwrap();
        let expected = "cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((output.status.code(), log(&output).as_str()), (Some(1), expected), "{command}");
    }
}

/// The reader of a pipe has ended, like `head` after its first lines.
#[test]
fn a_closed_standard_output_ends_a_command_quietly() {
    let folder = Folder::new();
    for command in COMMANDS {
        let words: Vec<&str> = ["--log-level", "error"].into_iter().chain(command.split(' ')).collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = folder.weir(&words).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), log(&output).as_str()), (Some(0), ""), "{command}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_result_also_if_nobody_reads_it() {
    let folder = Folder::new().with("bad.yaml", "static_resources: [\n");
    let folder = folder.with("bad.test.yaml", &crate::TESTS.replace("status: 200", "status: 201"));
    for command in ["check bad.yaml", "test bad.test.yaml"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = folder.weir(&command.split(' ').collect::<Vec<_>>()).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), log(&output).as_str()), (Some(1), ""), "{command}");
    }
}

#[test]
fn a_full_standard_error_does_not_change_the_end_of_a_command() {
    let folder = Folder::new().with("bad.yaml", "a: [\n").with("bad.test.yaml", "tests: []\n");
    for (command, code) in [
        ("test bad.test.yaml", 2),
        ("test --filter none limits.test.yaml", 2),
        ("serve bad.yaml", 1),
        ("trace envoy.yaml --html page.html", 0),
        ("limits list", 1),
        ("--nonsense", 2),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let status = folder.weir(&words).stdout(Stdio::null()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{command}");
    }
}

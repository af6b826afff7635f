//! `weir bench` as a command, with an Envoy and a Redis process.

use std::{
    io,
    process::{Command, Output},
};

use weir_provision::{checkout, envoy, or_skip, redis};

/// Runs `weir bench` with arguments.
fn bench(arguments: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_weir-bench")).args(arguments).output()
}

#[test]
fn one_command_writes_a_table_a_page_all_rounds_and_a_plot() {
    if or_skip(envoy::binary()).is_none() || or_skip(redis::binary()).is_none() {
        return;
    }
    let root = checkout::root().expect("the checkout");
    let root = root.to_str().expect("its path is text");
    let out = tempfile::tempdir().expect("a folder");
    let place = out.path().to_str().expect("its path is text");
    let done = bench(&["--rounds", "1", "--seconds", "1", "--subjects", "no-op,weir", "--out", place])
        .expect("weir can be run");
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("no-op") && stdout.contains("weir"), "{stdout}");

    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect(name);
    let (page, rounds) = (read("RESULTS.md"), read("results/rounds.csv"));
    assert!(page.contains("| weir ") && page.contains("](results/cpu-16.svg)"), "{page}");
    assert!(!page.contains(place) && !page.contains(root), "{page}");
    assert!(read("results/cpu-16.svg").starts_with("<svg"));

    let lines: Vec<Vec<&str>> = rounds.lines().map(|line| line.split(',').collect()).collect();
    let field = |line: usize, name: &str| lines[line][lines[0].iter().position(|it| *it == name).expect(name)];
    assert_eq!((field(1, "subject"), field(2, "subject"), lines.len()), ("no-op", "weir", 3));
    let number = |line: usize, name: &str| field(line, name).parse::<f64>().expect("a number");
    // Redis decides every request of Weir: two commands read and write its bucket. A script, of one request or of a
    // batch, is one more command, and reads the time with another.
    assert!((0.0..1.05).contains(&number(2, "redis_scripts_per_request")), "{rounds}");
    assert!((1.95..4.05).contains(&number(2, "redis_commands_per_request")), "{rounds}");
    assert_eq!(number(1, "redis_commands_per_request"), 0.0);
    assert!(number(1, "redis_cpu_ms_per_1k") < number(2, "redis_cpu_ms_per_1k"), "{rounds}");
    for cost in ["proxy_cpu_ms_per_1k", "loader_cpu_ms_per_1k"] {
        assert!(number(1, cost) > 0.0 && number(2, cost) > 0.0, "{rounds}");
    }
}

#[test]
fn an_unknown_subject_is_refused_with_the_known_subjects() {
    let done = bench(&["--subjects", "no-such"]).expect("weir can be run");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && stderr.contains("weir-denied"), "{stderr}");
}

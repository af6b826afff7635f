//! `weir bench` as a developer types it, on a real Envoy and a real Redis.

use std::{
    io,
    process::{Command, Output},
};

use weir_harness::provision::{envoy, or_skip, redis};

/// What `weir bench` with these arguments prints and writes.
fn bench(arguments: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_weir")).arg("bench").args(arguments).output()
}

#[test]
fn one_command_leaves_a_table_a_page_all_rounds_and_a_plot() {
    if or_skip(envoy::binary()).is_none() || or_skip(redis::binary()).is_none() {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let place = out.path().to_str().expect("its path is text");
    let done = bench(&["--rounds", "1", "--seconds", "1", "--subjects", "no-op,weir", "--out", place])
        .expect("weir can be run");
    let (told, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{told}\n{complained}");
    assert!(told.contains("no-op") && told.contains("weir"), "{told}");

    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect(name);
    let (page, rounds) = (read("RESULTS.md"), read("results/rounds.csv"));
    assert!(page.contains("| weir ") && page.contains("](results/cpu-16.svg)"), "{page}");
    assert!(!page.contains(place) && !page.contains(env!("CARGO_MANIFEST_DIR")), "{page}");
    assert!(read("results/cpu-16.svg").starts_with("<svg"));

    let lines: Vec<Vec<&str>> = rounds.lines().map(|line| line.split(',').collect()).collect();
    let field = |line: usize, name: &str| lines[line][lines[0].iter().position(|it| *it == name).expect(name)];
    assert_eq!((field(1, "subject"), field(2, "subject"), lines.len()), ("no-op", "weir", 3));
    let number = |line: usize, name: &str| field(line, name).parse::<f64>().expect("a number");
    // Every request of Weir's is a decision of Redis', which reads and writes its bucket, be it in a script of several
    // or of its own, which asks for the time and is a command itself.
    assert!((0.0..1.05).contains(&number(2, "redis_scripts_per_request")), "{rounds}");
    assert!((1.95..4.05).contains(&number(2, "redis_commands_per_request")), "{rounds}");
    assert_eq!(number(1, "redis_commands_per_request"), 0.0);
    assert!(number(1, "redis_cpu_ms_per_1k") < number(2, "redis_cpu_ms_per_1k"), "{rounds}");
    for cost in ["proxy_cpu_ms_per_1k", "loader_cpu_ms_per_1k"] {
        assert!(number(1, cost) > 0.0 && number(2, cost) > 0.0, "{rounds}");
    }
}

#[test]
fn a_subject_that_is_unknown_is_refused_with_those_that_are_known() {
    let done = bench(&["--subjects", "no-such"]).expect("weir can be run");
    let complained = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && complained.contains("weir-denied"), "{complained}");
}

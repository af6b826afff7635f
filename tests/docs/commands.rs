//! Commands in the pages: each is one that CI runs, or one that the command line of `weir` accepts; and the options of
//! `weir` are documented with their defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::page::{Page, code, pages, root};

/// The page that documents the options of `weir`.
const CLI: &str = "docs/src/cli.md";

#[test]
fn every_command_can_be_run() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        for command in commands(&page) {
            count += 1;
            if let Err(problem) = run(&command) {
                problems.push(format!("{}: {command}: {problem}", page.path));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 20, "only {count} commands found");
}

/// The lines of `console` blocks that begin with `$ `, and inline code that begins with `cargo `; without comments.
fn commands(page: &Page) -> Vec<String> {
    let fences = page.fences();
    let consoles = fences.iter().filter(|fence| fence.info == "console" || fence.info.starts_with("console run"));
    let lines = consoles.flat_map(|fence| fence.text.lines()).filter_map(|line| line.strip_prefix("$ "));
    let inline = page.text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("cargo "));
    let uncommented = lines.chain(inline).map(|line| line.split(" #").next().unwrap_or(line));
    let piped = uncommented.flat_map(|line| line.split(" | ")).map(|command| command.trim().to_owned());
    piped.filter(|command| command.contains("cargo ")).collect()
}

/// Accepts a command that CI runs, or whose arguments name things that exist.
fn run(command: &str) -> Result<(), String> {
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| *word != "cargo").collect();
    let exists = |path: String| {
        if root().join(&path).exists() { Ok(()) } else { Err(format!("{path} does not exist")) }
    };
    match words.as_slice() {
        ["cargo", "demo" | "weir"] => Ok(()),
        ["cargo", "demo" | "weir", ..] => parse(&words),
        // CI runs all tests, and compiles all benchmarks.
        ["cargo", "test", "--test", name, ..] => {
            exists(format!("tests/{name}.rs")).or_else(|_| exists(format!("tests/{name}/main.rs")))
        }
        ["cargo", "bench", "--bench", name, ..] => exists(format!("benches/{name}.rs")),
        ["cargo", "test" | "clippy", "-p", package, ..] => is_package(package),
        ["cargo", "install", "--locked", "--path", path, "--profile", profile, ..] => {
            let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
            assert!(manifest.contains(&format!("[profile.{profile}]")), "there is no profile {profile}");
            exists(format!("{path}/src/main.rs"))
        }
        ["cargo", "install", "--locked", "cargo-mutants"] | ["cargo", "bench"] | ["cargo", "bench", "--no-run"] => {
            Ok(())
        }
        _ if ci().contains(&words.join(" ")) => Ok(()),
        _ => Err("neither CI nor `weir` knows this command".to_owned()),
    }
}

/// Splits a command at white space outside of single quotes, as a shell does.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        let is_quoted = index % 2 == 1;
        for (nth, piece) in part.split(|it: char| !is_quoted && it.is_whitespace()).enumerate() {
            if nth > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn ci() -> String {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    script.replace("\"$wasm_target\"", "wasm32-wasip1").replace("\"$WEIR_MUTANTS_SHARD\"", "0/50")
}

fn is_package(name: &str) -> Result<(), String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let is_known = lock.lines().any(|line| line == format!("name = \"{name}\""));
    if is_known { Ok(()) } else { Err(format!("there is no package {name}")) }
}

/// Parses `cargo demo -- --keep` or `cargo weir check FILE` as `weir` does. Files must exist.
fn parse(words: &[&str]) -> Result<(), String> {
    let alias = if words[1] == "weir" { vec!["weir"] } else { vec!["weir", words[1]] };
    let rest = words[2..].iter().copied().filter(|word| *word != "--");
    let words: Vec<&str> = alias.into_iter().chain(rest).collect();
    if let Some(file) = words.iter().find(|word| word.ends_with(".yaml") && !root().join(word).exists()) {
        return Err(format!("{file} does not exist"));
    }
    match weir_harness::command().try_get_matches_from(words) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// The page has a section for each command of `weir`, with a table of exactly its options and their defaults.
#[test]
fn the_page_of_the_command_line_has_every_option_and_its_default() {
    let page = Page::read(CLI);
    let mut documented: BTreeMap<&str, BTreeMap<&str, Option<&str>>> = BTreeMap::new();
    for row in page.rows() {
        if let (Some(command), Some(option)) = (code(row.heading), row.cells.first().and_then(|cell| code(cell))) {
            let name = option.split([' ', '=']).next().unwrap_or(option);
            documented.entry(command).or_default().insert(name, row.cells.get(1).copied().and_then(code));
        }
    }
    let mut command = weir_harness::command();
    command.build();
    let mut options = BTreeMap::new();
    collect(&command, "weir", &BTreeSet::new(), &mut options);
    // `weir bench` passes its options on to a binary of its own.
    collect(&weir_bench::command(), "weir bench", &BTreeSet::new(), &mut options);
    for (command, options) in &options {
        let found: BTreeMap<String, Option<String>> = documented
            .remove(command.as_str())
            .unwrap_or_default()
            .into_iter()
            .map(|(name, default)| (name.to_owned(), default.map(str::to_owned)))
            .collect();
        assert_eq!(found, *options, "{CLI}, section `{command}`: the options with their defaults");
    }
    assert!(documented.is_empty(), "{CLI} has sections of commands that `weir` does not have: {documented:?}");
}

type Options = BTreeMap<String, Option<String>>;

/// Adds the options of a command and of all below it, each command by its full name. Global options belong to the
/// command that defines them.
fn collect(
    command: &weir_harness::Definition,
    name: &str,
    inherited: &BTreeSet<String>,
    all: &mut BTreeMap<String, Options>,
) {
    let mut own = Options::new();
    let mut global = inherited.clone();
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
        if inherited.contains(long) {
            continue;
        }
        if argument.is_global_set() {
            global.insert(long.to_owned());
        }
        let takes_value = argument.get_action().takes_values();
        let default = argument.get_default_values().first().filter(|_| takes_value);
        own.insert(format!("--{long}"), default.map(|value| value.to_string_lossy().into_owned()));
    }
    if !own.is_empty() {
        all.insert(name.to_owned(), own);
    }
    for command in command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help") {
        collect(command, &format!("{name} {}", command.get_name()), &global, all);
    }
}

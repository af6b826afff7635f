//! Breaks the filter on purpose, in ten ways, and runs simulations until one finds it: `cargo run --example mutants`.
//!
//! The sources are copied to `target/mutants` with all breaks in them, each of which an environment variable switches on:
//! one build serves all. The arguments are numbers of breaks; without any, all run. The exit code is 1 if simulations of
//! the unbroken filter find anything, or if those of a broken one find nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Seeds of small fleets, and then of large ones, that must find a break.
const SEEDS: &str = "200";
/// Seeds of the unbroken filter.
const SEEDS_OF_THE_UNBROKEN: &str = "40";

/// Way in which the filter is broken: a text that is once in a source file, and what takes its place.
struct Break {
    name: &'static str,
    /// Source file below `filter/src`.
    file: &'static str,
    /// Expression.
    text: &'static str,
    /// Expression while the break is on.
    broken: &'static str,
}

const BREAKS: [Break; 10] = [
    Break {
        name: "tokens flow in twice as fast",
        file: "limit/algorithm/token_state.rs",
        text: "to.minus(from).0.saturating_mul(self.rate.per_micro())",
        broken: "to.minus(from).0.saturating_mul(self.rate.per_micro()).saturating_mul(2)",
    },
    Break {
        name: "a denied request spends from the limits that would admit it",
        file: "limit/check/script_model.rs",
        text: "admitted && fits(bucket.group) && (bucket.cost > 0 || takes)",
        broken: "state.used.saturating_add(bucket.cost) <= bucket.limit && (bucket.cost > 0 || takes)",
    },
    Break {
        name: "requests have three timeouts",
        file: "limiter/overload.rs",
        text: "pending.arrived_at.plus(self.config.redis.timeout)",
        broken: "pending.arrived_at.plus(self.config.redis.timeout.times(3))",
    },
    Break {
        name: "slots of aborted requests are renewed for ever",
        file: "limiter/request_end.rs",
        text: "self.slots.leave(request)",
        broken: "None::<crate::limit::HeldSlots>",
    },
    Break {
        name: "tokens of a lease are never used up",
        file: "limiter/lease_table.rs",
        text: "if is_admitted { &mut held.used } else { &mut held.left }",
        broken: "&mut held.left",
    },
    Break {
        name: "a silent connection is never replaced",
        file: "redis/session/phase.rs",
        text: "self.calls.oldest_sent().map(|sent| sent.plus(self.patience(4)).plus(self.away))",
        broken: "self.calls.oldest_sent().map(|_| Micros(u64::MAX))",
    },
    Break {
        name: "a missing script is not sent again",
        file: "redis/session/replies.rs",
        text: "is_split || is_noscript(error)",
        broken: "is_split",
    },
    Break {
        name: "a read-only master is never left",
        file: "redis/session/replies.rs",
        text: "is_unready || revokes(error)",
        broken: "revokes(error)",
    },
    Break {
        name: "delayed requests are released at once",
        file: "limiter/on_reply.rs",
        text: "now.plus(delay), request, decision, refund",
        broken: "now, request, decision, refund",
    },
    Break {
        name: "refused credentials are tried again after up to 50 s",
        file: "redis/session/backoff.rs",
        text: "self.step = LONGEST",
        broken: "self.step = LONGEST.times(10)",
    },
];

/// Appended to the filter's `lib.rs`.
const SWITCH: &str = r#"
/// Returns whether the break of this number is on.
pub(crate) fn is_broken(number: usize) -> bool {
    static ON: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("WEIR_BREAK").ok()?.parse().ok()) == Some(number)
}
"#;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Done<ExitCode> {
    let chosen: Vec<usize> = std::env::args().skip(1).map(|number| number.parse()).collect::<Result<_, _>>()?;
    let root = root();
    let copy = root.join("target/mutants");
    copy_sources(&root, &copy)?;
    for (number, way) in (1..).zip(&BREAKS) {
        let file = copy.join("filter/src").join(way.file);
        fs::write(&file, with_switch(&fs::read_to_string(&file)?, number, way)?)?;
    }
    let lib = copy.join("filter/src/lib.rs");
    fs::write(&lib, format!("#![allow(unused_parens)]\n{}{SWITCH}", fs::read_to_string(&lib)?))?;
    let program = build(&root, &copy)?;
    let mut is_as_expected = true;
    if chosen.is_empty() {
        let found = seeds(&program, 0, SEEDS_OF_THE_UNBROKEN)?;
        is_as_expected &= found.is_none();
        println!("unbroken: {}", found.as_deref().unwrap_or("nothing found, as it should be"));
    }
    for (number, way) in (1..).zip(&BREAKS).filter(|(number, _)| chosen.is_empty() || chosen.contains(number)) {
        let found = seeds(&program, number, SEEDS)?;
        is_as_expected &= found.is_some();
        println!("{number}, {}: {}", way.name, found.as_deref().unwrap_or("NOT FOUND"));
    }
    Ok(if is_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Root of the workspace.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// Copies the files that git knows. Files that have not changed keep their times, so that no build repeats itself.
fn copy_sources(root: &Path, copy: &Path) -> Done<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        fs::copy(&from, &to)?;
        let times = fs::FileTimes::new().set_modified(fs::metadata(&from)?.modified()?);
        fs::File::options().write(true).open(&to)?.set_times(times)?;
    }
    Ok(())
}

/// Returns a source with a switch in place of the text of a break.
fn with_switch(source: &str, number: usize, way: &Break) -> Result<String, String> {
    let times = source.matches(way.text).count();
    if times != 1 {
        return Err(format!("{} has the text of break {number} {times} times, not once: {}", way.file, way.text));
    }
    let switched =
        |text: &str, broken: &str| format!("(if crate::is_broken({number}) {{ {broken} }} else {{ {text} }})");
    // Arguments of a call are no expression: their first one is switched.
    let text = match (way.text.split_once(", "), way.broken.split_once(", ")) {
        (Some((first, rest)), Some((broken, same))) if rest == same => format!("{}, {rest}", switched(first, broken)),
        _ => switched(way.text, way.broken),
    };
    Ok(source.replacen(way.text, &text, 1))
}

/// Builds the program `seeds` of the copy, and returns its path.
fn build(root: &Path, copy: &Path) -> Done<PathBuf> {
    let target = root.join("target");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "weir-sim", "--example", "seeds", "--target-dir"])
        .arg(&target)
        .current_dir(copy)
        .status()?;
    if !status.success() {
        return Err("the broken filter does not build".into());
    }
    // Another build of the example would replace the file.
    let program = copy.join("seeds");
    fs::copy(target.join("debug/examples/seeds"), &program)?;
    Ok(program)
}

/// Simulates seeds with a break. Returns what they found, if anything.
fn seeds(program: &Path, number: usize, seeds: &str) -> Done<Option<String>> {
    let output = Command::new(program).arg(seeds).env("WEIR_BREAK", number.to_string()).output()?;
    let found = String::from_utf8(output.stdout)?.trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(found)),
        _ => Err(format!("{} ended with {}", program.display(), output.status).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_break_has_its_place_in_the_filter() {
        for (number, way) in (1..).zip(&BREAKS) {
            let file = root().join("filter/src").join(way.file);
            let switched = with_switch(&fs::read_to_string(file).unwrap(), number, way).unwrap();
            assert!(switched.contains(&format!("crate::is_broken({number})")));
        }
    }
}

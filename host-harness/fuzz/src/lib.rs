//! Fuzz targets: each runs a part of Weir on arbitrary bytes, and panics where a promise does not hold.
//!
//! `libfuzzer/` builds each target with libFuzzer, and `run` runs them. `tests/corpora.rs` runs each target on the inputs
//! in `corpora/`, among them all inputs that have found a bug.
//!
//! | target | bytes | promise beyond "no panic" |
//! |---|---|---|
//! | [`configuration`] | plugin configuration | what parses starts a worker; errors have paths, one line each, no secret |
//! | [`replies`] | replies of Redis | chunks do not matter; a decoded reply is encoded and decoded to itself |
//! | [`session`] | events of a connection | each call is completed once; commands are RESP; warnings repeat no bytes |
//! | [`callouts`] | bodies of callouts | each call is completed once, and sent four times at most |
//! | [`bridge`] | gRPC frames, bytes of Redis | the payloads and nothing else pass, in frames of bounded size |
//! | [`descriptors`] | a request | the body's pieces and the memo do not matter; keys are bounded |
//! | [`overrides`] | texts and pages of overrides | errors repeat no bytes; requests are decided |
//! | [`events`] | requests | events have known words, the key and numbers |
//! | [`usage`] | bodies of responses | chunks do not matter; text of a model forges no usage; names are bounded |
//! | [`worker`] | events of a worker | requests are decided in time; the log repeats no bytes |
//! | [`pairs`] | header maps | filter and host read the same pairs |
//! | [`files`] | Envoy files, test files | findings have places in the file; two runs find the same |
//!
//! The targets `host_pairs` and `host_calls` are in `weir-host`, whose tests replay their corpora: they need its
//! internals.

pub mod bridge;
pub mod callouts;
mod choices;
pub mod configuration;
pub mod descriptors;
pub mod events;
#[cfg(feature = "harness")]
pub mod files;
mod journal;
pub mod overrides;
pub mod pairs;
mod proxy;
pub mod replies;
pub mod session;
pub mod usage;
pub mod worker;

/// Target of a fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its program, and of its folder in `corpora/`.
    pub name: &'static str,
    /// Runs the target on an input. Panics at a finding.
    pub run: fn(&[u8]),
}

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "bridge", run: bridge::run },
    Target { name: "callouts", run: callouts::run },
    Target { name: "configuration", run: configuration::run },
    Target { name: "descriptors", run: descriptors::run },
    Target { name: "events", run: events::run },
    #[cfg(feature = "harness")]
    Target { name: "files", run: files::run },
    Target { name: "overrides", run: overrides::run },
    Target { name: "pairs", run: pairs::run },
    Target { name: "replies", run: replies::run },
    Target { name: "session", run: session::run },
    Target { name: "usage", run: usage::run },
    Target { name: "worker", run: worker::run },
];

/// Secret that no error, log line or warning may contain. Inputs of a fuzzer do not contain it by chance.
const SECRET: &str = "correct-horse-battery-staple";

/// Bytes of a client or of Redis that no log line may repeat.
const MARK: &str = "zqzqzq";

/// Checks a line of a log: bounded, printable ASCII, without secrets and without bytes of others.
fn check_log_line(line: &str) {
    assert!(line.len() <= 1_000, "a line of {} bytes: {line:?}", line.len());
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "a line that is not printable: {line:?}");
    assert!(!line.contains(SECRET), "a secret in {line:?}");
    assert!(!line.contains(MARK), "bytes of others in {line:?}");
}

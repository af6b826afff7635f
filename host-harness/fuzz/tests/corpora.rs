//! Replays the kept inputs of all fuzz targets, on the ordinary compiler.

use std::fs;
use std::path::{Path, PathBuf};

use weir_fuzz::TARGETS;

/// Targets whose corpora the tests of `weir-host` replay.
const OF_HOST: [&str; 2] = ["host_calls", "host_pairs"];
/// Most bytes of all kept inputs.
const MOST_BYTES: u64 = 200_000;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora")
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    inputs
}

/// Replays the corpus of one target. The input is named where it has a finding.
fn replay(name: &str) {
    struct Named<'a>(&'a Path);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the finding is in {}", self.0.display());
            }
        }
    }
    let target = TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"));
    let inputs = inputs(&corpora().join(name));
    assert!(!inputs.is_empty(), "no input of {name} is kept");
    for input in &inputs {
        let _named = Named(input);
        (target.run)(&fs::read(input).expect("an input"));
    }
    // Inputs that no fuzzer has seen.
    for input in [&b""[..], b"\0", b"\xff\xff\xff\xff"] {
        (target.run)(input);
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_corpus_is_replayed_and_every_target_is_a_program() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), replayed);
            let mut all: Vec<&str> = replayed.into_iter().chain(OF_HOST).collect();
            all.sort_unstable();
            let name = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
            let folders: Vec<String> = inputs(&corpora()).iter().map(name).collect();
            assert_eq!(folders, all, "folders in corpora/");
            let programs: Vec<String> = inputs(&corpora().join("../libfuzzer/fuzz_targets")).iter().map(name).collect();
            assert_eq!(programs, all, "programs in libfuzzer/fuzz_targets/");
            let manifest = fs::read_to_string(corpora().join("../libfuzzer/Cargo.toml")).expect("a manifest");
            for name in all {
                assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} in the manifest");
            }
        }
    };
}

replays! { bridge callouts configuration descriptors events files overrides pairs replies session usage worker }

#[test]
fn the_kept_inputs_are_small() {
    let files = inputs(&corpora()).into_iter().flat_map(|folder| inputs(&folder));
    let bytes: u64 = files.map(|file| fs::metadata(file).expect("a file").len()).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

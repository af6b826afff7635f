//! Features of third-party crates, which `cargo demo`, `cargo weir bench`, `cargo test` and `cargo bench` must agree on:
//! a crate with other features is compiled again, and with it all crates above it.

use std::collections::{BTreeMap, BTreeSet};

use weir_provision::checkout;

/// Selections of packages that are built without the tests.
const ALONE: [&str; 3] = ["weir-demo", "weir-harness", "weir-bench"];

#[test]
fn no_third_party_crate_is_compiled_twice() {
    let tests = features(&["--edges", "normal,build,dev"]);
    for package in ALONE {
        let alone = features(&["--edges", "normal,build", "--package", package]);
        let differing =
            alone.iter().filter(|(name, sets)| !tests.get(*name).is_some_and(|known| sets.is_subset(known)));
        let differing: Vec<String> = differing
            .map(|(name, sets)| format!("{name}: {sets:?} for {package}, {:?} for the tests", tests.get(name)))
            .collect();
        assert!(differing.is_empty(), "declare these features in {MANIFEST}:\n{}", differing.join("\n"));
    }
}

/// Manifest with the features that only tests need.
const MANIFEST: &str = "host-harness/provision/Cargo.toml";

/// Sets of features by package, of the packages from a registry. A package has two sets if a build script or macro needs
/// other features than the program.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = checkout::cargo();
    cargo.current_dir(checkout::root().expect("the checkout"));
    cargo.args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}|{f}|"]).args(selection);
    let told = cargo.output().expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(told.stdout).expect("UTF-8").lines() {
        let mut parts = line.split('|');
        let (Some(package), Some(features)) = (parts.next(), parts.next()) else { continue };
        // A package of this workspace is followed by its path.
        if !package.contains('/') {
            found.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    assert!(found.len() > 100, "cargo names the packages: {found:?}");
    found
}

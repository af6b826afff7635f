//! Compatibility matrix: versions of Envoy, and releases of Redis and Valkey.
//!
//! `cargo test` runs one pair; `WEIR_MATRIX=all cargo test --test matrix -- --nocapture` runs all, one after the other,
//! and writes docs/src/compatibility.md.

mod checks;
mod page;
mod pair;

use std::fs;

use weir_provision::{
    checkout, envoy,
    redis::{RELEASES, Release},
};

use self::{checks::CHECKS, page::Ran, pair::Pair};

const PAGE: &str = "docs/src/compatibility.md";
/// Pair of each `cargo test`. All other tests run the newest Envoy, or the oldest, with one Redis.
const SMOKE: (&str, &str) = ("1.38.2", "Valkey 8.1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_admits_exactly_what_it_has_on_all_pairs() {
    let runs_all = std::env::var("WEIR_MATRIX").is_ok_and(|it| it == "all");
    let mut ran = Vec::new();
    for version in envoy::VERSIONS {
        for release in RELEASES {
            if runs_all || (version, release.name) == SMOKE {
                let Some(pair) = run(version, release).await else { return };
                ran.push(pair);
            }
        }
    }
    assert!(ran.iter().any(|pair| (pair.envoy, pair.release) == SMOKE), "the pair of each `cargo test` exists");
    let wrong: Vec<String> = ran.iter().flat_map(Ran::wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if runs_all {
        fs::write(checkout::root().unwrap().join(PAGE), page::text(&ran)).unwrap();
    }
}

/// Runs all checks on a pair. `None` if a component is missing, which is printed.
async fn run(version: &'static str, release: Release) -> Option<Ran> {
    let pair = Pair::start(version, release)?;
    let counted = checks::run(&pair).await;
    pair.acl_refuses_nothing();
    let ran = Ran { envoy: version, release: release.name, server: pair.server_version(), counted };
    println!("{ran}");
    Some(ran)
}

/// The page has a row for each release and a column for each version, and the checks of this test.
#[test]
fn the_page_has_all_pairs() {
    let page = fs::read_to_string(checkout::root().unwrap().join(PAGE)).unwrap();
    let heads: Vec<&str> = page.lines().filter(|line| line.starts_with("| Redis or Valkey |")).collect();
    assert_eq!(heads, [format!("| Redis or Valkey | {} |", envoy::VERSIONS.join(" | "))]);
    for release in RELEASES {
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&format!("| {}", release.name))).collect();
        let cell = format!(" {} |", page::cell(&CHECKS.map(|check| check.expected)));
        assert!(rows.len() == 1 && rows[0].ends_with(&cell.repeat(envoy::VERSIONS.len())), "{rows:?}");
    }
    for check in CHECKS {
        assert!(page.contains(&page::row(&check)), "{}", page::row(&check));
    }
}

//! `weir sim` on a real Redis, and its pictures.

use std::fs;

use serde_json::Value;
use weir_provision::or_skip;
use weir_provision::redis::{RedisOptions, RedisServer};

use crate::{Folder, log};

/// Small fleets, and enough of them that most kinds of fault happen.
const FLEETS: &str = "sim --seeds 25 --first-seed 1000 --seconds 36 --proxies 2 --workers 2 --threads 1 --format json";

#[test]
fn a_real_redis_on_a_virtual_clock_replies_as_the_specification_and_keeps_the_guarantees() {
    if or_skip(RedisServer::start(RedisOptions::default())).is_none() {
        return;
    }
    let folder = Folder::new();
    let words: Vec<&str> = FLEETS.split(' ').chain(["--on", "redis"]).collect();
    let output = folder.weir(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&output.stdout), log(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["on"], &result["simulations"]), (&"redis".into(), &25.into()));
    assert!(result["admitted"].as_u64().unwrap() > 2_000, "{result}");
}

#[test]
fn the_pictures_and_the_table_of_a_small_fleet_are_drawn() {
    let folder = Folder::new();
    let words = ["sim", "--pictures", "drawn", "--largest-fleet", "10", "--threads", "1"];
    let output = folder.weir(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder.path("drawn")).unwrap().map(name).collect();
    names.sort();
    let pictures =
        ["admitted", "load", "wait"].map(|what| ["round-trip", "workers"].map(|by| format!("{what}-by-{by}.svg")));
    let mut expected: Vec<String> = pictures.concat();
    expected.insert(2, "figures.csv".to_owned());
    assert_eq!(names, expected);
    let table = fs::read_to_string(folder.path("drawn/figures.csv")).unwrap();
    // Four forms, at one size of the fleet and at seven round trips.
    assert_eq!(table.lines().count(), 1 + 4 * 8, "{table}");
}

//! The page of the results.

use std::{fmt, process::Command};

use weir_provision::{envoy, redis::RELEASES};

use crate::checks::{CHECKS, Check, Counted};

/// Result of a pair.
#[derive(Debug)]
pub struct Ran {
    pub envoy: &'static str,
    /// Name of the release.
    pub release: &'static str,
    /// Version of the server, as it says.
    pub server: String,
    pub counted: [Counted; CHECKS.len()],
}

impl Ran {
    /// Checks with other numbers than expected.
    pub fn wrong(&self) -> Vec<String> {
        let checks = CHECKS.iter().zip(self.counted).filter(|(check, counted)| check.expected != *counted);
        let text = |(check, counted): (&Check, Counted)| {
            format!("{}, {}: {}: expected {}, found {counted}", self.envoy, self.release, check.name, check.expected)
        };
        checks.map(text).collect()
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envoy {} with {} ({}): {}", self.envoy, self.release, self.server, cell(&self.counted))?;
        CHECKS.iter().zip(self.counted).try_for_each(|(check, counted)| write!(f, ", {} {counted}", check.name))
    }
}

/// Sum of a pair.
pub fn cell(counted: &[Counted]) -> String {
    counted.iter().fold(Counted::default(), |sum, it| sum.plus(*it)).to_string()
}

/// Row of a check.
pub fn row(check: &Check) -> String {
    format!("| `{}` | {} | {} |", check.limit, check.requests, check.expected)
}

/// The page in Markdown.
pub fn text(ran: &[Ran]) -> String {
    let date = Command::new("date").args(["--utc", "+%F"]).output().expect("the program `date`").stdout;
    let date = String::from_utf8(date).expect("text");
    let rows = RELEASES.map(|release| {
        let own = || ran.iter().filter(|pair| pair.release == release.name);
        let server = own().next().expect("all pairs ran").server.as_str();
        let cells: String = own().map(|pair| format!(" {} |", cell(&pair.counted))).collect();
        format!("| {} ({server}) |{cells}\n", release.name)
    });
    let checks = CHECKS.map(|check| row(&check) + "\n").concat();
    format!(
        "# Compatibility

Weir is tested with Envoy 1.36 to 1.40, Redis 6.2 to 8.2 and Valkey 8.1, each pair of them. This page is the output of
the command below, which fetches all versions, and runs one pair after the other. It ran last on {}:

```console
$ WEIR_MATRIX=all cargo test --test matrix -- --nocapture
```

Each cell has the number of requests that the pair admitted with 200, and of those that it denied with 429, over all
checks. The command fails if one number of one check is another than below.

| Redis or Valkey | {} |
|---|{}
{}
Envoy runs with two workers. The filter logs in as the user of [Redis ACL](operations.md#redis-acl), and Redis refuses
none of its commands. These are the checks of each pair, with their numbers of 200 and 429:

| limit | requests | 200 / 429 |
|---|---|---|
{checks}
Overrides are set with [`weir limits set`](cli.md#weir-limits). `cargo test` runs one of these pairs; its other tests
run the newest Envoy, or the oldest, with one Redis. [Redis versions](operations.md#redis-versions) has the commands of
each feature.

Istio 1.28 to 1.31 and Envoy Gateway 1.6 to 1.9 have Envoy 1.36 to 1.39: [On Kubernetes](kubernetes.md). The build of
Envoy 1.38.3 on PyPI has no wasm runtime.
",
        date.trim(),
        envoy::VERSIONS.join(" | "),
        "---|".repeat(envoy::VERSIONS.len()),
        rows.concat(),
    )
}

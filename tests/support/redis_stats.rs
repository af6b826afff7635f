//! Command statistics of Redis.

use crate::Mesh;

/// Number of scripts that the mesh's Redis has run, including scripts that read overrides.
///
/// # Panics
/// If Redis does not run.
pub fn evaluations(mesh: &Mesh) -> u64 {
    calls(mesh, "evalsha") + calls(mesh, "eval")
}

/// Number of token buckets that checks have read: each check reads each of its buckets once.
///
/// # Panics
/// If Redis does not run.
pub fn buckets_asked(mesh: &Mesh) -> u64 {
    calls(mesh, "get")
}

/// Number of successful calls of a command, by scripts and by clients.
fn calls(mesh: &Mesh, command: &str) -> u64 {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query(&mut mesh.redis_connection()).expect("Redis has statistics");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(':'));
    let number = |field: &str| -> u64 {
        let numbers = line.unwrap_or_default().split(',');
        numbers
            .filter_map(|number| number.strip_prefix(field)?.strip_prefix('='))
            .find_map(|n| n.parse().ok())
            .unwrap_or(0)
    };
    number("calls") - number("failed_calls")
}

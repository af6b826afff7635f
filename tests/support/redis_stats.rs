//! What Redis says it has done.

use crate::Mesh;

/// Scripts that the mesh's Redis has run, those included that look at overrides.
///
/// # Panics
/// Where Redis does not run.
pub fn evaluations(mesh: &Mesh) -> u64 {
    calls(mesh, "evalsha") + calls(mesh, "eval")
}

/// Token buckets that Redis was asked about, however many in one script: each is read once.
///
/// # Panics
/// Where Redis does not run.
pub fn buckets_asked(mesh: &Mesh) -> u64 {
    calls(mesh, "get")
}

/// How often a command has succeeded, called by scripts or by clients.
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

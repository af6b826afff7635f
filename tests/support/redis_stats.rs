//! What Redis says it has done.

use crate::Mesh;

/// Scripts that the mesh's Redis has run, those included that look at overrides.
///
/// # Panics
/// Where Redis does not run.
pub fn evaluations(mesh: &Mesh) -> u64 {
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query(&mut mesh.redis_connection()).expect("Redis has statistics");
    let number = |command: &str, field: &str| -> u64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(command)?.strip_prefix(':'));
        let numbers = line.unwrap_or_default().split(',');
        numbers
            .filter_map(|number| number.strip_prefix(field)?.strip_prefix('='))
            .find_map(|n| n.parse().ok())
            .unwrap_or(0)
    };
    let run = |command: &str| number(command, "calls") - number(command, "failed_calls");
    run("cmdstat_evalsha") + run("cmdstat_eval")
}

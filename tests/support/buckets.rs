//! Buckets of a mesh in Redis: their names, and resets as `weir limits reset` makes them.

use weir_filter::limit::RESET_SCRIPT;

use crate::Mesh;

/// End of the names of marks that keep workers from healing a bucket that was reset.
const MARK: &str = "#reset";
/// Time in ms for which workers may remember a bucket of the tests.
const REMEMBERED_MS: u64 = 7_200_000;

impl Mesh {
    /// Returns the names of all keys in Redis without the key prefix, sorted, but for marks of resets.
    pub fn keys(&self) -> Vec<String> {
        let pattern = format!("{}*", self.key_prefix());
        let all: Vec<String> =
            redis::cmd("KEYS").arg(pattern).query(&mut self.redis_connection()).expect("Redis answers");
        let names = all.iter().filter_map(|key| key.strip_prefix(self.key_prefix()));
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(MARK)).map(Into::into).collect();
        names.sort();
        names
    }

    /// Resets a bucket, whose name has no key prefix. Workers that remember it do not heal it.
    pub fn reset(&self, name: &str) {
        let key = format!("{}{name}", self.key_prefix());
        let mut command = redis::cmd("EVAL");
        command.arg(RESET_SCRIPT).arg(2).arg(&key).arg(format!("{key}{MARK}")).arg(REMEMBERED_MS);
        command.exec(&mut self.redis_connection()).expect("Redis answers");
    }

    /// Resets all buckets.
    pub fn reset_all(&self) {
        self.keys().iter().for_each(|name| self.reset(name));
    }
}

//! Command counts of Redis, from `INFO commandstats`.

/// Number of commands since Redis started, without the `INFO` commands of the bench.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Commands {
    /// Number of script calls: `EVALSHA` and `EVAL`.
    pub(super) scripts: u64,
    /// Number of all commands, including those that scripts call.
    pub(super) all: u64,
}

impl Commands {
    /// Parses `INFO commandstats`: lines such as `cmdstat_evalsha:calls=5,usec=…`.
    pub(super) fn parse(info: &str) -> Self {
        let mut commands = Self::default();
        for line in info.lines() {
            let Some((name, rest)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
                continue;
            };
            let calls = rest.split(',').next().and_then(|calls| calls.trim().parse::<u64>().ok()).unwrap_or(0);
            match name {
                "info" => {}
                "evalsha" | "eval" => {
                    commands.scripts += calls;
                    commands.all += calls;
                }
                _ => commands.all += calls,
            }
        }
        commands
    }

    /// The commands between `before` and these counts.
    pub(super) fn since(self, before: Self) -> Self {
        Self { scripts: self.scripts.saturating_sub(before.scripts), all: self.all.saturating_sub(before.all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_counted_separately_and_info_commands_are_not_counted() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=10,usec=99\r\ncmdstat_eval:calls=1,usec=9\r\n\
                    cmdstat_get:calls=11,usec=5\r\ncmdstat_info:calls=7,usec=1\r\n";
        let now = Commands::parse(info);
        assert_eq!(now, Commands { scripts: 11, all: 22 });
        assert_eq!(now.since(Commands { scripts: 1, all: 2 }), Commands { scripts: 10, all: 20 });
    }
}

//! What Redis was asked, by its own account.

/// Commands since Redis started, our own questions aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Commands {
    /// Scripts run: `EVALSHA` and `EVAL`.
    pub(super) scripts: u64,
    /// All commands, those that scripts call included.
    pub(super) all: u64,
}

impl Commands {
    /// From `INFO commandstats`: lines such as `cmdstat_evalsha:calls=5,usec=…`.
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

    /// Since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self { scripts: self.scripts.saturating_sub(before.scripts), all: self.all.saturating_sub(before.all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_counted_apart_and_our_own_questions_not_at_all() {
        let info = "# Commandstats\r\ncmdstat_evalsha:calls=10,usec=99\r\ncmdstat_eval:calls=1,usec=9\r\n\
                    cmdstat_get:calls=11,usec=5\r\ncmdstat_info:calls=7,usec=1\r\n";
        let now = Commands::parse(info);
        assert_eq!(now, Commands { scripts: 11, all: 22 });
        assert_eq!(now.since(Commands { scripts: 1, all: 2 }), Commands { scripts: 10, all: 20 });
    }
}

//! Controls the load generator's process: starts it, tells it when to measure, and reads its report.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use thiserror::Error;

use super::{Plan, Report};

/// Reasons why there is no report.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The process cannot be started, written to or read from.
    #[error("load generator: {0}")]
    Io(#[from] io::Error),
    /// The process ended early; the reason is on standard error.
    #[error("load generator: expected {expected:?}, found {found:?}")]
    Ended {
        /// The line that was expected.
        expected: &'static str,
        /// The line that the process printed.
        found: String,
    },
}

/// A load generator process that has warmed up the server and waits. Dropping it kills the process.
pub(crate) struct Loader {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Loader {
    /// Starts a load generator, and returns when it has warmed up the server.
    pub(crate) fn ready(plan: &Plan) -> Result<Self, LoadError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").args(["--target", &plan.target.to_string()]);
        command.args(["--connections", &plan.connections.to_string(), "--keys", &plan.keys.to_string()]);
        command.args(["--warm-up-millis", &plan.warm_up_millis.to_string(), "--millis", &plan.millis.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (hears, says) = (child.stdin.take(), child.stdout.take());
        let (Some(hears), Some(says)) = (hears, says) else { return Err(io::Error::from(io::ErrorKind::Other).into()) };
        let mut loader = Self { child, says: BufReader::new(says), hears };
        match loader.line()?.trim() {
            "ready" => Ok(loader),
            found => Err(LoadError::Ended { expected: "ready", found: found.to_owned() }),
        }
    }

    /// Runs the measurement and returns its report.
    pub(crate) fn go(mut self) -> Result<Report, LoadError> {
        self.hears.write_all(b"go\n")?;
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|_| LoadError::Ended { expected: "a report", found: line })
    }

    fn line(&mut self) -> Result<String, LoadError> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Runs other programs to their end, and reports their output if they fail.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::ProvisionError;

/// Time limit of a command: enough for a download of 100 MB over a slow line or a cold build of the filter.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs a command to its end, at most [`LIMIT`], and returns its stdout.
pub(super) fn run(command: &mut Command) -> Result<String, ProvisionError> {
    run_within(command, LIMIT)
}

pub(super) fn run_within(command: &mut Command, limit: Duration) -> Result<String, ProvisionError> {
    let line = command_line(command);
    let failed =
        |how: String, output: &str| ProvisionError::Command { command: line.clone(), how, output: output.to_owned() };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| failed(format!("could not be run: {why}"), ""))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = wait_until(&mut child, Instant::now() + limit);
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    match ended {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => Err(failed(format!("ended with {status}"), &(stdout + &stderr))),
        None => Err(failed(format!("took longer than {} s", limit.as_secs()), &(stdout + &stderr))),
    }
}

/// Runs a command to its end, at most [`LIMIT`], with its stderr on this program's stderr: for a command that takes
/// minutes and shows its progress.
pub(super) fn run_shown(command: &mut Command) -> Result<(), ProvisionError> {
    let line = command_line(command);
    let failed = |how: String| ProvisionError::Command { command: line.clone(), how, output: String::new() };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|why| failed(format!("could not be run: {why}")))?;
    match wait_until(&mut child, Instant::now() + LIMIT) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("ended with {status}"))),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(format!("took longer than {} s", LIMIT.as_secs())))
        }
    }
}

/// The child's status, or `None` if it still runs at `deadline`.
pub(super) fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

/// A program on `PATH`.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

pub(super) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_shows_itself_and_the_end_of_its_output() {
        let why = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(why, "`sh -c echo one; echo two >&2; exit 3` ended with exit status: 3\n    one\n    two");
    }

    #[test]
    fn a_failing_command_whose_output_was_shown_is_named() {
        let why = run_shown(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(why, "`sh -c exit 3` ended with exit status: 3");
        run_shown(Command::new("sh").args(["-c", "exit 0"])).unwrap();
    }

    #[test]
    fn a_hanging_command_is_ended() {
        let started = Instant::now();
        let why = run_within(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(why.starts_with("`sleep 60` took longer"), "{why}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let why = run(&mut Command::new("weir-no-such-program")).unwrap_err().to_string();
        assert!(why.starts_with("`weir-no-such-program` could not be run"), "{why}");
    }
}

//! Server processes that end when this process ends.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{ProvisionError, abandoned, command};

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Interval between two readiness checks of a server.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Number of lines from a log's end that an error shows.
const LOG_LINES: usize = 12;

/// A running server with its log in a file. Dropping it stops the server.
pub(super) struct ServerProcess {
    child: Child,
    reaper: Option<Reaper>,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `command` with its output appended to `log`.
    pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Self, ProvisionError> {
        let open = || File::options().create(true).append(true).open(log).map_err(ProvisionError::io(log));
        // Separate process groups: ctrl-c reaches only this process, which then stops its servers in order.
        let child = command.process_group(0).stdin(Stdio::null()).stdout(open()?).stderr(open()?).spawn();
        let child = child.map_err(ProvisionError::io(command.get_program()))?;
        abandoned::add_server(child.id());
        let reaper = Reaper::of(child.id());
        Ok(Self { child, reaper, log: log.to_path_buf() })
    }

    /// Calls `probe` every 10 ms until it returns `Ok`. The text of its `Err` names the condition that is waited for.
    ///
    /// # Errors
    /// [`ProvisionError::Start`] if the process ends, or `probe` returns no `Ok` in the time `within`. The error shows
    /// the lines that `telling` selects from the log.
    pub(super) fn wait_until_ready<T>(
        &mut self,
        what: &str,
        within: Duration,
        telling: fn(&str) -> String,
        mut probe: impl FnMut() -> Result<T, String>,
    ) -> Result<T, ProvisionError> {
        let deadline = Instant::now() + within;
        let why = loop {
            // Checked before the probe: another process's server on the same port might answer for a dead one.
            if let Some(status) = self.ended() {
                break format!("the process ended with {status}");
            }
            match probe() {
                Ok(given) => return Ok(given),
                Err(why) if Instant::now() > deadline => break format!("{why} within {} s", within.as_secs()),
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        };
        Err(ProvisionError::Start { what: what.to_owned(), why, log: telling(&self.log()) })
    }

    /// The process id. After the process has ended, the system may give the id to another process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.ended().is_none()
    }

    /// The exit status, or `None` while the process runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.dismiss_reaper();
        }
        status
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends SIGTERM, and SIGKILL if the process still runs five seconds later.
    pub(super) fn stop(&mut self) {
        self.dismiss_reaper();
        if self.is_alive() {
            let _ = self.signal(Signal::TERM);
            // A paused process handles SIGTERM only after SIGCONT.
            let _ = self.signal(Signal::CONT);
        }
        if command::wait_until(&mut self.child, Instant::now() + GRACE).is_none() {
            self.kill();
        }
    }

    pub(super) fn kill(&mut self) {
        self.dismiss_reaper();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Ends the reaper. Called before the child is waited for, because its id may then belong to another process.
    fn dismiss_reaper(&mut self) {
        abandoned::remove_server(self.child.id());
        self.reaper = None;
    }
}

/// Shell that kills a process if this process dies without stopping it: it waits until its stdin, a pipe that this
/// process holds, closes. Dropping the handle ends it.
#[derive(Debug)]
pub struct Reaper(Child);

impl Reaper {
    /// Starts the shell for a process of this id. `None` if there is no shell.
    #[must_use]
    pub fn of(id: u32) -> Option<Self> {
        Self::start(id, None)
    }

    /// Starts the shell for a process of this id and its folder, which the shell removes after the process.
    #[must_use]
    pub fn with_folder(id: u32, folder: &Path) -> Option<Self> {
        Self::start(id, Some(folder))
    }

    fn start(id: u32, folder: Option<&Path>) -> Option<Self> {
        let mut shell = Command::new("sh");
        // A process group of its own: ctrl-c must not end it before this process.
        shell.args(["-c", "read -r _; kill -9 \"$0\"; [ -z \"$1\" ] || rm -rf -- \"$1\""]).process_group(0);
        shell.arg(id.to_string()).args(folder);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Self)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last 12 lines of a log.
pub(super) fn last_lines(log: &str) -> String {
    let last = log.lines().count().saturating_sub(LOG_LINES);
    log.lines().skip(last).collect::<Vec<_>>().join("\n")
}

/// Checks that a server accepts connections at this address.
pub(super) fn accepts(addr: SocketAddr) -> Result<(), String> {
    TcpStream::connect(addr).map(drop).map_err(|_| "no connection".to_owned())
}

/// Raises the soft limit of open files to the hard limit, for this process and the servers it starts afterwards:
/// thousands of connections at once exceed the usual soft limit of 1,024 files.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

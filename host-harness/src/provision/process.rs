//! A server process that ends when we do.

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

use super::{ProvisionError, command};

const GRACE: Duration = Duration::from_secs(5);
/// Between two looks whether a server is ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Of a log, as many of its last lines tell why.
const LOG_LINES: usize = 12;

/// A running server, its log in a file. Dropped: ended.
pub(super) struct ServerProcess {
    child: Child,
    /// Ends the server should this process die without being able to: it waits for its stdin, which we hold, to close.
    reaper: Option<Child>,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts `command` with its output appended to `log`.
    pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Self, ProvisionError> {
        let open = || File::options().create(true).append(true).open(log).map_err(ProvisionError::io(log));
        // In groups of their own: ctrl-c is for us, who then end them in order.
        let child = command.process_group(0).stdin(Stdio::null()).stdout(open()?).stderr(open()?).spawn();
        let child = child.map_err(ProvisionError::io(command.get_program()))?;
        let reaper = Command::new("sh")
            .args(["-c", &format!("read -r _; kill -9 {}", child.id())])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        Ok(Self { child, reaper, log: log.to_path_buf() })
    }

    /// Asks `probe` again and again, until it gives something: it says what it waits for until then.
    ///
    /// # Errors
    /// [`ProvisionError::Start`] where the process ends before, or nothing is given `within` that time; with what
    /// `telling` takes from its log.
    pub(super) fn wait_until_ready<T>(
        &mut self,
        what: &str,
        within: Duration,
        telling: fn(&str) -> String,
        mut probe: impl FnMut() -> Result<T, String>,
    ) -> Result<T, ProvisionError> {
        let deadline = Instant::now() + within;
        let why = loop {
            // Before asking: otherwise another's server at the same place might answer for a dead one.
            if let Some(status) = self.ended() {
                break format!("it ended with {status}");
            }
            match probe() {
                Ok(given) => return Ok(given),
                Err(why) if Instant::now() > deadline => break format!("{why} within {} s", within.as_secs()),
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        };
        Err(ProvisionError::Start { what: what.to_owned(), why, log: telling(&self.log()) })
    }

    /// The process's id; another's as soon as it has ended.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.ended().is_none()
    }

    /// The status it ended with, if it did.
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

    /// SIGTERM, and SIGKILL where that is not obeyed within five seconds.
    pub(super) fn stop(&mut self) {
        self.dismiss_reaper();
        if self.is_alive() {
            let _ = self.signal(Signal::TERM);
            // A paused process would only hear the former when it continues.
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

    /// As soon as the child is waited for, its id may become another's.
    fn dismiss_reaper(&mut self) {
        if let Some(mut reaper) = self.reaper.take() {
            let _ = reaper.kill();
            let _ = reaper.wait();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The end of a log.
pub(super) fn last_lines(log: &str) -> String {
    let last = log.lines().count().saturating_sub(LOG_LINES);
    log.lines().skip(last).collect::<Vec<_>>().join("\n")
}

/// Whether anybody accepts connections there.
pub(super) fn accepts(addr: SocketAddr) -> Result<(), String> {
    TcpStream::connect(addr).map(drop).map_err(|_| "no connection".to_owned())
}

/// Lets this process, and servers it starts from now on, hold as many sockets as the system allows at all: thousands
/// of connections at once are more than the usual soft limit of 1,024 files.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

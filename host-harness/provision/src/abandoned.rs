//! Servers and scratch folders that a signal would leave behind, since no destructor runs then.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

static LEFT: Mutex<Left> = Mutex::new(Left { servers: BTreeSet::new(), folders: Vec::new() });

/// What this process has started and created.
struct Left {
    /// Ids of servers that have not been waited for.
    servers: BTreeSet<u32>,
    /// Folders, also those that are gone.
    folders: Vec<PathBuf>,
}

/// Kills the servers of this process and removes its scratch folders. The process must end then: whoever starts a
/// server or creates a folder from now on waits forever.
pub fn abandon() {
    let left = left();
    let servers = left.servers.iter().filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?));
    for server in servers {
        let _ = kill_process(server, Signal::KILL);
        // A server that still runs might write into its folder.
        let _ = waitpid(Some(server), WaitOptions::empty());
    }
    for folder in &left.folders {
        let _ = std::fs::remove_dir_all(folder);
    }
    std::mem::forget(left);
}

/// Creates a folder that [`abandon`] removes.
pub(super) fn folder(create: impl FnOnce() -> io::Result<TempDir>) -> io::Result<TempDir> {
    let mut left = left();
    left.folders.retain(|folder| folder.exists());
    let folder = create()?;
    left.folders.push(folder.path().to_path_buf());
    Ok(folder)
}

/// Adds a server that has started.
pub(super) fn add_server(id: u32) {
    left().servers.insert(id);
}

/// Removes a server before it is waited for: its id may then belong to another process.
pub(super) fn remove_server(id: u32) {
    left().servers.remove(&id);
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

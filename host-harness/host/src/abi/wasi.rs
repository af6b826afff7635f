//! Part of WASI preview 1 that Envoy provides: environment, clocks, random bytes, and stdout and stderr as log lines.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::{Caller, Linker};

use super::memory::{Fault, Guest, Status};
use super::state::HostState;

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const IO: u32 = 29;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTDIR: u32 = 20;
const NOTSUP: u32 = 58;

/// Maximum number of parts and of bytes of one `fd_write` call; POSIX' limit, and more than a line of a log has.
const MAX_PARTS: u32 = 1024;
const MAX_WRITTEN: usize = 1024 * 1024;

/// Maximum length of one `random_get` call in bytes, as in proxy-wasm-cpp-host.
const MAX_RANDOM: u32 = 64 * 1024;

type Call<'a> = Caller<'a, HostState>;
type Answer = wasmtime::Result<u32>;

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        linker.func_wrap(module, "fd_write", fd_write)?;
        linker.func_wrap(module, "environ_get", environ_get)?;
        linker.func_wrap(module, "environ_sizes_get", environ_sizes_get)?;
        linker.func_wrap(module, "args_get", |_: i32, _: i32| SUCCESS)?;
        linker.func_wrap(module, "args_sizes_get", args_sizes_get)?;
        linker.func_wrap(module, "clock_time_get", clock_time_get)?;
        linker.func_wrap(module, "clock_res_get", clock_res_get)?;
        linker.func_wrap(module, "random_get", random_get)?;
        linker.func_wrap(module, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(wasmtime::format_err!("the module called proc_exit({code})"))
        })?;
        linker.func_wrap(module, "sched_yield", || SUCCESS)?;
        linker.func_wrap(module, "poll_oneoff", poll_oneoff)?;
        linker.func_wrap(module, "fd_fdstat_get", fd_fdstat_get)?;
        add_files(linker, module)?;
        add_paths_and_sockets(linker, module)?;
    }
    Ok(())
}

/// Adds functions for open files: there are none but stdout and stderr.
fn add_files(linker: &mut Linker<HostState>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "fd_advise", |_: i32, _: i64, _: i64, _: i32| SUCCESS)?;
    linker.func_wrap(module, "fd_allocate", |fd: u32, _: i64, _: i64| output(fd))?;
    linker.func_wrap(module, "fd_close", |_: i32| SUCCESS)?;
    linker.func_wrap(module, "fd_datasync", output)?;
    linker.func_wrap(module, "fd_fdstat_set_flags", |_: i32, _: i32| NOSYS)?;
    linker.func_wrap(module, "fd_fdstat_set_rights", |fd: u32, _: i64, _: i64| output(fd))?;
    linker.func_wrap(module, "fd_filestat_get", |_: i32, _: i32| BADF)?;
    linker.func_wrap(module, "fd_filestat_set_size", |fd: u32, _: i64| output(fd))?;
    linker.func_wrap(module, "fd_filestat_set_times", |fd: u32, _: i64, _: i64, _: i32| output(fd))?;
    linker.func_wrap(module, "fd_pread", |_: i32, _: i32, _: i32, _: i64, _: i32| NOSYS)?;
    linker.func_wrap(module, "fd_prestat_get", |_: i32, _: i32| BADF)?;
    linker.func_wrap(module, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| NOSYS)?;
    linker.func_wrap(
        module,
        "fd_pwrite",
        |caller: Call<'_>, fd: u32, parts: u32, count: u32, _: i64, written: u32| {
            fd_write(caller, fd, parts, count, written)
        },
    )?;
    linker.func_wrap(module, "fd_read", |_: i32, _: i32, _: i32, _: i32| NOSYS)?;
    linker.func_wrap(module, "fd_readdir", |_: i32, _: i32, _: i32, _: i64, _: i32| NOTDIR)?;
    linker.func_wrap(module, "fd_renumber", |fd: u32, to: u32| {
        if output(fd) == SUCCESS && output(to) == SUCCESS { NOTSUP } else { BADF }
    })?;
    linker.func_wrap(module, "fd_seek", |_: i32, _: i64, _: i32, _: i32| SUCCESS)?;
    linker.func_wrap(module, "fd_sync", output)?;
    linker.func_wrap(module, "fd_tell", |_: i32, _: i32| BADF)?;
    Ok(())
}

/// Adds functions for paths and sockets: there are none.
fn add_paths_and_sockets(linker: &mut Linker<HostState>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "path_open",
        |_: i32, _: i32, _: i32, _: i32, _: i32, _: i64, _: i64, _: i32, _: i32| NOENT,
    )?;
    linker.func_wrap(module, "path_create_directory", |_: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_filestat_get", |_: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_filestat_set_times", |_: i32, _: i32, _: i32, _: i32, _: i64, _: i64, _: i32| {
        NOTSUP
    })?;
    linker.func_wrap(module, "path_link", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_readlink", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_remove_directory", |_: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_rename", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_symlink", |_: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "path_unlink_file", |_: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "sock_accept", |_: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "sock_recv", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "sock_send", |_: i32, _: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(module, "sock_shutdown", |_: i32, _: i32| NOTSUP)?;
    Ok(())
}

/// Answers for stdout and stderr; other files are not open.
fn output(fd: u32) -> u32 {
    if fd == 1 || fd == 2 { SUCCESS } else { BADF }
}

/// Returns at once with no event: the start of Go's runtime needs it.
fn poll_oneoff(mut caller: Call<'_>, _subscriptions: u32, _events: u32, _count: u32, events_at: u32) -> Answer {
    errno(Guest::initializing(&mut caller).write_u32(events_at, 0))
}

fn fd_write(mut caller: Call<'_>, fd: u32, vectors: u32, count: u32, written_at: u32) -> Answer {
    let level = match fd {
        1 => log::Level::Info,
        2 => log::Level::Error,
        _ => return Ok(BADF),
    };
    if count > MAX_PARTS {
        return Ok(INVAL);
    }
    let mut guest = Guest::initializing(&mut caller);
    errno((|| {
        let mut text = Vec::new();
        for index in 0..count {
            let vector = guest.read(vectors.saturating_add(index.saturating_mul(8)), 8)?;
            if let Some(([a, b, c, d], rest)) = vector.split_first_chunk::<4>()
                && let Some(([e, f, g, h], _)) = rest.split_first_chunk::<4>()
            {
                let (pointer, length) = (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]));
                if text.len().saturating_add(length as usize) > MAX_WRITTEN {
                    return Err(Status::BadArgument.into());
                }
                text.extend_from_slice(&guest.read(pointer, length)?);
            }
        }
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        if !text.is_empty() {
            super::log_line(guest.state(), level, line);
        }
        guest.write_u32(written_at, length)
    })())
}

fn environ_get(mut caller: Call<'_>, mut pointers: u32, mut buffer: u32) -> Answer {
    let mut guest = Guest::initializing(&mut caller);
    errno((|| {
        for (key, value) in guest.state().environment.clone() {
            guest.write_u32(pointers, buffer)?;
            let entry = format!("{key}={value}\0");
            guest.write(buffer, entry.as_bytes())?;
            buffer = buffer.saturating_add(u32::try_from(entry.len()).unwrap_or(u32::MAX));
            pointers = pointers.saturating_add(4);
        }
        Ok(())
    })())
}

fn environ_sizes_get(mut caller: Call<'_>, count_at: u32, size_at: u32) -> Answer {
    let mut guest = Guest::initializing(&mut caller);
    errno((|| {
        let environment = &guest.state().environment;
        let count = environment.len();
        let size: usize = environment.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        guest.write_u32(count_at, u32::try_from(count).unwrap_or(u32::MAX))?;
        guest.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))
    })())
}

fn args_sizes_get(mut caller: Call<'_>, count_at: u32, size_at: u32) -> Answer {
    let mut guest = Guest::initializing(&mut caller);
    errno(guest.write_u32(count_at, 0).and_then(|()| guest.write_u32(size_at, 0)))
}

fn clock_time_get(mut caller: Call<'_>, clock: u32, _precision: i64, time_at: u32) -> Answer {
    let nanos = match clock {
        0 => realtime(),
        1 => u64::try_from(caller.data().monotonic_zero.elapsed().as_nanos()).unwrap_or(u64::MAX),
        _ => return Ok(NOTSUP),
    };
    errno(Guest::initializing(&mut caller).write_u64(time_at, nanos))
}

fn clock_res_get(mut caller: Call<'_>, clock: u32, resolution_at: u32) -> Answer {
    if clock > 1 {
        return Ok(NOTSUP);
    }
    errno(Guest::initializing(&mut caller).write_u64(resolution_at, 1))
}

fn random_get(mut caller: Call<'_>, buffer: u32, length: u32) -> Answer {
    if length > MAX_RANDOM {
        return Ok(INVAL);
    }
    let mut bytes = vec![0; length as usize];
    if getrandom::fill(&mut bytes).is_err() {
        return Ok(IO);
    }
    errno(Guest::initializing(&mut caller).write(buffer, &bytes))
}

fn fd_fdstat_get(mut caller: Call<'_>, fd: u32, stat_at: u32) -> Answer {
    if fd != 1 && fd != 2 {
        return Ok(BADF);
    }
    // `fs_rights_base`: `fd_write` only.
    let mut stat = [0; 24];
    stat[8] = 64;
    errno(Guest::initializing(&mut caller).write(stat_at, &stat))
}

/// Returns the time in nanoseconds since 1970.
pub(super) fn realtime() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn errno(result: Result<(), Fault>) -> Answer {
    match result {
        Ok(()) => Ok(SUCCESS),
        Err(Fault::Status(Status::BadArgument)) => Ok(INVAL),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}

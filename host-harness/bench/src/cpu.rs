//! CPU time and memory of processes, read from Linux's `/proc`.

use std::{fs, time::Duration};

/// CPU time that all threads of a process have used; `None` if there is no process with this id.
///
/// Read from each thread's `schedstat`, in nanoseconds, if the kernel has it; otherwise from the process's `stat` (user
/// and system time, in ticks of 10 ms). The `schedstat` of a thread disappears when the thread ends; the measured
/// servers do not end threads.
pub(super) fn of(process: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let nanos = threads.map(|thread| nanos(&fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?)).sum();
    match nanos {
        Some(nanos) => Some(Duration::from_nanos(nanos)),
        None => ticks(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?).map(|it| it * 10).map(millis),
    }
}

/// Resident memory of a process, in bytes.
pub(super) fn resident(process: u32) -> Option<u64> {
    resident_bytes(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The first field of `schedstat`: time spent on a CPU, in nanoseconds.
fn nanos(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime` plus `stime` of `stat`, its 14th and 15th fields, see proc(5). The second field is a name in parentheses,
/// which may contain spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_user_and_system_time_even_with_parentheses_in_the_name() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 250 31 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("7"), None);
    }

    #[test]
    fn a_process_that_works_costs_more_than_it_did() {
        let own = std::process::id();
        let (before, started) = (of(own).unwrap(), std::time::Instant::now());
        let mut waste = 0_u64;
        while of(own).unwrap() < before + Duration::from_millis(20) {
            waste = std::hint::black_box(waste.wrapping_mul(31).wrapping_add(1));
            assert!(started.elapsed() < Duration::from_secs(30));
        }
        assert!(resident(own).unwrap() > 100_000);
        assert_eq!(nanos("186238797 12460331 409"), Some(186_238_797));
    }
}

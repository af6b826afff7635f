//! libfaketime: a library that shifts the clock of a process, such as a Redis, while the process runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{ProvisionError, command, tools, wheel::Wheel};

const WHEEL: Wheel = Wheel {
    requirement: "libfaketime==3.0.1",
    built_for: &[],
    member: "libfaketime/vendor/libfaketime/src/libfaketime.so.1",
};

/// A clock that is shifted while its process runs. The process needs [`ShiftedClock::env`].
#[derive(Debug, Clone)]
pub struct ShiftedClock {
    library: PathBuf,
    file: PathBuf,
}

impl ShiftedClock {
    /// Creates a clock with the right time, whose shift is kept in a file of `folder`.
    ///
    /// # Errors
    /// If the library cannot be fetched, or the file cannot be written.
    pub fn new(folder: &Path) -> Result<Self, ProvisionError> {
        let file = folder.join("clock");
        let clock = Self { library: library()?, file };
        clock.shift(0).map_err(ProvisionError::io(&clock.file))?;
        Ok(clock)
    }

    /// Sets the clock to this many seconds after (before, if negative) the right time. Monotonic clocks do not move.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn shift(&self, seconds: i64) -> io::Result<()> {
        // In one step: the process reads the file whenever it asks for the time.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n"))?;
        fs::rename(next, &self.file)
    }

    /// Environment variables of the process.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", path(&self.file)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// The path of the library, fetched if there is none.
fn library() -> Result<PathBuf, ProvisionError> {
    tools::executable("libfaketime.so.1", |dir| {
        crate::announce(format_args!("weir: fetching libfaketime into target/tools"));
        let fetched = WHEEL.fetch(dir).and_then(|path| loads(&path).map(|()| path));
        fetched.map_err(|why| ProvisionError::Missing {
            what: "libfaketime",
            why: why.to_string(),
            try_command: format!("python3 -m pip download --no-deps {}", WHEEL.requirement),
        })
    })
}

/// Checks that the library loads here: the dynamic linker warns of one that it cannot load, and goes on.
fn loads(library: &Path) -> Result<(), ProvisionError> {
    let mut probe = std::process::Command::new("sh");
    probe.args(["-c", "test -z \"$(LD_PRELOAD=\"$0\" true 2>&1)\""]).arg(library);
    command::run(&mut probe).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkout, or_skip,
        redis::{RedisOptions, RedisServer},
    };

    #[test]
    fn the_clock_of_a_running_redis_is_shifted_back_and_forth() {
        let folder = checkout::scratch_dir("clock").unwrap();
        let Some(clock) = or_skip(ShiftedClock::new(folder.path())) else { return };
        let options = RedisOptions { env: clock.env(), ..Default::default() };
        let Some(redis) = or_skip(RedisServer::start(options)) else { return };
        let mut connection = ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        for shift in [0, 3_600, -3_600] {
            clock.shift(shift).unwrap();
            let now = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
            let before = now();
            let (seconds, _): (i64, i64) = ::redis::cmd("TIME").query(&mut connection).unwrap();
            let off = before - 2..=now() + 2;
            assert!(off.contains(&(seconds - shift)), "{shift}: found {seconds}, expected {off:?} and that");
        }
    }
}

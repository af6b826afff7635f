//! Virtual clock: the wall clock of a process, such as a Redis, that shows what a file says, or is ahead by it.

use std::{
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command};

/// Library that is loaded before the process' own: it is compiled for each folder, which takes a tenth of a second.
const SOURCE: &str = include_str!("virtual_clock.c");

/// Clock of processes with the environment [`VirtualClock::env`]. It shows the right time until it is set.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    library: PathBuf,
    file: PathBuf,
}

impl VirtualClock {
    /// Compiles the library in a folder, and creates the clock's file there.
    ///
    /// # Errors
    /// If there is no C compiler, or a file cannot be written.
    pub fn new(folder: &Path) -> Result<Self, ProvisionError> {
        let (source, library) = (folder.join("virtual_clock.c"), folder.join("virtual_clock.so"));
        fs::write(&source, SOURCE).map_err(ProvisionError::io(&source))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]);
        command::run(&mut compiler).map_err(|why| ProvisionError::Missing {
            what: "C compiler",
            why: why.to_string(),
            try_command: "apt-get install gcc libc6-dev".to_owned(),
        })?;
        let file = folder.join("clock");
        fs::write(&file, [0; 16]).map_err(ProvisionError::io(&file))?;
        Ok(Self { library, file })
    }

    /// File of the clock: microseconds since 1970, as eight bytes in the machine's order; if they are 0, those by which
    /// the clock is ahead of the right time, in another eight.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Sets the clock to a number of microseconds since 1970, or to the right time by 0. Monotonic clocks do not move.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, micros: u64) -> io::Result<()> {
        self.write(micros.to_ne_bytes(), 0)
    }

    /// Sets a clock that goes on this many seconds after (before, if negative) the right time.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn shift(&self, seconds: i64) -> io::Result<()> {
        self.write(seconds.saturating_mul(1_000_000).to_ne_bytes(), 8)
    }

    fn write(&self, number: [u8; 8], offset: u64) -> io::Result<()> {
        fs::File::options().write(true).open(&self.file)?.write_all_at(&number, offset)
    }

    /// Environment variables of the process.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        [("LD_PRELOAD", path(&self.library)), ("VIRTUAL_CLOCK", path(&self.file))]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkout, or_skip,
        redis::{RedisOptions, RedisServer},
    };

    #[test]
    fn a_redis_shows_the_time_that_is_set_and_its_keys_expire_by_it() {
        let folder = checkout::scratch_dir("clock").unwrap();
        let Some(clock) = or_skip(VirtualClock::new(folder.path())) else { return };
        let options = RedisOptions { env: clock.env(), ..Default::default() };
        let Some(redis) = or_skip(RedisServer::start(options)) else { return };
        let mut connection = ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let mut at = |micros: u64, words: &[&str]| -> ::redis::Value {
            clock.set(micros).unwrap();
            let mut command = ::redis::Cmd::new();
            words.iter().for_each(|word| _ = command.arg(*word));
            command.query(&mut connection).unwrap()
        };
        let text = |text: &str| ::redis::Value::BulkString(text.into());
        let start = 1_800_000_000_123_456;
        let time = ::redis::Value::Array(vec![text("1800000000"), text("123456")]);
        assert_eq!(at(start, &["TIME"]), time);
        assert_eq!(at(start, &["EVAL", "return redis.call('TIME')", "0"]), time);
        at(start, &["SET", "k", "v", "PX", "1000"]);
        assert_eq!(at(start + 999_000, &["GET", "k"]), text("v"));
        assert_eq!(at(start + 1_001_000, &["GET", "k"]), ::redis::Value::Nil);
        assert_eq!(at(start - 1, &["TIME"]), ::redis::Value::Array(vec![text("1800000000"), text("123455")]));
    }

    #[test]
    fn a_running_clock_is_shifted_back_and_forth() {
        let folder = checkout::scratch_dir("clock").unwrap();
        let Some(clock) = or_skip(VirtualClock::new(folder.path())) else { return };
        let options = RedisOptions { env: clock.env(), ..Default::default() };
        let Some(redis) = or_skip(RedisServer::start(options)) else { return };
        let mut connection = ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let mut last = 0;
        for shift in [0, 3_600, -3_600] {
            clock.shift(shift).unwrap();
            let now = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
            let before = now();
            let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query(&mut connection).unwrap();
            // Redis reads the clock once for each turn of its loop.
            let off = before - 2_000_000..=now() + 2_000_000;
            let shown = seconds * 1_000_000 + micros - shift * 1_000_000;
            assert!(off.contains(&shown), "{shift}: found {shown}, expected {off:?}");
            assert!(shown > last, "the clock goes on");
            last = shown;
        }
    }
}

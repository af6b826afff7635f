//! Real Redis on a virtual clock: the commands of a simulation run on it, and on the specification of the scripts.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use weir_filter::overrides::{SET_SCRIPT, override_key};
use weir_filter::redis::Reply;
use weir_filter::redis::resp::{Decoder, encode_command};
use weir_filter::units::Micros;

/// Time after which a Redis without an answer is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Hash of the overrides of whole limits.
pub(crate) const OVERRIDES: &[u8] = b"weir:overrides";

/// Connection to a real Redis whose clock a file sets. The Redis belongs to the simulation: all its data is deleted.
#[derive(Debug)]
pub struct RealRedis {
    connection: TcpStream,
    decoder: Decoder,
    clock: File,
}

/// Keys with their values, as `DUMP` has them, and with their ends: milliseconds since 1970, 0 for none.
pub(crate) type Copy = Vec<(Vec<u8>, Vec<u8>, u64)>;

impl RealRedis {
    /// Connects to a Redis whose clock shows the eight bytes at the beginning of `clock`, little endian: microseconds
    /// since 1970.
    ///
    /// # Errors
    /// If Redis cannot be reached, or the file cannot be opened.
    pub fn connect(address: SocketAddr, clock: &Path) -> io::Result<Self> {
        let connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let clock = File::options().write(true).open(clock)?;
        Ok(Self { connection, decoder: Decoder::new(), clock })
    }

    /// Runs a command at `now` by Redis' clock. A Redis that does not answer replies with an error of its own.
    pub(crate) fn run(&mut self, now: Micros, command: &[impl AsRef<[u8]>]) -> Reply {
        let broken = |error: io::Error| Reply::Error(format!("ERR no reply of the real Redis: {error}").into_bytes());
        self.try_run(now, command).unwrap_or_else(broken)
    }

    fn try_run(&mut self, now: Micros, command: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.clock.write_all_at(&now.0.to_le_bytes(), 0)?;
        let mut bytes = Vec::new();
        encode_command(&mut bytes, command);
        self.connection.write_all(&bytes)?;
        let mut piece = [0; 16_384];
        loop {
            match self.decoder.next_reply() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            match self.connection.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                size => self.decoder.push(&piece[..size]),
            }
        }
    }

    /// Deletes all keys, as a fresh Redis has none; and all scripts.
    pub(crate) fn clear(&mut self, now: Micros) -> [Reply; 2] {
        [self.run(now, &["FLUSHALL"]), self.run(now, &["SCRIPT", "FLUSH"])]
    }

    /// Copies all keys, as a replica has them.
    pub(crate) fn copy(&mut self, now: Micros) -> Copy {
        let Reply::Array(keys) = self.run(now, &["KEYS", "*"]) else { return Copy::new() };
        let mut copy = Copy::new();
        for key in keys {
            let Reply::Bulk(key) = key else { continue };
            let left = match self.run(now, &[b"PTTL", key.as_slice()]) {
                Reply::Integer(millis) => u64::try_from(millis).ok(),
                _ => None,
            };
            let ends = left.map_or(0, |left| now.0 / 1_000 + left);
            if let Reply::Bulk(value) = self.run(now, &[b"DUMP", key.as_slice()]) {
                copy.push((key, value, ends));
            }
        }
        copy
    }

    /// Replaces all keys by those of a copy.
    pub(crate) fn restore(&mut self, now: Micros, copy: &Copy) {
        self.run(now, &["FLUSHALL"]);
        for (key, value, ends) in copy {
            let ends = ends.to_string();
            self.run(now, &[b"RESTORE".as_slice(), key, ends.as_bytes(), value, b"ABSTTL"]);
        }
    }

    /// Sets the override of a whole limit, or removes it.
    pub(crate) fn override_limit(&mut self, now: Micros, limit: &[u8], text: Option<&[u8]>) {
        match text {
            Some(text) => self.run(now, &[b"HSET".as_slice(), OVERRIDES, limit, text]),
            None => self.run(now, &[b"HDEL".as_slice(), OVERRIDES, limit]),
        };
    }

    /// Sets the override of the key whose buckets begin with `bucket`, or removes it, as `weir limits set` does.
    pub(crate) fn override_key(&mut self, now: Micros, bucket: &[u8], text: Option<&[u8]>) {
        let own = override_key(bucket);
        let field = bucket.strip_prefix(b"weir:").unwrap_or(bucket);
        let [script, text] = [SET_SCRIPT.as_bytes(), text.unwrap_or_default()];
        self.run(now, &[b"EVAL".as_slice(), script, b"3", bucket, &own, OVERRIDES, text, b"0", field]);
    }
}

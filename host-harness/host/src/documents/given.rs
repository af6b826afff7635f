//! Files and pipes that a command line names: read to a bound, since a pipe may have no end.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Name of standard input on the command line.
pub(super) const STDIN: &str = "-";
/// Largest configuration, in MiB.
const MAX_MIB: u64 = 64;

/// Reads a configuration of at most 64 MiB; see [`read_at_most`].
///
/// # Errors
/// As of [`read_at_most`].
pub fn read_given(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_MIB << 20)
}

/// Reads a regular file, a pipe, or standard input, for `-`. Of devices, only terminals are read.
///
/// # Errors
/// If the file cannot be read, has more than `most` bytes ([`io::ErrorKind::FileTooLarge`]), or is another device.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if path.as_os_str() == STDIN {
        return bounded(io::stdin().lock(), most);
    }
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket"));
    }
    let file = File::open(path)?;
    if kind.is_block_device() || kind.is_char_device() && !file.is_terminal() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device"));
    }
    bounded(file, most)
}

fn bounded(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    let most = if most.is_multiple_of(1 << 20) { format!("{} MiB", most >> 20) } else { format!("{most} bytes") };
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_pipes_are_read_up_to_a_bound_and_devices_are_not() {
        let read = |path: &str, most| read_at_most(Path::new(path), most).map_err(|error| error.to_string());
        assert!(read("Cargo.toml", 1 << 20).is_ok_and(|bytes| bytes.starts_with(b"[package]")));
        assert_eq!(read("Cargo.toml", 7), Err("more than 7 bytes".to_owned()));
        assert_eq!(read("/dev/zero", 1 << 20), Err("a device".to_owned()));
        assert!(read("src", 1 << 20).is_err() && read("none", 1 << 20).is_err());
        assert_eq!(bounded(io::repeat(0), 1 << 20).map_err(|it| it.to_string()), Err("more than 1 MiB".to_owned()));
        assert!(bounded(&[0; 9][..], 9).is_ok());
    }
}

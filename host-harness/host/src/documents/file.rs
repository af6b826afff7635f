//! Reader of files that other files name: each has a bound, and none is a device or a pipe, which may have no end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Maximum length of a file of documents or keys in bytes: 64 MiB.
const MAX_DOCUMENTS: u64 = 64 * MIB;
/// Maximum length of a wasm module in bytes: 256 MiB.
const MAX_MODULE: u64 = 256 * MIB;
const MIB: u64 = 1024 * 1024;

/// Reads a regular file of at most 64 MiB. Devices and pipes, which may have no end, are refused.
///
/// # Errors
/// If the file cannot be read, is no regular file, or is longer.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_DOCUMENTS)
}

/// Reads a wasm module: a regular file of at most 256 MiB.
///
/// # Errors
/// If the file cannot be read, is no regular file, or is longer.
pub fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_MODULE)
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(invalid("a folder, expected a file".to_owned()));
    }
    if !metadata.is_file() {
        return Err(invalid("a device or a pipe, expected a regular file".to_owned()));
    }
    if metadata.len() > most {
        return Err(too_long(&format!("{} bytes", metadata.len()), most));
    }
    read_to_end(File::open(path)?, most)
}

/// Reads at most a number of bytes.
///
/// # Errors
/// If reading fails, or there are more.
fn read_to_end(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long("more", most)) } else { Ok(bytes) }
}

fn too_long(found: &str, most: u64) -> io::Error {
    invalid(format!("expected at most {} MiB, found {found}", most / MIB))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(read: io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_a_pipe_and_a_folder_are_no_files() {
        let files = tempfile::tempdir().unwrap();
        let pipe = files.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let special = Err("a device or a pipe, expected a regular file".to_owned());
        for path in [Path::new("/dev/zero"), &pipe] {
            assert_eq!(text(read_regular(path)), special, "it may have no end");
            assert_eq!(text(read_module(path)), special);
        }
        assert_eq!(text(read_regular(files.path())), Err("a folder, expected a file".to_owned()));
        assert!(read_regular(Path::new("Cargo.toml")).is_ok_and(|bytes| bytes.starts_with(b"[package]")));
    }

    #[test]
    fn a_file_has_a_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A file with a hole takes no space.
        file.as_file().set_len(MAX_MODULE + 1).unwrap();
        let long = text(read_module(file.path()));
        assert_eq!(long, Err("expected at most 256 MiB, found 268435457 bytes".to_owned()));
        file.as_file().set_len(MAX_DOCUMENTS + 1).unwrap();
        assert_eq!(text(read_regular(file.path())), Err("expected at most 64 MiB, found 67108865 bytes".to_owned()));
        assert_eq!(text(read_to_end(io::repeat(0), MIB)), Err("expected at most 1 MiB, found more".to_owned()));
        assert_eq!(text(read_to_end(&[1, 2][..], 2)), Ok(vec![1, 2]));
    }
}

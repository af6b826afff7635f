//! Tar archives (POSIX ustar) of files that belong to root and have no time.

const BLOCK: usize = 512;

/// Returns the archive of these files: path of at most 100 bytes, mode and contents.
pub(super) fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, mode, contents) in files {
        archive.extend(header(path, *mode, contents.len()));
        archive.extend_from_slice(contents);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end an archive.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(path: &str, mode: u32, size: usize) -> Vec<u8> {
    let before = [field(path, 100), octal(mode as usize, 8), octal(0, 8), octal(0, 8), octal(size, 12), octal(0, 12)];
    let behind = [field("0", 1), field("", 100), field("ustar\x0000", 8), field("", 64), octal(0, 8), octal(0, 8)];
    let of = |checksum: Vec<u8>| {
        let mut block = [before.concat(), checksum, behind.concat()].concat();
        block.resize(BLOCK, 0);
        block
    };
    // The checksum counts its own field as blanks.
    let sum: usize = of(vec![b' '; 8]).iter().map(|byte| usize::from(*byte)).sum();
    of(field(&format!("{sum:06o}\0 "), 8))
}

fn field(text: &str, width: usize) -> Vec<u8> {
    let mut field = text.as_bytes().to_vec();
    field.resize(width, 0);
    field
}

fn octal(number: usize, width: usize) -> Vec<u8> {
    field(&format!("{number:0digits$o}", digits = width - 1), width)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_lists_and_unpacks_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tar");
        std::fs::write(&file, archive(&[("weir", 0o755, b"abc"), ("plugin.wasm", 0o644, &[7; 1_000])])).unwrap();
        let tar = |options: &[&str]| {
            let output = Command::new("tar").current_dir(folder.path()).args(options).arg("-f").arg(&file).output();
            let output = output.unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let listed = tar(&["-tv", "--utc", "--numeric-owner"]);
        let expected = "-rwxr-xr-x 0/0               3 1970-01-01 00:00 weir\n\
                        -rw-r--r-- 0/0            1000 1970-01-01 00:00 plugin.wasm\n";
        assert_eq!(listed, expected);
        tar(&["-x"]);
        assert_eq!(std::fs::read(folder.path().join("plugin.wasm")).unwrap(), [7; 1_000]);
    }
}

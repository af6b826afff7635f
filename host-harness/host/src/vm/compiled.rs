//! Folder of compiled modules: wasmtime's machine code, so that a module is compiled once for each kind of engine.
//!
//! A file's name is the hash of the module and of everything in the engine that the machine code depends on. Its content
//! is the hash of the machine code, then the machine code. A file or folder that cannot be used is no error: the module
//! is compiled.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use crate::log_lines::printable;

/// Maximum number of files in the folder; the oldest are removed.
const MAX_FILES: usize = 16;

/// Reads a module's machine code from `folder`; if it is not there, compiles the module and writes it.
///
/// # Errors
/// If `bytes` are not a module that wasmtime accepts.
pub(super) fn module(engine: &Engine, bytes: &[u8], folder: &Path) -> wasmtime::Result<Module> {
    let file = folder.join(file_name(engine, bytes));
    if let Some(module) = read(engine, &file) {
        return Ok(module);
    }
    let module = Module::new(engine, bytes)?;
    if let Err(why) = module.serialize().map_err(io::Error::other).and_then(|code| write(&file, &code)) {
        log::debug!(target: "wasm", "{}: not written: {why}", printable(&file.display().to_string()));
    }
    Ok(module)
}

fn file_name(engine: &Engine, bytes: &[u8]) -> String {
    let mut compatibility = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    let mut context = Sha256::new();
    context.update(compatibility.finish().to_le_bytes());
    context.update(bytes);
    context.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(engine: &Engine, file: &Path) -> Option<Module> {
    let stored = fs::read(file).ok()?;
    let (hash, code) = stored.split_at_checked(Sha256::output_size())?;
    if Sha256::digest(code).as_slice() != hash {
        return None;
    }
    #[expect(unsafe_code, reason = "wasmtime has no safe way to load machine code")]
    // SAFETY: `deserialize` requires the output of `Module::serialize`, unchanged. Only `write` makes files of this name,
    // the hash shows that the file is complete, and wasmtime refuses the output of another version or engine. Whoever can
    // write to the folder, which is in cargo's target folder, can replace this program as well.
    let module = unsafe { Module::deserialize(engine, code) };
    module.ok()
}

/// Writes the file under another name and renames it, so that no process reads a part of it.
fn write(file: &Path, code: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let Some(folder) = file.parent() else { return Ok(()) };
    fs::create_dir_all(folder)?;
    let nth = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let part = file.with_extension(format!("{}-{nth}", std::process::id()));
    fs::write(&part, [Sha256::digest(code).as_slice(), code].concat())?;
    fs::rename(&part, file)?;
    remove_oldest(folder)
}

fn remove_oldest(folder: &Path) -> io::Result<()> {
    let dated = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(folder)?.flatten().filter_map(dated).collect();
    files.sort();
    let surplus = files.len().saturating_sub(MAX_FILES);
    files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporting(name: &str) -> Vec<u8> {
        wat::parse_str(format!(r#"(module (func (export "{name}")))"#)).unwrap()
    }

    fn exports(module: &Module) -> Vec<&str> {
        module.exports().map(|export| export.name()).collect()
    }

    #[test]
    fn a_module_is_read_where_it_was_compiled_before() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let (first, other) = (exporting("first"), exporting("other"));
        assert_eq!(exports(&module(&engine, &first, folder.path()).unwrap()), ["first"]);
        let stored = fs::read(folder.path().join(file_name(&engine, &first))).unwrap();
        // Only a module that is read, and not compiled, can be another than its bytes.
        fs::write(folder.path().join(file_name(&engine, &other)), stored).unwrap();
        assert_eq!(exports(&module(&engine, &other, folder.path()).unwrap()), ["first"]);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let (folder, engine, bytes) = (tempfile::tempdir().unwrap(), Engine::default(), exporting("it"));
        module(&engine, &bytes, folder.path()).unwrap();
        let file = folder.path().join(file_name(&engine, &bytes));
        let good = fs::read(&file).unwrap();
        let inverted: Vec<u8> = good.iter().map(|byte| !byte).collect();
        for damaged in [&good[..good.len() / 2], &[], &inverted] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(exports(&module(&engine, &bytes, folder.path()).unwrap()), ["it"]);
            assert_eq!(fs::read(&file).unwrap(), good);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let module = module(&Engine::default(), &exporting("it"), &file.path().join("folder")).unwrap();
        assert_eq!(exports(&module), ["it"]);
    }

    #[test]
    fn engines_that_compile_differently_have_files_of_their_own() {
        let (folder, bytes) = (tempfile::tempdir().unwrap(), exporting("it"));
        let mut counting = wasmtime::Config::new();
        counting.consume_fuel(true);
        for engine in [Engine::default(), Engine::new(&counting).unwrap(), Engine::default()] {
            module(&engine, &bytes, folder.path()).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_oldest_files_are_removed() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        for nth in 0..=MAX_FILES {
            module(&engine, &exporting(&nth.to_string()), folder.path()).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), MAX_FILES);
    }
}

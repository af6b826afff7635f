//! `rust-library.sh` without a build of a library: what it refuses, and that it leaves a complete toolchain alone.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use weir_provision::{or_skip, wasm_target};

const MUSL: &str = "x86_64-unknown-linux-musl";

/// The script's exit code and what it wrote.
struct Ended {
    code: Option<i32>,
    wrote: String,
}

fn provision(target: &str, work: &Path, set: impl FnOnce(&mut Command)) -> Ended {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("rust-library.sh"));
    set(script.args([target]).arg(work));
    let ended = script.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "");
    Ended { code: ended.status.code(), wrote: String::from_utf8(ended.stderr).unwrap() }
}

/// A compiler whose toolchain has the libraries of no target.
fn bare_rustc(folder: &TempDir) -> PathBuf {
    let sysroot = folder.path().join("toolchain");
    fs::create_dir_all(sysroot.join("lib/rustlib")).unwrap();
    let rustc = folder.path().join("rustc");
    let sysroot = sysroot.display();
    fs::write(&rustc, format!("#!/bin/sh\n[ \"$1\" = --print ] && echo '{sysroot}' || exec rustc \"$@\"\n")).unwrap();
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
    rustc
}

#[test]
fn an_unknown_target_is_refused_with_those_that_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    let ended = provision("m68k-unknown-none", &work, |_| ());
    assert_eq!(ended.code, Some(1));
    let expected = format!(
        "m68k-unknown-none: expected one of {} {MUSL}; try: rustup target add m68k-unknown-none\n",
        wasm_target::TARGET
    );
    assert_eq!(ended.wrote, expected);
    assert!(!work.exists());
}

/// Even if there is no archive.
#[test]
fn a_toolchain_with_the_library_is_left_alone() {
    if or_skip(wasm_target::ensure()).is_none() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let ended = provision(wasm_target::TARGET, work.path(), |script| {
        script.env("WEIR_APT_DIR", work.path());
    });
    assert_eq!(ended.code, Some(0), "{}", ended.wrote);
    assert!(ended.wrote.starts_with("wasm32-wasip1: already in /"), "{}", ended.wrote);
    assert_eq!(ended.wrote.lines().count(), 1, "{}", ended.wrote);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
}

#[test]
fn without_an_archive_the_error_names_where_one_was_looked_for() {
    for target in [wasm_target::TARGET, MUSL] {
        let folder = tempfile::tempdir().unwrap();
        let (work, rustc) = (folder.path().join("work"), bare_rustc(&folder));
        let ended = provision(target, &work, |script| {
            script.env("RUSTC", rustc).env("WEIR_APT_DIR", folder.path());
        });
        let expected = format!(
            "{target}: no Debian archive in {0}/sources.list or {0}/sources.list.d; try: rustup target add {target}\n",
            folder.path().display()
        );
        assert_eq!((ended.code, ended.wrote), (Some(1), expected));
        assert_eq!(fs::read_dir(folder.path().join("toolchain/lib/rustlib")).unwrap().count(), 0);
    }
}

/// An archive without the sources of this compiler: nothing of the toolchain changes.
#[test]
fn without_the_sources_the_error_names_the_suites_that_were_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (work, rustc) = (folder.path().join("work"), bare_rustc(&folder));
    let archive = folder.path().join("archive");
    fs::create_dir(&archive).unwrap();
    fs::write(folder.path().join("sources.list"), format!("deb file:{} empty main\n", archive.display())).unwrap();
    let ended = provision(MUSL, &work, |script| {
        script.env("RUSTC", rustc).env("WEIR_APT_DIR", folder.path());
    });
    assert_eq!(ended.code, Some(1));
    assert!(ended.wrote.contains(": no archive this machine uses has rust-src 1."), "{}", ended.wrote);
    assert!(ended.wrote.contains("experimental empty); try: rustup target add"), "{}", ended.wrote);
    assert_eq!(fs::read_dir(folder.path().join("toolchain/lib/rustlib")).unwrap().count(), 0);
}

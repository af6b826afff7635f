//! Packages of Debian, unpacked below `target/tools`: nothing is installed, and no root is needed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command, tools};

/// Keys of Debian's archive, which the package `debian-archive-keyring` has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches packages with apt and unpacks them into the folder `place`.
pub(super) fn unpack(packages: &[&str], place: &Path) -> Result<(), ProvisionError> {
    unpack_by(&mut Command::new("apt-get"), packages, place)
}

/// Fetches packages of a suite such as `trixie` and unpacks them into the folder `place`.
///
/// The packages come from the mirror that the system's apt uses, with lists of their own. apt checks the signature of
/// the suite and the hashes of its packages.
pub(super) fn unpack_of(suite: &str, packages: &[&str], place: &Path) -> Result<(), ProvisionError> {
    let name = format!("apt-{suite}");
    let _lock = tools::lock(&name)?;
    let state = tools::dir()?.join(name);
    let lists = state.join("lists/partial");
    std::fs::create_dir_all(&lists).map_err(ProvisionError::io(&lists))?;
    let sources = state.join("sources.list");
    let written = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
    for (file, contents) in [(&sources, written.as_str()), (&state.join("status"), "")] {
        std::fs::write(file, contents).map_err(ProvisionError::io(file))?;
    }
    let apt_get = || {
        let mut apt_get = Command::new("apt-get");
        apt_get.arg("-o").arg(format!("Dir::Etc::SourceList={}", sources.display()));
        apt_get.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Acquire::Languages=none"]);
        for (option, folder) in [("Dir::State", ""), ("Dir::State::status", "status"), ("Dir::Cache", "cache")] {
            apt_get.arg("-o").arg(format!("{option}={}", state.join(folder).display()));
        }
        apt_get
    };
    command::run(apt_get().args(["--quiet", "update"]))?;
    unpack_by(&mut apt_get(), packages, place)
}

/// Fetches packages and all that they depend on and the system lacks, in the versions of the system's own sources, and
/// unpacks them into the folder `place`.
pub(super) fn unpack_with_dependencies(packages: &[&str], place: &Path) -> Result<(), ProvisionError> {
    let _lock = tools::lock("apt-own")?;
    let state = tools::dir()?.join("apt-own");
    let archives = state.join("archives");
    for folder in [state.join("lists/partial"), archives.join("partial"), place.to_path_buf()] {
        std::fs::create_dir_all(&folder).map_err(ProvisionError::io(&folder))?;
    }
    // Lists of its own, always new: of some packages, mirrors have the last version only.
    let apt_get = || {
        let mut apt_get = Command::new("apt-get");
        apt_get.args(["--quiet", "-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Acquire::Languages=none"]);
        apt_get.arg("-o").arg(format!("Dir::State={}", state.display()));
        apt_get.arg("-o").arg(format!("Dir::Cache={}", state.display()));
        apt_get.args(["-o", "Debug::NoLocking=true"]);
        apt_get
    };
    command::run(apt_get().arg("update"))?;
    let install = ["--yes", "--no-install-recommends", "--download-only", "install"];
    command::run(apt_get().args(install).args(packages))?;
    let unpacked = unpack_all(&archives, place);
    // Hundreds of megabytes.
    let _ = std::fs::remove_dir_all(&state);
    unpacked
}

/// Unpacks all packages of a folder.
fn unpack_all(folder: &Path, place: &Path) -> Result<(), ProvisionError> {
    for package in std::fs::read_dir(folder).map_err(ProvisionError::io(folder))? {
        let package = package.map_err(ProvisionError::io(folder))?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg").arg("-x").arg(package).arg(place))?;
        }
    }
    Ok(())
}

/// Fetches packages with this `apt-get`, and unpacks them.
fn unpack_by(apt_get: &mut Command, packages: &[&str], place: &Path) -> Result<(), ProvisionError> {
    std::fs::create_dir_all(place).map_err(ProvisionError::io(place))?;
    let download = tempfile::tempdir_in(place).map_err(ProvisionError::io(place))?;
    command::run(apt_get.current_dir(download.path()).arg("download").args(packages))?;
    unpack_all(download.path(), place)
}

/// URI of the first mirror of Debian in the sources of the system's apt.
fn mirror() -> Result<String, ProvisionError> {
    let mut targets = Command::new("apt-get");
    let uris = command::run(targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    let of_debian = uris.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    of_debian.map(str::to_owned).ok_or_else(|| ProvisionError::Missing {
        what: "mirror of Debian",
        why: "the sources of apt have none".into(),
        try_command: "apt-get indextargets".into(),
    })
}

/// Folders of the shared libraries in unpacked packages.
pub(super) fn libraries(place: &Path) -> Vec<PathBuf> {
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/lib", "lib"].map(|dir| place.join(dir).join(&architecture)).to_vec()
}

/// Writes a script that runs a program with the libraries of unpacked packages. The program and the packages are in the
/// folder that the script is moved to.
pub(super) fn with_libraries(script: &Path, program: &str) -> Result<PathBuf, ProvisionError> {
    with_libraries_in(script, program, &[])
}

/// Writes a script as [`with_libraries`] does, for libraries in these folders below the usual ones as well.
pub(super) fn with_libraries_in(script: &Path, program: &str, folders: &[&str]) -> Result<PathBuf, ProvisionError> {
    let usual = libraries(Path::new("$here"));
    let below = usual.iter().flat_map(|usual| folders.iter().map(|folder| usual.join(folder)));
    let path: Vec<String> = usual.iter().cloned().chain(below).map(|folder| folder.display().to_string()).collect();
    write_script(script, &format!("LD_LIBRARY_PATH=\"{}\" exec \"$here/{program}\"", path.join(":")))
}

/// Writes a script that runs a program of unpacked packages with their libraries, the C library included. The packages
/// are in `place`, the folder that the script is moved to.
pub(super) fn with_loader(script: &Path, place: &Path, program: &str) -> Result<PathBuf, ProvisionError> {
    let loader = loader(place)?;
    let path = search_path();
    write_script(script, &format!("exec \"$here/{loader}\" --library-path \"{path}\" \"$here/{program}\""))
}

/// Path of the dynamic loader in unpacked packages, relative to their folder.
fn loader(place: &Path) -> Result<String, ProvisionError> {
    let found = libraries(place).into_iter().find_map(|libraries| {
        let mut names = libraries.read_dir().ok()?.flatten().filter_map(|file| file.file_name().into_string().ok());
        let loader = libraries.join(names.find(|name| name.starts_with("ld-linux-"))?);
        loader.strip_prefix(place).ok().map(|path| path.display().to_string())
    });
    found.ok_or_else(|| ProvisionError::Missing {
        what: "dynamic loader",
        why: format!("no libc6 in {}", place.display()),
        try_command: "apt-get download libc6".into(),
    })
}

/// Search path of the libraries in the folder of a script.
fn search_path() -> String {
    let folders = libraries(Path::new("$here"));
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":")
}

fn write_script(script: &Path, run: &str) -> Result<PathBuf, ProvisionError> {
    let text = format!("#!/bin/sh\nhere=${{0%/*}}\n{run} \"$@\"\n");
    std::fs::write(script, text).map_err(ProvisionError::io(script))?;
    Ok(script.to_path_buf())
}

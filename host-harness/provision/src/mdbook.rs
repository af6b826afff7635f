//! mdBook, from Debian's packages.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command, debian, tools};

const SUITE: &str = "trixie";
const PACKAGES: [&str; 4] = ["mdbook", "librust-mdbook-dev", "libc6", "libgcc-s1"];
/// Folder of mdBook's sources, followed by the version.
const SOURCES: &str = "usr/share/cargo/registry/mdbook-";
/// Script of the menu and the themes, below [`SOURCES`]. Debian's mdBook does not write it.
const SCRIPT: &str = "src/front-end/js/book.js";

/// Builds the book in the folder `book` into the folder `site`, and returns the messages of mdBook.
///
/// # Errors
/// If the download failed, or mdBook fails.
pub fn build(book: &Path, site: &Path) -> Result<String, ProvisionError> {
    let binary = binary()?;
    let mut mdbook = Command::new("sh");
    // mdBook prints warnings to standard error.
    mdbook.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(&binary);
    let messages = command::run(mdbook.arg("build").arg("--dest-dir").arg(site).arg(book))?;
    let version = command::run(Command::new(&binary).arg("--version"))?;
    let version = version.trim().rsplit('v').next().unwrap_or_default();
    let sources = binary.with_file_name(format!("{SOURCES}{version}"));
    let script = sources.join(SCRIPT);
    std::fs::copy(&script, site.join("book.js")).map_err(ProvisionError::io(&script))?;
    // Pages have the fonts of the machine that shows them.
    let fonts = site.join("fonts");
    std::fs::create_dir_all(&fonts).map_err(ProvisionError::io(&fonts))?;
    std::fs::write(fonts.join("fonts.css"), "").map_err(ProvisionError::io(&fonts))?;
    Ok(messages)
}

fn binary() -> Result<PathBuf, ProvisionError> {
    tools::executable("mdbook/mdbook", |dir| {
        crate::announce(format_args!("weir: fetching mdBook into target/tools"));
        let place = tools::dir()?.join("mdbook");
        let unpacked = debian::unpack_of(SUITE, &PACKAGES, &place);
        let script = unpacked.and_then(|()| debian::with_loader(&dir.join("mdbook"), &place, "usr/bin/mdbook"));
        script.map_err(|why| ProvisionError::Missing {
            what: "mdBook",
            why: why.to_string(),
            try_command: "cargo install --locked mdbook".into(),
        })
    })
}

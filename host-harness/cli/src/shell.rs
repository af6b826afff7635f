//! `weir completion` and `weir man`: scripts and manual pages, from the definition of the command line.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::Shell;

use crate::output::print;

#[derive(Debug, clap::Args)]
pub(super) struct Completion {
    /// Shell that runs the script.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Folder for the pages of all commands, such as ~/.local/share/man/man1; created if it is not there.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub(super) fn complete(arguments: &Completion) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::command(), "weir", &mut script);
    print(String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints weir(1), or writes the pages of all commands into a folder.
pub(super) fn man(arguments: &Man) -> anyhow::Result<ExitCode> {
    match &arguments.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(crate::command()).render(&mut page)?;
            print(String::from_utf8_lossy(&page))?;
        }
        Some(folder) => {
            let write = || fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(crate::command(), folder));
            write().with_context(|| format!("cannot write to {}", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

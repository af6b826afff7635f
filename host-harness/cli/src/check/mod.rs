//! `weir check FILE…`: errors and warnings about Envoy files, as far as wasm and Weir are concerned.
//!
//! Errors are about files that Envoy or the filter refuses, and files with which the limits do not hold. Warnings are
//! about files that work, but may surprise their author. Notes say what could not be checked.
//!
//! | module | contents |
//! |---|---|
//! | `module` | wasm files |
//! | `judge` | all findings about a library |
//! | `rules` | the kinds of findings |
//! | `finding` | a finding with its place |
//! | `output` | text, JSON, and annotations of GitHub |

mod finding;
mod judge;
mod module;
mod output;
mod rules;

use std::path::PathBuf;
use std::process::ExitCode;

use self::finding::Severity;
pub(crate) use self::judge::is_envoys as is_official;
pub(crate) use self::output::Format;
use crate::files::Library;
use crate::output::print_result;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Envoy files such as envoy/quickstart.yaml, in YAML or JSON by the file's name, as for Envoy; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail on warnings, too.
    #[arg(long)]
    strict: bool,
    /// Form of the findings.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Output about a library, in each of these forms.
pub(crate) fn rendered<const N: usize>(library: &Library, formats: [Format; N]) -> [String; N] {
    let (findings, summaries) = judge::judge(library);
    formats.map(|format| output::render(format, &findings, &summaries))
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let library = Library::load(&arguments.files);
    let (findings, summaries) = judge::judge(&library);
    let text = output::render(arguments.format, &findings, &summaries);
    print_result(text)?;
    let least = if arguments.strict { Severity::Warning } else { Severity::Error };
    let fails = findings.iter().any(|finding| finding.severity() <= least);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

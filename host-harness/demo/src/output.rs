//! Standard output and standard error of all commands.
//!
//! A command ends quietly if the reader of its standard output has closed it. Any other failure to write there is an
//! error of the command. Failures to write to standard error are ignored: there is no other place to report to.

use std::fmt::Display;
use std::io::{self, Write};

use weir_host::printable;

/// Failure to write to standard output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader has closed its end, for example `head`.
    #[error("standard output is closed")]
    Closed,
    /// The system's error, for example that the disk is full.
    #[error("cannot write to standard output: {0}")]
    Failed(io::Error),
}

/// Writes a text to standard output.
///
/// # Errors
/// If the text cannot be written.
pub fn print(text: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    Ok(out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush())?)
}

/// Writes the result of a command whose exit code says more than the text: a closed standard output is no error.
///
/// # Errors
/// If the text cannot be written for another reason.
pub fn print_result(text: impl Display) -> Result<(), OutputError> {
    match print(text) {
        Err(OutputError::Closed) => Ok(()),
        done => done,
    }
}

/// Writes a line, or several, to standard error. Control characters in it are escaped.
pub fn note(line: impl Display) {
    let line = line.to_string();
    let _ = Notes.write_all(format!("{}\n", printable::lines(&line)).as_bytes());
}

/// Returns an error's text and those of its causes, each once: many texts contain their cause.
#[must_use]
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut shown = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !shown.contains(&cause) {
            shown = format!("{shown}: {cause}");
        }
    }
    shown
}

/// Whether an error only says that standard output is closed.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OutputError::Closed))
}

/// Standard error whose failures are ignored.
pub struct Notes;

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

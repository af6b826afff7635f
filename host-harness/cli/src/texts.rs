//! Texts in place of files, for tests and fuzzers: what `weir check`, `weir render` and `weir test` make of them.

use std::path::Path;

use crate::check::{self, Format};
use crate::files::Library;
use crate::test::Suite;

/// Output of `weir check` in each of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Lines for people.
    pub text: String,
    /// JSON: one object per line.
    pub json: String,
    /// Workflow commands of GitHub.
    pub github: String,
}

/// Checks bytes as a file of this name. Files that they refer to are read.
#[must_use]
pub fn check(name: &str, bytes: &[u8]) -> Checked {
    let library = Library::of_bytes(name, bytes);
    let [text, json, github] = check::rendered(&library, [Format::Text, Format::Json, Format::Github]);
    Checked { text, json, github }
}

/// Returns the mistakes of a test file, each as a line; none where the file has none.
#[must_use]
pub fn mistakes_in_tests(text: &str) -> Vec<String> {
    let mistakes = Suite::parse(text, Path::new("limits.test.yaml")).err().unwrap_or_default();
    mistakes.iter().map(ToString::to_string).collect()
}

/// Renders a text as `weir render` does; `form` is a name such as `istio`.
///
/// # Errors
/// The mistakes in the text, each as a line, or the name of a form that there is not.
pub fn render(form: &str, text: &str) -> Result<String, Vec<String>> {
    let form = clap::ValueEnum::from_str(form, false).map_err(|why| vec![why])?;
    match crate::render::render(form, "limits.yaml", text) {
        Ok(template) => Ok(template.text()),
        Err(mistakes) => Err(mistakes.iter().map(ToString::to_string).collect()),
    }
}

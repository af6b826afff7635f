//! Environment variables of tests: a test that needs one runs again in a process of its own that has it.

use std::{env, process::Command};

/// Returns whether this process has the variable with this value. If not, runs the test `name` of this file again, in a
/// process that has it.
///
/// # Panics
/// If the test does not pass there.
pub fn has_variable(name: &str, variable: &str, value: &str) -> bool {
    if env::var(variable).is_ok_and(|own| own == value) {
        return true;
    }
    let mut again = Command::new(env::current_exe().expect("the path of this test"));
    let output = again.args(["--exact", name, "--nocapture"]).env(variable, value).output().expect("the test runs");
    let output_text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    print!("{output_text}");
    assert!(output.status.success() && output_text.contains("1 passed"), "{name} with {variable}: {}", output.status);
    false
}

//! Paths of files: none, and paths of resources that Envoy cannot watch.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, quoted};
use crate::files::is_config_source;

/// Finding about a path in a field of this name.
pub(super) fn finding(field: &str, at: &At<'_>) -> Option<Finding> {
    empty(field, at).or_else(|| bare(field, at))
}

/// Finding about a source of bytes whose file or variable has no name. The module of a plugin has a finding of its own.
fn empty(field: &str, at: &At<'_>) -> Option<Finding> {
    let is_name = matches!(field, "filename" | "environment_variable" | "environmentVariable");
    (is_name && at.text() == Some("") && !at.path.ends_with(".code.local.filename")).then(|| {
        let help = "write the name, or remove the field; Envoy refuses an empty one";
        Finding::at(rules::TYPE, at, "a name of a file or of a variable", "an empty string", help)
    })
}

/// Finding about the path of a source in a field of this name. Envoy watches the folder of the path, and does not start
/// with a path that has none.
fn bare(field: &str, at: &At<'_>) -> Option<Finding> {
    let source = match field {
        "path_config_source" | "pathConfigSource" => at.field("watched_directory").is_none().then(|| at.clone()),
        _ => is_config_source(field).then(|| at.clone()),
    };
    let path = source?.field("path")?;
    let name = path.text().filter(|name| !name.is_empty() && !name.contains('/'))?;
    let help = "write ./ before the name; Envoy watches the folder of the file, and refuses a path without one";
    Some(Finding::at(rules::BARE_PATH, &path, "a path with a folder", quoted(name), help))
}

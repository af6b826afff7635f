//! Sources of resources in files: paths that Envoy cannot watch.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, quoted};
use crate::files::is_config_source;

/// Finding about the path of a source in a field of this name. Envoy watches the folder of the path, and does not start
/// with a path that has none.
pub(super) fn finding(field: &str, at: &At<'_>) -> Option<Finding> {
    let source = match field {
        "path_config_source" | "pathConfigSource" => at.field("watched_directory").is_none().then(|| at.clone()),
        _ => is_config_source(field).then(|| at.clone()),
    };
    let path = source?.field("path")?;
    let name = path.text().filter(|name| !name.is_empty() && !name.contains('/'))?;
    let help = "write ./ before the name; Envoy watches the folder of the file, and refuses a path without one";
    Some(Finding::at(rules::BARE_PATH, &path, "a path with a folder", quoted(name), help))
}

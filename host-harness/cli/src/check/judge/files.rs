//! Inventory about files and documents.

use std::collections::HashSet;
use std::io;

use super::keys;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Format, Position, SourceError, quoted};
use crate::files::{File, Inventory, Library, is_alone, is_manifest, references};

pub(super) fn findings(library: &Library) -> Vec<Finding> {
    let mut found = Vec::new();
    let groups = library.groups();
    let bootstraps = groups.iter().filter(|group| group.is_bootstrap && group.mesh.is_none());
    let of_bootstraps: HashSet<&str> = bootstraps.flat_map(|group| group.origins.iter().copied()).collect();
    for file in library.files() {
        found.extend(file.error().and_then(|error| unread(file, error)));
        let whole = of_bootstraps.contains(file.source.origin.as_str());
        found.extend(no_object(file));
        found.extend(misnamed(file).filter(|_| whole));
        found.extend(extra(file));
        found.extend(file.refused_texts().filter_map(|text| Some(broken_text(&text.origin, text.error.as_ref()?))));
        for root in file.documents().iter().map(At::root).filter(|root| !is_manifest(root)) {
            // Keys of a configuration may be misplaced secrets.
            keys::findings(&root, is_alone(&root).then_some(""), &mut found);
            for reference in references(&root) {
                let error = library.file(reference.path).and_then(File::error);
                if let Some(SourceError::Unreadable(error)) = error {
                    let help =
                        "its contents are not checked; run `weir check` where the file is, or check the file alone";
                    let shown = format!("{} ({})", quoted(reference.path), reason(error));
                    found.push(Finding::at(
                        rules::UNREAD_FILE,
                        &reference.at,
                        "a file that can be read here",
                        shown,
                        help,
                    ));
                }
            }
        }
    }
    found
}

/// Filters whose file of extensions does not have them.
pub(super) fn missing_resources(inventory: &Inventory<'_>) -> Vec<Finding> {
    let finding = |(filter, file): &(At<'_>, &str)| {
        let name = quoted(filter.text_of("name"));
        if file.is_empty() {
            let expected = format!("an EnvoyFilter with `applyTo: EXTENSION_CONFIG` and the name {name}");
            let help = "give its file as well, or correct the name; until it is there, the proxy waits for it";
            return Finding::at_field(rules::MISSING_RESOURCE, filter, "name", expected, "none", help);
        }
        let has_default = filter.fields(["config_discovery", "default_config"]).is_some();
        let until = if has_default { "Envoy uses default_config" } else { "Envoy answers requests with 500" };
        let help = format!("give the resource the name of the filter; until then, {until}");
        let expected = format!("a resource TypedExtensionConfig with the name {name} in {file}");
        Finding::at_field(rules::MISSING_RESOURCE, filter, "config_discovery", expected, "none", help)
    };
    inventory.missing.iter().map(finding).collect()
}

/// Clusters of a bootstrap with the name of an earlier one.
pub(super) fn duplicate_clusters(inventory: &Inventory<'_>) -> Vec<Finding> {
    // A cluster from another file gives way to that of the bootstrap.
    let is_static = |at: &At<'_>| at.path.starts_with("static");
    let own: Vec<_> = inventory.clusters.iter().filter(|cluster| is_static(&cluster.at)).collect();
    let mut known = HashSet::new();
    // Envoy takes one of several `static_resources`, also of those in different spellings.
    let around = |at: &At<'_>| At::root(at.document).entries().filter(|(_, value)| value.key <= at.key).count();
    let again = own.iter().filter(|cluster| !known.insert((around(&cluster.at), cluster.name)));
    again
        .map(|cluster| {
            let help = "rename or remove one of them; Envoy does not start with both";
            let found = format!("{} again", quoted(cluster.name));
            Finding::at_field(rules::DUPLICATE_CLUSTER, &cluster.at, "name", "each name of a cluster once", found, help)
        })
        .collect()
}

/// Finding about a file that cannot be used. Files that are only referred to are reported where the reference is.
fn unread(file: &File, error: &SourceError) -> Option<Finding> {
    let (rule, expected, help) = match error {
        SourceError::Unreadable(_) if !file.is_given => return None,
        SourceError::Unreadable(_) => {
            (rules::UNREADABLE, "a file that can be read", "give the path of an existing file")
        }
        SourceError::Protobuf { .. } => (
            rules::FORMAT,
            "YAML or JSON",
            "write it as YAML, in a file with the end .yaml: Envoy reads this form, and `weir check` does not",
        ),
        SourceError::Encoding => (rules::SYNTAX, "YAML or JSON in UTF-8", "convert the file to UTF-8"),
        SourceError::Syntax { .. } if Format::of(&file.source.origin) == Format::Json => (
            rules::SYNTAX,
            "JSON",
            "mend it, or give the file the end .yaml: Envoy tells the language by the file's name",
        ),
        SourceError::Syntax { .. } => {
            (rules::SYNTAX, "YAML or JSON", "mend the line, or the lines before; the text is not repeated here")
        }
    };
    let found = match error {
        SourceError::Unreadable(error) => reason(error),
        SourceError::Encoding => "other bytes".to_owned(),
        SourceError::Syntax { found, .. } | SourceError::Protobuf { found } => (*found).to_owned(),
    };
    Some(Finding {
        rule,
        file: file.source.origin.clone(),
        position: error.position(),
        path: String::new(),
        expected: expected.to_owned(),
        found,
        help: help.to_owned(),
    })
}

/// A file whose first document is no object: every file of Envoy is a message.
fn no_object(file: &File) -> Option<Finding> {
    let root = file.source.documents.first().map(At::root);
    if !file.is_envoys() || file.source.error.is_some() || root.as_ref().is_some_and(At::is_object) {
        return None;
    }
    Some(Finding {
        rule: rules::SYNTAX,
        file: file.source.origin.clone(),
        position: root.as_ref().map_or(Position::START, |root| root.node.position),
        path: String::new(),
        expected: "an object as the first document".to_owned(),
        found: root.map_or("an empty file".to_owned(), |root| root.kind()),
        help: "write the fields of a bootstrap, such as static_resources; Envoy does not start with this file"
            .to_owned(),
    })
}

/// YAML of a proxy, in a file that Envoy takes for JSON by its name. Standard input and pipes have no name of their own.
fn misnamed(file: &File) -> Option<Finding> {
    let origin = file.source.origin.as_str();
    let is_pipe = origin == "stdin" || origin.starts_with("/dev/") || origin.starts_with("/proc/");
    let root = file.source.documents.first().filter(|_| file.source.is_misnamed && !is_pipe).map(At::root)?;
    let help = "rename the file: Envoy reads files of other names as JSON, and refuses this one";
    Some(Finding::at(rules::FORMAT, &root, "YAML in a file with the end .yaml or .yml", "another name", help))
}

/// A text in a Kubernetes manifest that is no file of Envoy.
fn broken_text(origin: &str, error: &SourceError) -> Finding {
    Finding {
        rule: rules::SYNTAX,
        file: origin.to_owned(),
        position: error.position(),
        path: String::new(),
        expected: "YAML or JSON in this text".to_owned(),
        found: error.to_string(),
        help: "mend the line, or the lines before; the text is not repeated here".to_owned(),
    }
}

/// The first document behind the one that Envoy reads. Kubernetes reads manifests.
fn extra(file: &File) -> Option<Finding> {
    let roots: Vec<At<'_>> = file.source.documents.iter().map(At::root).collect();
    let (first, later) = roots.split_first().filter(|(first, _)| first.is_object() && file.is_envoys())?;
    let help = "move it to a file of its own: Envoy reads the first document of a file and ignores all others";
    let at = |at: &At<'_>, found: &str| Finding::at(rules::EXTRA_DOCUMENT, at, "one document in the file", found, help);
    let second = later.iter().find(|root| !root.is_null() && !is_manifest(root));
    let broken = file.source.error.as_ref().filter(|_| file.error().is_none());
    second.map(|second| at(second, "a second one")).or_else(|| {
        let position = broken?.position();
        Some(Finding { position, ..at(first, "another text behind it, which is no YAML") })
    })
}

/// Reason of an error of the file system, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::IsADirectory => "a folder".to_owned(),
        _ => error.to_string(),
    }
}

//! Files of a command: those given, those that they refer to, and the texts in Kubernetes manifests.
//!
//! Envoy reads listeners, clusters, routes and extensions from files of a `path_config_source`. Relative paths start at
//! the current directory, as Envoy's do. Files of secrets are not read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::finder::is_alone;
use super::kubernetes::{Mesh, Text, is_manifest, texts};
use crate::documents::{At, Document, Source, SourceError};

/// Names of `ConfigSource`s that may have a `path` of their own, the older form.
const CONFIG_SOURCES: [&str; 8] =
    ["lds_config", "ldsConfig", "cds_config", "cdsConfig", "eds_config", "edsConfig", "config_source", "configSource"];
/// `ConfigSource`s of secrets.
const SECRETS: [&str; 2] = ["sds_config", "sdsConfig"];
/// Fields that a bootstrap has, and no other file of Envoy, nor a limiter's configuration.
const BOOTSTRAP_FIELDS: [&str; 20] = [
    "static_resources",
    "dynamic_resources",
    "admin",
    "layered_runtime",
    "bootstrap_extensions",
    "cluster_manager",
    "hds_config",
    "stats_config",
    "stats_sinks",
    "stats_flush_interval",
    "stats_flush_on_admin",
    "overload_manager",
    "watchdog",
    "watchdogs",
    "dns_resolution_config",
    "typed_dns_resolver_config",
    "fatal_actions",
    "inline_headers",
    "application_log_config",
    "memory_allocator_manager",
];

/// Files, each read once.
pub(crate) struct Library {
    files: Vec<File>,
    /// Numbers of the files by their paths.
    paths: HashMap<PathBuf, usize>,
}

/// File with its documents.
pub(crate) struct File {
    path: PathBuf,
    pub(crate) source: Source,
    /// Texts in its Kubernetes manifests that may be files of Envoy.
    texts: Vec<Text>,
    /// Whether the command line names the file.
    pub(crate) is_given: bool,
}

/// Documents that Envoy would use together: a bootstrap with the files that it refers to, or all other documents.
pub(crate) struct Group<'a> {
    /// Names of the files, in the order read.
    pub(crate) origins: Vec<&'a str>,
    pub(crate) documents: Vec<&'a Document>,
    /// Whether the documents are a whole configuration.
    pub(crate) is_bootstrap: bool,
    /// The Kubernetes manifests that the group is of, or that it is a text in.
    pub(crate) mesh: Option<Mesh<'a>>,
}

/// Path of a file in a document.
pub(crate) struct Reference<'a> {
    pub(crate) at: At<'a>,
    pub(crate) path: &'a str,
}

impl Library {
    /// Reads files and all files that they refer to.
    pub(crate) fn load(given: &[PathBuf]) -> Self {
        let mut library = Self { files: Vec::new(), paths: HashMap::new() };
        for path in given {
            library.read(path, true);
        }
        library.follow();
        library
    }

    /// The library of a file with this name and these bytes, and of all files that it refers to.
    pub(crate) fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        let source = Source::of_bytes(Ok(bytes.to_vec()), name.to_owned());
        Self::with(File::new(PathBuf::from(name), source, true))
    }

    /// The library of documents in another file, with the files that they refer to.
    pub(crate) fn of_document(document: Document) -> Self {
        let origin = document.origin.clone();
        let source = Source { origin: origin.clone(), documents: vec![document], error: None, is_misnamed: false };
        Self::with(File::new(PathBuf::from(origin), source, true))
    }

    /// The library of a file and of all files that it refers to.
    fn with(file: File) -> Self {
        let paths = HashMap::from([(file.path.clone(), 0)]);
        let mut library = Self { files: vec![file], paths };
        library.follow();
        library
    }

    /// Reads the files that files refer to.
    fn follow(&mut self) {
        let mut next = 0;
        while let Some(file) = self.files.get(next) {
            let roots = file.documents().iter().map(At::root);
            let paths: Vec<PathBuf> =
                roots.flat_map(|root| references(&root)).map(|reference| PathBuf::from(reference.path)).collect();
            for path in paths {
                self.read(&path, false);
            }
            next += 1;
        }
    }

    /// All documents, also those in the texts of manifests, as if one proxy used them.
    pub(crate) fn whole<'a>(&'a self) -> Group<'a> {
        let texts = |file: &'a File| file.texts.iter().map(|text| &text.source);
        let sources = self.files.iter().flat_map(|file| [&file.source].into_iter().chain(texts(file)));
        let origins = self.files.iter().map(|file| file.source.origin.as_str()).collect();
        Group {
            origins,
            documents: sources.flat_map(|source| &source.documents).collect(),
            is_bootstrap: false,
            mesh: None,
        }
    }

    /// The first text in a manifest that looks like a file of Envoy and cannot be read.
    pub(crate) fn broken_text(&self) -> Option<&Source> {
        self.files.iter().flat_map(|file| &file.texts).map(|text| &text.source).find(|text| text.error.is_some())
    }

    /// All files, those given first.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// The file of a reference.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(*self.paths.get(&normal(Path::new(path)))?)
    }

    /// The documents in groups: each bootstrap with its files, everything else, and then Kubernetes manifests: each
    /// bootstrap in them, and all other parts as one mesh.
    pub(crate) fn groups(&self) -> Vec<Group<'_>> {
        let mut used = BTreeSet::new();
        let mut groups = Vec::new();
        for file in self.files.iter().filter(|file| file.is_given) {
            for document in file.documents().iter().filter(|document| is_bootstrap(document)) {
                groups.push(self.group(vec![document], true, &mut used));
            }
        }
        let is_loose = |file: &&File| file.is_given && !used.contains(file.source.origin.as_str());
        let loose = self.files.iter().filter(is_loose).flat_map(File::documents);
        let is_envoys = |document: &&Document| {
            let root = At::root(document);
            !is_bootstrap(document) && !is_manifest(&root) && root.is_object()
        };
        let loose: Vec<&Document> = loose.filter(is_envoys).collect();
        if !loose.is_empty() {
            groups.push(self.group(loose, false, &mut used));
        }
        groups.extend(self.meshes());
        groups
    }

    /// The groups of Kubernetes manifests.
    fn meshes<'a>(&'a self) -> Vec<Group<'a>> {
        let given = || self.files.iter().filter(|file| file.is_given);
        let (mesh, whole) =
            Mesh::of(given().flat_map(|file| &file.source.documents), given().flat_map(|file| &file.texts));
        let group = |documents: Vec<_>, origins, is_bootstrap, mesh| Group { origins, documents, is_bootstrap, mesh };
        let of_text =
            |document: &'a Document| group(vec![document], vec![document.origin.as_str()], true, Some(mesh.around()));
        let mut groups: Vec<Group<'a>> = whole.into_iter().map(of_text).collect();
        if !mesh.parts.is_empty() || (groups.is_empty() && !mesh.manifests.is_empty()) {
            let mut origins: Vec<&str> = mesh.manifests.iter().map(|at| at.document.origin.as_str()).collect();
            origins.dedup();
            groups.push(group(Vec::new(), origins, false, Some(mesh)));
        }
        groups
    }

    /// Adds to documents those of the files that they refer to. `used` gets the names of these files.
    fn group<'a>(
        &'a self,
        mut documents: Vec<&'a Document>,
        is_bootstrap: bool,
        used: &mut BTreeSet<&'a str>,
    ) -> Group<'a> {
        let mut origins: Vec<&str> = Vec::new();
        let mut known: HashSet<&str> = HashSet::new();
        let mut next = 0;
        while let Some(document) = documents.get(next) {
            if known.insert(&document.origin) {
                origins.push(&document.origin);
            }
            for reference in references(&At::root(document)) {
                let file = self.file(reference.path).filter(|file| !file.documents().is_empty());
                let Some(file) = file else { continue };
                if known.insert(&file.source.origin) {
                    origins.push(&file.source.origin);
                    used.insert(&file.source.origin);
                    documents.extend(file.documents());
                }
            }
            next += 1;
        }
        Group { origins, documents, is_bootstrap, mesh: None }
    }

    fn read(&mut self, path: &Path, is_given: bool) {
        let normal = normal(path);
        if !self.paths.contains_key(&normal) {
            self.paths.insert(normal.clone(), self.files.len());
            let source = if is_given { Source::load(path) } else { Source::load_regular(path) };
            self.files.push(File::new(normal, source, is_given));
        }
    }
}

impl File {
    fn new(path: PathBuf, source: Source, is_given: bool) -> Self {
        let texts = source.documents.iter().map(At::root).flat_map(|root| texts(&root)).collect();
        Self { path, source, texts, is_given }
    }

    /// The documents that count: of a file of Envoy only the first one, as for Envoy; of manifests and of limiters'
    /// configurations all.
    pub(crate) fn documents(&self) -> &[Document] {
        let documents = self.source.documents.as_slice();
        if self.is_envoys() { documents.get(..1).unwrap_or_default() } else { documents }
    }

    /// The texts in its manifests that have to be files of Envoy and cannot be read.
    pub(crate) fn refused_texts(&self) -> impl Iterator<Item = &Source> {
        self.texts.iter().filter(|text| text.is_refused()).map(|text| &text.source)
    }

    /// The error that Envoy would find: none behind the first document of a file of YAML.
    pub(crate) fn error(&self) -> Option<&SourceError> {
        let is_read = self.is_envoys() && !self.source.documents.is_empty() && !self.source.is_json();
        self.source.error.as_ref().filter(|_| !is_read)
    }

    /// Whether the file is one of Envoy, by its first document that is not empty.
    pub(crate) fn is_envoys(&self) -> bool {
        let first = self.source.documents.iter().map(At::root).find(|root| !root.is_null());
        first.is_none_or(|root| !is_manifest(&root) && !is_alone(&root))
    }
}

/// The files that a value refers to.
pub(crate) fn references<'a>(at: &At<'a>) -> Vec<Reference<'a>> {
    let mut found = Vec::new();
    collect(at, &mut found);
    found
}

fn collect<'a>(at: &At<'a>, found: &mut Vec<Reference<'a>>) {
    found.extend(config_source_path(at));
    for (key, value) in at.entries() {
        if CONFIG_SOURCES.contains(&key) {
            found.extend(value.field("path").and_then(|at| Some(Reference { path: at.text()?, at })));
        }
        if !SECRETS.contains(&key) {
            collect(&value, found);
        }
    }
    if !at.is_object() {
        at.children().iter().for_each(|at| collect(at, found));
    }
}

/// Whether a field is a `ConfigSource` that may have a `path` of its own.
pub(crate) fn is_config_source(field: &str) -> bool {
    CONFIG_SOURCES.contains(&field) || SECRETS.contains(&field)
}

/// The file of a `ConfigSource` with a `path_config_source`.
pub(crate) fn config_source_path<'a>(source: &At<'a>) -> Option<Reference<'a>> {
    let at = source.fields(["path_config_source", "path"])?;
    Some(Reference { path: at.text()?, at })
}

/// Whether a document is a bootstrap: the configuration of a whole proxy.
pub(crate) fn is_bootstrap(document: &Document) -> bool {
    let root = At::root(document);
    BOOTSTRAP_FIELDS.iter().any(|field| root.field(field).is_some())
}

/// A path without `.` steps.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|step| !matches!(step, std::path::Component::CurDir)).collect()
}

//! OCI image layouts (image-spec 1.0) of images with one layer.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tar;

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Number of an unknown system in gzip: the bytes are the same on all systems.
const UNKNOWN_SYSTEM: u8 = 255;
/// User of containers, who is not root.
const USER: &str = "65532:65532";

/// Compressed files of an image.
pub(super) struct Layer {
    compressed: Vec<u8>,
    /// Digest of the uncompressed archive.
    diff_id: String,
}

pub(super) struct Image<'a> {
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    /// Command of a container, empty where the image is none.
    pub(super) entrypoint: &'a [&'a str],
    pub(super) layer: Layer,
}

impl Layer {
    /// The layer with these files: path, mode and contents.
    pub(super) fn of(files: &[(&str, u32, &[u8])]) -> Self {
        let archive = tar::archive(files);
        let diff_id = digest(&archive);
        let mut gzip =
            GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM).write(Vec::new(), Compression::best());
        // Writing to a vector does not fail.
        let compressed = gzip.write_all(&archive).and_then(|()| gzip.finish()).unwrap_or_default();
        Self { compressed, diff_id }
    }
}

impl Image<'_> {
    /// Writes the layout, and returns the digest of its manifest.
    pub(super) fn write(&self, folder: &Path) -> io::Result<String> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let put = |bytes: &[u8]| fs::write(blobs.join(sha256(bytes)), bytes);
        let annotations = json!({
            "org.opencontainers.image.title": self.title,
            "org.opencontainers.image.description": self.description,
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        });
        let mut settings = json!({ "Labels": annotations });
        if let (Value::Object(settings), [_, ..]) = (&mut settings, self.entrypoint) {
            settings.insert("Entrypoint".into(), json!(self.entrypoint));
            settings.insert("User".into(), json!(USER));
        }
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [self.layer.diff_id]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &self.layer.compressed)],
            "annotations": annotations,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut listed = descriptor(MANIFEST, &manifest);
        if let Value::Object(fields) = &mut listed {
            fields.insert("annotations".into(), json!({"org.opencontainers.image.ref.name": VERSION}));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]});
        put(&self.layer.compressed)?;
        put(&config)?;
        put(&manifest)?;
        fs::write(folder.join("index.json"), index.to_string())?;
        fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        Ok(digest(&manifest))
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The architecture of this program in Go's names. Istio and Envoy Gateway fetch a module of any.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

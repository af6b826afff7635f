//! Fetches a module from a registry as Istio and Envoy Gateway do: `imagefetcher.go` of both, over
//! go-containerregistry.
//!
//! The manifest, by tag or digest, is that of an image; `sha256` of a plugin is compared with its digest. Of a Docker or
//! OCI image, the last layer counts, which must be a gzipped archive with a file `plugin.wasm` in any folder.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use weir_provision::client::Client;

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEXES: &str =
    "application/vnd.oci.image.index.v1+json,application/vnd.docker.distribution.manifest.list.v2+json";

/// Module, and digest of the manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) module: Vec<u8>,
    pub(crate) digest: String,
}

pub(crate) async fn fetch(registry: SocketAddr, name: &str, reference: &str) -> Result<Fetched, String> {
    let mut client = Client::new(registry, Duration::from_secs(10));
    let accepted = HeaderValue::from_str(&format!("{DOCKER},{OCI},{INDEXES}")).unwrap();
    let headers = HeaderMap::from_iter([(ACCEPT, accepted)]);
    let got = client.get(&format!("/v2/{name}/manifests/{reference}"), &headers).await.map_err(|it| it.to_string())?;
    if got.status != 200 {
        return Err(format!("manifest: status {}", got.status));
    }
    let digest = digest(&got.body);
    if reference.starts_with("sha256:") && reference != digest {
        return Err(format!("manifest: expected {reference}, found {digest}"));
    }
    let manifest: Value = serde_json::from_slice(&got.body).map_err(|it| it.to_string())?;
    let layer_type = match got.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()) {
        Some(OCI) => "application/vnd.oci.image.layer.v1.tar+gzip",
        Some(DOCKER) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        other => return Err(format!("manifest: media type {other:?}")),
    };
    let layer = manifest["layers"].as_array().and_then(|layers| layers.last()).ok_or("no layer")?;
    if layer["mediaType"] != layer_type {
        return Err(format!("layer: media type {}", layer["mediaType"]));
    }
    // The configuration is read too: its `diff_ids` must be as many as the layers.
    let config = blob(&mut client, name, &manifest["config"]).await?;
    let config: Value = serde_json::from_slice(&config).map_err(|it| it.to_string())?;
    let diff_id = config["rootfs"]["diff_ids"].as_array().and_then(|ids| ids.last()).ok_or("no diff_id")?;
    let compressed = blob(&mut client, name, layer).await?;
    let mut archive = Vec::new();
    GzDecoder::new(compressed.as_slice()).read_to_end(&mut archive).map_err(|it| it.to_string())?;
    if *diff_id != self::digest(&archive) {
        return Err("layer: another diff_id".to_owned());
    }
    Ok(Fetched { module: plugin(&archive).ok_or("no plugin.wasm in the layer")?, digest })
}

async fn blob(client: &mut Client, name: &str, descriptor: &Value) -> Result<Vec<u8>, String> {
    let wanted = descriptor["digest"].as_str().ok_or("no digest")?;
    let got =
        client.get(&format!("/v2/{name}/blobs/{wanted}"), &HeaderMap::new()).await.map_err(|it| it.to_string())?;
    match digest(&got.body) {
        found if found == wanted => Ok(got.body.to_vec()),
        found => Err(format!("blob: expected {wanted}, found {found}, status {}", got.status)),
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The first file `plugin.wasm` in an archive.
fn plugin(archive: &[u8]) -> Option<Vec<u8>> {
    let mut rest = archive;
    loop {
        let (header, behind) = rest.split_at_checked(512)?;
        let text = |range: std::ops::Range<usize>| {
            let bytes = &header[range];
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            std::str::from_utf8(&bytes[..end]).ok()
        };
        let size = usize::from_str_radix(text(124..136)?.trim(), 8).ok()?;
        let contents = behind.get(..size)?;
        if Path::new(text(0..100)?).file_name()? == "plugin.wasm" {
            return Some(contents.to_vec());
        }
        rest = behind.get(size.next_multiple_of(512)..)?;
    }
}

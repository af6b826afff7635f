//! Pushes an OCI layout to a registry, as `crane push` does (distribution-spec, "Push").

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use serde_json::Value;
use weir_provision::client::Client;

/// Pushes the only image of the layout in `folder` with a tag.
pub(crate) async fn push(registry: SocketAddr, folder: &Path, name: &str, tag: &str) {
    let mut client = Client::new(registry, Duration::from_secs(10));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().to_owned();
        let bytes = fs::read(folder.join("blobs").join(digest.replace(':', "/"))).unwrap();
        assert_eq!(descriptor["size"], bytes.len());
        (digest, bytes)
    };
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let listed = &index["manifests"][0];
    let (_, manifest) = blob(listed);
    let parts: Value = serde_json::from_slice(&manifest).unwrap();
    for part in [&parts["config"]].into_iter().chain(parts["layers"].as_array().unwrap()) {
        let (digest, bytes) = blob(part);
        let uploads = format!("/v2/{name}/blobs/uploads/");
        let begun = client.send(&Method::POST, &uploads, &HeaderMap::new(), Vec::new().into()).await.unwrap();
        assert_eq!(begun.status, 202, "{begun:?}");
        let location: hyper::Uri = begun.headers[LOCATION].to_str().unwrap().parse().unwrap();
        let path = format!("{}&digest={digest}", location.path_and_query().unwrap());
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let put = client.send(&Method::PUT, &path, &headers, bytes.into()).await.unwrap();
        assert_eq!(put.status, 201, "{put:?}");
    }
    let media_type = HeaderValue::from_str(listed["mediaType"].as_str().unwrap()).unwrap();
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
    let path = format!("/v2/{name}/manifests/{tag}");
    let put = client.send(&Method::PUT, &path, &headers, manifest.into()).await.unwrap();
    assert_eq!(put.status, 201, "{put:?}");
}

//! `weir package DIR`: what a release of the module consists of, the same bytes on every run.
//!
//! | file | contents |
//! |---|---|
//! | `weir_filter.wasm` | the module |
//! | `oci` | OCI layout of an image whose only layer has it as `plugin.wasm`, as Istio and Envoy Gateway take it |
//! | `image` | with `--program`: OCI layout of a container image with `weir` and the module |
//! | `weir_filter.spdx.json` | SPDX document of the crates in the module |
//! | `SHA256SUMS` | checksums of the module, the document and both manifests |

mod layout;
mod sbom;
mod tar;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use weir_provision::filter_wasm;

use self::layout::{Image, Layer};
use crate::output::print;

/// File of the module in a package, and of its SBOM.
const MODULE: &str = "weir_filter.wasm";
const SBOM: &str = "weir_filter.spdx.json";
/// Largest module that Istio and Envoy Gateway fetch.
const MAX_MODULE: usize = 256 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder to write: a new one, or an empty one.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The module; otherwise the one beside this program, or that of the checkout.
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// Static program `weir` for a container image, which is written as well.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Repository of the printed commands.
    #[arg(long, value_name = "NAME", default_value = "registry.example/weir")]
    repository: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let wasm = match &arguments.wasm {
        Some(path) => path.clone(),
        None => filter_wasm::find_or_build()?,
    };
    let module = read(&wasm)?;
    if !module.starts_with(b"\0asm") || module.len() > MAX_MODULE {
        bail!("{}: expected a wasm module of at most 256 MB", wasm.display());
    }
    let program = arguments.program.as_deref().map(read).transpose()?;
    let folder = &arguments.folder;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.next().is_some() {
        bail!("{}: expected a new or an empty folder", folder.display());
    }
    let digest =
        write(folder, &module, program.as_deref()).with_context(|| format!("cannot write to {}", folder.display()))?;
    print(commands(folder, &arguments.repository, &digest))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: impl AsRef<Path>) -> anyhow::Result<Vec<u8>> {
    let path = path.as_ref();
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the package, and returns the digest of the module's manifest.
fn write(folder: &Path, module: &[u8], program: Option<&[u8]>) -> std::io::Result<String> {
    let sbom = sbom::document(module);
    fs::write(folder.join(MODULE), module)?;
    fs::write(folder.join(SBOM), &sbom)?;
    let image = Image {
        title: "weir",
        description: "Rate-limit filter for Envoy, Istio and Envoy Gateway",
        entrypoint: &[],
        layer: Layer::of(&[("plugin.wasm", 0o644, module)]),
    };
    let digest = image.write(&folder.join("oci"))?;
    let mut sums = vec![(layout::sha256(module), MODULE.to_owned()), (layout::sha256(&sbom), SBOM.to_owned())];
    sums.push(manifest_sum("oci", &digest));
    if let Some(program) = program {
        let image = Image {
            title: "weir-cli",
            description: "weir: checks, tests and operates rate limits",
            entrypoint: &["/weir"],
            layer: Layer::of(&[("weir", 0o755, program), (MODULE, 0o644, module)]),
        };
        sums.push(manifest_sum("image", &image.write(&folder.join("image"))?));
    }
    let sums: String = sums.into_iter().map(|(sum, file)| format!("{sum}  {file}\n")).collect();
    fs::write(folder.join("SHA256SUMS"), sums)?;
    Ok(digest)
}

/// Checksum and path of a layout's manifest, which names the digests of all else in the layout.
fn manifest_sum(layout: &str, digest: &str) -> (String, String) {
    let sum = digest.trim_start_matches("sha256:");
    (sum.to_owned(), format!("{layout}/blobs/sha256/{sum}"))
}

/// Commands that push the package, sign it and name it in a manifest.
fn commands(folder: &Path, repository: &str, digest: &str) -> String {
    let folder = folder.display();
    let version = layout::VERSION;
    format!(
        "{digest}

push, with crane or with oras:
  crane push {folder}/oci {repository}:{version}
  oras cp --from-oci-layout {folder}/oci:{version} {repository}:{version}

sign, attach the SBOM, and verify, with cosign and the keys of `cosign generate-key-pair`:
  cosign sign --key cosign.key {repository}@{digest}
  cosign attest --key cosign.key --type spdxjson --predicate {folder}/{SBOM} {repository}@{digest}
  cosign verify --key cosign.pub {repository}@{digest}

Istio, in spec of WasmPlugin:
  url: oci://{repository}:{version}
  sha256: {}

Envoy Gateway, in spec.wasm[].code of EnvoyExtensionPolicy:
  type: Image
  image: {{url: {repository}:{version}, sha256: {0}}}
",
        digest.trim_start_matches("sha256:"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a folder, with their contents.
    fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push((path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())),
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_package_has_the_same_bytes_on_every_run() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for folder in [&first, &second] {
            write(folder.path(), b"\0asm\x01\0\0\0", Some(b"a program")).unwrap();
        }
        let written = files(first.path());
        assert_eq!(written, files(second.path()));
        // Each layout has 2 files and 3 blobs.
        assert_eq!(written.len(), 3 + 2 * 5);
    }

    #[test]
    fn the_checksums_are_those_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let digest = write(folder.path(), b"\0asm\x01\0\0\0", Some(b"a program")).unwrap();
        let sums = fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap();
        assert_eq!(sums.lines().count(), 4);
        assert!(sums.contains(digest.trim_start_matches("sha256:")), "{sums}");
        for line in sums.lines() {
            let (sum, file) = line.split_once("  ").unwrap();
            assert_eq!(layout::sha256(&fs::read(folder.path().join(file)).unwrap()), sum, "{file}");
        }
    }

    #[test]
    fn the_commands_name_folder_repository_and_digest() {
        let commands = commands(Path::new("out"), "ghcr.example/a/weir", "sha256:ab");
        assert!(commands.starts_with("sha256:ab\n"));
        assert!(commands.contains("\n  crane push out/oci ghcr.example/a/weir:"));
        assert!(commands.contains("\n  cosign sign --key cosign.key ghcr.example/a/weir@sha256:ab\n"));
        assert!(commands.contains("\n  sha256: ab\n"));
    }
}

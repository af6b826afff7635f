//! `weir package` as a process: its layout pushed to a real registry, and fetched as Istio and Envoy Gateway fetch it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

mod fetcher;
mod push;
mod schema;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weir_provision::{or_skip, registry::RegistryServer};

use fetcher::Fetched;

/// The smallest module: `weir package` does not run it.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn weir(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).current_dir(folder).args(arguments).output().unwrap()
}

/// Writes a package below `folder`, and returns what the command prints.
fn package(folder: &Path, name: &str) -> String {
    fs::write(folder.join("module.wasm"), MODULE).unwrap();
    let output = weir(folder, &["package", name, "--wasm", "module.wasm", "--repository", "registry.test/team/weir"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_registry_takes_the_package_and_its_users_get_the_module() {
    let Some(registry) = or_skip(RegistryServer::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let printed = package(folder.path(), "out");
    let digest = printed.lines().next().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    push::push(registry.addr(), &folder.path().join("out/oci"), "team/weir", version).await;
    // By tag and by digest, as `url` and `sha256` of a WasmPlugin say.
    for reference in [version, digest] {
        let fetched = fetcher::fetch(registry.addr(), "team/weir", reference).await.unwrap();
        assert_eq!(fetched, Fetched { module: MODULE.to_vec(), digest: digest.to_owned() }, "{reference}");
    }
    assert!(fetcher::fetch(registry.addr(), "team/weir", "none").await.is_err());
}

#[test]
fn two_runs_have_one_digest_and_the_commands_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let printed = ["a", "b"].map(|name| package(folder.path(), name).replace(&format!("{name}/"), "DIR/"));
    assert_eq!(printed[0], printed[1]);
    let digest = printed[0].lines().next().unwrap();
    for command in ["crane push DIR/oci", "oras cp --from-oci-layout DIR/oci", "cosign sign", "cosign attest"] {
        let line = printed[0].lines().find(|line| line.contains(command)).unwrap();
        assert!(line.contains("registry.test/team/weir"), "{line}");
    }
    assert!(
        printed[0].contains(&format!("cosign verify --key cosign.pub registry.test/team/weir@{digest}")),
        "{}",
        printed[0]
    );
    let index: Value = serde_json::from_slice(&fs::read(folder.path().join("a/oci/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
}

#[test]
fn sha256sum_accepts_the_checksums() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), "out");
    let mut check = Command::new("sha256sum");
    let output = check.current_dir(folder.path().join("out")).args(["-c", "--strict", "SHA256SUMS"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
}

#[test]
fn what_is_no_module_and_a_folder_with_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = weir(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    fs::write(folder.path().join("text.wasm"), "(module)").unwrap();
    let why = refused(&["package", "out", "--wasm", "text.wasm"]);
    assert_eq!(why, "text.wasm: expected a wasm module of at most 256 MB\n");
    assert!(!folder.path().join("out").exists());
    package(folder.path(), "full");
    let why = refused(&["package", "full", "--wasm", "module.wasm"]);
    assert_eq!(why, "full: expected a new or an empty folder\n");
}

/// The schema, the scripts and the pages are made from the same definitions as the parsers of the command line and of
/// the configuration.
#[test]
fn schema_completion_and_manual_name_commands_options_and_fields() {
    let folder = tempfile::tempdir().unwrap();
    let says = |arguments: &[&str]| {
        let output = weir(folder.path(), arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (shell, option) in [("bash", "--log-level"), ("zsh", "--log-level"), ("fish", "-l log-level")] {
        let script = says(&["completion", shell]);
        assert!(script.contains(option) && script.contains("completion") && script.contains("key-prefix"), "{shell}");
    }
    let bash = folder.path().join("weir.bash");
    fs::write(&bash, says(&["completion", "bash"])).unwrap();
    let complete = "source weir.bash; COMP_WORDS=(weir li); COMP_CWORD=1; _weir weir li weir; echo ${COMPREPLY[*]}";
    let output = Command::new("bash").current_dir(folder.path()).args(["-c", complete]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "limits\n", "{output:?}");

    assert!(says(&["man"]).contains("weir\\-limits(1)"));
    says(&["man", "pages/man1"]);
    let page = fs::read_to_string(folder.path().join("pages/man1/weir-limits-set.1")).unwrap();
    assert!(page.contains("\\-\\-redis"), "{page}");

    let schema: Value = serde_json::from_str(&says(&["schema", "--at", "spec.pluginConfig"])).unwrap();
    let redis = &schema["properties"]["spec"]["properties"]["pluginConfig"]["properties"]["redis"];
    assert_eq!(redis["required"][0], "cluster");
}

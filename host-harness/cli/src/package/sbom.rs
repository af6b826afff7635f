//! Software bill of materials of the module: an SPDX 2.3 document of the crates that are linked into it.

use serde_json::{Value, json};

use super::layout::{VERSION, sha256};

/// Crates of the module: name, version and licence. A test compares them with cargo's.
const CRATES: &str = include_str!("crates.txt");
/// Checksums of all crates.
const LOCK: &str = include_str!("../../../../Cargo.lock");
/// Time of documents. A real one would give each run other bytes.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The document about a module with these bytes.
pub(super) fn document(module: &[u8]) -> Vec<u8> {
    let sum = sha256(module);
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Module", "name": super::MODULE, "versionInfo": VERSION,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
        "licenseConcluded": env!("CARGO_PKG_LICENSE"), "licenseDeclared": env!("CARGO_PKG_LICENSE"),
        "checksums": [{"algorithm": "SHA256", "checksumValue": sum}],
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Module")];
    for (name, version, licence) in crates() {
        let id = format!("SPDXRef-{name}-{version}").replace('_', "-");
        relations.push(relation("SPDXRef-Module", "CONTAINS", &id));
        packages.push(package(&id, name, version, licence));
    }
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("weir_filter-{VERSION}"),
        "documentNamespace": format!("https://spdx.org/spdxdocs/weir_filter-{VERSION}-{sum}"),
        "creationInfo": {"created": CREATED, "creators": [format!("Tool: weir-{VERSION}")]},
        "packages": packages,
        "relationships": relations,
    });
    format!("{document:#}\n").into_bytes()
}

fn package(id: &str, name: &str, version: &str, licence: &str) -> Value {
    let mut package = json!({
        "SPDXID": id, "name": name, "versionInfo": version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "copyrightText": "NOASSERTION",
        "licenseConcluded": licence, "licenseDeclared": licence,
    });
    // Weir's own crates are in no registry.
    if let (Value::Object(fields), Some(sum)) = (&mut package, checksum(name, version)) {
        let purl = format!("pkg:cargo/{name}@{version}");
        let reference =
            json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl});
        fields.insert("checksums".into(), json!([{"algorithm": "SHA256", "checksumValue": sum}]));
        fields.insert("externalRefs".into(), json!([reference]));
    }
    package
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn crates() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    CRATES.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let (version, licence) = rest.split_once(' ')?;
        Some((name, version, licence))
    })
}

/// The checksum of a crate in `Cargo.lock`.
fn checksum(name: &str, version: &str) -> Option<&'static str> {
    let wanted = [format!("name = \"{name}\""), format!("version = \"{version}\"")];
    let mut packages = LOCK.split("[[package]]");
    let package = packages.find(|package| wanted.iter().all(|line| package.lines().any(|it| it == line)))?;
    package.lines().find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use weir_provision::checkout;

    use super::*;

    /// The licence as an SPDX expression: older crates separate alternatives with a slash.
    fn expression(licence: &str) -> String {
        licence.replace('/', " OR ")
    }

    #[test]
    fn the_crates_are_those_that_cargo_links_into_the_module() {
        let mut tree: Command = checkout::cargo();
        tree.current_dir(checkout::root().unwrap()).args(["tree", "--locked", "--offline", "-p", "weir-filter"]);
        tree.args(["--target", "wasm32-wasip1", "-e", "normal,no-proc-macro", "--prefix", "none"]);
        let output = tree.args(["--format", "{p}|{l}"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let linked: BTreeSet<String> = text
            .lines()
            .map(|line| {
                let (package, licence) = line.split_once('|').unwrap();
                let mut words = package.split(' ');
                let (name, version) = (words.next().unwrap(), words.next().unwrap());
                format!("{name} {} {}", version.trim_start_matches('v'), expression(licence.trim_end_matches(" (*)")))
            })
            .collect();
        let listed: BTreeSet<String> = CRATES.lines().map(str::to_owned).collect();
        assert_eq!(listed, linked, "host-harness/cli/src/package/crates.txt is out of date");
    }

    #[test]
    fn every_crate_but_weirs_own_has_a_checksum() {
        let without: Vec<&str> =
            crates().filter(|(name, version, _)| checksum(name, version).is_none()).map(|(name, ..)| name).collect();
        assert_eq!(without, ["weir-filter", "weir-limiter"]);
    }
}

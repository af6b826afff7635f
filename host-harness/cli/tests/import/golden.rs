//! Whole results for each source, compared with files. `WEIR_IMPORT=accept` writes them.

use crate::support::{files, weir};

/// Folders, the files that are given, and the exit code.
const CASES: [(&str, &[&str], i32); 6] = [
    ("ratelimit", &["ratelimit.yaml", "envoy.yaml"], 0),
    ("istio", &["config-map.yaml", "envoy-filters.yaml", "virtual-service.yaml"], 2),
    ("filter", &["envoy.yaml", "ratelimit.yaml"], 2),
    ("gateway", &["policy.yaml"], 0),
    ("kuadrant", &["policy.yaml"], 2),
    ("limitador", &["limits.yaml", "envoy.yaml"], 0),
];

#[test]
fn each_source_has_its_result_and_findings() {
    let mut differences = Vec::new();
    for (name, given, expected) in CASES {
        let folder = files().join(name);
        let (code, yaml, findings) = weir(&folder, &[&["import"], given].concat());
        assert_eq!(code, expected, "{name}: {findings}");
        for (file, text) in [("weir.yaml", yaml), ("findings.txt", findings)] {
            let path = folder.join(file);
            if std::env::var("WEIR_IMPORT").is_ok_and(|word| word == "accept") {
                std::fs::write(&path, &text).unwrap();
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != text {
                differences.push(format!("{}:\n{text}", path.display()));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn each_result_passes_the_check() {
    for (name, ..) in CASES {
        let (code, output, errors) = weir(&files().join(name), &["check", "weir.yaml"]);
        assert_eq!(code, 0, "{name}: {output}{errors}");
    }
}

#[test]
fn policies_are_documents_whose_limits_have_different_names() {
    let policy = std::fs::read_to_string(files().join("gateway/policy.yaml")).unwrap();
    let other = policy.replace("namespace: default", "namespace: other");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policies.yaml"), format!("{policy}---\n{other}")).unwrap();
    let (code, yaml, _) = weir(folder.path(), &["import", "policies.yaml"]);
    assert_eq!((code, yaml.matches("\n---\n").count()), (0, 1), "{yaml}");
    let mut names: Vec<&str> = yaml.lines().filter(|line| line.starts_with("- name: ")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 8, "of two policies with four rules each: {names:?}");
    std::fs::write(folder.path().join("weir.yaml"), &yaml).unwrap();
    let (code, output, errors) = weir(folder.path(), &["check", "weir.yaml"]);
    assert_eq!(code, 0, "{output}{errors}");
}

/// Each limit names the file and the line that it comes from.
#[test]
fn each_limit_names_its_origin() {
    for (name, given, _) in CASES {
        let text = std::fs::read_to_string(files().join(name).join("weir.yaml")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- name: ")) {
            let comments: Vec<&&str> = lines[..index].iter().rev().take_while(|line| line.starts_with('#')).collect();
            let names_file = |comment: &&&str| given.iter().any(|file| comment.contains(&format!("{file}:")));
            assert!(comments.iter().any(names_file), "{name}: {line}");
        }
    }
}

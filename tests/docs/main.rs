//! Tests of README.md and of the pages in docs/src: their YAML, commands and links work, and their tables name all
//! fields of the configuration and all options of `weir`, with the same defaults and bounds, and all metrics.

mod commands;
mod configuration;
mod fragments;
mod metrics;
mod page;
mod site;
mod tasks;

use page::{Page, pages};

const MAX_LINE: usize = 120;

#[test]
fn lines_have_at_most_120_characters() {
    let long = pages().into_iter().flat_map(|page| {
        let is_long = |line: &&str| line.chars().count() > MAX_LINE;
        page.lines_to_read().filter(is_long).map(|line| format!("{}: {line}", page.path)).collect::<Vec<_>>()
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "longer than {MAX_LINE} characters:\n{}", long.join("\n"));
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}

#[test]
fn relative_links_resolve() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in page.links() {
            if !page.resolves(&link) {
                broken.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_summary_lists_every_page() {
    let summary = Page::read("docs/src/SUMMARY.md");
    let listed: Vec<String> = summary.links().collect();
    for page in pages() {
        if let Some(name) = page.path.strip_prefix("docs/src/").filter(|name| *name != "SUMMARY.md") {
            assert!(listed.iter().any(|link| link == name), "SUMMARY.md does not list {name}");
        }
    }
}

/// All figures in tables about performance are in benches/RESULTS.md.
#[test]
fn figures_are_measured() {
    let results = std::fs::read_to_string(page::root().join("benches/RESULTS.md")).unwrap();
    let measured: Vec<&str> = results.split_whitespace().collect();
    let (mut count, mut unknown) = (0, Vec::new());
    for (path, heading) in [("README.md", "Performance"), ("docs/src/performance.md", "")] {
        let page = Page::read(path);
        for row in page.rows().iter().filter(|row| heading.is_empty() || row.heading == heading) {
            let cells = row.cells.iter().skip(1).flat_map(|cell| cell.split(" / "));
            for figure in cells.map(|cell| cell.replace(',', "")).filter(|cell| cell.parse::<f64>().is_ok()) {
                count += 1;
                if !measured.contains(&figure.as_str()) {
                    unknown.push(format!("{path}: {figure} in the row `{}`", row.cells[0]));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "not in benches/RESULTS.md:\n{}", unknown.join("\n"));
    assert!(count >= 60, "only {count} figures found");
}

/// The tables of the page for contributors name files, and items in them.
#[test]
fn files_and_items_for_contributors_exist() {
    let page = Page::read("docs/src/contributing.md");
    let mut missing = Vec::new();
    for row in page.rows() {
        let [_, files, items] = row.cells[..] else { continue };
        let files: Vec<&str> = page::codes(files).filter(|file| !is_of_later_crate(file)).collect();
        let texts: Vec<Option<String>> =
            files.iter().map(|file| std::fs::read_to_string(page::root().join(file)).ok()).collect();
        missing.extend(files.iter().zip(&texts).filter(|(_, text)| text.is_none()).map(|(file, _)| file.to_string()));
        let text: String = texts.into_iter().flatten().collect();
        missing.extend(
            page::codes(items)
                .filter(|item| !files.is_empty() && !text.contains(item))
                .map(|item| format!("{item} in {files:?}")),
        );
    }
    assert!(missing.is_empty(), "not found:\n{}", missing.join("\n"));
}

/// Whether a file belongs to a crate of the harness that does not exist yet.
fn is_of_later_crate(file: &str) -> bool {
    let crates = file.strip_prefix("host-harness/").and_then(|rest| rest.split_once('/'));
    crates.is_some_and(|(name, _)| {
        !["src", "tests"].contains(&name) && !page::root().join("host-harness").join(name).join("Cargo.toml").exists()
    })
}

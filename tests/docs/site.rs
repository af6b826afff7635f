//! The site: the book as HTML in `target/site/docs/src`, and the files of the repository that its pages link to, at the
//! same relative paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use weir_provision::{checkout, mdbook, or_skip};

use crate::page::{Page, pages, root};

const BOOK: &str = "docs/src";

#[test]
fn all_links_of_the_site_lead_somewhere() {
    let site = checkout::target_dir().unwrap().join("site");
    let _ = fs::remove_dir_all(&site);
    let book = site.join(BOOK);
    let Some(printed) = or_skip(mdbook::build(&root().join("docs"), &book)) else { return };
    assert!(!printed.contains("[WARN]") && !printed.contains("[ERROR]"), "{printed}");
    for file in linked_files() {
        copy(&file, &site);
    }
    let html: BTreeMap<PathBuf, String> = files(&site)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|it| it == "html"))
        .map(|file| (file.clone(), fs::read_to_string(&file).unwrap()))
        .collect();
    let (mut broken, mut count) = (BTreeSet::new(), 0);
    for (file, text) in html.iter().filter(|(file, _)| file.starts_with(&book)) {
        for link in links(text) {
            count += 1;
            if !leads_somewhere(file, link, &html) {
                broken.insert(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.into_iter().collect::<Vec<_>>().join("\n"));
    assert!(count > 1_000, "only {count} links found");
    for page in pages().iter().filter(|page| page.path.starts_with(BOOK) && !page.path.ends_with("SUMMARY.md")) {
        let file = site.join(&page.path).with_extension("html");
        assert!(html.contains_key(&file), "{} has no page of the site", page.path);
    }
}

/// Files and folders outside of the book that pages link to, relative to the root.
fn linked_files() -> BTreeSet<PathBuf> {
    let of_page = |page: Page| {
        let links: Vec<PathBuf> = page.links().map(|link| link.split('#').next().unwrap_or_default().into()).collect();
        let folder = Path::new(&page.path).parent().unwrap().to_owned();
        links.into_iter().map(move |link| normal(&folder.join(link)))
    };
    let pages = pages().into_iter().filter(|page| page.path.starts_with(BOOK));
    pages.flat_map(of_page).filter(|path| !path.starts_with(BOOK)).collect()
}

/// Copies a file or a folder of the checkout into the site. A page of Markdown gets a name with `html`, to which mdBook
/// links.
fn copy(path: &Path, site: &Path) {
    let (source, target) = (root().join(path), site.join(path));
    if source.is_dir() {
        fs::create_dir_all(&target).unwrap();
        let mut entries: Vec<PathBuf> = source.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        let mut list = String::new();
        for entry in entries.iter().filter(|entry| entry.is_file()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            list += &format!("<a href=\"{name}\">{name}</a>\n");
            copy(&path.join(name), site);
        }
        fs::write(target.join("index.html"), document(path, &list)).unwrap();
        return;
    }
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    if source.extension().is_some_and(|it| it == "md") {
        let text = fs::read_to_string(source).unwrap().replace('&', "&amp;").replace('<', "&lt;");
        fs::write(target.with_extension("html"), document(path, &text)).unwrap();
    } else {
        fs::copy(source, target).unwrap();
    }
}

/// A text as a page of the site.
fn document(path: &Path, text: &str) -> String {
    let title = path.display();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light \
         dark\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\n<body><pre>{text}\
         </pre></body></html>\n"
    )
}

/// Targets of links and images without a scheme.
fn links(html: &str) -> impl Iterator<Item = &str> {
    let attributes = ["href=\"", "src=\""].into_iter().flat_map(|name| html.split(name).skip(1));
    let targets = attributes.filter_map(|rest| rest.split('"').next());
    // The page for missing pages has a base.
    targets.filter(|target| !target.contains(':') && !target.is_empty() && *target != "/")
}

fn leads_somewhere(file: &Path, link: &str, html: &BTreeMap<PathBuf, String>) -> bool {
    let (path, fragment) = link.split_once('#').map_or((link, None), |(path, fragment)| (path, Some(fragment)));
    let target = if path.is_empty() { file.to_owned() } else { normal(&file.parent().unwrap().join(path)) };
    let target = if target.is_dir() { target.join("index.html") } else { target };
    match fragment.filter(|it| !it.is_empty()) {
        Some(fragment) => html.get(&target).is_some_and(|text| text.contains(&format!("id=\"{fragment}\""))),
        None => target.is_file(),
    }
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

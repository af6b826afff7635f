//! A page of documentation in Markdown, and its parts.

use std::fs;
use std::path::{Path, PathBuf};

/// A page, with its path from the root of the checkout.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced code block: its info string, its text, and the number of its first line.
pub(crate) struct Fence<'a> {
    pub(crate) info: &'a str,
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A table row with its cells, and the heading above it.
pub(crate) struct Row<'a> {
    pub(crate) heading: &'a str,
    pub(crate) cells: Vec<&'a str>,
}

/// README.md and all pages in docs/src.
pub(crate) fn pages() -> Vec<Page> {
    let files = fs::read_dir(root().join("docs/src")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    let mut paths: Vec<String> = names.map(|name| format!("docs/src/{name}")).collect();
    paths.sort();
    paths.insert(0, "README.md".to_owned());
    paths.iter().map(|path| Page::read(path)).collect()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a cell that is nothing but code: `x` of "`x`".
pub(crate) fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

/// All code in a cell: `a` and `b` of "`a`, `b`".
pub(crate) fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        Self { path: path.to_owned(), text: fs::read_to_string(root().join(path)).unwrap() }
    }

    pub(crate) fn fences(&self) -> Vec<Fence<'_>> {
        let mut fences = Vec::new();
        let mut open: Option<Fence<'_>> = None;
        for (number, line) in self.text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => open = Some(Fence { info: info.trim(), text: String::new(), line: number + 2 }),
                (Some(_), Some(_)) => fences.extend(open.take()),
                (Some(fence), None) => fence.text.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a code block without an end", self.path);
        fences
    }

    /// All lines but those of `text` blocks: output of programs, which is as long as it is.
    pub(crate) fn lines_to_read(&self) -> impl Iterator<Item = &str> {
        let mut is_output = false;
        self.text.lines().filter(move |line| {
            is_output = if line.starts_with("```") { *line == "```text" } else { is_output };
            !is_output
        })
    }

    /// The lines outside code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// The targets of links and images that have no scheme.
    pub(crate) fn links(&self) -> impl Iterator<Item = String> {
        let prose: Vec<&str> = self.prose().collect();
        let text = prose.join("\n");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let relative = targets.filter(|target| !target.contains("://")).map(str::to_owned);
        relative.collect::<Vec<_>>().into_iter()
    }

    /// Whether a relative link leads to a file, and its fragment to a heading.
    pub(crate) fn resolves(&self, link: &str) -> bool {
        let (path, fragment) = link.split_once('#').map_or((link, None), |(path, fragment)| (path, Some(fragment)));
        let folder = Path::new(&self.path).parent().unwrap();
        let file = if path.is_empty() { PathBuf::from(&self.path) } else { folder.join(path) };
        let target = root().join(&file);
        match fragment {
            None => target.exists(),
            Some(fragment) => target.is_file() && Page::read(file.to_str().unwrap()).anchors().any(|it| it == fragment),
        }
    }

    fn anchors(&self) -> impl Iterator<Item = String> {
        self.prose().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim()))
    }

    /// The rows of all tables, without headings and rules.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let (mut rows, mut heading) = (Vec::new(), "");
        for line in self.prose() {
            if line.starts_with('#') {
                heading = line.trim_start_matches('#').trim();
            }
            if let Some(row) = line.strip_prefix('|') {
                let row = row.trim_end().strip_suffix('|').unwrap_or(row);
                rows.push(Row { heading, cells: row.split('|').map(str::trim).collect() });
            }
        }
        rows
    }
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.flat_map(char::to_lowercase).map(|char| if char == ' ' { '-' } else { char }).collect()
}

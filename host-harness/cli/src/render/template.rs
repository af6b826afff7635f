//! Template: a shipped manifest as lines, of which some are replaced.
//!
//! The manifests of `envoy/kubernetes` are the templates, so that their comments and their shape are those of the output.

/// Documents of a manifest, each as lines.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(super) documents: Vec<Lines>,
}

/// Lines of a document.
#[derive(Debug, Clone)]
pub(super) struct Lines(Vec<String>);

impl Template {
    /// Splits a text into its documents. The comment at its start is about the shipped manifest, and left out.
    pub(super) fn of(text: &str) -> Self {
        let documents = text.split("\n---\n").map(|text| {
            let lines = text.lines().skip_while(|line| line.starts_with('#'));
            Lines(lines.map(str::to_owned).collect())
        });
        Self { documents: documents.collect() }
    }

    /// Keeps the documents of these kinds.
    pub(super) fn only(mut self, kinds: &[&str]) -> Self {
        self.documents.retain(|lines| kinds.contains(&lines.kind()));
        self
    }

    /// Replaces a text in all documents.
    pub(super) fn replace(&mut self, from: &str, to: &str) {
        self.documents.iter_mut().for_each(|lines| lines.replace(from, to));
    }

    /// The document of a kind.
    ///
    /// # Panics
    /// If there is none: templates are part of this program.
    pub(super) fn document(&mut self, kind: &str) -> &mut Lines {
        let found = self.documents.iter_mut().find(|lines| lines.kind() == kind);
        found.unwrap_or_else(|| unreachable!("a template has a {kind}"))
    }

    /// The text of all documents.
    pub(crate) fn text(&self) -> String {
        self.documents.iter().map(Lines::text).collect::<Vec<_>>().join("---\n")
    }
}

impl Lines {
    pub(super) fn kind(&self) -> &str {
        self.0.iter().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default()
    }

    /// `metadata.name`.
    pub(super) fn name(&self) -> &str {
        let starts = ["metadata: {name: ", "  name: "];
        let found = self.0.iter().find_map(|line| starts.iter().find_map(|start| line.strip_prefix(start)));
        found.unwrap_or_default().split([',', '}']).next().unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    pub(super) fn replace(&mut self, from: &str, to: &str) {
        self.0.iter_mut().for_each(|line| *line = line.replace(from, to));
    }

    /// The block that begins with a text: its line and all lines of it, from its first column on.
    pub(super) fn block(&self, start: &str) -> Vec<String> {
        let (from, to) = self.range(start);
        let indent = indent(&self.0[from]);
        self.0[from..to].iter().map(|line| line.get(indent..).unwrap_or_default().to_owned()).collect()
    }

    /// Removes the block that begins with a text.
    pub(super) fn remove(&mut self, start: &str) {
        let (from, to) = self.range(start);
        self.0.drain(from..to);
    }

    /// Inserts a block before each line that begins with a text.
    pub(super) fn insert_all(&mut self, start: &str, block: &[String]) {
        let lines = std::mem::take(&mut self.0);
        for line in lines {
            if line.trim_start().starts_with(start) {
                self.0.extend(indented(block, indent(&line)));
            }
            self.0.push(line);
        }
    }

    /// Adds lines to the list in the block that begins with a text, whose items are in the column of its key.
    pub(super) fn append(&mut self, start: &str, lines: &[String]) {
        let (from, to) = self.range(start);
        let column = indent(&self.0[from]);
        self.0.splice(to..to, indented(lines, column));
    }

    /// Adds a line at the start.
    pub(super) fn prepend(&mut self, line: String) {
        self.0.insert(0, line);
    }

    /// Whether a block begins with a text.
    pub(super) fn has(&self, start: &str) -> bool {
        self.0.iter().any(|line| line.trim_start().starts_with(start))
    }

    /// Replaces a text in the first line that has it behind the one that begins with `start`.
    pub(super) fn replace_after(&mut self, start: &str, from: &str, to: &str) {
        let (place, _) = self.range(start);
        if let Some(line) = self.0.iter_mut().skip(place).find(|line| line.contains(from)) {
            *line = line.replace(from, to);
        }
    }

    /// Puts a block in the place of the one that begins with a text.
    pub(super) fn put(&mut self, start: &str, block: &[String]) {
        let (from, to) = self.range(start);
        let indent = indent(&self.0[from]);
        self.0.splice(from..to, indented(block, indent));
    }

    /// Inserts a block before the one that begins with a text, at its column.
    pub(super) fn insert(&mut self, start: &str, block: &[String]) {
        let (from, _) = self.range(start);
        let indent = indent(&self.0[from]);
        self.0.splice(from..from, indented(block, indent));
    }

    /// Puts a block in the place of the line that begins with a text, and of all lines behind it in the same object.
    pub(super) fn put_rest(&mut self, start: &str, block: &[String]) {
        let (from, _) = self.range(start);
        let column = indent(&self.0[from]);
        let to = from + self.0[from..].iter().take_while(|line| line.is_empty() || indent(line) >= column).count();
        self.0.splice(from..to, indented(block, column));
    }

    /// The lines of the block that begins with a text.
    fn range(&self, start: &str) -> (usize, usize) {
        let from = self.0.iter().position(|line| line.trim_start().starts_with(start));
        let from = from.unwrap_or_else(|| unreachable!("a template has {start}"));
        let column = indent(&self.0[from]);
        let is_item = start.starts_with('-');
        let is_inside = |line: &&String| {
            // The items of a list may be in the column of its key.
            indent(line) > column || (!is_item && indent(line) == column && line.trim_start().starts_with("- "))
        };
        (from, from + 1 + self.0[from + 1..].iter().take_while(is_inside).count())
    }
}

/// The fields of an item of a list, as lines from their first column on.
pub(super) fn fields_of(item: &[String]) -> impl Iterator<Item = String> {
    item.iter().map(|line| line.get("- ".len()..).unwrap_or_default().to_owned())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn indented(block: &[String], column: usize) -> impl Iterator<Item = String> {
    let space = " ".repeat(column);
    block.iter().map(move |line| if line.is_empty() { String::new() } else { format!("{space}{line}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# About it.\nkind: A\nmetadata: {name: a, namespace: b}\nspec:\n  env:\n  - {name: X}\n  url: u\n  \
                        config:\n    redis: r\n    limits:\n    - 1\n  last: z\n---\nkind: B\n";

    fn lines(change: impl FnOnce(&mut Lines)) -> String {
        let mut template = Template::of(TEXT);
        change(template.document("A"));
        template.document("A").text()
    }

    #[test]
    fn blocks_are_replaced_removed_and_inserted() {
        let template = Template::of(TEXT);
        assert_eq!(template.documents.iter().map(Lines::kind).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(template.documents[0].name(), "a");
        assert_eq!(template.documents[0].block("env:"), ["env:", "- {name: X}"]);
        assert!(!lines(|it| it.remove("env:")).contains('X'));
        let block = ["new:".to_owned(), "- 2".to_owned()];
        assert!(lines(|it| it.insert("url:", &block)).contains("  - {name: X}\n  new:\n  - 2\n  url: u\n"));
        assert!(lines(|it| it.put("url:", &block)).contains("  new:\n  - 2\n  config:\n"));
        assert!(lines(|it| it.put_rest("redis:", &block)).contains("  config:\n    new:\n    - 2\n  last: z\n"));
    }
}

//! Descriptions and defaults of fields, from the tables of the documentation.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

/// Row of a table of fields.
struct Row<'a> {
    heading: &'a str,
    name: &'a str,
    meaning: &'a str,
    default: &'a str,
    bounds: &'a str,
}

/// Rows of all tables of a page.
pub(super) struct Meanings<'a>(Vec<Row<'a>>);

/// Description and default of a field.
pub(super) struct Meaning {
    pub(super) description: String,
    pub(super) default: Option<Value>,
}

impl<'a> Meanings<'a> {
    pub(super) fn of(page: &'a str) -> Self {
        let (mut rows, mut heading, mut columns) = (Vec::new(), "", Vec::new());
        for line in page.lines() {
            if let Some(text) = line.strip_prefix('#') {
                heading = code(text.trim_start_matches('#').trim()).unwrap_or_default();
            }
            let Some(row) = line.strip_prefix('|') else {
                columns.clear();
                continue;
            };
            let cells: Vec<&str> = row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
            if columns.is_empty() {
                columns = cells;
                continue;
            }
            let cell = |names: &[&str]| {
                let place = names.iter().find_map(|name| columns.iter().position(|column| column == name));
                place.and_then(|place| cells.get(place)).copied().unwrap_or_default()
            };
            if let Some(name) = cells.first().and_then(|cell| code(cell)).filter(|_| !heading.is_empty()) {
                let meaning = cell(&["meaning", "holds if", "value"]);
                rows.push(Row { heading, name, meaning, default: cell(&["default"]), bounds: cell(&["bounds"]) });
            }
        }
        Self(rows)
    }

    /// The meaning of the field `name` of the object at `heading`, or of an object that the last parts of `heading`
    /// name: `response` also for `limits[].response`.
    pub(super) fn of_field(&self, heading: &str, name: &str) -> Option<Meaning> {
        // Exemptions are predicates.
        if heading.ends_with("exempt[]") && name != "descriptor_value" {
            return self.of_field("limits[].when[]", name);
        }
        let mut tail = Some(heading);
        while let Some(heading) = tail {
            if let Some(row) = self.0.iter().find(|row| row.heading == heading && row.name == name) {
                return row.meaning();
            }
            tail = heading.split_once('.').map(|(_, rest)| rest);
        }
        // The windows of a limit have the fields of its algorithms.
        heading.contains("windows[].").then(|| self.of_field(&heading.replace("windows[].", ""), name))?
    }
}

impl Row<'_> {
    fn meaning(&self) -> Option<Meaning> {
        let mut description = plain(self.meaning);
        let bounds = plain(self.bounds);
        if !bounds.is_empty() {
            let between = if description.is_empty() { "" } else { "; " };
            description = format!("{description}{between}{bounds}");
        }
        (!description.is_empty()).then(|| Meaning { description, default: code(self.default).map(value) })
    }
}

/// The text of a cell that is nothing but code.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|code| !code.contains('`'))
}

/// A default of a table, which is in YAML's flow style.
fn value(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(items) => items.split(", ").map(Value::from).collect(),
        None => text.into(),
    }
}

/// Text of Markdown without the marks of code, emphasis and links.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text.push_str(before);
        match link.split_once("](").and_then(|(name, target)| Some((name, target.split_once(')')?.1))) {
            Some((name, behind)) if !name.contains(']') => {
                text.push_str(name);
                rest = behind;
            }
            _ => {
                text.push('[');
                rest = link;
            }
        }
    }
    text.push_str(rest);
    let text = text.replace("**", "").replace(": see below", "");
    text.chars().filter(|letter| *letter != '`').collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_is_plain_text_with_the_bounds() {
        let page = "## `redis`\n\n| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n\
                    | `timeout` | duration | `0.05s` | `0.001s` to `10s` | time of a [check](#a); after **it** |\n";
        let meaning = Meanings::of(page).of_field("redis", "timeout").unwrap();
        assert_eq!(meaning.description, "time of a check; after it; 0.001s to 10s");
        assert_eq!(meaning.default, Some(json!("0.05s")));
        assert!(Meanings::of(page).of_field("redis", "other").is_none());
    }

    #[test]
    fn a_default_is_read_as_yaml() {
        assert_eq!(value("[x-ratelimit, retry-after]"), json!(["x-ratelimit", "retry-after"]));
        assert_eq!((value("[]"), value("429"), value("1s")), (json!([]), json!(429), json!("1s")));
    }
}

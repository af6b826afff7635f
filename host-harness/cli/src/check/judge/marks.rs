//! Marks of limits: headers that Weir removes from every request, and that limits read all the same.

use super::configuration::Findings as _;
use super::limiter::Limiter;
use super::order::{Item, items};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::quoted;

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let marks = limiter.config.marks();
    if marks.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (item, path) in items(limiter) {
        if let Item::Header(name) = &item
            && marks.contains(name)
        {
            let help = "choose another name for the mark: Weir removes a mark from every request before it reads \
                        values, so that the limit never sees this one, and the upstream does not get it";
            let (expected, header) = ("a header that is not an on_exceed.mark", quoted(name));
            found.push(limiter.written.at_path(&path, |at| Finding::at(rules::MARK, at, expected, header, help)));
        }
    }
    found
}

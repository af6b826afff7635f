//! Collects errors, and knows what the places of a configuration are called.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Write;

use super::error::{ConfigError, ConfigNotice, Notice, Problem};
use super::shown::{MAX_SHOWN, quoted};

/// Where errors are reported, and what places are called.
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    notices: RefCell<Vec<ConfigNotice>>,
    places: RefCell<Vec<Place>>,
}

/// A place in the configuration. Only those of errors are ever spelt out.
struct Place {
    /// The index of the place that it is in; the whole has none.
    parent: usize,
    step: Step,
}

pub(super) enum Step {
    Field(Box<str>),
    Item(usize),
}

impl Report {
    /// The index of the whole configuration, whose place is not kept.
    pub(super) const ROOT: usize = usize::MAX;

    /// All errors and notices, each in the order of their reports.
    pub(super) fn into_parts(self) -> (Vec<ConfigError>, Vec<ConfigNotice>) {
        (self.errors.into_inner(), self.notices.into_inner())
    }

    /// Reports a problem at a place.
    pub(super) fn add(&self, place: usize, problem: Problem) {
        let path = self.path(place);
        self.errors.borrow_mut().push(ConfigError { path, problem });
    }

    /// Reports a correction at a place.
    #[inline(never)]
    pub(super) fn notice(&self, place: usize, notice: Notice) {
        let path = self.path(place);
        self.notices.borrow_mut().push(ConfigNotice { path, notice });
    }

    /// The index of a place within another.
    pub(super) fn place(&self, parent: usize, step: Step) -> usize {
        let mut places = self.places.borrow_mut();
        places.push(Place { parent, step });
        places.len().saturating_sub(1)
    }

    /// `limits[2].token_bucket`, or `configuration` for the whole.
    pub(super) fn path(&self, place: usize) -> String {
        let places = self.places.borrow();
        let mut steps: Vec<&Step> = Vec::new();
        let mut next = places.get(place);
        while let Some(place) = next {
            steps.push(&place.step);
            next = places.get(place.parent);
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Field(name) => push_field(&mut path, name),
                Step::Item(i) => {
                    // Writing to a string does not fail.
                    let _ = write!(path, "[{i}]");
                }
            }
        }
        if path.is_empty() { "configuration".to_owned() } else { path }
    }
}

/// Appends a field's name to its parent's path.
fn push_field(path: &mut String, name: &str) {
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !plain || name.len() > MAX_SHOWN {
        // Writing to a string does not fail.
        let _ = write!(path, "[{}]", quoted(name));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_field_name_is_escaped_and_shortened() {
        let mut path = "limits".to_owned();
        push_field(&mut path, "a\nb");
        assert_eq!(path, r#"limits["a\nb"]"#);
        push_field(&mut path, &"x".repeat(1_000));
        assert!(path.len() < 100);
    }
}

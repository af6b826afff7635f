//! Report of errors and notices, with the paths of their places in a configuration.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Write;

use super::error::{ConfigError, ConfigErrors, ConfigNotice, Notice, Problem};
use super::shown::{MAX_SHOWN, quoted};

/// Error that the [`Report`] has: no other code makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported(());

/// Value that was read, or an error that is reported.
pub(super) type Read<T> = Result<T, Reported>;

/// Report of errors and notices, with the places of a configuration.
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    notices: RefCell<Vec<ConfigNotice>>,
    places: RefCell<Vec<Place>>,
}

/// Place in the configuration. Only errors and notices turn places into paths.
struct Place {
    /// Index of the enclosing place, or [`Report::ROOT`].
    parent: usize,
    step: Step,
}

pub(super) enum Step {
    Field(Box<str>),
    Item(usize),
}

impl Report {
    /// Index of the whole configuration, which is not in `places`.
    pub(super) const ROOT: usize = usize::MAX;

    /// Returns the value that was read and the notices, or all errors, in the order reported.
    pub(super) fn finish<T>(self, value: Read<T>) -> Result<(T, Vec<ConfigNotice>), ConfigErrors> {
        let errors = self.errors.into_inner();
        match value {
            Ok(value) if errors.is_empty() => Ok((value, self.notices.into_inner())),
            _ => Err(ConfigErrors::new(errors)),
        }
    }

    /// Reports a problem at a place.
    pub(super) fn add(&self, place: usize, problem: Problem) -> Reported {
        let path = self.path(place);
        self.errors.borrow_mut().push(ConfigError { path, problem });
        Reported(())
    }

    /// Reports a correction at a place.
    #[inline(never)]
    pub(super) fn notice(&self, place: usize, notice: Notice) {
        let path = self.path(place);
        self.notices.borrow_mut().push(ConfigNotice { path, notice });
    }

    /// Adds a place within `parent` and returns its index.
    pub(super) fn place(&self, parent: usize, step: Step) -> usize {
        let mut places = self.places.borrow_mut();
        places.push(Place { parent, step });
        places.len().saturating_sub(1)
    }

    /// Path of a place: `limits[2].token_bucket`, or `configuration` for the whole.
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

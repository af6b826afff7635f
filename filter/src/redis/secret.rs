//! Credentials for Redis. No `Debug` or `Display` form prints a password.

use alloc::fmt;
use alloc::string::String;

/// A password. Its `Debug` form is `[redacted]`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, so that it is not printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the password, for `AUTH` only: never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Arguments of `AUTH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// ACL user. `None` for Redis' `default` user; Redis before 6.0 has no other.
    pub username: Option<String>,
    /// Password of the user.
    pub password: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let credentials = Credentials { username: Some("weir".into()), password: Secret::new("hunter2") };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("weir") && shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    }
}

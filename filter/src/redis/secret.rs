//! What Redis is told to let Weir in. Nothing here prints a password.

use alloc::fmt;
use alloc::string::String;

/// A password. Its `Debug` form is `[redacted]`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, to be sent and never to be shown.
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

/// What `AUTH` is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is Redis' `default` user, and the only form that Redis before 6.0 knows.
    pub username: Option<String>,
    /// The password.
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

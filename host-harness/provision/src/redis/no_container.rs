//! Stand-in for Redis in a container, where this crate is built without its feature `containers`.

use std::{convert::Infallible, net::SocketAddr};

use crate::ProvisionError;

/// A container that does not exist: without the feature `containers`, none is started.
#[derive(Debug)]
pub struct RedisContainer(Infallible);

impl RedisContainer {
    /// Refuses, with the ways to have a Redis.
    ///
    /// # Errors
    /// [`ProvisionError::Missing`], always.
    pub fn start() -> Result<Self, ProvisionError> {
        Err(ProvisionError::Missing {
            what: "Redis container",
            why: "this program is built without the feature `containers`; REDIS_URL may name a running Redis instead"
                .into(),
            try_command: "cargo run -p weir-harness --features containers -- demo".into(),
        })
    }

    /// The address of the server.
    pub fn addr(&self) -> SocketAddr {
        match self.0 {}
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        match self.0 {}
    }
}

/// Returns `false`: an engine would be of no use.
pub(super) fn engine_answers() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_this_build_cannot_start_is_refused_with_the_feature_and_the_alternative() {
        let why = RedisContainer::start().unwrap_err().to_string();
        assert!(why.contains("`containers`") && why.contains("--features containers"), "{why}");
        assert!(why.contains("REDIS_URL"), "{why}");
    }
}

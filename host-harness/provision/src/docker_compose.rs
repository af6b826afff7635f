//! Docker Compose, from Debian's packages: it reads a `compose.yaml` without an engine.

use std::path::PathBuf;

use super::{ProvisionError, debian, tools};

/// Suite whose version knows `dockerfile_inline`.
const SUITE: &str = "trixie";

/// Returns the path of a private copy of Docker Compose, fetched if there is none.
///
/// # Errors
/// If the download failed.
pub fn binary() -> Result<PathBuf, ProvisionError> {
    tools::executable("docker-compose", |dir| {
        crate::announce(format_args!("weir: fetching Docker Compose into target/tools (13 MB)"));
        debian::unpack_of(SUITE, &["docker-compose"], dir).map_err(|why| ProvisionError::Missing {
            what: "Docker Compose",
            why: why.to_string(),
            try_command: "apt-get install docker-compose".into(),
        })?;
        Ok(dir.join("usr/libexec/docker/cli-plugins/docker-compose"))
    })
}

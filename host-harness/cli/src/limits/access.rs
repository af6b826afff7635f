//! Options of commands about limits: Redis, and the configuration.

use std::path::PathBuf;

use super::configured::Configured;
use super::error::LimitsError;
use super::found::KnownUnits;
use super::server::{RedisOptions, Server};
use super::source::Source;
use super::store::Store;

// Not a doc comment: clap would use it as the help of the command.
// Options for the Redis and the configuration of a command.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    #[command(flatten)]
    redis: RedisOptions,
    /// The limits' configuration: an Envoy bootstrap, a limiter's configuration alone, or Kubernetes manifests. Without
    /// it, --redis or REDIS_URL must be given, keys are taken as they are, and commands that need limits are not
    /// available.
    #[arg(long, global = true, help_heading = "Redis", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Key prefix that replaces the configuration's redis.key_prefix; without a configuration, the default is weir:.
    #[arg(long, global = true, help_heading = "Redis", value_name = "PREFIX")]
    key_prefix: Option<String>,
}

impl Access {
    /// Reads the configuration, if there is one, and the limits in it.
    pub(crate) fn load(&self) -> Result<(Option<Source>, Configured), LimitsError> {
        if self.config.is_none() && !self.redis.has_url() {
            return Err(LimitsError::NoConfig);
        }
        let prefix = self.key_prefix.as_deref();
        let source = self.config.as_deref().map(|file| Source::load(file, prefix)).transpose()?;
        let unknown = || Configured::unknown(prefix, self.redis.is_cluster());
        let configured = source.as_ref().map_or_else(unknown, Configured::of);
        Ok((source, configured))
    }

    /// Connects to Redis and logs in.
    pub(crate) fn connect(&self, source: Option<&Source>) -> Result<Store, LimitsError> {
        Store::connect(Server::of(&self.redis, source)?, KnownUnits::of(source))
    }
}

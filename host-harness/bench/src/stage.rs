//! Servers of all subjects. They run side by side; only the measured subject's servers receive requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use weir_provision::{
    ProvisionError, checkout,
    envoy::{EnvoyOptions, EnvoyServer},
    filter_wasm,
    limitador::{self, LimitadorServer},
    nginx::{self, NginxServer},
    redis::{RedisOptions, RedisServer},
};

use super::{
    BenchError,
    delay::DelayProxy,
    envoy::{self, Around},
    guest,
    plan::Setting,
    redis_stats::Commands,
    spread::Spread,
    subject::{Filter, Guest, Proxy, Subject},
};

/// Arguments of the minimal script for a bucket that no run empties: microseconds per token, and for the whole bucket.
pub(super) const AMPLE: (u64, u64) = (3600, 360_000_000_000);

/// Role of a server for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    /// Answers the requests.
    Proxy,
    /// Holds the buckets.
    Redis,
    /// Rate limit service between proxy and Redis.
    Service,
}

/// A subject's running servers.
pub(super) struct Standing {
    /// The address for requests.
    pub(super) target: SocketAddr,
    /// The processes with their roles.
    pub(super) processes: Vec<(Role, u32)>,
    proxy: Running,
    _service: Option<LimitadorServer>,
    _delay: Option<DelayProxy>,
}

enum Running {
    Envoy(EnvoyServer),
    Nginx(NginxServer),
}

/// Key of running servers: subject, number of workers and added Redis latency.
type Which = (Subject, u32, Option<u64>);

/// Redis, and the running servers of the subjects.
pub(super) struct Stage {
    redis: RedisServer,
    connection: redis::Connection,
    wasm: PathBuf,
    dir: TempDir,
    standing: BTreeMap<Which, Standing>,
}

impl Stage {
    /// Builds Weir's filter, and starts a Redis without persistence.
    pub(super) fn set() -> Result<Self, BenchError> {
        let wasm = filter_wasm::find_or_build()?;
        let redis = RedisServer::start(RedisOptions::default())?;
        let mut connection = redis::Client::open(redis.url())?.get_connection()?;
        // Loaded once here: `ask-redis` calls it with EVALSHA, and never sends its source.
        let _: String = redis::Script::new(super::nginx::GCRA).prepare_invoke().load(&mut connection)?;
        Ok(Self { redis, connection, wasm, dir: checkout::scratch_dir("bench")?, standing: BTreeMap::new() })
    }

    /// The servers of a subject, started now if they do not run yet.
    pub(super) fn standing(&mut self, subject: Subject, setting: Setting) -> Result<&Standing, BenchError> {
        let which = (subject, setting.workers, setting.redis_delay_millis);
        if !self.standing.contains_key(&which) {
            let started = self.start(subject, setting)?;
            self.standing.insert(which, started);
        }
        self.standing.get(&which).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    /// The subjects that need a server which is missing here, with the reasons.
    pub(super) fn not_to_be_had(
        &self,
        subjects: &BTreeSet<Subject>,
    ) -> Result<Vec<(Subject, ProvisionError)>, BenchError> {
        let mut missing = Vec::new();
        for subject in subjects {
            let provided = match subject.proxy() {
                Proxy::Envoy(Filter::Ratelimit) => limitador::find_or_build().map(drop),
                Proxy::Envoy(_) => continue,
                Proxy::Nginx { .. } => nginx::find_or_fetch().map(drop),
            };
            match provided {
                Ok(()) => {}
                Err(why @ ProvisionError::Missing { .. }) => missing.push((*subject, why)),
                Err(why) => return Err(why.into()),
            }
        }
        Ok(missing)
    }

    /// Stops all subjects' servers, and deletes all buckets.
    pub(super) fn clear(&mut self) -> Result<(), BenchError> {
        self.standing.clear();
        Ok(redis::cmd("FLUSHALL").query(&mut self.connection)?)
    }

    /// Commands that Redis has run since its start.
    pub(super) fn commands(&mut self) -> Result<Commands, BenchError> {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut self.connection)?;
        Ok(Commands::parse(&info))
    }

    /// Round trip of one script call to an otherwise idle Redis, in milliseconds, measured for one second.
    pub(super) fn redis_round_trip(&mut self) -> Result<Option<Spread>, BenchError> {
        let script = redis::Script::new(super::nginx::GCRA);
        let mut invocation = script.prepare_invoke();
        let (emission, fill) = AMPLE;
        invocation.key("round-trip").arg(emission).arg(fill);
        let (mut took, until) = (Vec::new(), Instant::now() + Duration::from_secs(1));
        while Instant::now() < until {
            let check = Instant::now();
            let _: u8 = invocation.invoke(&mut self.connection)?;
            took.push(check.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(Spread::of(took))
    }

    /// Redis' version.
    pub(super) fn redis_version(&mut self) -> Result<String, BenchError> {
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.connection)?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("unknown").trim().to_owned())
    }

    /// The path of Weir's wasm module.
    pub(super) fn wasm(&self) -> &Path {
        &self.wasm
    }

    fn start(&self, subject: Subject, setting: Setting) -> Result<Standing, BenchError> {
        let delay = match setting.redis_delay() {
            None => None,
            Some(delay) => Some(DelayProxy::start(self.redis.addr(), delay)?),
        };
        let redis = delay.as_ref().map_or(self.redis.addr(), DelayProxy::addr);
        let (proxy, service) = match subject.proxy() {
            Proxy::Envoy(filter) => {
                let service = match filter {
                    Filter::Ratelimit => Some(LimitadorServer::start(redis)?),
                    _ => None,
                };
                let service_addr = service.as_ref().map(LimitadorServer::addr);
                (self.envoy(subject, &filter, setting.workers, redis, service_addr)?, service)
            }
            Proxy::Nginx { limits } => {
                let nginx = NginxServer::start(|installed, addr| {
                    super::nginx::configuration(installed, addr, limits.then_some(redis))
                })?;
                (Running::Nginx(nginx), None)
            }
        };
        let mut processes = vec![(Role::Proxy, proxy.id())];
        processes.extend(service.as_ref().map(|service| (Role::Service, service.id())));
        if subject.asks_redis() {
            processes.extend(self.redis.id().map(|id| (Role::Redis, id)));
        }
        Ok(Standing { target: proxy.addr(subject)?, processes, proxy, _service: service, _delay: delay })
    }

    fn envoy(
        &self,
        subject: Subject,
        filter: &Filter,
        workers: u32,
        redis: SocketAddr,
        service: Option<SocketAddr>,
    ) -> Result<Running, BenchError> {
        let module = match filter {
            Filter::Guest(guest) => self.guest(*guest)?,
            _ => self.wasm.clone(),
        };
        let key_prefix = format!("{}:", subject.name());
        let around = Around { redis, service, module: &module, key_prefix: &key_prefix };
        let config = envoy::bootstrap(filter, &around);
        let options = EnvoyOptions { concurrency: workers, log_level: "warning".into(), ..EnvoyOptions::new(config) };
        Ok(Running::Envoy(EnvoyServer::start(options)?))
    }

    fn guest(&self, guest: Guest) -> Result<PathBuf, BenchError> {
        let file = self.dir.path().join(match guest {
            Guest::NoOp => "no-op.wasm",
            Guest::PauseResume => "pause-resume.wasm",
            Guest::AskRedis => "ask-redis.wasm",
            Guest::Deny => "deny.wasm",
            Guest::FetchBodies => "fetch-bodies.wasm",
        });
        std::fs::write(&file, guest::module(guest)?)?;
        Ok(file)
    }
}

impl Standing {
    /// The proxy's log so far.
    pub(super) fn log(&self) -> String {
        match &self.proxy {
            Running::Envoy(envoy) => envoy.log(),
            Running::Nginx(nginx) => nginx.log(),
        }
    }

    /// Free memory in the proxy's allocator, in MiB, as Envoy reports it.
    pub(super) fn unused_mib(&self) -> Option<f64> {
        let Running::Envoy(envoy) = &self.proxy else { return None };
        unused(&envoy.admin_get("/memory").ok()?).map(super::round::mib)
    }

    /// Time from the proxy's start until its workers accepted connections, in milliseconds, as Envoy reports it.
    pub(super) fn start_up_millis(&self) -> Option<f64> {
        const TRIES: u32 = 50;
        let Running::Envoy(envoy) = &self.proxy else { return None };
        // Envoy publishes the value some time after start-up.
        (0..TRIES).find_map(|_| {
            let stats = envoy.admin_get("/stats?filter=server.initialization_time_ms").ok()?;
            median(&stats).or_else(|| {
                thread::sleep(Duration::from_millis(20));
                None
            })
        })
    }
}

/// Parses `/memory` of Envoy's admin interface: resident bytes less the bytes in use. The values are strings.
fn unused(memory: &str) -> Option<u64> {
    let memory: serde_json::Value = serde_json::from_str(memory).ok()?;
    let bytes = |name| memory.get(name)?.as_str()?.parse::<u64>().ok();
    bytes("total_physical_bytes")?.checked_sub(bytes("allocated")?)
}

/// Parses the median since the start from a histogram of Envoy's admin interface, `name: P0(0.5,0.5) … P50(2.1,2.3) …`:
/// each pair holds the value of the last interval and the value since the start. `None` if nothing is recorded yet.
fn median(stats: &str) -> Option<f64> {
    let (_, after) = stats.split_once("P50(")?;
    let (both, _) = after.split_once(')')?;
    both.split_once(',')?.1.parse().ok()
}

impl Running {
    fn id(&self) -> u32 {
        match self {
            Self::Envoy(envoy) => envoy.id(),
            Self::Nginx(nginx) => nginx.id(),
        }
    }

    fn addr(&self, subject: Subject) -> Result<SocketAddr, BenchError> {
        match self {
            Self::Envoy(envoy) => {
                envoy.listener(envoy::LISTENER).ok_or(BenchError::NoListener { subject: subject.name() })
            }
            Self::Nginx(nginx) => Ok(nginx.addr()),
        }
    }
}

/// The files of an nginx installation, needed for its configuration.
pub(super) type Installed = nginx::Installed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_resident_memory_less_memory_in_use() {
        let memory = r#"{"allocated": "700", "heap_size": "4000", "total_physical_bytes": "1000"}"#;
        assert_eq!(unused(memory), Some(300));
        assert_eq!(unused("{}"), None);
    }

    #[test]
    fn a_histograms_median_is_the_one_since_the_start() {
        assert_eq!(median("server.x: P0(nan,20.5) P50(nan,21.5) P100(nan,22)"), Some(21.5));
        assert_eq!(median("server.x: No recorded values"), None);
    }
}

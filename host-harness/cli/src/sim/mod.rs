//! `weir sim`: simulates fleets with faults in virtual time, and checks the guarantees.
//!
//! | module | contents |
//! |---|---|
//! | `pictures` | studies without faults, drawn |
//! | `report` | texts and JSON of a run |
//! | `servers` | real Redis servers on a virtual clock |

mod pictures;
mod report;
mod servers;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_sim::{Progress, Size, Story};

use self::report::Run;
use self::servers::{Server, servers};
use crate::output::print_result;

/// Broken seeds after which a run ends.
const MOST_BROKEN: usize = 5;
/// Broken seeds whose histories are shrunken.
const MOST_STORIES: usize = 2;
/// Time between two lines about the progress.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Simulate this number of seeds, each a fleet of its own.
    #[arg(long, value_name = "N", default_value = "100", conflicts_with = "seed")]
    seeds: NonZeroU64,
    /// Simulate only this seed.
    #[arg(long, value_name = "K")]
    seed: Option<u64>,
    /// First of the seeds.
    #[arg(long, value_name = "K", default_value_t = 1, conflicts_with = "seed")]
    first_seed: u64,
    /// Simulated time of each seed.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(Size::LEAST_SECONDS..=86_400))]
    seconds: u64,
    /// Proxies of each fleet.
    #[arg(long, value_name = "N", default_value = "8")]
    proxies: NonZeroUsize,
    /// Workers of each proxy.
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,
    /// Threads; as many as the machine has processors, if it is not given.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Redis of the simulations.
    #[arg(long, value_enum, default_value_t = On::Virtual, value_name = "BACKEND")]
    on: On,
    /// Form of the result on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Instead of seeds with faults, study fleets without any, and write the pictures and a table into this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["seeds", "seed", "first_seed", "seconds", "proxies", "workers", "on", "format"])]
    pictures: Option<PathBuf>,
    /// Workers of the largest fleet that is studied.
    #[arg(long, value_name = "N", default_value = "10000", requires = "pictures")]
    largest_fleet: NonZeroUsize,
}

/// Redis of the simulations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    /// The Rust specification of the scripts.
    Virtual,
    /// A real Redis with the real scripts, on a virtual clock: its replies must be those of the specification.
    Redis,
}

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Sentences.
    Text,
    /// JSON object of the whole run.
    Json,
}

/// Runs the simulations. Exit code 0: every guarantee holds; 1: one was broken.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let size = Size { seconds: arguments.seconds, proxies: arguments.proxies.get(), workers: arguments.workers.get() };
    let (first, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.first_seed, arguments.seeds.get()),
    };
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = arguments.threads.map_or_else(processors, NonZeroUsize::get);
    if let Some(folder) = &arguments.pictures {
        return pictures::draw(folder, arguments.largest_fleet.get(), threads);
    }
    // A panic of the filter is a result, with a text of its own.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let go_on = |progress: &Progress| goes_on(progress, seeds, began);
    let servers = servers(arguments.on, threads)?;
    let connect = || servers.iter().map(Server::connect).collect::<anyhow::Result<Vec<_>>>();
    let progress = weir_sim::sweep_on(connect()?, first, seeds, size, &go_on);
    let took = began.elapsed();
    let mut real = connect()?.into_iter().next().flatten();
    let broken = progress.broken.keys().take(MOST_STORIES);
    let stories: Vec<Story> = broken.filter_map(|seed| weir_sim::shrink(*seed, size, real.as_mut())).collect();
    std::panic::set_hook(hook);
    let on = arguments.on;
    let run = Run { size, seeds, threads, on, took, progress: &progress, stories: &stories };
    match arguments.format {
        Format::Text => print_result(&run),
        Format::Json => print_result(format_args!("{}\n", run.json())),
    }?;
    Ok(if progress.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Logs the progress now and then. Returns whether to go on: a few broken seeds are enough.
fn goes_on(progress: &Progress, seeds: u64, began: Instant) -> bool {
    static LOGGED: OnceLock<AtomicU64> = OnceLock::new();
    let logged = LOGGED.get_or_init(AtomicU64::default);
    let intervals = began.elapsed().as_secs() / INTERVAL.as_secs();
    if logged.swap(intervals, Ordering::Relaxed) < intervals {
        log::info!("{} of {seeds} seeds simulated, {} of them broken", progress.simulations, progress.broken.len());
    }
    progress.broken.len() < MOST_BROKEN
}

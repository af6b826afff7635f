//! `weir test FILE…`: unit tests for limits, in YAML beside the configuration.
//!
//! Each test starts with an empty Redis and fresh workers. In virtual time, the default, the filter's own worker runs
//! natively over the Rust specification of its scripts, and the clock moves only as the test says. `--on redis` and
//! `--on envoy` run the same tests in real time.
//!
//! | module | contents |
//! |---|---|
//! | `file` | the YAML: suites, steps, requests, expectations, and their mistakes with places |
//! | `setup` | the configuration under test |
//! | `proxy` | the proxy before its limiter: its own, or a plain one |
//! | `jwt` | tokens that tests ask for |
//! | `backend` | virtual time, and real hosts with a real Redis |
//! | `run` | the steps of a test, and the differences |
//! | `report` | texts and JUnit's XML |

mod backend;
mod file;
mod jwt;
mod proxy;
mod report;
mod run;
mod setup;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use weir_demo::serving::HostKind;
use weir_filter::units::Micros;

use self::backend::{Backend, Real, Stage, VirtualTime};
pub(crate) use self::file::Suite;
use self::file::{Mistake, Test};
use self::report::{FileResult, Summary};
use self::run::{Outcome, TestResult};
use self::setup::Setup;
use crate::interrupt;
use crate::limits::Limits;
use crate::output;
use crate::spelling::nearest;

/// Exit code where a test file, or the configuration under test, has a mistake.
const BAD_FILE: u8 = 2;
/// Time by which a request may be held longer on a real host.
const REAL_SLACK: Micros = Micros::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Test files, such as envoy/tests/quickstart.test.yaml.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Backend that serves the requests.
    #[arg(long, value_enum, default_value_t = On::Virtual)]
    on: On,
    /// Run only tests whose names contain this text.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Write the results to this file, in JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Backend of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    /// The filter's worker in virtual time, without a server.
    Virtual,
    /// The embedded host with a real Redis, in real time.
    Redis,
    /// A real Envoy with a real Redis, in real time.
    Envoy,
}

/// Runs the tests. Exit code 0: all passed, or were skipped; 1: a test failed; 2: a file has a mistake.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = Report(arguments.junit.as_deref());
    // A run that is ended from outside must not leave the results of an earlier one.
    report.write_failure("the run did not end")?;
    let mistakes = match perform(arguments, report) {
        Ok(Ok(code)) => return Ok(code),
        Ok(Err(mistakes)) => mistakes,
        Err(error) => {
            report.write_failure(&format!("{error:#}"))?;
            return Err(error);
        }
    };
    mistakes.iter().for_each(output::note);
    report.write(|| report::junit_of_mistakes(&mistakes))?;
    Ok(ExitCode::from(BAD_FILE))
}

/// File of `--junit`, if there is one.
#[derive(Clone, Copy)]
struct Report<'a>(Option<&'a Path>);

impl Report<'_> {
    fn write(self, xml: impl FnOnce() -> String) -> anyhow::Result<()> {
        let Some(path) = self.0 else { return Ok(()) };
        std::fs::write(path, xml()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_failure(self, what: &str) -> anyhow::Result<()> {
        let mistake = Mistake { file: "weir test".to_owned(), place: None, what: what.to_owned() };
        self.write(|| report::junit_of_mistakes(&[mistake]))
    }
}

fn perform(arguments: &Arguments, report: Report<'_>) -> anyhow::Result<Result<ExitCode, Vec<Mistake>>> {
    let began = Instant::now();
    let (mut suites, mut mistakes) = (Vec::new(), Vec::new());
    for path in &arguments.files {
        match prepared(path) {
            Ok(suite) => suites.push(suite),
            Err(found) => mistakes.extend(found),
        }
    }
    if !mistakes.is_empty() {
        return Ok(Err(mistakes));
    }
    let selected = |test: &&Test| arguments.filter.as_ref().is_none_or(|text| test.name.contains(text));
    if !suites.iter().any(|(suite, _)| suite.tests.iter().any(|test| selected(&test))) {
        let text = arguments.filter.as_deref().unwrap_or_default();
        let what = format!("no test's name contains {text:?}");
        return Ok(Err(vec![Mistake { file: "--filter".to_owned(), place: None, what }]));
    }
    let stage = match arguments.on.host() {
        Some(host) => {
            interrupt::end_cleanly().context("cannot wait for an interrupt")?;
            Some(Stage::set(host)?)
        }
        None => None,
    };
    let mut results = Vec::new();
    for (suite, setup) in &suites {
        if let Some(note) = setup.note(arguments.on.host()) {
            output::note(format_args!("note: {note}"));
        }
        let tests = suite.tests.iter().filter(selected).map(|test| one(test, setup, stage.as_ref())).collect();
        let result = FileResult { file: suite.file.clone(), tests };
        output::print_result(result.text())?;
        results.push(result);
    }
    let took = began.elapsed();
    report.write(|| report::junit(&results, took))?;
    output::print_result(format_args!("{}\n", report::last_line(&results, took, arguments.on.words())))?;
    Ok(Ok(if Summary::of(&results).failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

impl On {
    /// The real host; `None` for virtual time.
    fn host(self) -> Option<HostKind> {
        match self {
            Self::Virtual => None,
            Self::Redis => Some(HostKind::Embedded),
            Self::Envoy => Some(HostKind::Envoy),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Virtual => "(virtual time)",
            Self::Redis => "(embedded host, real Redis)",
            Self::Envoy => "(real Envoy, real Redis)",
        }
    }
}

/// Reads a test file and the configuration under test.
fn prepared(path: &Path) -> Result<(Suite, Setup), Vec<Mistake>> {
    let suite = Suite::load(path)?;
    let mistake = |place, what| Mistake { file: suite.file.clone(), place: Some(place), what };
    let setup = Setup::of(&suite)?;
    let known: Vec<&str> = setup.config.limits.iter().map(|limit| limit.name.as_str()).collect();
    let unknown = suite.limits().filter(|(name, _)| !known.contains(name)).map(|(name, place)| {
        let hint = match nearest(name, &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        mistake(place, format!("no limit named {name:?}: {hint}"))
    });
    let refused = suite.commands().filter_map(|(words, place, start)| {
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let why = match Limits::parse(&arguments) {
            Ok(command) => command.change(&setup.origin, &setup.written, start).err()?.to_string(),
            Err(why) => why.to_string(),
        };
        Some(mistake(place, format!("`weir limits {}`: {why}", words.join(" "))))
    });
    let budgets = suite.budgets().filter(|budget| known.contains(&budget.limit.as_str())).filter_map(|budget| {
        let amounts = || [&budget.spent, &budget.held].into_iter().flatten();
        let what = match backend::counts_money(&setup, &budget.limit) {
            None => (budget.limit_place, format!("expected a limit with a `charge`, found {}", budget.limit)),
            Some(is_money) => match amounts().find(|(amount, _)| !is_money && !amount.is_whole()) {
                Some((amount, place)) => (*place, format!("expected a whole number of tokens, found {amount}")),
                None => match backend::budget_key(&setup, &setup.written, &budget.limit, &budget.key) {
                    Ok(_) => return None,
                    Err(why) => (budget.limit_place, why),
                },
            },
        };
        Some(mistake(what.0, what.1))
    });
    let mut wrong: Vec<Mistake> = unknown.chain(refused).chain(budgets).collect();
    wrong.sort_by_key(|mistake| mistake.place);
    if wrong.is_empty() { Ok((suite, setup)) } else { Err(wrong) }
}

/// Runs one test.
fn one(test: &Test, setup: &Setup, stage: Option<&Stage>) -> TestResult {
    let Some(stage) = stage else {
        let began = Instant::now();
        let mut backend = VirtualTime::start(setup, test);
        let backend = backend.as_mut().map(|backend| backend as &mut dyn Backend).map_err(|why| why.clone());
        return TestResult { took: began.elapsed(), ..run::run(test, backend, Micros::ZERO) };
    };
    if let Some(why) = stage.cannot(test) {
        let (name, place) = (test.name.clone(), test.place);
        return TestResult { name, place, outcome: Outcome::Skipped(why), requests: 0, took: Duration::ZERO };
    }
    let mut backend = Real::start(stage, setup, test);
    let backend = backend.as_mut().map(|backend| backend as &mut dyn Backend).map_err(|why| why.clone());
    run::run(test, backend, REAL_SLACK)
}

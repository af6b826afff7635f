//! Whole file: the configuration, and the tests.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use weir_filter::units::Micros;

use super::budget::BudgetExpectation;
use super::expect::Expect;
use super::step::{Action, Step, steps};
use crate::documents::{Dialect, Document, Position, Source, Value, read_at_most};
use crate::reader::{Fields, Mistake, Mistakes, Reader};

/// Suffix of a test file's name; what is before it names the configuration.
const SUFFIX: &str = ".test.yaml";
/// Longest test file, in bytes.
const MAX_SIZE: u64 = 4 * 1024 * 1024;
/// Start of virtual time where the file gives none: 2026-01-01T00:00Z, a Thursday.
const START: Micros = Micros::from_secs(1_767_225_600);
/// Most workers of a test.
const MAX_WORKERS: u64 = 64;

/// Tests of one file.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    /// The file, for error texts.
    pub(crate) file: String,
    pub(crate) configuration: Configuration,
    /// Place of the configuration in the file.
    pub(crate) place: Position,
    /// Name of the limiter's plugin, where the configuration has several.
    pub(crate) limiter: Option<(String, Position)>,
    pub(crate) tests: Vec<Test>,
}

/// Configuration under test.
#[derive(Debug, Clone)]
pub(crate) enum Configuration {
    /// An Envoy file, or a limiter's configuration alone.
    File(PathBuf),
    /// The same, in the test file.
    Inline(Document),
}

/// Test: a fresh Redis, fresh workers, and steps.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) place: Position,
    /// Workers that take turns in serving requests.
    pub(crate) workers: usize,
    /// Start of virtual time, since 1970.
    pub(crate) start: Micros,
    pub(crate) steps: Vec<Step>,
}

impl Test {
    /// Whether the test says what the upstream answers.
    pub(crate) fn has_upstream(&self) -> bool {
        self.steps.iter().any(|step| matches!(&step.action, Action::Request(it, _) if it.upstream.is_some()))
    }
}

impl Suite {
    /// Reads a test file.
    ///
    /// # Errors
    /// All mistakes of the file.
    pub(crate) fn load(path: &Path) -> Result<Self, Vec<Mistake>> {
        let file = path.display().to_string();
        let unread = |what: String| vec![Mistake { file: file.clone(), place: None, what }];
        let bytes = read_at_most(path, MAX_SIZE).map_err(|why| match why.kind() {
            ErrorKind::IsADirectory => unread("expected a test file, found a folder".to_owned()),
            ErrorKind::FileTooLarge | ErrorKind::InvalidInput => unread(format!("expected a test file, found {why}")),
            _ => unread(format!("cannot be read: {why}")),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| unread("expected a test file in UTF-8".to_owned()))?;
        Self::parse(&text, path)
    }

    /// Names of limits that steps expect, with their places.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&str, Position)> {
        let own = self.expectations().filter_map(|expect| expect.limit.as_ref());
        let own = own.map(|(name, place)| (name.as_str(), *place));
        let budgets = self.budgets().map(|budget| (budget.limit.as_str(), budget.limit_place));
        own.chain(budgets)
    }

    /// Budgets that steps expect.
    pub(crate) fn budgets(&self) -> impl Iterator<Item = &BudgetExpectation> {
        self.expectations().flat_map(|expect| &expect.budgets)
    }

    fn expectations(&self) -> impl Iterator<Item = &Expect> {
        let steps = self.tests.iter().flat_map(|test| &test.steps);
        steps
            .filter_map(|step| if let Action::Request(_, expect) = &step.action { Some(expect.as_ref()) } else { None })
    }

    /// Commands of `weir limits` in steps, with their places and the start of their tests.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&[String], Position, Micros)> {
        self.tests.iter().flat_map(|test| {
            test.steps.iter().filter_map(|step| match &step.action {
                Action::Limits(words) => Some((words.as_slice(), step.place, test.start)),
                _ => None,
            })
        })
    }

    /// Parses a test file's text; `path` is the file.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Vec<Mistake>> {
        let file = path.display().to_string();
        let mistake =
            |place, what: &str| vec![Mistake { file: file.clone(), place: Some(place), what: what.to_owned() }];
        let source = Source::parse_as(text, file.clone(), Dialect::Core);
        if let Some(error) = &source.error {
            return Err(mistake(error.position(), &format!("expected YAML, found {error}")));
        }
        let tree = match source.documents.as_slice() {
            [Document { root, .. }] if matches!(root.value, Value::Null) => {
                return Err(mistake(root.position, "expected a test file, found an empty document"));
            }
            [Document { root, .. }] => root,
            [] => return Err(mistake(Position::START, "expected a test file, found an empty document")),
            [_, second, ..] => {
                return Err(mistake(second.root.position, "expected one YAML document, found another"));
            }
        };
        let mistakes = Mistakes::of(&file);
        tree.repeated().iter().for_each(|entry| mistakes.add(entry.position, "the same key a second time"));
        let suite = suite(Reader { node: tree, mistakes: &mistakes }, path);
        let found = mistakes.into_found();
        match suite {
            Some(suite) if found.is_empty() => Ok(suite),
            _ => Err(found),
        }
    }
}

fn suite(root: Reader<'_>, path: &Path) -> Option<Suite> {
    let fields = root.fields(&["configuration", "limiter", "workers", "start", "tests"])?;
    let configuration = configuration(&fields, path);
    let limiter = fields.take("limiter").map(|node| Some((node.text("a plugin's name")?, node.place())));
    let workers = workers(&fields, 1);
    let start = start(&fields, START);
    let tests = fields.take("tests");
    if tests.is_none() && !fields.has_unknown() {
        root.refuse::<()>("expected `tests`, a list of tests");
    }
    let tests: Vec<Option<Test>> =
        tests?.list()?.map(|node| test(node, workers.unwrap_or(1), start.unwrap_or(START))).collect();
    if tests.is_empty() {
        return fields.take("tests")?.expected("at least one test");
    }
    let tests: Vec<Test> = tests.into_iter().collect::<Option<_>>()?;
    for (at, test) in tests.iter().enumerate() {
        if let Some(first) = tests.iter().take(at).find(|other| other.name == test.name) {
            let what = format!("a second test named {:?}; the first is at line {}", test.name, first.place.line);
            root.mistakes.add(test.place, what);
        }
    }
    let (configuration, place) = configuration?;
    let limiter = match limiter {
        Some(limiter) => Some(limiter?),
        None => None,
    };
    Some(Suite { file: path.display().to_string(), configuration, place, limiter, tests })
}

fn configuration(fields: &Fields<'_>, path: &Path) -> Option<(Configuration, Position)> {
    let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
    let Some(node) = fields.take("configuration") else {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
        let found = name.map(|name| beside(&format!("{name}.yaml")));
        let owner = fields.owner();
        return match found {
            Some(file) if file.is_file() => Some((Configuration::File(file), owner.place())),
            Some(file) => owner.refuse(format!(
                "expected the configuration {} beside this file, found no such file: name it with `configuration`",
                file.display()
            )),
            None => owner.refuse(format!(
                "expected `configuration`: a file's name, or a configuration; only a file named NAME{SUFFIX} is without it"
            )),
        };
    };
    let configuration = match &node.node.value {
        Value::Map(_) => {
            let (origin, root) = (path.display().to_string(), node.node.clone());
            Configuration::Inline(Document { origin, base: String::new(), root })
        }
        Value::Text(name) => {
            let file = beside(name);
            if !file.is_file() {
                return node.refuse(format!("expected a configuration, found no file {}", file.display()));
            }
            if is_same(&file, path) {
                return node.refuse("expected a configuration, found this test file itself");
            }
            Configuration::File(file)
        }
        _ => return node.expected("a file's name or a configuration"),
    };
    Some((configuration, node.place()))
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}

fn workers(fields: &Fields<'_>, default: usize) -> Option<usize> {
    match fields.take("workers") {
        Some(node) => usize::try_from(node.number("a number of workers", 1..=MAX_WORKERS)?).ok(),
        None => Some(default),
    }
}

/// An instant such as `2026-12-31T23:59:00Z`.
fn start(fields: &Fields<'_>, default: Micros) -> Option<Micros> {
    let Some(node) = fields.take("start") else { return Some(default) };
    let parsed = node.exact_text().and_then(|text| text.parse::<Timestamp>().ok());
    match parsed.and_then(|instant| u64::try_from(instant.as_microsecond()).ok()) {
        Some(micros) => Some(Micros(micros)),
        None => node.expected("an instant since 1970 such as 2026-12-31T23:59:00Z"),
    }
}

fn test(node: Reader<'_>, default_workers: usize, default_start: Micros) -> Option<Test> {
    let fields = node.fields(&["name", "workers", "start", "steps"])?;
    let name = match fields.take("name") {
        Some(name) => match name.text("a test's name")? {
            text if text.trim().is_empty() => return name.expected("a test's name"),
            text => text,
        },
        None => return node.refuse("expected `name`, a test's name"),
    };
    let (workers, start) = (workers(&fields, default_workers), start(&fields, default_start));
    let steps = match fields.take("steps") {
        Some(list) => steps(list),
        None => node.refuse("expected `steps`, a list of steps"),
    };
    Some(Test { name, place: node.place(), workers: workers?, start: start?, steps: steps? })
}

//! `weir import FILE…`: limits of other rate limiters as configurations of the filter.
//!
//! | module | contents |
//! |---|---|
//! | `inputs` | kinds of documents, and the limits in them |
//! | `ratelimit` | files of envoyproxy/ratelimit, joined with `envoy` |
//! | `envoy` | ratelimit filters and `rate_limits` of Envoy and of Istio's EnvoyFilters |
//! | `limitador` | limits of Limitador, joined with `envoy` |
//! | `kuadrant` | Kuadrant's RateLimitPolicy |
//! | `gateway` | Envoy Gateway's BackendTrafficPolicy |
//! | `cel` | conditions of Kuadrant and Limitador |
//! | `target` | what policies are attached to |
//! | `plan`, `condition`, `source` | the middle form: limits, their conditions, values of requests |
//! | `verify` | check of the result by the filter's own reader |
//! | `writer`, `yaml` | the result |
//! | `finding`, `output` | what differs and what is left out |

mod cel;
mod condition;
mod envoy;
mod finding;
mod gateway;
mod inputs;
mod kuadrant;
mod limitador;
mod output;
mod plan;
mod ratelimit;
mod source;
mod target;
mod verify;
mod writer;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use self::finding::{Finding, Findings, Severity};
use self::inputs::Input;
use crate::check::Format;
use crate::documents::{At, Value};
use crate::output::{Notes, print_result};
use std::io::Write as _;

/// Exit code if a part of the input is not in the result.
const UNTRANSLATED: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Limits of ratelimit or Limitador with the Envoy files around them, policies, EnvoyFilters; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Import limits of this kind only.
    #[arg(long, value_enum, value_name = "KIND")]
    from: Option<Kind>,
    /// Name of Redis' cluster in the result.
    #[arg(long, default_value = "redis", value_name = "NAME")]
    cluster: String,
    /// Form of the findings, on standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Rate limiter whose limits are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Ratelimit,
    EnvoyGateway,
    Kuadrant,
    Limitador,
}

/// Result of an import.
struct Imported {
    text: String,
    findings: Vec<Finding>,
    limits: usize,
    configurations: usize,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sources: Vec<Input> = arguments.files.iter().map(|path| Input::load(path)).collect();
    let imported = import(&sources, arguments.from, &arguments.cluster);
    let Imported { text, findings, limits, configurations } = &imported;
    let text_of_findings = output::render(arguments.format, findings, *limits, *configurations);
    let _ = Notes.write_all(text_of_findings.as_bytes());
    if output::count(findings, Severity::Error) > 0 {
        return Ok(ExitCode::FAILURE);
    }
    print_result(text)?;
    let is_whole = output::count(findings, Severity::Untranslated) == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(UNTRANSLATED) })
}

fn import(sources: &[Input], from: Option<Kind>, cluster: &str) -> Imported {
    let mut findings = Findings::default();
    let mut configurations = inputs::read(sources, from, &mut findings);
    configurations.iter_mut().for_each(|configuration| verify::verify(configuration, cluster, &mut findings));
    configurations.retain(|configuration| !configuration.limits.is_empty());
    let texts: Vec<String> = configurations.iter().map(|configuration| writer::text(configuration, cluster)).collect();
    Imported {
        text: texts.join("---\n"),
        findings: findings.sorted(),
        limits: configurations.iter().map(|configuration| configuration.limits.len()).sum(),
        configurations: configurations.len(),
    }
}

/// A text, number or boolean as text.
fn scalar(at: &At<'_>) -> Option<String> {
    match &at.node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

//! `weir render FORM FILE`: manifests or a bootstrap from one small file of limits and Redis.
//!
//! The output is that of `envoy/kubernetes`, with the file's values in place of the examples'.
//!
//! | module | contents |
//! |---|---|
//! | `plan` | the file, with every mistake at its place |
//! | `configuration` | the filter's configuration in it |
//! | `template` | a shipped manifest as lines |
//! | `istio`, `envoy_gateway`, `envoy` | the forms |
//! | `redis_cluster` | the proxy of a Redis Cluster |
//! | `front_end` | HTTP front ends of Redis |

mod configuration;
mod envoy;
mod envoy_gateway;
mod front_end;
mod istio;
mod plan;
mod redis_cluster;
mod template;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use self::plan::{Plan, Way};
use self::template::Template;
use crate::documents::{Dialect, Source, read_given};
use crate::output::{note, print_result};
use crate::reader::Mistake;

const FAILOVER: &str = include_str!("../../../../envoy/failover.yaml");
/// Exit code for a file with a mistake.
const BAD_FILE: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Form of the output, by the proxy in which the filter runs.
    #[arg(value_enum)]
    form: Form,
    /// File of limits and Redis in YAML or JSON; `-` for standard input.
    file: PathBuf,
    /// Folder for the manifests, each as a file of its own; otherwise all are printed.
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A WasmPlugin and an EnvoyFilter, or for limits that read bodies an EnvoyFilter alone
    Istio,
    /// An EnvoyExtensionPolicy and an EnvoyProxy, or for limits that read bodies an EnvoyPatchPolicy
    EnvoyGateway,
    /// A deployment of Envoy with its bootstrap
    Envoy,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.file;
    let bytes = read_given(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    let Ok(text) = String::from_utf8(bytes) else { anyhow::bail!("{name}: expected UTF-8, found other bytes") };
    match render(arguments.form, &name, &text) {
        Ok(template) => {
            match &arguments.out {
                Some(folder) => write(&template, folder)?,
                None => print_result(template.text())?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| note(format_args!("{mistake}")));
            Ok(ExitCode::from(BAD_FILE))
        }
    }
}

/// Renders a text; `name` is that of its file.
///
/// # Errors
/// All mistakes, at their places.
pub(crate) fn render(form: Form, name: &str, text: &str) -> Result<Template, Vec<Mistake>> {
    let source = Source::parse_as(text, name.to_owned(), Dialect::Core);
    let plan = Plan::read(form, &source, text)?;
    let mut template = match form {
        Form::Istio if plan.way.is_front_end() => front_end::render(&plan),
        Form::Istio => istio::render(&plan),
        Form::EnvoyGateway => envoy_gateway::render(&plan),
        Form::Envoy => envoy::render(&plan),
    };
    if plan.way == Way::Failover {
        failover(&mut template);
    }
    // At last, so that no example's value is replaced in it.
    if let Some(lines) = template.documents.iter_mut().find(|lines| lines.has("redis:")) {
        lines.put_rest("redis:", &plan.configuration.lines);
    }
    Ok(template)
}

/// Adds the health check that finds the master.
fn failover(template: &mut Template) {
    let scenario = Template::of(FAILOVER);
    let fields = ["health_checks:", "common_lb_config:", "close_connections_on_host_health_failure:"];
    let blocks = fields.map(|field| scenario.documents.iter().flat_map(|lines| lines.block(field)).collect::<Vec<_>>());
    for lines in template.documents.iter_mut().filter(|lines| lines.has("# Raw TCP")) {
        lines.insert("# Raw TCP", &blocks.concat());
    }
}

/// Writes each document into a file that has its kind and name.
fn write(template: &Template, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    for lines in &template.documents {
        let path = folder.join(format!("{}-{}.yaml", lines.kind().to_ascii_lowercase(), lines.name()));
        std::fs::write(&path, lines.text()).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

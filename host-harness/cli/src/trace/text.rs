//! Timeline as lines for people.

use std::fmt::Write as _;

use super::timeline::Kind;
use super::{Exchange, Trace};
use crate::printable::line;

/// Styles of lines, as ANSI codes.
#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Callback,
    Redis,
    Good,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Callback => "36",
            Self::Redis => "35",
            Self::Good => "1;32",
            Self::Bad => "1;31",
        }
    }

    fn paint(self, text: &str, colour: bool) -> String {
        match self.code() {
            code if colour && !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

pub(super) fn render(trace: &Trace, colour: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", Style::Dim.paint(&line(&format!("{}: {}", trace.file, trace.redis)), colour));
    for exchange in &trace.exchanges {
        text.push('\n');
        write_exchange(&mut text, exchange, colour);
    }
    text
}

fn write_exchange(text: &mut String, exchange: &Exchange, colour: bool) {
    let mut lines = vec![(0, Style::Bold, format!("→ {}{}", exchange.request, headers(&exchange.headers)))];
    let mut answered = false;
    let response =
        (exchange.took, Style::Bold, format!("← {}{}", exchange.status, headers(&exchange.response_headers)));
    for step in &exchange.steps {
        if step.at > exchange.took && !answered {
            lines.push(response.clone());
            answered = true;
        }
        let (style, shown) = describe(&step.kind);
        lines.push((step.at, style, format!("{}{shown}", "│ ".repeat(step.depth))));
    }
    if !answered {
        lines.push(response);
    }
    for (at, style, text_of) in lines {
        let at = Style::Dim.paint(&format!("{at:>8} µs"), colour);
        let _ = writeln!(text, "{at}  {}", style.paint(&line(&text_of), colour));
    }
    let decision = &exchange.decision;
    let style = if matches!(decision.outcome, "admitted" | "passed") { Style::Good } else { Style::Bad };
    let _ = writeln!(text, "{}: {}", style.paint(&decision.outcome.replace('_', " "), colour), line(&decision.why));
}

/// Returns a step as one line.
fn describe(kind: &Kind) -> (Style, String) {
    match kind {
        Kind::Callback { plugin, name, arguments } => {
            (Style::Callback, format!("┌ {plugin} {}({})", short(name), list(arguments)))
        }
        Kind::Returned { result, took, .. } if result.is_empty() => (Style::Callback, format!("└ ({took} µs)")),
        Kind::Returned { result, took, .. } => (Style::Callback, format!("└ {result} ({took} µs)")),
        Kind::Call { .. } => (Style::Plain, call(kind)),
        Kind::Connected { cluster, address } => (Style::Redis, format!("{cluster} ═ connected to {address}")),
        Kind::Unreachable { cluster, error } => (Style::Bad, format!("{cluster} ✗ cannot connect: {error}")),
        Kind::Sent { cluster, text } => (Style::Redis, format!("{cluster} ◀ {text}")),
        Kind::Received { cluster, text, took: Some(took) } => {
            (Style::Redis, format!("{cluster} ▶ {text} (after {took} µs)"))
        }
        Kind::Received { cluster, text, took: None } => (Style::Redis, format!("{cluster} ▶ {text}")),
        Kind::Closed { cluster, broken: true } => (Style::Bad, format!("{cluster} ✗ connection reset")),
        Kind::Closed { cluster, broken: false } => (Style::Redis, format!("{cluster} ═ closed its side")),
    }
}

/// Returns a step without colours, for the other outputs.
pub(super) fn plain(kind: &Kind) -> String {
    describe(kind).1
}

fn call(kind: &Kind) -> String {
    let Kind::Call { name, arguments, results, status, .. } = kind else { return String::new() };
    let call = format!("{}({})", short(name), list(arguments));
    match (*status, results.as_slice()) {
        ("Ok", []) => call,
        ("Ok", [(_, only)]) => format!("{call} = {only}"),
        ("Ok", several) => format!("{call} = {}", list(several)),
        (status, _) => format!("{call} = {status}"),
    }
}

fn list(arguments: &[(&'static str, String)]) -> String {
    arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
}

fn headers(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("  {name}: {value}")).collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("proxy_").unwrap_or(name)
}

//! Timeline as one page without references to other files: a picture to scale, and all events.

use std::fmt::Write as _;

use super::timeline::{Kind, Step};
use super::{Exchange, Trace, text};
use crate::markup::escaped;

/// Part of the picture's width that the lanes have, in percent; the rest is a margin.
const WIDTH: f64 = 98.0;

pub(super) fn render(trace: &Trace) -> String {
    let mut page = String::new();
    let title = escaped(&format!("weir trace {}", trace.file));
    let style = include_str!("page.css");
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{title}</title><style>\n{style}</style></head><body>\n<h1>{title}</h1>\n<p class=\"dim\">{}</p>\n",
        escaped(&trace.redis)
    );
    for exchange in &trace.exchanges {
        write_exchange(&mut page, exchange);
    }
    page.push_str("</body></html>\n");
    page
}

fn write_exchange(page: &mut String, exchange: &Exchange) {
    let decision = &exchange.decision;
    let class = if matches!(decision.outcome, "admitted" | "passed") { "good" } else { "bad" };
    let _ = write!(
        page,
        "<section><h2>{} → {}</h2>\n<p><span class=\"{class}\">{}</span>: {}</p>\n",
        escaped(&exchange.request),
        exchange.status,
        decision.outcome.replace('_', " "),
        escaped(&decision.why)
    );
    write_picture(page, exchange);
    page.push_str("<ol>\n");
    write_row(page, 0, "http", &format!("→ {}{}", exchange.request, headers(&exchange.headers)));
    let response = format!("← {}{}", exchange.status, headers(&exchange.response_headers));
    let (before, after): (Vec<&Step>, Vec<&Step>) = exchange.steps.iter().partition(|step| step.at <= exchange.took);
    before.into_iter().for_each(|step| write_step(page, step));
    write_row(page, exchange.took, "http", &response);
    after.into_iter().for_each(|step| write_step(page, step));
    page.push_str("</ol></section>\n");
}

fn write_step(page: &mut String, step: &Step) {
    let class = match &step.kind {
        Kind::Callback { .. } | Kind::Returned { .. } => "m",
        Kind::Call { .. } => "c",
        Kind::Unreachable { .. } | Kind::Closed { broken: true, .. } => "bad",
        _ => "r",
    };
    write_row(page, step.at, class, &format!("{}{}", "│ ".repeat(step.depth), text::plain(&step.kind)));
}

fn write_row(page: &mut String, at: u128, class: &str, line: &str) {
    let _ = writeln!(page, "<li class=\"{class}\"><time>{at} µs</time><span>{}</span></li>", escaped(line));
}

/// Writes the picture: lanes of the request, of modules and of Redis, to scale.
fn write_picture(page: &mut String, exchange: &Exchange) {
    let last = exchange.steps.iter().map(|step| step.at).max().unwrap_or(0);
    // Reports of counters long after the response would leave no room for the request.
    let whole = last.min(exchange.took.saturating_mul(5) / 4).max(exchange.took).max(1) as f64;
    let percent = |at: u128| 1.0 + (at as f64 / whole * WIDTH).min(WIDTH);
    let mut bars = vec![(0, "w", 0, exchange.took, format!("request, {} µs", exchange.took))];
    for step in exchange.steps.iter().filter(|step| step.at as f64 <= whole) {
        match &step.kind {
            Kind::Returned { name, took, .. } if step.depth == 0 => {
                bars.push((1, "m", step.at.saturating_sub(*took), step.at, format!("{name}, {took} µs")));
            }
            Kind::Received { took: Some(took), text, .. } => {
                bars.push((2, "r", step.at.saturating_sub(*took), step.at, format!("{text}, after {took} µs")));
            }
            _ => {}
        }
    }
    page.push_str("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"times of the request, of modules and of Redis\">\n");
    for (lane, name) in ["request", "modules", "Redis"].iter().enumerate() {
        let _ = writeln!(page, "<text x=\"1%\" y=\"{}\">{name}</text>", lane * 32 + 14);
    }
    let _ = writeln!(page, "<text x=\"99%\" y=\"14\" text-anchor=\"end\">{whole:.0} µs</text>");
    let end = percent(exchange.took);
    let _ = writeln!(page, "<line x1=\"{end:.2}%\" x2=\"{end:.2}%\" y1=\"18\" y2=\"104\"/>");
    for (lane, class, from, to, title) in bars {
        let (left, y) = (percent(from), lane * 32 + 18);
        let width = (percent(to) - left).max(0.25);
        let _ = writeln!(
            page,
            "<rect class=\"{class}\" x=\"{left:.2}%\" y=\"{y}\" width=\"{width:.2}%\" height=\"12\"><title>{}</title></rect>",
            escaped(&title)
        );
    }
    page.push_str("</svg>\n");
}

fn headers(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("  {name}: {value}")).collect()
}

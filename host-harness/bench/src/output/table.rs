//! Table of subjects, for the terminal and for the page.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::super::{
    plan::{Point, Sweep},
    round::Figure,
    spread::{Rounds, Spread},
};

/// Headings of the columns after the subject's name.
const HEADER: [&str; 11] =
    ["conns", "req/s", "p50 ms", "p99 ms", "proxy CPU", "± %", "all CPU", "× proxy", "× all", "× req/s", "Redis/req"];

/// Table for the terminal: medians over the rounds, one line per subject and number of connections.
pub(in super::super) fn render(rounds: &Rounds) -> String {
    let mut table = table(rounds, &rounds.points(Sweep::Subjects));
    table.load_style(presets::UTF8_FULL_CONDENSED);
    format!("{table}\n{NOTE}")
}

/// Table for the page: the subjects at one number of connections.
pub(super) fn markdown(rounds: &Rounds, connections: u32) -> String {
    let points = rounds.points(Sweep::Subjects).into_iter();
    let points: Vec<Point> = points.filter(|point| point.setting.connections == connections).collect();
    let mut table = table(rounds, &points);
    table.load_style(presets::ASCII_MARKDOWN);
    table.to_string()
}

/// Explanation of the columns.
pub(super) const NOTE: &str = "All figures are medians over the rounds. proxy CPU, all CPU: CPU time of the proxy and \
of all servers, in ms per 1,000 requests. ± %: half the range of proxy CPU over the rounds, in percent of the median. \
× proxy, × all, × req/s: ratio to the baseline in the same rounds; the baseline is no-op, no-op-deny for denied \
requests, nginx for nginx-lua. Redis/req: script calls per request, and commands per request including those that \
scripts call.";

fn table(rounds: &Rounds, points: &[Point]) -> Table {
    let mut table = Table::new();
    table.set_header(std::iter::once("subject").chain(HEADER));
    for point in points {
        let mut row = vec![Cell::new(point.subject.name())];
        row.extend(row_of(rounds, *point).into_iter().map(|it| Cell::new(it).set_alignment(CellAlignment::Right)));
        table.add_row(row);
    }
    table
}

fn row_of(rounds: &Rounds, point: Point) -> Vec<String> {
    let spread = |figure| rounds.spread(Sweep::Subjects, point, figure);
    let median = |figure, digits: usize| shown(spread(figure), digits);
    let ratio = |figure| shown(rounds.ratio(Sweep::Subjects, point, figure), 2);
    let proxy = spread(Figure::ProxyCpu);
    let redis = match spread(Figure::CommandsPerRequest) {
        Some(commands) if commands.median >= 0.0005 => {
            format!("{} / {:.2}", median(Figure::ScriptsPerRequest, 2), commands.median)
        }
        _ => "–".to_owned(),
    };
    vec![
        point.setting.connections.to_string(),
        median(Figure::RequestsPerSecond, 0),
        median(Figure::P50, 3),
        median(Figure::P99, 2),
        shown(proxy, 1),
        proxy.map(|proxy| format!("{:.0}", proxy.width() * 50.0)).unwrap_or_default(),
        median(Figure::ServersCpu, 1),
        ratio(Figure::ProxyCpu),
        ratio(Figure::ServersCpu),
        ratio(Figure::RequestsPerSecond),
        redis,
    ]
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

#[cfg(test)]
mod tests {
    use super::super::super::{spread::tests::round, subject::Subject};
    use super::*;

    #[test]
    fn a_subject_is_a_line_with_its_medians_and_ratios() {
        let rounds = Rounds(vec![round(Subject::NoOp, 1, 30), round(Subject::Weir, 1, 45)]);
        let text = render(&rounds);
        let line = text.lines().find(|line| line.contains("weir")).unwrap();
        for part in [" 16 ", " 1000 ", " 0.500 ", " 45.0 ", " 55.0 ", " 1.50 ", " 1.00 / 4.00 "] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(markdown(&rounds, 16).lines().all(|line| line.starts_with('|')));
        assert_eq!(markdown(&rounds, 64).lines().filter(|line| line.contains("weir")).count(), 0);
    }
}

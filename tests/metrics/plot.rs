//! Plots of panels: lines over the time of a run, or the last value.

use std::fmt::Write as _;

use crate::prometheus::{Point, Series, Span};

/// Colours of the style: as many as there are causes of failures.
const COLOURS: usize = 10;
/// Width of a character of a legend, at most, and height of its rows.
const CHARACTER: f64 = 6.6;
const ROW: f64 = 16.0;

/// Place of a panel, in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// Axes of a plot: the frame of its lines, the time, and the largest value.
#[derive(Debug, Clone, Copy)]
struct Axes {
    frame: Frame,
    span: Span,
    most: f64,
}

impl Axes {
    fn across(self, time: f64) -> f64 {
        let Span { from, until, .. } = self.span;
        self.frame.x + (time - from) / (until - from) * self.frame.width
    }

    fn down(self, value: f64) -> f64 {
        self.frame.y + self.frame.height - value / self.most * self.frame.height
    }

    /// Draws a line, with gaps where it has no number.
    fn line(self, svg: &mut String, points: &[Point], class: usize) {
        for part in points.split(|(_, value)| !value.is_finite()).filter(|part| !part.is_empty()) {
            let place = |(time, value): &Point| format!("{:.1},{:.1}", self.across(*time), self.down(*value));
            let places: Vec<String> = part.iter().map(place).collect();
            let _ = writeln!(svg, "<polyline class=\"line c{class}\" points=\"{}\"/>", places.join(" "));
        }
    }
}

/// Draws lines with axes and a legend.
pub fn lines(svg: &mut String, unit: &str, lines: &[(String, Series)], outer: Frame, span: Span) {
    let legend = legend(lines, outer.width - 20.0);
    let below = 24.0 + legend.len() as f64 * ROW;
    let frame =
        Frame { x: outer.x + 58.0, y: outer.y + 30.0, width: outer.width - 72.0, height: outer.height - 30.0 - below };
    let step = step(most(lines) / 3.0);
    let steps = (most(lines) / step).ceil().max(1.0);
    let axes = Axes { frame, span, most: step * steps };
    let (left, right, bottom) = (frame.x, frame.x + frame.width, frame.y + frame.height);
    for nth in 0..=steps as usize {
        let value = step * nth as f64;
        let (y, text) = (axes.down(value), axes.down(value) + 4.0);
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>");
        let (x, label) = (left - 6.0, number(value, unit));
        let _ = writeln!(svg, "<text class=\"small\" x=\"{x}\" y=\"{text:.1}\" text-anchor=\"end\">{label}</text>");
    }
    let every = self::step((span.until - span.from) / 5.0).max(1.0);
    for nth in 0..=((span.until - span.from) / every) as usize {
        let seconds = every * nth as f64;
        let (x, y) = (axes.across(span.from + seconds), bottom + 15.0);
        let _ =
            writeln!(svg, "<text class=\"small\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{seconds} s</text>");
    }
    for (nth, (_, series)) in lines.iter().enumerate() {
        axes.line(svg, &series.points, nth % COLOURS);
    }
    for (row, names) in legend.iter().enumerate() {
        let y = bottom + 33.0 + row as f64 * ROW;
        for (nth, x) in names {
            let (class, name) = (nth % COLOURS, lines[*nth].0.replace('&', "&amp;").replace('<', "&lt;"));
            let (x, end, text, line) = (outer.x + x, outer.x + x + 14.0, outer.x + x + 18.0, y - 4.0);
            let _ = writeln!(
                svg,
                "<line class=\"line c{class}\" x1=\"{x:.1}\" y1=\"{line:.1}\" x2=\"{end:.1}\" y2=\"{line:.1}\"/>\
                 <text class=\"small\" x=\"{text:.1}\" y=\"{y:.1}\">{name}</text>"
            );
        }
    }
}

/// Draws the last value, and the line of all.
pub fn last_value(svg: &mut String, unit: &str, lines: &[(String, Series)], outer: Frame, span: Span) {
    let Some((_, series)) = lines.first() else { return };
    let last = series.points.iter().rev().map(|(_, value)| *value).find(|value| value.is_finite());
    let frame = Frame { y: outer.y + 62.0, height: outer.height - 68.0, ..outer };
    Axes { frame, span, most: most(lines) }.line(svg, &series.points, 0);
    let (x, y) = (outer.x + outer.width / 2.0, outer.y + 52.0);
    let text = number(last.unwrap_or_default(), unit);
    let _ = writeln!(svg, "<text class=\"big\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>");
}

/// Rows of a legend: lines by their number, with their places in the row.
fn legend(lines: &[(String, Series)], width: f64) -> Vec<Vec<(usize, f64)>> {
    let mut rows: Vec<Vec<(usize, f64)>> = Vec::new();
    let mut x = f64::INFINITY;
    for (nth, (name, _)) in lines.iter().enumerate() {
        let wide = 30.0 + name.chars().count() as f64 * CHARACTER;
        if x + wide > width {
            rows.push(Vec::new());
            x = 10.0;
        }
        rows.last_mut().expect("a row").push((nth, x));
        x += wide;
    }
    rows
}

/// The largest value, or 1 if all are zero.
fn most(lines: &[(String, Series)]) -> f64 {
    let values = lines.iter().flat_map(|(_, series)| &series.points).map(|(_, value)| *value);
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

/// The smallest of 1, 2 and 5, times a power of ten, that is at least this.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}

/// Text of a value in its unit.
fn number(value: f64, unit: &str) -> String {
    let short = |value: f64| {
        let digits = if value == 0.0 || value >= 100.0 {
            0
        } else if value >= 10.0 {
            1
        } else {
            2
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match unit {
        "percentunit" => format!("{} %", short(value * 100.0)),
        "µs" if value >= 1_000_000.0 => format!("{} s", short(value / 1_000_000.0)),
        "µs" if value >= 1_000.0 => format!("{} ms", short(value / 1_000.0)),
        "µs" => format!("{} µs", short(value)),
        "currencyUSD" => format!("$ {}", short(value)),
        "reqps" | "ops" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

#[test]
fn numbers_have_their_units() {
    let texts = [(0.5, "percentunit"), (25_000.0, "µs"), (250.0, "µs"), (12.25, "reqps"), (3.0, "short"), (2e6, "µs")];
    assert_eq!(texts.map(|(value, unit)| number(value, unit)), ["50 %", "25 ms", "250 µs", "12.2/s", "3", "2 s"]);
    assert_eq!([0.7, 2.0, 2.1, 30.0].map(step), [1.0, 2.0, 5.0, 50.0]);
}

#[test]
fn legends_break_into_rows() {
    let lines: Vec<_> = ["a".repeat(20), "b".repeat(20), "c".repeat(20)]
        .into_iter()
        .map(|name| (name, Series { labels: Default::default(), points: Vec::new() }))
        .collect();
    let rows: Vec<Vec<usize>> =
        legend(&lines, 340.0).into_iter().map(|row| row.into_iter().map(|(nth, _)| nth).collect()).collect();
    assert_eq!(rows, [vec![0, 1], vec![2]]);
}

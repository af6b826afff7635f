//! Pictures of studies, as SVG: lines over logarithmic axes, in light and in dark colours as the reader prefers.

use std::fmt::Write as _;

use super::{BELOW, BEYOND, FLEETS, Figures, ROUND_TRIPS, SCRIPT_NANOS, Setting, USUAL};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Borders around the plot: left, top, right, bottom.
const BORDERS: [f64; 4] = [74.0, 92.0, 34.0, 56.0];

/// Colours, for light and for dark pages. The background is a part of the picture: a page may have the other colours.
const STYLE: &str = "\
svg{font:13px sans-serif}.title{font-size:16px;font-weight:bold}
.line{fill:none;stroke-width:2.5}.thin{stroke-dasharray:6 5}.mark{stroke-width:2;stroke-dasharray:2 4}
.back{fill:#fff}text{fill:#24292f}.grid{stroke:#d8dee4}.axis{stroke:#24292f}.mark{stroke:#8250df}.note{fill:#8250df}
.a{stroke:#0b62b8}.b{stroke:#b34700}.dot.a{fill:#0b62b8}.dot.b{fill:#b34700}
@media(prefers-color-scheme:dark){
.back{fill:#15191f}text{fill:#dfe5ec}.grid{stroke:#3a424d}.axis{stroke:#dfe5ec}.mark{stroke:#c7a0ff}.note{fill:#c7a0ff}
.a{stroke:#62b0ff}.b{stroke:#ff9d57}.dot.a{fill:#62b0ff}.dot.b{fill:#ff9d57}}";

/// Picture of a study.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Name of its file, without an extension.
    pub name: String,
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
    /// Value of the vertical axis that is marked, and what it is.
    mark: Option<(f64, &'static str)>,
}

#[derive(Debug, Clone)]
struct Axis {
    /// Text below a horizontal axis; the picture's title says what the vertical axis shows.
    title: &'static str,
    is_logarithmic: bool,
    /// Values that have a label.
    ticks: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Line {
    name: &'static str,
    /// Colour and dashes: classes of the style.
    class: &'static str,
    points: Vec<(f64, f64)>,
}

/// Values that a picture has.
type Values = fn(&Figures) -> f64;
/// Name, classes, lease, load and values of a line.
type LineOf = (&'static str, &'static str, bool, u64, Values);

const ADMITTED: [LineOf; 4] = [
    ("no lease, 120 % of the limit's load", "a", false, BEYOND, |figures| figures.admitted),
    ("no lease, 80 % of it", "a thin", false, BELOW, |figures| 100.0 - figures.denied - figures.failed),
    ("lease, 120 % of the limit's load", "b", true, BEYOND, |figures| figures.admitted),
    ("lease, 80 % of it", "b thin", true, BELOW, |figures| 100.0 - figures.denied - figures.failed),
];
const WAITS: [LineOf; 4] = [
    ("no lease, half of all requests", "a", false, BELOW, |figures| figures.wait[0]),
    ("no lease, 99 % of them", "a thin", false, BELOW, |figures| figures.wait[1]),
    ("lease, half of all requests", "b", true, BELOW, |figures| figures.wait[0]),
    ("lease, 99 % of them", "b thin", true, BELOW, |figures| figures.wait[1]),
];
const SCRIPTS: [LineOf; 4] = [
    ("no lease, 80 % of the limit's load", "a", false, BELOW, |figures| figures.scripts),
    ("no lease, 120 % of it", "a thin", false, BEYOND, |figures| figures.scripts),
    ("lease, 80 % of the limit's load", "b", true, BELOW, |figures| figures.scripts),
    ("lease, 120 % of it", "b thin", true, BEYOND, |figures| figures.scripts),
];

/// Returns the pictures of all figures: by the size of the fleet, and by the round trip.
#[must_use]
pub fn pictures(figures: &[Figures]) -> Vec<Picture> {
    let largest = figures.iter().map(|figures| figures.setting.workers).max().unwrap_or_default();
    let by_workers = |setting: &Setting| (setting.round_trip == USUAL.1).then_some(setting.workers as f64);
    let usual = USUAL.0.min(largest);
    let by_trip = |setting: &Setting| {
        let is_studied = setting.workers == usual && ROUND_TRIPS.contains(&setting.round_trip);
        is_studied.then_some(setting.round_trip as f64 / 1_000.0)
    };
    let workers = Axis {
        title: "workers of the fleet",
        is_logarithmic: true,
        ticks: FLEETS.into_iter().filter(|workers| *workers <= largest).map(|workers| workers as f64).collect(),
    };
    let trips = Axis {
        title: "round trip to Redis, ms",
        is_logarithmic: true,
        ticks: ROUND_TRIPS.into_iter().map(|micros| micros as f64 / 1_000.0).collect(),
    };
    let mut pictures = Vec::new();
    for (what, lines) in [("admitted", ADMITTED), ("wait", WAITS), ("load", SCRIPTS)] {
        pictures.push(picture(what, "workers", &workers, &lines, figures, &by_workers));
        pictures.push(picture(what, "round-trip", &trips, &lines, figures, &by_trip));
    }
    pictures
}

fn picture(
    what: &'static str,
    by: &str,
    x: &Axis,
    lines: &[LineOf],
    figures: &[Figures],
    place: &dyn Fn(&Setting) -> Option<f64>,
) -> Picture {
    let line = |(name, class, has_lease, load, value): LineOf| {
        let own = figures.iter().filter(|it| it.setting.has_lease == has_lease && it.setting.load == load);
        let mut points: Vec<(f64, f64)> = own.filter_map(|it| Some((place(&it.setting)?, value(it)))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Line { name, class, points }
    };
    let lines: Vec<Line> = lines.iter().copied().map(line).collect();
    let capacity = 1e9 / SCRIPT_NANOS as f64;
    let (title, y, mark) = match what {
        "admitted" => ("Admitted of what should be, %", percents(&lines), Some((100.0, "neither more nor less"))),
        "wait" => ("Wait for the decision on a request, ms", decades(&lines, 0.01), None),
        _ => ("Load of Redis, scripts in a second", decades(&lines, 1.0), Some((capacity, "one core of Redis"))),
    };
    Picture { name: format!("{what}-by-{by}"), title: title.to_owned(), x: x.clone(), y, lines, mark }
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y)
}

/// Axis of percents around 100, in steps that suit the values.
fn percents(lines: &[Line]) -> Axis {
    let (least, most) = (values(lines).fold(99.0, f64::min), values(lines).fold(101.0, f64::max));
    let step = [0.5, 1.0, 5.0].into_iter().find(|step| most - least <= step * 6.0).unwrap_or(20.0);
    let (from, until) = ((least / step).floor() as i64, (most / step).ceil() as i64);
    Axis { title: "", is_logarithmic: false, ticks: (from..=until).map(|tick| tick as f64 * step).collect() }
}

/// Logarithmic axis of powers of ten; values below `least` are drawn there.
fn decades(lines: &[Line], least: f64) -> Axis {
    let low = values(lines).fold(f64::INFINITY, f64::min).max(least).min(1e6).log10().floor() as i32;
    let high = values(lines).fold(least * 10.0, f64::max).log10().ceil() as i32;
    Axis { title: "", is_logarithmic: true, ticks: (low..=high).map(|power| 10_f64.powi(power)).collect() }
}

impl Axis {
    /// Place of a value between the first tick and the last: 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (first, last) = (self.ticks.first().copied().unwrap_or(0.0), self.ticks.last().copied().unwrap_or(1.0));
        let scale = |value: f64| if self.is_logarithmic { value.max(1e-9).log10() } else { value };
        let span = scale(last) - scale(first);
        if span > 0.0 { ((scale(value) - scale(first)) / span).clamp(0.0, 1.0) } else { 0.5 }
    }
}

impl Picture {
    /// The picture as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             role=\"img\">\n<title>{} by {}</title>\n<style>{STYLE}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
            self.title, self.x.title
        );
        self.axes(&mut svg);
        self.key(&mut svg);
        for line in &self.lines {
            let places: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (self.across(*x), self.down(*y))).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", line.class, path.join(" "));
            for (x, y) in places {
                let _ = writeln!(svg, "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>", line.class);
            }
        }
        svg + "</svg>\n"
    }

    /// Place of a value of the horizontal axis.
    fn across(&self, value: f64) -> f64 {
        BORDERS[0] + self.x.share(value) * (WIDTH - BORDERS[0] - BORDERS[2])
    }

    /// Place of a value of the vertical axis.
    fn down(&self, value: f64) -> f64 {
        HEIGHT - BORDERS[3] - self.y.share(value) * (HEIGHT - BORDERS[1] - BORDERS[3])
    }

    fn axes(&self, svg: &mut String) {
        let [left, _, right, bottom] = BORDERS;
        let (right, bottom) = (WIDTH - right, HEIGHT - bottom);
        let _ = writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"26\">{}</text>", self.title);
        for tick in &self.y.ticks {
            let y = self.down(*tick);
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>");
            let (x, below) = (left - 8.0, y + 4.5);
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>", number(*tick));
        }
        for tick in &self.x.ticks {
            let (x, y) = (self.across(*tick), bottom + 18.0);
            let end = bottom + 5.0;
            let _ = writeln!(svg, "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{end}\"/>");
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", number(*tick));
        }
        let _ = writeln!(svg, "<line class=\"axis\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>");
        let (middle, below) = (f64::midpoint(left, right), HEIGHT - 14.0);
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", self.x.title);
        if let Some((value, name)) = self.mark.filter(|(value, _)| self.y.ticks.last() >= Some(value)) {
            let (y, above, end) = (self.down(value), self.down(value) - 6.0, right - 4.0);
            let _ = writeln!(svg, "<line class=\"mark\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>");
            let _ =
                writeln!(svg, "<text class=\"note\" x=\"{end}\" y=\"{above:.1}\" text-anchor=\"end\">{name}</text>");
        }
    }

    /// Names of the lines, in two columns above the plot.
    fn key(&self, svg: &mut String) {
        for (nth, line) in self.lines.iter().enumerate() {
            let (x, y) = (BORDERS[0] + 330.0 * (nth / 2) as f64, 46.0 + 20.0 * (nth % 2) as f64);
            let (end, text, below) = (x + 34.0, x + 42.0, y + 4.5);
            let _ =
                writeln!(svg, "<line class=\"line {}\" x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>", line.class);
            let _ = writeln!(svg, "<text x=\"{text}\" y=\"{below}\">{}</text>", line.name);
        }
    }
}

/// Number of an axis, with a space between thousands.
fn number(value: f64) -> String {
    if value < 1_000.0 {
        return format!("{}", (value * 1_000.0).round() / 1_000.0);
    }
    let whole = value.round() as u64;
    let thousands = if whole >= 1_000_000 {
        format!("{} {:03}", whole / 1_000_000, whole / 1_000 % 1_000)
    } else {
        (whole / 1_000).to_string()
    };
    format!("{thousands} {:03}", whole % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(workers: usize, round_trip: u64, has_lease: bool, load: u64) -> Figures {
        let setting = Setting { workers, round_trip, has_lease, load };
        Figures { setting, admitted: 99.0, denied: 1.0, failed: 0.0, wait: [0.5, 2.0], scripts: 20.0 * workers as f64 }
    }

    #[test]
    fn each_picture_has_a_line_for_each_form_and_a_point_for_each_setting() {
        let all: Vec<Figures> = super::super::settings(1_000)
            .into_iter()
            .map(|it| figures(it.workers, it.round_trip, it.has_lease, it.load))
            .collect();
        let pictures = pictures(&all);
        let names: Vec<&str> = pictures.iter().map(|picture| picture.name.as_str()).collect();
        let what = ["admitted", "wait", "load"];
        assert_eq!(names, what.map(|what| ["workers", "round-trip"].map(|by| format!("{what}-by-{by}"))).concat());
        for picture in pictures {
            let svg = picture.svg();
            let points = picture.x.ticks.len() * 4;
            assert_eq!(svg.matches("<polyline").count(), 4, "{}", picture.name);
            assert_eq!(svg.matches("<circle").count(), points, "{}", picture.name);
            assert!(svg.contains("prefers-color-scheme:dark"));
        }
    }

    #[test]
    fn numbers_have_spaces_between_thousands() {
        assert_eq!(
            [0.1, 30.0, 1_000.0, 158_000.0, 2_050_000.0].map(number),
            ["0.1", "30", "1 000", "158 000", "2 050 000"]
        );
    }

    #[test]
    fn a_logarithmic_axis_spaces_its_decades_evenly() {
        let axis = Axis { title: "", is_logarithmic: true, ticks: vec![1.0, 10.0, 100.0] };
        assert_eq!([0.001, 1.0, 10.0, 100.0, 1e6].map(|value| axis.share(value)), [0.0, 0.0, 0.5, 1.0, 1.0]);
    }
}

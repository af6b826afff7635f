//! SVG plots: one bar per subject for its cost, lines for the sweeps.

use plotters::{prelude::*, style::text_anchor};

use super::super::{
    BenchError,
    plan::{Point, Sweep},
    round::Figure,
    spread::{Rounds, Spread},
    subject::Subject,
};

const WIDTH: u32 = 860;
const FONT: &str = "sans-serif";
/// Colors of the lines, and of the servers in a bar.
const COLORS: [RGBColor; 4] =
    [RGBColor(0x2f, 0x6d, 0xa8), RGBColor(0xd6, 0x82, 0x2b), RGBColor(0x6b, 0x9e, 0x5b), RGBColor(0x88, 0x88, 0x88)];
const WHISKER: ShapeStyle = ShapeStyle { color: RGBAColor(0x22, 0x22, 0x22, 1.0), filled: false, stroke_width: 1 };

/// A plot to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    pub(super) file: String,
    pub(super) title: String,
    drawn: Drawn,
}

#[derive(Debug, Clone, PartialEq)]
enum Drawn {
    /// Bars: a name, the CPU of proxy, Redis and service, and the spread of their sum.
    Bars(Vec<(String, [f64; 3], Spread)>),
    /// Lines through points; all lines share the positions on the axis.
    Lines { axis: &'static str, positions: Vec<u64>, lines: Vec<(String, Vec<(u64, Spread)>)> },
}

/// All plots for which the rounds have figures.
pub(super) fn all(rounds: &Rounds) -> Vec<Plot> {
    let mut plots: Vec<Plot> = super::connections(rounds).into_iter().map(|it| bars(rounds, it)).collect();
    plots.extend(limits(rounds));
    for sweep in [Sweep::Workers, Sweep::Connections, Sweep::Keys] {
        plots.extend(lines(rounds, sweep, Figure::ServersCpu, "CPU of all servers, ms per 1,000 requests"));
    }
    plots.extend(lines(rounds, Sweep::RedisDelay, Figure::P50, "p50, ms"));
    plots
}

fn bars(rounds: &Rounds, connections: u32) -> Plot {
    let points = rounds.points(Sweep::Subjects).into_iter();
    let points = points.filter(|point| point.setting.connections == connections);
    let bar = |point: Point| {
        let median = |figure| rounds.spread(Sweep::Subjects, point, figure).map(|it| it.median);
        let all = rounds.spread(Sweep::Subjects, point, Figure::ServersCpu)?;
        let (proxy, redis) = (median(Figure::ProxyCpu)?, median(Figure::RedisCpu)?);
        Some((point.subject.name(), [proxy, redis, (all.median - proxy - redis).max(0.0)], all))
    };
    Plot {
        file: format!("cpu-{connections}.svg"),
        title: format!("CPU, ms per 1,000 requests, {connections} connections"),
        drawn: Drawn::Bars(points.filter_map(bar).collect()),
    }
}

/// Plot of the cost by limits per request; each number of limits is a subject.
fn limits(rounds: &Rounds) -> Option<Plot> {
    let subjects = [(1, Subject::Weir), (3, Subject::Weir3), (8, Subject::Weir8)];
    let mut lines = Vec::new();
    for connections in super::connections(rounds) {
        let at = |(limits, subject): (u64, Subject)| {
            let mut points = rounds.points(Sweep::Subjects).into_iter();
            let point = points.find(|it| it.subject == subject && it.setting.connections == connections)?;
            Some((limits, rounds.spread(Sweep::Subjects, point, Figure::ServersCpu)?))
        };
        let points: Vec<_> = subjects.into_iter().filter_map(at).collect();
        if points.len() > 1 {
            lines.push((format!("weir, {connections} connections"), points));
        }
    }
    let title = "CPU of all servers, ms per 1,000 requests, by limits per request".into();
    let drawn = Drawn::Lines { axis: "limits per request", positions: vec![1, 3, 8], lines: lines.clone() };
    (!lines.is_empty()).then(|| Plot { file: "limits.svg".into(), title, drawn })
}

fn lines(rounds: &Rounds, sweep: Sweep, figure: Figure, what: &str) -> Option<Plot> {
    let points = rounds.points(sweep);
    let mut positions: Vec<u64> = points.iter().map(|point| sweep.position(point.setting)).collect();
    positions.sort_unstable();
    positions.dedup();
    let mut lines: Vec<(String, Vec<(u64, Spread)>)> = Vec::new();
    for point in &points {
        let Some(spread) = rounds.spread(sweep, *point, figure) else { continue };
        let at = (sweep.position(point.setting), spread);
        let name = point.subject.name();
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, line)) => line.push(at),
            None => lines.push((name, vec![at])),
        }
    }
    (!lines.is_empty()).then(|| Plot {
        file: format!("{}.svg", sweep.name()),
        title: format!("{what}, by {}", sweep.axis()),
        drawn: Drawn::Lines { axis: sweep.axis(), positions, lines },
    })
}

impl Plot {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// If the plotting library fails.
    pub(super) fn svg(&self) -> Result<String, BenchError> {
        let mut text = String::new();
        let drawn = match &self.drawn {
            Drawn::Bars(bars) => draw_bars(&mut text, &self.title, bars),
            Drawn::Lines { axis, positions, lines } => draw_lines(&mut text, &self.title, axis, positions, lines),
        };
        drawn.map_err(|why| BenchError::Plot { name: self.file.clone(), why: why.to_string() })?;
        Ok(text)
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

/// Draws horizontal bars, one below the other, because the subjects' names are long.
fn draw_bars(text: &mut String, title: &str, bars: &[(String, [f64; 3], Spread)]) -> Done {
    let height = 110 + 30 * u32::try_from(bars.len())?;
    let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().map(|(_, _, all)| all.most).fold(1e-9, f64::max) * 1.05;
    // Names are drawn left of zero.
    let names = most * 0.25;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18))
        .margin(10)
        .x_label_area_size(30)
        .build_cartesian_2d(-names..most, 0.0..bars.len() as f64)?;
    let no_names = |value: &f64| if *value < 0.0 { String::new() } else { format!("{value:.0}") };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&no_names)
        .draw()?;
    let centres = (0..bars.len()).rev().map(|index| index as f64 + 0.5);
    for ((name, parts, all), centre) in bars.iter().zip(centres) {
        let mut from = 0.0;
        for (part, color) in parts.iter().zip(COLORS) {
            let bar = Rectangle::new([(from, centre - 0.32), (from + part, centre + 0.32)], color.filled());
            chart.draw_series([bar])?;
            from += part;
        }
        let whisker = |from: (f64, f64), to: (f64, f64)| PathElement::new(vec![from, to], WHISKER);
        let ends = [all.least, all.most].map(|x| whisker((x, centre - 0.15), (x, centre + 0.15)));
        chart.draw_series(ends.into_iter().chain([whisker((all.least, centre), (all.most, centre))]))?;
        let anchor = text_anchor::Pos::new(text_anchor::HPos::Right, text_anchor::VPos::Center);
        let style = TextStyle::from((FONT, 14)).pos(anchor);
        chart.draw_series([Text::new(name.clone(), (-most * 0.01, centre), style)])?;
    }
    for (name, color) in ["proxy", "Redis", "service"].into_iter().zip(COLORS) {
        chart
            .draw_series(std::iter::empty::<Rectangle<(f64, f64)>>())?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font((FONT, 14))
        .background_style(WHITE)
        .border_style(WHISKER)
        .draw()?;
    root.present()?;
    Ok(())
}

/// Draws lines over evenly spaced positions, regardless of their values: positions are few and far apart.
fn draw_lines(
    text: &mut String,
    title: &str,
    axis: &str,
    positions: &[u64],
    lines: &[(String, Vec<(u64, Spread)>)],
) -> Done {
    let root = SVGBackend::with_string(text, (WIDTH, 380)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = lines.iter().flat_map(|(_, line)| line).map(|(_, spread)| spread.most).fold(1e-9, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.4..positions.len() as f64 - 0.6, 0.0..most)?;
    let position = |place: &f64| {
        let whole = (place - place.round()).abs() < 1e-6 && *place > -0.1;
        let known = positions.get(place.round().max(0.0) as usize).filter(|_| whole);
        known.map(ToString::to_string).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(positions.len())
        .x_label_formatter(&position)
        .x_desc(axis)
        .axis_desc_style((FONT, 14))
        .draw()?;
    for ((name, line), color) in lines.iter().zip(COLORS.into_iter().cycle()) {
        let place = |value: u64| positions.iter().position(|it| *it == value).unwrap_or(0) as f64;
        let medians = line.iter().map(|(value, spread)| (place(*value), spread.median));
        chart
            .draw_series(LineSeries::new(medians, color.stroke_width(2)))?
            .label(name.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], color.stroke_width(2)));
        chart.draw_series(line.iter().map(|(value, spread)| {
            ErrorBar::new_vertical(place(*value), spread.least, spread.median, spread.most, color.filled(), 8)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.8))
        .border_style(WHISKER)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::{plan::Setting, round::Round, spread::tests::round};
    use super::*;

    #[test]
    fn every_subject_has_its_bar_and_its_name() {
        let rounds = Rounds(vec![round(Subject::NoOp, 1, 30), round(Subject::Weir, 1, 45)]);
        let plots = all(&rounds);
        assert_eq!(plots.iter().map(|plot| plot.file.as_str()).collect::<Vec<_>>(), ["cpu-16.svg"]);
        let svg = plots[0].svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("no-op") && svg.contains("weir"), "{svg}");
    }

    #[test]
    fn a_sweep_is_a_line_through_its_positions() {
        let at = |keys: u32, proxy: u64| {
            let of = round(Subject::Weir, 1, proxy);
            let point = Point { setting: Setting { keys, ..of.point.setting }, ..of.point };
            Round { sweep: Sweep::Keys, point, ..of }
        };
        let plots = all(&Rounds(vec![at(1, 40), at(10_000, 44)]));
        let Drawn::Lines { positions, lines, .. } = &plots[0].drawn else { panic!("{plots:?}") };
        assert_eq!((positions.as_slice(), lines.len(), lines[0].1.len()), ([1, 10_000].as_slice(), 1, 2));
        let svg = plots[0].svg().unwrap();
        assert!(svg.contains("10000") && svg.contains("keys"), "{svg}");
    }
}

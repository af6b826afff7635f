//! Picture of a dashboard, as SVG: its panels at their places, with the series of a run, in light and in dark colours
//! as the reader prefers.

use std::fmt::Write as _;

use serde_json::Value;

use crate::plot::{self, Frame};
use crate::prometheus::{Series, Span};

/// Width of the picture, in pixels, and the sizes of a dashboard's cell: 24 are the width.
const WIDTH: f64 = 960.0;
const CELL: [f64; 2] = [WIDTH / 24.0, 25.0];
/// Height of the dashboard's title.
const HEAD: f64 = 40.0;
/// Space between panels.
const GAP: f64 = 4.0;

const STYLE: &str = "\
svg{font:12px sans-serif}.head{font-size:17px;font-weight:bold}.title{font-size:13px;font-weight:bold}
.big{font-size:26px;font-weight:bold}.small{font-size:11px}.line{fill:none;stroke-width:1.8}
.back{fill:#f3f5f7}.panel{fill:#fff;stroke:#d8dee4}text{fill:#24292f}.grid{stroke:#e3e7eb}
.c0{stroke:#0b62b8}.c1{stroke:#c2410c}.c2{stroke:#15803d}.c3{stroke:#8250df}.c4{stroke:#a16207}.c5{stroke:#0e7490}
.c6{stroke:#be185d}.c7{stroke:#57606a}.c8{stroke:#7dd3fc}.c9{stroke:#f9a8d4}
@media(prefers-color-scheme:dark){
.back{fill:#0d1117}.panel{fill:#15191f;stroke:#3a424d}text{fill:#dfe5ec}.grid{stroke:#2b323b}
.c0{stroke:#62b0ff}.c1{stroke:#ff9d57}.c2{stroke:#56d364}.c3{stroke:#c7a0ff}.c4{stroke:#e3b341}.c5{stroke:#4fd1e5}
.c6{stroke:#ff7eb6}.c7{stroke:#aab4bf}.c8{stroke:#1f6feb}.c9{stroke:#9e2f66}}";

/// Returns the picture of a dashboard: each panel with its lines, by their names.
pub fn of(board: &Value, panels: &[(&Value, Vec<(String, Series)>)], span: Span) -> String {
    let title = board["title"].as_str().expect("a title");
    let rows = panels.iter().map(|(panel, _)| place(panel, "y") + place(panel, "h")).fold(0.0, f64::max);
    let height = HEAD + rows * CELL[1] + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"head\" x=\"{GAP}\" y=\"27\">{title}</text>\n",
    );
    for (panel, lines) in panels {
        let frame = Frame {
            x: place(panel, "x") * CELL[0] + GAP / 2.0,
            y: HEAD + place(panel, "y") * CELL[1],
            width: place(panel, "w") * CELL[0] - GAP,
            height: place(panel, "h") * CELL[1] - GAP,
        };
        draw(&mut svg, panel, lines, frame, span);
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Value, lines: &[(String, Series)], frame: Frame, span: Span) {
    let Frame { x, y, width, height } = frame;
    let unit = panel.pointer("/fieldConfig/defaults/unit").and_then(Value::as_str).unwrap_or_default();
    let (left, top) = (x + 10.0, y + 18.0);
    let _ = writeln!(svg, "<rect class=\"panel\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\"/>");
    let _ = writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"{top}\">{}</text>", escaped(&panel["title"]));
    if panel["type"] == "stat" {
        plot::last_value(svg, unit, lines, frame, span);
    } else {
        plot::lines(svg, unit, lines, frame, span);
    }
}

fn place(panel: &Value, part: &str) -> f64 {
    panel["gridPos"][part].as_f64().expect("a place")
}

fn escaped(text: &Value) -> String {
    text.as_str().expect("a text").replace('&', "&amp;").replace('<', "&lt;")
}

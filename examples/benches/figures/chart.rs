//! Draws the figures of a run as SVG, which is legible on a light and on a dark background.

use serde_json::Value;

use crate::process::is_ours;
use crate::report::three_digits;

/// Columns of panels. Each panel has a bar for each server.
const COLUMNS: usize = 3;
const PANEL: f64 = 270.0;
const LABEL: f64 = 112.0;
const BAR: f64 = 112.0;
const LINE: f64 = 15.0;
const TITLE: f64 = 22.0;
const GAP: f64 = 14.0;

const STYLE: &str = "
text { font: 11px system-ui, sans-serif; fill: #424a53 }
.title { font-weight: 600; fill: #1f2328 }
.peer { fill: #8c959f }
.ours { fill: #0969da }
.label { text-anchor: end }
@media (prefers-color-scheme: dark) {
text { fill: #b1bac4 }
.title { fill: #e6edf3 }
.peer { fill: #6e7681 }
.ours { fill: #4493f8 }
}
";

/// Draws what [`Report::json`](crate::report::Report::json) has returned.
pub(crate) fn draw(report: &Value) -> String {
    let rows = report["rows"].as_array().expect("a report has rows");
    let mut panels = String::new();
    let mut top = 0.0;
    for line in rows.chunks(COLUMNS) {
        for (column, row) in line.iter().enumerate() {
            panels += &panel(row, column as f64 * (PANEL + GAP), top);
        }
        let bars = line.iter().map(|row| figures(row).len()).max().unwrap_or(0);
        top += TITLE + bars as f64 * LINE + GAP;
    }
    let width = (PANEL + GAP) * COLUMNS as f64 - GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" width=\"{width}\" height=\"{top}\" role=\"img\">\n\
         <title>What durability costs: less is better</title>\n<style>{STYLE}</style>\n{panels}</svg>\n"
    )
}

fn panel(row: &Value, left: f64, top: f64) -> String {
    let name = row["name"].as_str().expect("a row has a name");
    let title = match row["unit"].as_str() {
        Some("us") => format!("{name}: \u{b5}s of CPU"),
        _ => name.to_owned(),
    };
    let largest = figures(row).iter().map(median).fold(f64::MIN_POSITIVE, f64::max);
    let mut panel = format!(
        "<text class=\"title\" x=\"{}\" y=\"{}\">{title}</text>\n",
        left + 2.0,
        top + 14.0
    );
    for (index, figure) in figures(row).iter().enumerate() {
        let server = figure["server"].as_str().expect("a figure has a server");
        let class = if is_ours(server) { "ours" } else { "peer" };
        let width = BAR * median(figure) / largest;
        let (x, y) = (left + LABEL + 6.0, top + TITLE + index as f64 * LINE);
        panel += &format!(
            "<text class=\"label\" x=\"{:.0}\" y=\"{:.0}\">{server}</text>\
             <rect class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"11\" rx=\"1\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text>\n",
            left + LABEL,
            y + 9.5,
            x + width + 5.0,
            y + 9.5,
            three_digits(median(figure)),
        );
    }
    panel
}

fn figures(row: &Value) -> &Vec<Value> {
    row["figures"].as_array().expect("a row has figures")
}

fn median(figure: &Value) -> f64 {
    figure["median"].as_f64().expect("a figure has a median")
}

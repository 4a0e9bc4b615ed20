//! The latency plot: one group of bars per pair, p50, p90 and p99, as SVG that reads on light and dark pages.

use std::fmt::Write;

use crate::options::{CONNECTIONS, RATE};
use crate::summary::{Figure, Line, Summary};

/// Latency at the fixed rate.
pub(crate) fn latency(summary: &Summary, rounds: u32) -> String {
    let mut plot = Plot::new(summary);
    let title = format!("Latency through a pair of sidecars at {RATE} requests per second");
    plot.text(16.0, 26.0, "font-size=\"16\" font-weight=\"bold\"", &title);
    let axis = format!("µs from the time a request was due to its whole response, over {CONNECTIONS} connections");
    plot.text(16.0, 46.0, FAINT, &axis);
    let bars =
        format!("bar: median of {rounds} rounds; line: lowest to highest, with an arrow where it leaves the scale");
    plot.text(16.0, 64.0, FAINT, &bars);
    plot.grid();
    for (index, line) in summary.lines.iter().enumerate() {
        plot.group(TOP + GROUP * index as f64, line);
    }
    plot.svg.push_str("</svg>\n");
    plot.svg
}

struct Plot {
    svg: String,
    height: f64,
    /// µs at the right end of the scale, and between two grid lines.
    end: f64,
    step: f64,
}

impl Plot {
    /// One disturbed round must not shrink all bars to nothing, so the scale follows the medians.
    fn new(summary: &Summary) -> Self {
        let longest = summary.lines.iter().map(|line| line.open.p99.median).fold(1.0, f64::max) * 1.1;
        let step = grid_step(longest);
        let height = TOP + GROUP * summary.lines.len() as f64 + BOTTOM;
        let size = format!("viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\"");
        let font = format!("font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\"");
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} {font}>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        Self { svg, height, end: (longest / step).ceil() * step, step }
    }

    fn x(&self, microseconds: f64) -> f64 {
        LEFT + microseconds.min(self.end) / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn grid(&mut self) {
        let floor = self.height - BOTTOM + 4.0;
        let mut mark = 0.0;
        while mark <= self.end {
            let x = self.x(mark);
            self.line([x, TOP - 6.0], [x, floor], "#e4e7eb");
            self.text(x, floor + 18.0, &format!("text-anchor=\"middle\" {FAINT}"), &format!("{mark:.0}"));
            mark += self.step;
        }
    }

    fn group(&mut self, top: f64, line: &Line) {
        let style = "text-anchor=\"end\" font-weight=\"bold\"";
        self.text(LEFT - 50.0, top + BAR * 1.5 + 5.0, style, line.make.title());
        let figures = [("p50", line.open.p50), ("p90", line.open.p90), ("p99", line.open.p99)];
        for (row, ((name, figure), colour)) in figures.into_iter().zip(COLOURS).enumerate() {
            self.bar(top + BAR * row as f64, name, figure, colour);
        }
    }

    fn bar(&mut self, top: f64, name: &str, figure: Figure, colour: &str) {
        let middle = top + BAR / 2.0;
        self.text(LEFT - 10.0, middle + 4.5, &format!("text-anchor=\"end\" {FAINT}"), name);
        let (width, height) = (self.x(figure.median) - LEFT, BAR - 4.0);
        let y = top + 2.0;
        writeln!(self.svg, "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>")
            .unwrap();
        let right = self.x(figure.high);
        self.line([self.x(figure.low), middle], [right, middle], INK);
        let arrow = if figure.high > self.end { "→ " } else { "" };
        self.text(right + 5.0, middle + 4.5, "", &format!("{arrow}{:.0}", figure.median));
    }

    fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str) {
        writeln!(
            self.svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1}\" x2=\"{x2:.1}\" y2=\"{y2}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        )
        .unwrap();
    }

    fn text(&mut self, x: f64, y: f64, style: &str, content: &str) {
        writeln!(self.svg, "<text x=\"{x:.1}\" y=\"{y}\" {style}>{content}</text>").unwrap();
    }
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 240.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 90.0;
const BOTTOM: f64 = 36.0;
const BAR: f64 = 20.0;
/// Three bars and the room below them.
const GROUP: f64 = 76.0;
const INK: &str = "#1f2933";
const FAINT: &str = "fill=\"#52606d\"";
const COLOURS: [&str; 3] = ["#bcccdc", "#829ab1", "#486581"];

/// 1, 2 or 5 times a power of ten, so that there are at most eight lines.
fn grid_step(longest: f64) -> f64 {
    let power = 10f64.powf((longest / 8.0).log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| longest / step <= 8.0);
    fits.unwrap_or(10.0 * power)
}

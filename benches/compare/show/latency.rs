//! The latency plot: one group of bars per pair, p50, p90 and p99.

use support::svg::{FAINT, GRID, INK, Svg, grid_step, stroke};

use crate::figures::latency as quantile;
use crate::makes::Make;
use crate::options::{CONNECTIONS, Options, RATE};
use crate::summary::{Cell, Figure, Summary};
use crate::workloads::Workload;

const QUANTILES: [(&str, &str); 3] = [("p50", "#bcccdc"), ("p90", "#829ab1"), ("p99", "#486581")];

/// Latency at the fixed rate. A make with an error has no bars.
pub(crate) fn svg(summary: &Summary<'_>, options: &Options) -> String {
    let groups: Vec<(Make, Vec<Figure>)> = options
        .makes
        .iter()
        .filter(|make| options.wants(**make, Workload::W2))
        .map(|make| {
            let cells = QUANTILES.map(|(name, _)| summary.cell(*make, "w2", quantile(name)));
            let figure = |cell| if let Cell::Is(figure) = cell { Some(figure) } else { None };
            (*make, cells.into_iter().filter_map(figure).collect())
        })
        .collect();
    // One disturbed round must not shrink all bars to nothing, so the scale follows the medians.
    let longest = groups.iter().flat_map(|(_, figures)| figures).map(|figure| figure.median).fold(1.0, f64::max) * 1.1;
    let step = grid_step(longest);
    let height = TOP + GROUP * groups.len() as f64 + BOTTOM;
    let mut plot = Plot { svg: Svg::new(WIDTH, height), height, end: (longest / step).ceil() * step, step };
    plot.svg.title(&format!("Latency through a pair of sidecars at {RATE} requests per second"));
    let axis = format!("µs from the time a request was due to its whole response, over {CONNECTIONS} connections");
    plot.svg.text(16.0, 46.0, FAINT, &axis);
    let rounds = options.rounds;
    let bars =
        format!("bar: median of {rounds} rounds; line: lowest to highest, with an arrow where it leaves the scale");
    plot.svg.text(16.0, 64.0, FAINT, &bars);
    plot.grid();
    for (index, (make, figures)) in groups.iter().enumerate() {
        plot.group(TOP + GROUP * index as f64, make.title(), figures);
    }
    plot.svg.end()
}

struct Plot {
    svg: Svg,
    height: f64,
    /// µs at the right end of the scale, and between two grid lines.
    end: f64,
    step: f64,
}

impl Plot {
    fn x(&self, microseconds: f64) -> f64 {
        LEFT + microseconds.min(self.end) / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn grid(&mut self) {
        let floor = self.height - BOTTOM + 4.0;
        let mut mark = 0.0;
        while mark <= self.end {
            let x = self.x(mark);
            self.svg.line([x, TOP - 6.0], [x, floor], &stroke(GRID));
            self.svg.text(x, floor + 18.0, &format!("text-anchor=\"middle\" {FAINT}"), &format!("{mark:.0}"));
            mark += self.step;
        }
    }

    fn group(&mut self, top: f64, title: &str, figures: &[Figure]) {
        let style = "text-anchor=\"end\" font-weight=\"bold\"";
        self.svg.text(LEFT - 50.0, top + BAR * 1.5 + 5.0, style, title);
        for (row, (figure, (name, colour))) in figures.iter().zip(QUANTILES).enumerate() {
            self.bar(top + BAR * row as f64, name, *figure, colour);
        }
    }

    fn bar(&mut self, top: f64, name: &str, figure: Figure, colour: &str) {
        let middle = top + BAR / 2.0;
        self.svg.text(LEFT - 10.0, middle + 4.5, &format!("text-anchor=\"end\" {FAINT}"), name);
        self.svg.bar([LEFT, top + 2.0], [self.x(figure.median) - LEFT, BAR - 4.0], colour);
        let right = self.x(figure.high);
        self.svg.line([self.x(figure.low), middle], [right, middle], &stroke(INK));
        let arrow = if figure.high > self.end { "→ " } else { "" };
        self.svg.text(right + 5.0, middle + 4.5, "", &format!("{arrow}{:.0}", figure.median));
    }
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 90.0;
const BOTTOM: f64 = 36.0;
const BAR: f64 = 20.0;
/// Three bars and the room below them.
const GROUP: f64 = 76.0;

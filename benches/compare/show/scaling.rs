//! The scale plot: CPU per request against connections, rules and services, one panel each, both axes logarithmic.

use support::svg::{FAINT, GRID, Svg, stroke};

use crate::figures as of;
use crate::makes::Make;
use crate::options::Options;
use crate::scale::{AXES, RATE};
use crate::summary::Summary;
use crate::workloads::Workload;

/// A flat curve is one whose cost does not depend on the number.
pub(crate) fn svg(summary: &Summary<'_>, options: &Options) -> String {
    let makes: Vec<Make> = options.makes.iter().copied().filter(|make| options.wants(*make, Workload::Scale)).collect();
    let cost =
        |make: Make, axis: &str, point: usize| summary.cell(make, &format!("{axis}-{point}"), of::cpu_us).median();
    let all = || {
        let points = AXES.iter().flat_map(|(axis, points)| points.iter().map(move |point| (*axis, *point)));
        let makes = &makes;
        points.flat_map(move |(axis, point)| makes.iter().filter_map(move |make| cost(*make, axis, point)))
    };
    let (least, most) = (all().fold(f64::INFINITY, f64::min).min(100.0), all().fold(200.0, f64::max));
    let bottom = MARKS.into_iter().rfind(|mark| *mark <= least).unwrap_or(MARKS[0]);
    let top = MARKS.into_iter().find(|mark| *mark >= most).unwrap_or(MARKS[MARKS.len() - 1]);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.title("CPU per request as the number of connections, rules and services grows");
    let unit = format!("µs of both sidecars at {RATE} requests per second; both axes are logarithmic; flat is good");
    svg.text(16.0, 46.0, FAINT, &unit);
    legend(&mut svg, &makes);
    for (index, (axis, points)) in AXES.iter().enumerate() {
        let panel = Panel { left: LEFT + index as f64 * (PANEL + GAP), bottom, top, last: points[3] as f64 };
        panel.grid(&mut svg, axis, points, index == 0);
        for (make, colour) in makes.iter().zip(COLOURS) {
            let dots: Vec<[f64; 2]> = points
                .iter()
                .filter_map(|point| Some([panel.x(*point as f64), panel.y(cost(*make, axis, *point)?)]))
                .collect();
            dots.windows(2).for_each(|ends| svg.line(ends[0], ends[1], &stroke(colour)));
            dots.iter().for_each(|dot| svg.dot(*dot, colour));
        }
    }
    svg.end()
}

fn legend(svg: &mut Svg, makes: &[Make]) {
    for (index, (make, colour)) in makes.iter().zip(COLOURS).enumerate() {
        let x = LEFT + index as f64 * 110.0;
        svg.dot([x, 66.0], colour);
        svg.text(x + 9.0, 70.5, "", make.title());
    }
}

struct Panel {
    left: f64,
    /// µs at the lower and at the upper end.
    bottom: f64,
    top: f64,
    /// The number at the right end; at the left it is 1.
    last: f64,
}

impl Panel {
    fn x(&self, number: f64) -> f64 {
        self.left + number.log10() / self.last.log10() * PANEL
    }

    fn y(&self, microseconds: f64) -> f64 {
        FLOOR - (microseconds / self.bottom).log10() / (self.top / self.bottom).log10() * (FLOOR - CEILING)
    }

    fn grid(&self, svg: &mut Svg, axis: &str, points: &[usize], is_first: bool) {
        for mark in MARKS.into_iter().filter(|mark| (self.bottom..=self.top).contains(mark)) {
            let y = self.y(mark);
            svg.line([self.left, y], [self.left + PANEL, y], &stroke(GRID));
            if is_first {
                let style = format!("text-anchor=\"end\" {FAINT}");
                svg.text(self.left - 8.0, y + 4.5, &style, &format!("{mark:.0}"));
            }
        }
        for point in points {
            let style = format!("text-anchor=\"middle\" {FAINT}");
            svg.text(self.x(*point as f64), FLOOR + 20.0, &style, &point.to_string());
        }
        let style = "text-anchor=\"middle\" font-weight=\"bold\"";
        svg.text(self.left + PANEL / 2.0, FLOOR + 42.0, style, axis);
    }
}

/// µs.
const MARKS: [f64; 12] = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4];
const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const PANEL: f64 = 250.0;
const GAP: f64 = 60.0;
const CEILING: f64 = 96.0;
const FLOOR: f64 = 340.0;
const COLOURS: [&str; 5] = ["#c81e1e", "#486581", "#2f8132", "#b7791f", "#6b46c1"];

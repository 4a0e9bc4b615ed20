//! The plot of a run: memory, descriptors, tasks, latency and requests over the same minutes. Flat is good.

use support::svg::{FAINT, GRID, Svg, grid_step, stroke};
use support::trend::centre;

use crate::judge::{per_ten_minutes, points};
use crate::options::Options;
use crate::sample::{Held, Sample};

const SIDECARS: [(&str, &str); 2] = [("caller's sidecar", "#2f6f9f"), ("callee's sidecar", "#c0561a")];
const QUANTILES: [(&str, &str); 3] = [("p99", "#334e68"), ("p90", "#7b93ab"), ("p50", "#b8c6d4")];
const WIDTH: f64 = 980.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 84.0;
/// Of a panel, and between two of them.
const HEIGHT: f64 = 130.0;
const GAP: f64 = 52.0;
const WARM_UP: &str = "#f3f5f7";

type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// All samples.
pub(crate) fn svg(samples: &[Sample], options: &Options) -> String {
    let height = HEAD + 5.0 * (HEIGHT + GAP) + 4.0;
    let mut plot = Plot {
        svg: Svg::new(WIDTH, height),
        seconds: 60.0 * options.minutes as f64,
        warm_up: options.warm_up(),
        row: 0,
    };
    plot.svg.title(&format!("{} minutes of mixed load with faults, reloads and renewals", options.minutes));
    let what = "sampled every 5 seconds; the grey minutes are the warm-up, which the slopes leave out";
    plot.svg.text(16.0, 46.0, FAINT, what);

    let of = |of: fn(&Held) -> f64| -> Vec<Line<'static>> {
        let line = |at: usize| samples.iter().map(|one| (one.at, of(&one.held.0[at]))).collect();
        SIDECARS.iter().enumerate().map(|(at, (name, colour))| (*name, *colour, line(at))).collect()
    };
    let slopes = |of: fn(&Held) -> f64| [0, 1].map(|at| points(samples, at, options, of));
    let memory: fn(&Held) -> f64 = |held| held.rss as f64 / 1024.0;
    plot.linear("Resident memory, MiB", &of(memory), Some(&slopes(memory)));
    plot.linear("Open descriptors", &of(|held| held.descriptors as f64), None);
    plot.linear("Tasks", &of(|held| held.tasks as f64), None);
    let latency = |at: usize| samples.iter().map(|one| (one.at, one.latency[at] as f64 / 1000.0)).collect();
    let latencies: Vec<Line<'_>> =
        QUANTILES.iter().zip([2, 1, 0]).map(|((name, colour), at)| (*name, *colour, latency(at))).collect();
    plot.logarithmic("Latency of a probe through both, ms, logarithmic", &latencies);
    let all = samples.iter().map(|one| (one.at, one.good + one.as_due)).collect();
    let good = samples.iter().map(|one| (one.at, one.good)).collect();
    plot.stacked(
        "Requests per second",
        &[
            ("refused, malformed, faults and leavers", "#e6b8a2", all),
            ("answered 200 with the right answer", "#a9c5a0", good),
        ],
    );
    plot.svg.end()
}

struct Plot {
    svg: Svg,
    seconds: f64,
    warm_up: f64,
    /// Panels drawn so far.
    row: usize,
}

/// Where values lie in a panel.
struct Scale {
    floor: f64,
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = if self.is_logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.floor - share * HEIGHT
    }
}

impl Plot {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn linear(&mut self, title: &str, lines: &[Line<'_>], fits: Option<&[Vec<(f64, f64)>; 2]>) {
        let most = lines.iter().flat_map(|line| &line.2).map(|point| point.1).fold(1.0, f64::max);
        let scale = self.panel(title, lines, most);
        self.curves(lines, &scale);
        for (fit, (_, colour, _)) in fits.into_iter().flatten().zip(lines) {
            let slope = per_ten_minutes(fit);
            let (middle, value) = centre(fit);
            let at = |seconds: f64| [self.x(seconds), scale.y(value + (seconds - middle) * slope / 600.0)];
            let ends = [at(self.warm_up), at(self.seconds)];
            self.svg.line(
                ends[0],
                ends[1],
                &format!("stroke=\"{colour}\" stroke-width=\"1\" stroke-dasharray=\"5 4\""),
            );
            // Above the upper line, below the lower one.
            let is_upper = fits.is_some_and(|fits| fits.iter().all(|other| centre(other).1 <= value));
            let y = ends[1][1] + if is_upper { -9.0 } else { 19.0 };
            let style = format!("text-anchor=\"end\" font-size=\"12\" style=\"fill:{colour}\"");
            self.svg.text(WIDTH - RIGHT - 4.0, y, &style, &format!("{slope:+.2} MiB in 10 minutes"));
        }
    }

    fn logarithmic(&mut self, title: &str, lines: &[Line<'_>]) {
        let values = || lines.iter().flat_map(|line| &line.2).map(|point| point.1).filter(|value| *value > 0.0);
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(0.2, f64::max);
        let low = MARKS.into_iter().rfind(|mark| *mark <= least).unwrap_or(MARKS[0]);
        let high = MARKS.into_iter().find(|mark| *mark >= most).unwrap_or(MARKS[MARKS.len() - 1]);
        let scale = Scale { floor: self.floor(), low, high, is_logarithmic: true };
        self.frame(title, lines, &scale, MARKS.into_iter().filter(|mark| (low..=high).contains(mark)));
        self.curves(lines, &scale);
        self.row += 1;
    }

    /// The first line lies behind those that follow.
    fn stacked(&mut self, title: &str, lines: &[Line<'_>]) {
        let most = lines.iter().flat_map(|line| &line.2).map(|point| point.1).fold(1.0, f64::max);
        let scale = self.panel(title, lines, most);
        for (_, colour, points) in lines {
            let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
            let mut corners = vec![[self.x(first.0), scale.floor]];
            corners.extend(points.iter().map(|point| [self.x(point.0), scale.y(point.1)]));
            corners.push([self.x(last.0), scale.floor]);
            self.svg.area(&corners, colour);
        }
    }

    /// A frame from 0 to `most` and a little more.
    fn panel(&mut self, title: &str, lines: &[Line<'_>], most: f64) -> Scale {
        let step = grid_step(most * 2.0);
        let high = (most * 1.1 / step).ceil() * step;
        let scale = Scale { floor: self.floor(), low: 0.0, high, is_logarithmic: false };
        let marks = (0..).map(move |mark| f64::from(mark) * step).take_while(move |mark| *mark <= high);
        self.frame(title, lines, &scale, marks);
        self.row += 1;
        scale
    }

    fn floor(&self) -> f64 {
        HEAD + self.row as f64 * (HEIGHT + GAP) + HEIGHT
    }

    fn frame(&mut self, title: &str, lines: &[Line<'_>], scale: &Scale, marks: impl Iterator<Item = f64>) {
        let (floor, right) = (scale.floor, WIDTH - RIGHT);
        let warm = self.x(self.warm_up);
        self.svg.bar([LEFT, floor - HEIGHT], [warm - LEFT, HEIGHT], WARM_UP);
        self.svg.text(16.0, floor - HEIGHT - 12.0, "font-weight=\"bold\"", title);
        for mark in marks {
            let y = scale.y(mark);
            self.svg.line([LEFT, y], [right, y], &stroke(GRID));
            self.svg.text(LEFT - 8.0, y + 4.5, &format!("text-anchor=\"end\" {FAINT}"), &format!("{mark}"));
        }
        let minutes = self.seconds / 60.0;
        let step = grid_step(minutes).max(1.0);
        for mark in (0..).map(|mark| f64::from(mark) * step).take_while(|mark| *mark <= minutes) {
            let x = self.x(mark * 60.0);
            let unit = if mark == 0.0 { " min" } else { "" };
            self.svg.text(x, floor + 18.0, &format!("text-anchor=\"middle\" {FAINT}"), &format!("{mark:.0}{unit}"));
        }
        // From the right, so that short names stand close to the edge.
        let mut x = right;
        for (name, colour, _) in lines {
            x -= 7.0 * name.len() as f64 + 24.0;
            self.svg.dot([x, floor - HEIGHT - 16.0], colour);
            self.svg.text(x + 9.0, floor - HEIGHT - 12.0, "", name);
        }
    }

    fn curves(&mut self, lines: &[Line<'_>], scale: &Scale) {
        for (_, colour, points) in lines {
            let points: Vec<[f64; 2]> = points.iter().map(|point| [self.x(point.0), scale.y(point.1)]).collect();
            self.svg.curve(&points, &stroke(colour));
        }
    }
}

/// ms.
const MARKS: [f64; 14] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

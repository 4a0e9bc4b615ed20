//! The few marks that the plots are drawn with, as SVG that reads on light and dark pages.

use std::fmt::Write;

/// Text and lines that matter most.
pub const INK: &str = "#1f2933";
/// The style of text that explains.
pub const FAINT: &str = "fill=\"#52606d\"";
/// The colour of grid lines.
pub const GRID: &str = "#e4e7eb";

/// A picture in the making.
#[derive(Debug)]
pub struct Svg {
    text: String,
}

impl Svg {
    /// An empty white page of this width and height.
    #[must_use]
    pub fn new(width: f64, height: f64) -> Self {
        let size = format!("viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\"");
        let font = format!("font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\"");
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} {font}>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        Self { text }
    }

    /// The heading, at the top left.
    pub fn title(&mut self, text: &str) {
        self.text(16.0, 26.0, "font-size=\"16\" font-weight=\"bold\"", text);
    }

    /// Text with its base line at a point.
    pub fn text(&mut self, x: f64, y: f64, style: &str, content: &str) {
        writeln!(self.text, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{content}</text>").unwrap();
    }

    /// A straight line.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], style: &str) {
        let ends = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
        writeln!(self.text, "<line {ends} {style}/>").unwrap();
    }

    /// A filled rectangle: top left corner, then size.
    pub fn bar(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: &str) {
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        writeln!(self.text, "<rect {place} fill=\"{colour}\"/>").unwrap();
    }

    /// A small disc.
    pub fn dot(&mut self, [x, y]: [f64; 2], colour: &str) {
        writeln!(self.text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>").unwrap();
    }

    /// A line through all points; nothing for fewer than two.
    pub fn curve(&mut self, points: &[[f64; 2]], style: &str) {
        if points.len() > 1 {
            let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
            writeln!(self.text, "<polyline points=\"{}\" fill=\"none\" {style}/>", points.join(" ")).unwrap();
        }
    }

    /// A filled shape with these corners.
    pub fn area(&mut self, points: &[[f64; 2]], colour: &str) {
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        writeln!(self.text, "<polygon points=\"{}\" fill=\"{colour}\"/>", points.join(" ")).unwrap();
    }

    /// The file's text.
    #[must_use]
    pub fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// A line's style.
#[must_use]
pub fn stroke(colour: &str) -> String {
    format!("stroke=\"{colour}\" stroke-width=\"1.5\"")
}

/// 1, 2 or 5 times a power of ten, so that there are at most eight steps to the largest.
#[must_use]
pub fn grid_step(largest: f64) -> f64 {
    let power = 10f64.powf((largest / 8.0).log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| largest / step <= 8.0);
    fits.unwrap_or(10.0 * power)
}

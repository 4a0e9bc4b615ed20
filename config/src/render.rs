//! How problems look: rustc style for people, JSON for programs.

use crate::problem::{Problem, Report, Severity};
use crate::source;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};
use std::ops::Range;

/// More problems than this are counted, not shown: nobody reads the hundredth before mending the first.
const SHOWN: usize = 100;

/// How many lines of a problem's own text are shown.
const LINES: usize = 4;

impl Report {
    /// Rustc style text, one blank line after each problem, and a count at the end. `color` for a terminal.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for problem in self.problems.iter().take(SHOWN) {
            out.push_str(&renderer.render(&[group(problem)]));
            out.push_str("\n\n");
        }
        let (errors, warnings) = self.counts();
        out.push_str(&summary(errors, warnings, self.problems.len().saturating_sub(SHOWN)));
        out.push('\n');
        out
    }

    /// `{"errors": n, "warnings": n, "problems": [{code, severity, message, file, line, column, end_line,
    /// end_column, label, help}]}`; lines and columns count from 1, `help` may be null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (errors, warnings) = self.counts();
        let problems: Vec<Value> = self.problems.iter().map(problem_json).collect();
        json!({ "errors": errors, "warnings": warnings, "problems": problems })
    }
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

fn problem_json(p: &Problem) -> Value {
    let (end_line, end_column) = p.end;
    json!({
        "code": p.code, "severity": p.severity.as_str(), "message": p.message, "file": p.file,
        "line": p.line, "column": p.column, "end_line": end_line, "end_column": end_column,
        "label": p.label, "help": p.help,
    })
}

fn group(problem: &Problem) -> Group<'_> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let group = level.primary_title(&*problem.message).id(problem.code).element(place(problem));
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(&**help)),
        None => group,
    }
}

/// The excerpt, or only the name of a file that could not be read.
fn place(problem: &Problem) -> Element<'_> {
    let Some(text) = &problem.source else {
        return Origin::path(&*problem.file).into();
    };
    let mut lines = source::lines_around(text, &problem.span, LINES);
    if let Some((span, _)) = &problem.related {
        let other = source::lines_around(text, span, 1);
        lines = lines.start.min(other.start)..lines.end.max(other.end);
    }
    let excerpt = text.get(lines.clone()).unwrap_or_default();
    let within = |span: &Range<usize>| {
        let clamp = |at: usize| at.clamp(lines.start, lines.start + excerpt.len()) - lines.start;
        clamp(span.start)..clamp(span.end)
    };
    // The excerpt starts at or before the line of the problem.
    let above = text.get(lines.start..problem.span.start.max(lines.start)).unwrap_or_default();
    let first = problem.line - above.matches('\n').count().min(problem.line - 1);
    let mut primary = AnnotationKind::Primary.span(within(&problem.span));
    if !problem.label.is_empty() {
        primary = primary.label(&*problem.label);
    }
    let snippet = Snippet::source(excerpt).line_start(first).path(&*problem.file).annotation(primary);
    match &problem.related {
        Some((span, label)) => snippet.annotation(AnnotationKind::Context.span(within(span)).label(&**label)).into(),
        None => snippet.into(),
    }
}

fn summary(errors: usize, warnings: usize, hidden: usize) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let mut text = match (errors, warnings) {
        (0, w) => count(w, "warning"),
        (e, 0) => count(e, "error"),
        (e, w) => format!("{}, {}", count(e, "error"), count(w, "warning")),
    };
    if hidden > 0 {
        text.push_str(&format!(" ({hidden} not shown)"));
    }
    text
}

//! One thing that is wrong with a file, the list of all of them, and the notebook they are collected in.

use crate::codes::{self, Code};
use crate::source::Lines;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but this is probably not meant.
    Warning,
}

/// One problem with its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable, such as `E0104`; explained by [`crate::explain`].
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// The name of the file as it was given.
    pub file: String,
    /// Counted from 1; 0 when the problem is the file as a whole.
    pub line: usize,
    /// Counted from 1, in characters; 0 when the problem is the file as a whole.
    pub column: usize,
    /// Line and column just after it.
    pub(crate) end: (usize, usize),
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// What to do about it, where that is known.
    pub help: Option<String>,
    /// The bytes it is about.
    pub(crate) span: Range<usize>,
    /// Another place that belongs to it, with its own label.
    pub(crate) related: Option<(Range<usize>, String)>,
    /// The text, for the excerpt; `None` when the problem is the file as a whole.
    pub(crate) source: Option<Arc<str>>,
}

/// Every problem of a file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Errors and warnings; at least one error when it is the error of [`crate::load`].
    pub problems: Vec<Problem>,
}

impl Report {
    /// How many errors and how many warnings.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.problems.iter().filter(|p| p.severity == Severity::Error).count();
        (errors, self.problems.len() - errors)
    }

    /// A file that could not be read at all.
    pub(crate) fn unreadable(file: &str, message: String, help: Option<String>) -> Self {
        Self {
            problems: vec![Problem {
                code: codes::UNREADABLE.id,
                severity: Severity::Error,
                message: printable(&message),
                file: printable(file),
                line: 0,
                column: 0,
                end: (0, 0),
                label: String::new(),
                help: help.map(|h| printable(&h)),
                span: 0..0,
                related: None,
                source: None,
            }],
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole text would follow in a derived one.
        write!(f, "{} at {}:{}:{}: {}", self.code, self.file, self.line, self.column, self.message)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

impl Problem {
    pub(crate) fn label(&mut self, label: impl AsRef<str>) -> &mut Self {
        self.label = printable(label.as_ref());
        self
    }

    pub(crate) fn help(&mut self, help: impl AsRef<str>) -> &mut Self {
        self.help = Some(printable(help.as_ref()));
        self
    }

    pub(crate) fn related(&mut self, span: Range<usize>, label: impl AsRef<str>) -> &mut Self {
        self.related = Some((span, printable(label.as_ref())));
        self
    }
}

/// Collects problems while the file is read, so that one run shows all of them.
pub(crate) struct Notebook {
    file: String,
    source: Arc<str>,
    lines: Lines,
    problems: Vec<Problem>,
    /// Where problems past [`LIMIT`] are written and forgotten.
    spare: Option<Problem>,
}

/// A text of a megabyte can have a problem in every byte; nobody reads the thousandth.
const LIMIT: usize = 1000;

impl Notebook {
    pub(crate) fn new(file: &str, source: &str) -> Self {
        let lines = Lines::of(source);
        Self { file: printable(file), source: source.into(), lines, problems: Vec::new(), spare: None }
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn error(&mut self, code: &Code, span: Range<usize>, message: impl AsRef<str>) -> &mut Problem {
        self.add(Severity::Error, code, span, message.as_ref())
    }

    pub(crate) fn warning(&mut self, code: &Code, span: Range<usize>, message: impl AsRef<str>) -> &mut Problem {
        self.add(Severity::Warning, code, span, message.as_ref())
    }

    fn add(&mut self, severity: Severity, code: &Code, span: Range<usize>, message: &str) -> &mut Problem {
        let (line, column) = self.lines.place(&self.source, span.start);
        let problem = Problem {
            code: code.id,
            severity,
            message: printable(message),
            file: self.file.clone(),
            line,
            column,
            end: self.lines.place(&self.source, span.end),
            label: String::new(),
            help: None,
            span,
            related: None,
            source: Some(self.source.clone()),
        };
        // An error is kept even so: whether there is one decides whether the file is used.
        if self.problems.len() < LIMIT || (severity == Severity::Error && !self.has_errors()) {
            self.problems.push_mut(problem)
        } else {
            self.spare.insert(problem)
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// The problems in the order of their places. Where the text is not TOML, what was made of a broken line
    /// says nothing about its author, and a key may only seem to be missing: both are left out.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        let is_syntax = |p: &Problem| p.code == codes::SYNTAX.id;
        self.problems.sort_by_key(|p| (p.line, p.column, !is_syntax(p)));
        let broken: HashSet<usize> = self.problems.iter().filter(|p| is_syntax(p)).map(|p| p.line).collect();
        let mut shown = HashSet::new();
        self.problems.retain(|p| {
            if is_syntax(p) {
                return shown.insert(p.line);
            }
            let seemingly_missing = p.code == codes::MISSING_KEY.id && !broken.is_empty();
            !broken.contains(&p.line) && !seemingly_missing
        });
        self.problems
    }
}

/// Text of a file may hold escape sequences; a terminal must never see them.
fn printable(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

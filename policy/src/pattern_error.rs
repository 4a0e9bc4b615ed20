//! What is wrong with a pattern that a person wrote, and where inside the text: the diagnostics of the
//! rule file put their caret there.

use std::fmt;

/// A pattern that cannot be read, or that could never match anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// One sentence without a full stop.
    pub message: String,
    /// Where the trouble starts, in bytes from the start of the pattern.
    pub offset: usize,
    /// How many bytes it covers; 0 when something is missing at `offset`.
    pub len: usize,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// The name the template parser's callers use.
pub type TemplateError = PatternError;

impl PatternError {
    pub(crate) fn new(offset: usize, len: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), offset, len, help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same trouble seen from a text in which the pattern starts `by` bytes later.
    #[must_use]
    pub fn shifted(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PatternError {}

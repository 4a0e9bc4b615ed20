//! A table: aligned on a terminal, or as Markdown.

use crate::summary::{Cell, Figure};

/// Rows of text under a title, with notes below.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: &str, heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { title: title.into(), heads, rows: Vec::new(), notes: Vec::new() }
    }

    /// For a terminal.
    pub(crate) fn terminal(&self) -> String {
        let rows: Vec<&Vec<String>> = std::iter::once(&self.heads).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut text = format!("{}\n", self.title);
        for row in rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text.push_str("  ");
            text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("  {note}\n"));
        }
        text
    }

    /// For a page.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("| --- |{}\n", " ---: |".repeat(self.heads.len() - 1));
        let mut text = format!("**{}**\n\n{}{rule}", self.title, line(&self.heads));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }
}

/// A median with this many decimals.
pub(crate) fn plain(cell: Cell, decimals: usize) -> String {
    shown(cell, |figure| format!("{:.decimals$}", figure.median))
}

/// A median with its range.
pub(crate) fn ranged(cell: Cell, decimals: usize) -> String {
    shown(cell, |Figure { median, low, high }| {
        let [median, low, high] = [median, low, high].map(|value| format!("{value:.decimals$}"));
        if low == high { median } else { format!("{median} ({low}–{high})") }
    })
}

/// A multiple.
pub(crate) fn times(cell: Cell) -> String {
    plain(cell, 2)
}

/// A share of all.
pub(crate) fn percent(cell: Cell) -> String {
    shown(cell, |figure| format!("{:.0} %", figure.median * 100.0))
}

/// What caller and callee have.
pub(crate) fn sides(cells: [Cell; 2], decimals: usize) -> String {
    cells.map(|cell| plain(cell, decimals)).join(" / ")
}

fn shown(cell: Cell, text: impl Fn(Figure) -> String) -> String {
    match cell {
        Cell::Absent => "–".into(),
        Cell::Invalid => "invalid".into(),
        Cell::Is(figure) => text(figure),
    }
}

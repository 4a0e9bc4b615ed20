//! Texts of others, cut and made printable before they stand in a log line, a status or an answer.

/// At most [`MOST`] characters, with `?` for what is not printable ASCII.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let mut cut: String = text.chars().take(MOST).map(shown).collect();
    if text.chars().nth(MOST).is_some() {
        cut.push_str("...");
    }
    cut
}

const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_printable() {
        assert_eq!(printable("a b\n\u{1b}[31mé"), "a b??[31m?");
        assert_eq!(printable(&"x".repeat(MOST)), "x".repeat(MOST));
        assert_eq!(printable(&"x".repeat(MOST + 1)), "x".repeat(MOST) + "...");
    }
}

//! An input as what a target needs: numbers and choices from its front, lines of text from what is left.

/// Takes from the front. An input that is too short gives zeros and nothing.
pub(crate) struct Given<'a>(&'a [u8]);

impl<'a> Given<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// At most so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        now
    }

    /// Bytes behind their length in two bytes; `None` at the end.
    pub(crate) fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.two();
        Some(self.bytes(length.into()))
    }

    /// Bytes behind their length in one byte, of which four bits count: short pieces, many of them; `None` at the end.
    pub(crate) fn piece_of_byte(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let length = 2 + self.byte() % 16;
        Some(self.bytes(length.into()))
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The text of an input, up to the first byte that is not UTF-8.
pub(crate) fn text(input: &[u8]) -> &str {
    match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&input[..error.valid_up_to()]).unwrap(),
    }
}

/// Cuts a text into pieces of lengths that are given by its own bytes: the same cuts each time it is tried.
pub(crate) fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    let mut state = text.len() as u32;
    std::iter::from_fn(move || {
        let first = *text.get(at)?;
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223).wrapping_add(first.into());
        let length = 1 + (state >> 16) as usize % if state & 0x300 == 0 { 300 } else { 9 };
        let piece = &text[at..(at + length).min(text.len())];
        at += piece.len();
        Some(piece)
    })
}

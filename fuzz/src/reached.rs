//! Which edges have been reached, and how often: an input that shows something new is worth to be changed further.

use sys::coverage;

/// What all inputs so far have reached.
#[derive(Default)]
pub(crate) struct Reached {
    /// Per edge a bit for each class of count.
    seen: Vec<u8>,
    now: Vec<u8>,
}

impl Reached {
    /// Forgets what was counted since the last look.
    pub(crate) fn begin(&mut self) {
        coverage::take(&mut self.now);
        self.seen.resize(self.now.len(), 0);
    }

    /// Whether what ran since [`Self::begin`] has reached an edge for the first time, or so often for the first time.
    pub(crate) fn end(&mut self) -> bool {
        coverage::take(&mut self.now);
        let mut new = false;
        let (words, rest) = self.now.as_chunks::<16>();
        for (index, word) in words.iter().enumerate() {
            // Most edges are not reached by one input.
            if u128::from_ne_bytes(*word) != 0 {
                new |= note(&mut self.seen[index * 16..], word);
            }
        }
        let start = words.len() * 16;
        new | note(&mut self.seen[start..], rest)
    }

    /// Per edge, whether it was reached.
    pub(crate) fn edges(&self) -> impl Iterator<Item = bool> {
        self.seen.iter().map(|seen| *seen != 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.edges().filter(|reached| *reached).count()
    }
}

fn note(seen: &mut [u8], now: &[u8]) -> bool {
    let mut new = false;
    for (seen, now) in seen.iter_mut().zip(now) {
        // Classes of counts as AFL has them.
        let class = match now {
            0 => 0,
            1 => 1,
            2 => 2,
            3 => 4,
            4..=7 => 8,
            8..=15 => 16,
            16..=31 => 32,
            32..=127 => 64,
            128.. => 128,
        };
        new |= class & !*seen != 0;
        *seen |= class;
    }
    new
}

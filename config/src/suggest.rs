//! "Did you mean": the nearest legal word in the position of an unknown one.

/// The candidate that a slip of the pen turns into `word`, if one is near enough: a third of its length,
/// at least one edit. Case and `-` against `_` do not count as edits. Failing that, the one candidate of
/// which `word` is a part: `drain` finds `drain_timeout`.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = fold(word);
    if plain.is_empty() || plain.len() > 64 {
        return None;
    }
    let limit = (plain.len() / 3).max(1);
    let candidates: Vec<_> = candidates.into_iter().map(|candidate| (fold(candidate), candidate)).collect();
    let near = candidates.iter().map(|(folded, c)| (distance(&plain, folded), *c)).filter(|(d, _)| *d <= limit).min();
    if let Some((_, candidate)) = near {
        return Some(candidate);
    }
    let mut holders = candidates.iter().filter(|(folded, _)| folded.split(|c| *c == '_').any(|part| part == plain));
    match (holders.next(), holders.next()) {
        (Some((_, only)), None) => Some(only),
        _ => None,
    }
}

fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, j) + usize::from(ca != cb);
            let mut best = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped && ca != cb {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_their_word_and_strangers_find_none() {
        let keys =
            ["requests", "ports", "from", "to", "grpc", "not_from", "plaintext", "drain_timeout", "head_timeout"];
        for (word, expected) in [
            ("request", Some("requests")),
            ("reqeusts", Some("requests")),
            ("port", Some("ports")),
            ("Form", Some("from")),
            ("not-from", Some("not_from")),
            ("plain_text", Some("plaintext")),
            ("t", Some("to")),
            ("drain", Some("drain_timeout")),
            ("timeout", None),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }
}

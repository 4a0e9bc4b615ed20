//! From an input to one a little different: bits, bytes, words of the target's language, pieces of itself and of others.

use crate::random::Random;

/// Changes `input` in one to eight ways; `other` is another input to take pieces from. At most `most` bytes are left.
pub(crate) fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], most: usize) {
    let ways = 1 << random.below(4);
    for _ in 0..1 + random.below(ways) {
        one(random, input, other, words);
    }
    input.truncate(most);
}

fn one(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let at = random.below(input.len() + 1);
    match random.below(16) {
        0 => flip(random, input),
        1 => set(input, at, random.byte()),
        2 => set(input, at, *random.of(&INTERESTING)),
        3 => drop(input.drain(span(random, input.len(), at))),
        4 => insert(input, at, &[random.byte()]),
        5 => {
            let piece = input[span(random, input.len(), at)].to_vec();
            let to = random.below(input.len() + 1);
            insert(input, to, &piece);
        }
        6 => {
            let piece = input[span(random, input.len(), at)].to_vec();
            let to = random.below(input.len() + 1);
            overwrite(input, to, &piece);
        }
        7 | 8 => {
            let from = random.below(other.len() + 1);
            let piece = &other[span(random, other.len(), from)];
            if random.below(2) == 0 { insert(input, at, piece) } else { overwrite(input, at, piece) }
        }
        9 => {
            // One input up to here, another from there.
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        10 => number(random, input, at),
        11 => add(random, input, at),
        12 => swap_lines(random, input),
        13 => {
            let piece = vec![*random.of(&INTERESTING); 1 << random.below(10)];
            insert(input, at, &piece);
        }
        _ if words.is_empty() => flip(random, input),
        14 => overwrite(input, at, random.of::<&[u8]>(words)),
        _ => insert(input, at, random.of::<&[u8]>(words)),
    }
}

/// Bytes at which parsers branch.
const INTERESTING: [u8; 28] = [
    0, 1, 0x7f, 0x80, 0xff, 0xfe, b'\t', b'\n', b'\r', b' ', b'"', b'#', b'%', b'*', b',', b'-', b'.', b'/', b'0',
    b'9', b':', b';', b'=', b'?', b'@', b'A', b'\\', b'a',
];

/// From `at`, mostly short.
fn span(random: &mut Random, length: usize, at: usize) -> std::ops::Range<usize> {
    let most = 1 << random.below(12);
    at..(at + 1 + random.below(most)).min(length).max(at)
}

fn flip(random: &mut Random, input: &mut [u8]) {
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(input: &mut [u8], at: usize, to: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = to;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

fn overwrite(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let end = (at + piece.len()).min(input.len());
    input.splice(at..end, piece.iter().copied());
}

/// Another number in place of the one written in digits here, or behind here.
fn number(random: &mut Random, input: &mut Vec<u8>, at: usize) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + start;
    let end = input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |end| start + end);
    let value = match random.below(6) {
        0 => 0,
        1 => u64::MAX >> random.below(64),
        2 => 1 << random.below(64),
        3 => random.next() % 70_000,
        _ => {
            std::str::from_utf8(&input[start..end]).unwrap().parse::<u64>().unwrap_or(0).wrapping_add(random.next() % 5)
        }
    };
    input.splice(start..end, value.to_string().into_bytes());
}

/// A little more or less in a number of one, two or four bytes, big endian as on the wire.
fn add(random: &mut Random, input: &mut [u8], at: usize) {
    let width = *random.of(&[1, 2, 2, 3, 4]);
    let Some(bytes) = input.get_mut(at..at + width) else { return };
    let value = bytes.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let delta = random.next() % 33;
    let value = value.wrapping_add(u32::try_from(delta).unwrap()).wrapping_sub(16);
    bytes.copy_from_slice(&value.to_be_bytes()[4 - width..]);
}

fn swap_lines(random: &mut Random, input: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let (a, b) = (random.below(lines.len()), random.below(lines.len()));
    if a != b {
        lines.swap(a, b);
        *input = lines.concat();
    }
}

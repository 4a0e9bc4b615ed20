//! Following a chunked body (RFC 9112 §7.1): where its data lies, where it ends, and nothing that is not exactly right.
//!
//! Chunk extensions are read over and not passed on; the trailer section is kept for whoever reads its fields.

use super::refused::Refused;

/// The state between two looks at the bytes.
#[derive(Debug)]
pub(crate) struct Chunked {
    at: At,
    size: u64,
    /// Digits of the size, then bytes of the extensions: each bounded.
    count: usize,
    trailers: Vec<u8>,
}

/// What the next bytes are: first so much framing, then so much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) framing: usize,
    pub(crate) data: usize,
    /// With these bytes the body has ended.
    pub(crate) end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// Bytes of one chunk's extensions, and of the whole trailer section.
const EXTENSIONS: usize = 256;
const TRAILERS: usize = 8 * 1024;
/// Hexadecimal digits of a chunk size: 15 cannot overflow.
const DIGITS: usize = 15;

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size, size: 0, count: 0, trailers: Vec::new() }
    }
}

impl Chunked {
    /// Looks at bytes that were not looked at before. The piece ends where data ends, so that there may be more in `bytes`.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Refused> {
        let mut framing = 0;
        while let Some(byte) = bytes.get(framing).copied() {
            if self.at == At::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let data = left.min(bytes.len() - framing);
                self.size -= u64::try_from(data).unwrap_or(0);
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Piece { framing, data, end: false });
            }
            framing += 1;
            self.at = self.step(byte)?;
            if self.at == At::EndLf && byte == b'\n' {
                return Ok(Piece { framing, data: 0, end: true });
            }
        }
        Ok(Piece { framing, data: 0, end: false })
    }

    fn step(&mut self, byte: u8) -> Result<At, Refused> {
        Ok(match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.count += 1;
                if self.count > DIGITS {
                    return Err(Refused::Chunk);
                }
                let digit = char::from(byte).to_digit(16).ok_or(Refused::Chunk)?;
                self.size = self.size * 16 + u64::from(digit);
                At::Size
            }
            (At::Size, b';') if self.count > 0 => {
                self.count = 0;
                At::Extension
            }
            (At::Size, b'\r') if self.count > 0 => At::SizeLf,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, b'\t' | b' '..=b'~') if self.count < EXTENSIONS => {
                self.count += 1;
                At::Extension
            }
            (At::SizeLf, b'\n') => {
                self.count = 0;
                if self.size == 0 { At::TrailerStart } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::EndLf,
            // The caller knows the end by this byte in this state.
            (At::EndLf, b'\n') => At::EndLf,
            (At::Trailer, b'\r') => self.keep(byte, At::TrailerLf)?,
            (At::TrailerLf, b'\n') => self.keep(byte, At::TrailerStart)?,
            (At::TrailerStart | At::Trailer, b'\t' | b' '..=0xff) if byte != 0x7f => self.keep(byte, At::Trailer)?,
            _ => return Err(Refused::Chunk),
        })
    }

    fn keep(&mut self, byte: u8, next: At) -> Result<At, Refused> {
        if self.trailers.len() >= TRAILERS {
            return Err(Refused::TooLarge);
        }
        self.trailers.push(byte);
        Ok(next)
    }

    /// The lines of the trailer section with the empty line that ends it; nothing when there are none.
    pub(crate) fn take_trailers(&mut self) -> Vec<u8> {
        let mut trailers = std::mem::take(&mut self.trailers);
        if !trailers.is_empty() {
            trailers.extend_from_slice(b"\r\n");
        }
        trailers
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Reads a body in pieces of `step`: its data, its trailers, and what lies behind its end.
    fn read(text: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Refused> {
        let mut chunked = Chunked::default();
        let (mut data, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let until = (at + step).min(text.len());
            let mut from = at;
            while from < until {
                let piece = chunked.next(&text[from..until])?;
                let start = from + piece.framing;
                data.extend_from_slice(&text[start..start + piece.data]);
                from = start + piece.data;
                if piece.end {
                    return Ok((data, chunked.take_trailers(), text.len() - from));
                }
            }
            at = until;
        }
        Err(Refused::Timeout)
    }

    #[test]
    fn a_body_is_the_same_in_any_pieces() {
        let text = b"5\r\nhello\r\n006;x=\"y\"\r\n world\r\n0\r\nA: b\r\nC: d\r\n\r\nGET";
        for step in 1..text.len() {
            let (data, trailers, left) = read(text, step).unwrap();
            assert_eq!(data, b"hello world", "{step}");
            assert_eq!(trailers, b"A: b\r\nC: d\r\n\r\n");
            assert_eq!(left, 3);
        }
        assert_eq!(read(b"0\r\n\r\n", 1).unwrap(), (vec![], vec![], 0));
    }

    #[test]
    fn framing_that_is_not_exact_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(EXTENSIONS + 1));
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5_0\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";x\r\n",
            "ffffffffffffffff\r\n",
            "0\r\n\n",
            "0\n\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\0b\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\rc\r\n\r\n",
            "0\r\nA: b\0\r\n\r\n",
            long.as_str(),
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(read(text.as_bytes(), step), Err(Refused::Chunk), "{text:?} in steps of {step}");
            }
        }
        let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILERS));
        assert_eq!(read(trailers.as_bytes(), 1000), Err(Refused::TooLarge));
    }
}

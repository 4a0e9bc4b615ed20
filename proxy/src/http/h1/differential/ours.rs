//! Our own stack over a whole stream: heads, framing and bodies as [`super::super::server`] and
//! [`super::super::way`] put them together, fed in pieces.

use super::super::{
    framing::{self, Decoder, Framing},
    head::{self, Field},
    refused::Refused,
    write,
};
use super::{
    random::Random,
    seen::{Pair, Seen, grouped},
};
use crate::{http::field::Name, limits};

/// Messages, and why no further one was read.
pub(super) struct Reading {
    pub(super) messages: Vec<Seen>,
    pub(super) refused: Option<Refused>,
    /// Where the message begins that was refused or not there.
    pub(super) stopped_at: usize,
}

/// What a reader has received: bytes in pieces, at most `most` at a time.
struct Arriving<'a> {
    text: &'a [u8],
    until: usize,
    most: usize,
    pieces: Random,
}

impl<'a> Arriving<'a> {
    fn new(text: &'a [u8], seed: u64) -> Self {
        let mut pieces = Random::new(seed);
        let most = if text.len() > 20_000 { 9000 } else { *pieces.of(&[1, 2, 7, 60, 1000, 70_000]) };
        Self { text, until: 0, most, pieces }
    }

    fn more(&mut self) -> bool {
        if self.until == self.text.len() {
            return false;
        }
        self.until = (self.until + 1 + self.pieces.below(self.most)).min(self.text.len());
        true
    }

    fn from(&self, at: usize) -> &'a [u8] {
        &self.text[at..self.until]
    }
}

/// Reads requests until the stream ends, one is refused, or one closes the connection.
pub(super) fn requests(text: &[u8], seed: u64) -> Reading {
    let mut arriving = Arriving::new(text, seed);
    let mut reading = Reading { messages: Vec::new(), refused: None, stopped_at: 0 };
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        reading.stopped_at = at;
        let head = loop {
            match head::request(arriving.from(at), &mut fields) {
                Ok(Some(head)) => break head,
                Ok(None) if arriving.more() => {}
                Ok(None) => return reading,
                Err(refused) => {
                    reading.refused = Some(refused);
                    return reading;
                }
            }
        };
        let bytes = arriving.from(at);
        let framing = match framing::request(&fields, bytes) {
            Ok(framing) => framing,
            Err(refused) => {
                reading.refused = Some(refused);
                return reading;
            }
        };
        let start = (head.method.of(bytes).to_vec(), head.target.of(bytes).to_vec());
        let closes = write::connection_lists(&fields, bytes, b"close");
        reading.messages.push(Seen { start, fields: pairs(bytes, &fields), at, ..Seen::default() });
        at += head.length;
        if !body(&mut arriving, &mut at, framing, &mut reading) {
            return reading;
        }
        if closes {
            reading.stopped_at = at;
            return reading;
        }
    }
}

/// Reads interim responses and one final response; the connection ends with the stream.
pub(super) fn response(text: &[u8], to_head: bool, seed: u64) -> Reading {
    let mut arriving = Arriving::new(text, seed);
    let mut reading = Reading { messages: Vec::new(), refused: None, stopped_at: 0 };
    let mut fields = Vec::new();
    let (mut at, mut interim) = (0, 0);
    let (head, framing) = loop {
        reading.stopped_at = at;
        let head = match head::response(arriving.from(at), &mut fields) {
            Ok(Some(head)) => head,
            Ok(None) if arriving.more() => continue,
            Ok(None) => return reading,
            Err(refused) => {
                reading.refused = Some(refused);
                return reading;
            }
        };
        // As the relay does: 101 was not asked for, and interim responses are counted.
        if head.status == 101 || (head.status < 200 && interim == limits::INFORMATIONAL) {
            reading.refused = Some(Refused::Syntax);
            return reading;
        }
        if head.status < 200 {
            interim += 1;
            at += head.length;
            continue;
        }
        match framing::response(&head, &fields, arriving.from(at), to_head, false) {
            Ok(framing) => break (head, framing),
            Err(refused) => {
                reading.refused = Some(refused);
                return reading;
            }
        }
    };
    let bytes = arriving.from(at);
    let start = (head.status.to_string().into_bytes(), head.reason.of(bytes).to_vec());
    reading.messages.push(Seen { start, fields: pairs(bytes, &fields), at, ..Seen::default() });
    at += head.length;
    body(&mut arriving, &mut at, framing, &mut reading);
    reading
}

/// Reads the body of the last message; false when it did not come to its end.
fn body(arriving: &mut Arriving<'_>, at: &mut usize, framing: Framing, reading: &mut Reading) -> bool {
    let message = reading.messages.last_mut().unwrap();
    let mut decoder = Decoder::new(framing);
    while !decoder.is_done() {
        let bytes = arriving.from(*at);
        let piece = match decoder.next(bytes) {
            Ok(piece) => piece,
            Err(refused) => {
                reading.refused = Some(refused);
                return false;
            }
        };
        message.body.extend_from_slice(&bytes[piece.framing..piece.framing + piece.data]);
        *at += piece.framing + piece.data;
        if piece.end {
            let trailers = decoder.finish();
            let mut fields = Vec::new();
            if !trailers.is_empty() {
                if let Err(refused) = head::trailers(&trailers, &mut fields) {
                    reading.refused = Some(refused);
                    return false;
                }
                message.trailers = pairs(&trailers, &fields);
            }
        } else if piece.framing + piece.data == 0 && !arriving.more() {
            if !matches!(decoder, Decoder::Close) {
                return false;
            }
            decoder.finish();
        }
    }
    message.whole = true;
    true
}

fn pairs(text: &[u8], fields: &[Field]) -> Vec<Pair> {
    for field in fields {
        assert_eq!(field.known, Name::of(field.name.of(text)));
    }
    grouped(
        fields.iter().map(|field| (field.name.of(text).to_ascii_lowercase(), field.value.of(text).to_vec())).collect(),
    )
}

//! This room's part of the door for `fuzz/`: heads and bodies of HTTP/1.1 as our own codec reads and writes them.

use super::{
    framing::{self, Decoder},
    head::{self, Field},
    refused::Refused,
    write::{self, Answer},
};

/// How a body is framed, for those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection closes.
    Close,
}

/// A name as it was written, and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A head and how the body behind it is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Method and target, or status and reason.
    pub start: (Vec<u8>, Vec<u8>),
    /// In the order they came.
    pub fields: Vec<Pair>,
    /// Bytes of the head with its empty line.
    pub length: usize,
    /// The framing of the body.
    pub framing: Framing,
}

/// Reads a request's head. `None`: more bytes are needed.
///
/// # Errors
/// Why it is refused.
pub fn request(text: &[u8]) -> Result<Option<Message>, &'static str> {
    let mut fields = Vec::new();
    let Some(head) = head::request(text, &mut fields).map_err(Refused::details)? else { return Ok(None) };
    let framing = shown(framing::request(&fields, text).map_err(Refused::details)?);
    let start = (head.method.of(text).to_vec(), head.target.of(text).to_vec());
    Ok(Some(Message { start, fields: pairs(&fields, text), length: head.length, framing }))
}

/// Reads the head of the response to a request; `to_head` for HEAD. `None`: more bytes are needed.
///
/// # Errors
/// Why it is refused.
pub fn response(text: &[u8], to_head: bool) -> Result<Option<Message>, &'static str> {
    let mut fields = Vec::new();
    let Some(head) = head::response(text, &mut fields).map_err(Refused::details)? else { return Ok(None) };
    let framing = framing::response(&head, &fields, text, to_head, false).map_err(Refused::details)?;
    let framing = shown(framing);
    let start = (head.status.to_string().into_bytes(), head.reason.of(text).to_vec());
    Ok(Some(Message { start, fields: pairs(&fields, text), length: head.length, framing }))
}

/// A response's head as it is written on its way down, if it is read at all.
pub fn answered(text: &[u8], to_head: bool) -> Option<Vec<u8>> {
    let mut fields = Vec::new();
    let head = head::response(text, &mut fields).ok()??;
    let framing = match framing::response(&head, &fields, text, to_head, false).ok()? {
        // What ends with its connection goes down in chunks.
        framing::Framing::Close => framing::Framing::Chunked,
        framing => framing,
    };
    let announces = to_head || head.status == 304;
    let answer = Answer { framing, announces, service_time_ms: Some(7), close: false, switches: false };
    let mut out = Vec::new();
    write::response(&mut out, text, &head, &fields, &answer);
    Some(out)
}

/// Follows a body.
pub struct Body(Decoder);

impl Body {
    /// At its first byte.
    pub fn new(framing: Framing) -> Self {
        Self(Decoder::new(match framing {
            Framing::None => framing::Framing::None,
            Framing::Length(length) => framing::Framing::Length(length),
            Framing::Chunked => framing::Framing::Chunked,
            Framing::Close => framing::Framing::Close,
        }))
    }

    /// Looks at bytes that come next: so many are framing, so many behind them are data, and whether the body ends there.
    ///
    /// # Errors
    /// Why the body is refused.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, usize, bool), &'static str> {
        self.0.next(bytes).map(|piece| (piece.framing, piece.data, piece.end)).map_err(Refused::details)
    }

    /// After its end: the lines of its trailer section and the empty line, or nothing when there are none.
    pub fn trailer_text(mut self) -> Vec<u8> {
        self.0.finish()
    }
}

/// The end of a chunked body with those of these trailer lines that may pass.
///
/// # Errors
/// Why the lines are refused.
pub fn last_chunk(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (mut fields, mut out) = (Vec::new(), Vec::new());
    head::trailers(text, &mut fields).map_err(Refused::details)?;
    write::last_chunk(&mut out, text, &fields);
    Ok(out)
}

/// The line before so many bytes of a chunk's data.
pub fn chunk_size(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write::chunk_size(&mut out, size);
    out
}

fn shown(framing: framing::Framing) -> Framing {
    match framing {
        framing::Framing::None => Framing::None,
        framing::Framing::Length(length) => Framing::Length(length),
        framing::Framing::Chunked => Framing::Chunked,
        framing::Framing::Close => Framing::Close,
    }
}

fn pairs(fields: &[Field], text: &[u8]) -> Vec<Pair> {
    fields.iter().map(|field| (field.name.of(text).to_vec(), field.value.of(text).to_vec())).collect()
}

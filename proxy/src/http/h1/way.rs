//! One direction of an exchange: a body on its way from the side that sends it to the side that gets it.
//!
//! A body with a length goes on as it lies in the buffer it was read into. A chunked one is taken apart and chunked anew, so
//! that the framing that goes on is ours; a body that ends with its connection becomes chunked.

use super::{
    framing::{Decoder, Framing},
    head::{self, Field},
    refused::Refused,
    write,
};
use crate::{
    buffer::{Buffer, Buffers},
    http::{Exchange, Side},
    limits,
    stream::Stream,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// One direction.
pub(super) struct Way {
    side: Side,
    decoder: Decoder,
    chunked: bool,
    /// Heads and framing of our own, and data that was taken apart.
    out: Buffer,
    /// How many bytes at the front of the source's buffer go on as they are, after `out`.
    direct: usize,
    /// Something was written that may still wait in the transport.
    unflushed: bool,
}

impl Way {
    pub(super) fn new(side: Side, framing: Framing) -> Self {
        let mut way =
            Self { side, decoder: Decoder::Done, chunked: false, out: Buffer::default(), direct: 0, unflushed: false };
        way.begin(framing);
        way
    }

    /// The framing of the body has become known.
    pub(super) fn begin(&mut self, framing: Framing) {
        self.chunked = matches!(framing, Framing::Chunked | Framing::Close);
        self.decoder = Decoder::new(framing);
    }

    /// Where a head is written.
    pub(super) fn head(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.out.is_empty() {
            buffers.put(std::mem::replace(&mut self.out, buffers.take()));
        }
        self.out.tail()
    }

    /// Whether the source has delivered the whole body.
    pub(super) fn is_received(&self) -> bool {
        self.decoder.is_done()
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.decoder, Decoder::Close)
    }

    /// Whether anything waits to be written, here or in the transport.
    pub(super) fn is_writing(&self) -> bool {
        self.unflushed || self.has_output()
    }

    fn has_output(&self) -> bool {
        self.direct > 0 || !self.out.is_empty()
    }

    /// Takes what the source has delivered, as far as it may go on now.
    pub(super) fn take(
        &mut self,
        source: &mut Buffer,
        exchange: &Exchange,
        fields: &mut Vec<Field>,
    ) -> Result<(), Refused> {
        while self.direct == 0 && !self.decoder.is_done() && self.out.len() < limits::READ {
            let bytes = source.filled();
            if bytes.is_empty() {
                return Ok(());
            }
            let piece = self.decoder.next(bytes)?;
            let data = bytes.get(piece.framing..piece.framing + piece.data).unwrap_or_default();
            if !data.is_empty() {
                exchange.data(self.side, data);
            }
            if !self.chunked {
                self.direct = piece.data;
            } else {
                if !data.is_empty() {
                    let out = self.out.tail();
                    write::chunk_size(out, data.len());
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                }
                source.consume(piece.framing + piece.data);
            }
            if piece.end {
                self.end(exchange, fields)?;
            }
        }
        Ok(())
    }

    /// The source has ended the body, by its framing or by closing.
    pub(super) fn end(&mut self, exchange: &Exchange, fields: &mut Vec<Field>) -> Result<(), Refused> {
        let trailers = self.decoder.finish();
        fields.clear();
        if !trailers.is_empty() {
            head::trailers(&trailers, fields)?;
            exchange.trailers(self.side, || map(&trailers, fields));
        }
        if self.chunked {
            write::last_chunk(self.out.tail(), &trailers, fields);
        }
        exchange.ended(self.side);
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Buffer,
        sink: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while self.has_output() {
            let out = self.out.filled();
            let direct = source.filled().get(..self.direct).unwrap_or_default();
            let sink = Pin::new(&mut *sink);
            let written = ready!(match (out, direct) {
                (out, []) => sink.poll_write(cx, out),
                ([], direct) => sink.poll_write(cx, direct),
                (out, direct) => sink.poll_write_vectored(cx, &[IoSlice::new(out), IoSlice::new(direct)]),
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            let of_out = written.min(out.len());
            self.out.consume(of_out);
            let of_direct = (written - of_out).min(self.direct);
            source.consume(of_direct);
            self.direct -= of_direct;
        }
        if self.unflushed {
            ready!(Pin::new(&mut *sink).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Drops what was not written.
    pub(super) fn discard(&mut self, source: &mut Buffer) {
        source.consume(std::mem::take(&mut self.direct));
        self.out = Buffer::default();
    }

    /// Gives the buffer back while nothing is in it.
    pub(super) fn rest(&mut self, buffers: &Buffers) {
        if self.out.is_empty() {
            buffers.put(std::mem::take(&mut self.out));
        }
    }
}

/// Fields of a text, for the taps.
pub(super) struct Listed<'a> {
    pub(super) text: &'a [u8],
    pub(super) fields: &'a [Field],
}

impl tap::Fields for Listed<'_> {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.of(self.text), field.value.of(self.text)))
    }
}

/// Fields as a map.
pub(super) fn map(text: &[u8], fields: &[Field]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name.of(text)), HeaderValue::from_bytes(field.value.of(text)))
        {
            map.append(name, value);
        }
    }
    map
}

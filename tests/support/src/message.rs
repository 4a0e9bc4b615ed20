//! HTTP/1.1 messages as an outsider reads them: small, strict enough to notice nonsense, sharing no code with the product.
//!
//! In: a buffered reader. Out: a [`Message`] with everything in the order and spelling it came in. Refuses, as an
//! `io::Error`, a message that ends too early or that has no clear length.

use std::io::{self, BufRead, Read};

/// One request or response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The first line, without its line end.
    pub start: String,
    /// Field names as sent, with their values.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking taken off.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came chunked.
    pub chunked: bool,
}

/// What is being read, which decides when a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request: no length means no body.
    Request,
    /// A response: no length means until the connection closes.
    Response,
    /// The response to a HEAD request: never a body.
    HeadResponse,
}

impl Message {
    /// The status of a response; 0 when the first line has none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or("")
    }

    /// The target of a request.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// The first value of a field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The first value of a trailer field.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }

    /// How often a field occurs.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the sender will close the connection after this message.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads one message; None when the connection ends before its first byte.
pub fn read(reader: &mut impl BufRead, kind: Kind) -> io::Result<Option<Message>> {
    let Some(start) = line(reader)? else {
        return Ok(None);
    };
    let mut message = Message { start, headers: fields(reader)?, ..Message::default() };
    if kind == Kind::HeadResponse || matches!(message.status(), 100..=199 | 204 | 304) && kind == Kind::Response {
        return Ok(Some(message));
    }
    let chunked = message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if chunked {
        message.chunked = true;
        read_chunks(reader, &mut message)?;
    } else if let Some(length) = message.header("content-length") {
        let length: u64 = length.parse().map_err(|_| wrong("a content-length that is no number"))?;
        // As it comes: a length that is a lie must not be a claim on memory.
        if reader.take(length).read_to_end(&mut message.body)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    } else if kind == Kind::Response {
        reader.read_to_end(&mut message.body)?;
    }
    Ok(Some(message))
}

/// Reads the first line and the fields of a message; what follows is its body.
pub fn read_start(reader: &mut impl BufRead, kind: Kind) -> io::Result<Option<Message>> {
    loop {
        let Some(start) = line(reader)? else { return Ok(None) };
        let mut message = Message { start, headers: fields(reader)?, ..Message::default() };
        message.chunked =
            message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if kind == Kind::Request || !(100..200).contains(&message.status()) {
            return Ok(Some(message));
        }
    }
}

/// The body that follows a head, to be read as it comes.
pub fn body<'a, R: BufRead>(reader: &'a mut R, head: &Message) -> Body<'a, R> {
    let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    Body { reader, left: if head.chunked { 0 } else { length }, chunked: head.chunked, begun: false }
}

/// A body as it comes, with any chunking taken off.
#[derive(Debug)]
pub struct Body<'a, R> {
    reader: &'a mut R,
    /// Of the whole, or of the chunk.
    left: usize,
    /// Chunks are still to come.
    chunked: bool,
    begun: bool,
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 && self.chunked {
            if self.begun && line(self.reader)?.as_deref() != Some("") {
                return Err(wrong("a chunk that is longer than it says"));
            }
            self.begun = true;
            let size = line(self.reader)?.ok_or_else(|| wrong("the end where a chunk size should be"))?;
            self.left = usize::from_str_radix(&size, 16).map_err(|_| wrong("a chunk size that is no number"))?;
            if self.left == 0 {
                self.chunked = false;
                fields(self.reader)?;
            }
        }
        let most = buffer.len().min(self.left);
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(wrong("the end inside a body"));
        }
        self.left -= count;
        Ok(count)
    }
}

fn read_chunks(reader: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    loop {
        let size = line(reader)?.ok_or_else(|| wrong("the end where a chunk size should be"))?;
        let digits = size.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| wrong("a chunk size that is no number"))?;
        if size == 0 {
            message.trailers = fields(reader)?;
            return Ok(());
        }
        let start = message.body.len();
        message.body.resize(start + size, 0);
        reader.read_exact(&mut message.body[start..])?;
        if line(reader)?.as_deref() != Some("") {
            return Err(wrong("a chunk that is longer than it says"));
        }
    }
}

fn fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(reader)?.ok_or_else(|| wrong("the end inside a header block"))?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("a field line without a colon"))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// One line without its end; None at the end of the input. A byte that is no UTF-8 is read as Latin-1.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if reader.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(wrong("the end inside a line"));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Some(bytes.iter().map(|byte| char::from(*byte)).collect()))
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_response_is_read_with_its_trailers() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\nx-sum: 5\r\n\r\nrest";
        let message = read(&mut &text[..], Kind::Response).unwrap().unwrap();
        assert_eq!((message.status(), message.text().as_str(), message.trailer("X-Sum")), (200, "abcde", Some("5")));
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
        assert!(read(&mut &text[..], Kind::Response).is_err());
    }

    #[test]
    fn a_head_response_has_no_body() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
        assert!(read(&mut &text[..], Kind::HeadResponse).unwrap().unwrap().body.is_empty());
    }
}

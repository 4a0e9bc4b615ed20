//! Reading a response strictly enough that a wrong one cannot be counted as served.

use crate::load::origin::BODY;

/// Whether `bytes` hold the whole response; `Err` says what is wrong with it.
///
/// Right is: 200, `content-length` of the origin's body, that many bytes of that body, and not one more.
pub(crate) fn is_whole(bytes: &[u8]) -> Result<bool, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = (&bytes[..end + 2], &bytes[end + 4..]);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("not a 200: {}", String::from_utf8_lossy(head)));
    }
    if content_length(head) != Some(BODY) {
        return Err(format!("not {BODY} bytes: {}", String::from_utf8_lossy(head)));
    }
    match body.len() {
        0..BODY => Ok(false),
        BODY if body[0] == b'x' && body[BODY - 1] == b'x' => Ok(true),
        BODY => Err("another body than the origin's".into()),
        more => Err(format!("{more} bytes of body instead of {BODY}")),
    }
}

pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

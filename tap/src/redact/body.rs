//! Bodies: what they are, and the secrets in them by name.
//!
//! In: what the head says of the body, and as much of it as is copied. Out: the same bytes with the values of named members of
//! JSON and of named parameters of forms masked in place. Refuses a body that may hold one and cannot be read.

use super::{Masked, Redaction, count, fill, json, parameter};
use crate::counters::Reason;

/// What kind of body a message has, by its `content-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Media {
    /// Not said.
    #[default]
    Unsaid,
    /// JSON, lines of it, or a sequence (RFC 8259, RFC 6839 section 3.1, RFC 7464), and every other type with the word in its
    /// name, as `application/x-amz-json-1.1` has.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data` (RFC 7578), or anything else in parts.
    Multipart,
    /// Server-sent events, which may hold JSON.
    Events,
    /// Text, pictures and the like, gRPC: nobody need read it as one of these, but it may be JSON after all.
    Other,
    /// Said several times in different ways, of which each reader may take another.
    Unclear,
}

impl Media {
    /// Of a `content-type` value.
    pub(crate) fn of(value: &[u8]) -> Self {
        // What nearly all of them are.
        match value {
            b"application/json" => return Self::Json,
            b"application/octet-stream" | b"application/grpc" => return Self::Other,
            _ => {}
        }
        // Fields of one name are a list to some (RFC 9110 section 5.3); within quotes a comma is part of a boundary.
        if value.iter().take_while(|byte| **byte != b'"').any(|byte| *byte == b',') {
            return Self::Unclear;
        }
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let begins = |start: &[u8]| essence.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
        if has(essence, b"json") || begins(b"application/csp-report") {
            Self::Json
        } else if begins(b"application/x-www-form-urlencoded") {
            Self::Form
        } else if begins(b"multipart/") {
            Self::Multipart
        } else if begins(b"text/event-stream") {
            Self::Events
        } else {
            Self::Other
        }
    }

    /// Both of two fields.
    pub(crate) fn and(self, value: &[u8]) -> Self {
        let other = Self::of(value);
        if self == Self::Unsaid || self == other { other } else { Self::Unclear }
    }
}

impl Redaction {
    /// Masks in place. `coded`: a content coding hides what the body says. `cut`: it goes on behind what is here.
    pub(crate) fn body(
        &self,
        media: Media,
        coded: bool,
        body: &mut [u8],
        cut: bool,
        masked: &mut Masked,
    ) -> Result<(), Reason> {
        let by_member = !self.members.is_empty();
        let concerns = match media {
            Media::Json | Media::Events | Media::Unsaid => by_member,
            Media::Other => by_member && !coded && is_like_json(body),
            Media::Form => !self.parameters.is_empty(),
            Media::Multipart | Media::Unclear => by_member || !self.parameters.is_empty(),
        };
        if !concerns || body.is_empty() {
            return Ok(());
        }
        if coded {
            return Err(Reason::RedactError);
        }
        match media {
            Media::Form => {
                masked.parameters += self.form(body);
                Ok(())
            }
            Media::Multipart => self.parts(body, cut, masked),
            Media::Events => self.events(body, cut, masked),
            Media::Unclear => self.guessed(body, cut, masked),
            Media::Unsaid if !is_like_json(body) => Ok(()),
            _ => self.json(body, cut, masked),
        }
    }

    /// What it begins as; and anything may be a form.
    fn guessed(&self, body: &mut [u8], cut: bool, masked: &mut Masked) -> Result<(), Reason> {
        let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().first();
        match start {
            Some(b'{' | b'[' | 0x1e) if !self.members.is_empty() => self.json(body, cut, masked),
            Some(b'-') => self.parts(body, cut, masked),
            _ => {
                masked.parameters += self.form(body);
                if self.members.is_empty() { Ok(()) } else { self.events(body, cut, masked) }
            }
        }
    }

    fn json(&self, text: &mut [u8], cut: bool, masked: &mut Masked) -> Result<(), Reason> {
        masked.members += json::mask(text, &self.members.0, cut).map_err(|json::Unreadable| Reason::RedactError)?;
        Ok(())
    }

    fn form(&self, text: &mut [u8]) -> u32 {
        let secrets: Vec<_> = parameter::secrets(self, text, 0, b"&").collect();
        let found = count(secrets.len());
        secrets.into_iter().for_each(|secret| fill(text, secret));
        found
    }

    /// Server-sent events: what stands behind `data:` in a line may be JSON. One that goes over several lines is refused.
    fn events(&self, text: &mut [u8], cut: bool, masked: &mut Masked) -> Result<(), Reason> {
        let mut lines = text.split_mut(|byte| b"\r\n".contains(byte)).peekable();
        let mut is_first = true;
        while let Some(mut line) = lines.next() {
            // A byte order mark may stand before the first line.
            if std::mem::take(&mut is_first) && line.starts_with(b"\xef\xbb\xbf") {
                line = line.get_mut(3..).unwrap_or_default();
            }
            let is_last = lines.peek().is_none();
            if line.starts_with(b"data:")
                && let Some(data) = line.get_mut(5..)
                && is_like_json(data)
            {
                self.json(data, cut && is_last, masked)?;
            }
        }
        Ok(())
    }

    /// RFC 2046 section 5.1.1. A text before the first part, which hardly anybody writes, is refused.
    fn parts(&self, text: &mut [u8], cut: bool, masked: &mut Masked) -> Result<(), Reason> {
        if !text.starts_with(b"--") {
            return Err(Reason::RedactError);
        }
        let Some(line) = text.iter().position(|byte| *byte == b'\n') else {
            return if cut { Ok(()) } else { Err(Reason::RedactError) };
        };
        let delimiter = text.get(..line).unwrap_or_default().trim_ascii_end().to_vec();
        let mut rest = text.get_mut(line + 1..).unwrap_or_default();
        while !rest.is_empty() {
            let end = part_end(rest, &delimiter);
            let (part, after) = rest.split_at_mut(end.unwrap_or(rest.len()));
            self.part(part, cut && end.is_none(), masked)?;
            rest = match after.iter().skip(1).position(|byte| *byte == b'\n') {
                Some(line) => after.get_mut(line + 2..).unwrap_or_default(),
                None => &mut [],
            };
        }
        Ok(())
    }

    fn part(&self, part: &mut [u8], cut: bool, masked: &mut Masked) -> Result<(), Reason> {
        let Some(end) = fields_end(part) else {
            return Ok(());
        };
        let (fields, content) = part.split_at_mut(end);
        if self.names_secret(fields) {
            masked.parameters += 1;
            let length = content.len() - content.iter().rev().take_while(|byte| **byte == b'\r').count();
            fill(content, 0..length);
            return Ok(());
        }
        let is_json = has(fields, b"json") || is_like_json(content);
        if self.members.is_empty() || !is_json {
            return Ok(());
        }
        if has(fields, b"base64") || has(fields, b"quoted-printable") {
            return Err(Reason::RedactError);
        }
        self.json(content, cut, masked)
    }

    /// Whether `name=` of a part is that of a secret, in quotes, without, or as `name*=` (RFC 7578 section 4.2).
    fn names_secret(&self, fields: &[u8]) -> bool {
        let starts = fields.windows(4).enumerate().filter(|(_, four)| four.eq_ignore_ascii_case(b"name"));
        starts.filter_map(|(at, _)| fields.get(at + 4..)).any(|rest| {
            let rest = rest.trim_ascii_start();
            let Some(value) = rest.strip_prefix(b"*").unwrap_or(rest).trim_ascii_start().strip_prefix(b"=") else {
                return false;
            };
            let value = value.trim_ascii_start();
            let name: Vec<u8> = match value.strip_prefix(b"\"") {
                Some(quoted) => quoted_text(quoted),
                None => value.iter().copied().take_while(|byte| !b"; \r\n\t".contains(byte)).collect(),
            };
            let name = name.rsplit(|byte| *byte == b'\'').next().unwrap_or_default();
            parameter::is_secret(self, name)
        })
    }
}

fn quoted_text(quoted: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | b'\r' | b'\n' => break,
            b'\\' => name.extend(bytes.next()),
            _ => name.push(*byte),
        }
    }
    name
}

/// Where the content of a part ends: at the line feed before the next delimiter.
fn part_end(text: &[u8], delimiter: &[u8]) -> Option<usize> {
    let is_end = |at: &usize| text.get(at + 1..).is_some_and(|rest| rest.starts_with(delimiter));
    text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).find(is_end)
}

/// Behind the empty line.
fn fields_end(part: &[u8]) -> Option<usize> {
    if part.starts_with(b"\r\n") {
        return Some(2);
    }
    if part.starts_with(b"\n") {
        return Some(1);
    }
    let feeds = part.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    feeds
        .filter_map(|at| {
            let rest = part.get(at..)?;
            let blank = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
            (blank > 0).then_some(at + blank)
        })
        .next()
}

/// Whether a text begins as an object does, or an array of objects, or of arrays of them.
fn is_like_json(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    let text = text.strip_prefix(b"\x1e").unwrap_or(text);
    let outer = text.iter().take_while(|byte| **byte == b'[' || byte.is_ascii_whitespace()).count();
    let object = text.get(outer..).unwrap_or_default().strip_prefix(b"{");
    object.is_some_and(|rest| matches!(rest.trim_ascii_start().first(), None | Some(b'"' | b'}')))
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn masked(kind: &str, text: &str, cut: bool) -> Result<String, Reason> {
        let redaction = Redaction::new([Secret::Json("pin"), Secret::Query("pin")], []);
        let mut body = text.as_bytes().to_vec();
        redaction.body(Media::of(kind.as_bytes()), false, &mut body, cut, &mut Masked::default())?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn the_kind_of_a_body_is_known_by_its_type() {
        for (value, media) in [
            ("application/json", Media::Json),
            ("Application/Problem+JSON; charset=utf-8", Media::Json),
            ("application/x-ndjson", Media::Json),
            ("application/x-www-form-urlencoded", Media::Form),
            ("multipart/form-data; boundary=x", Media::Multipart),
            ("text/event-stream", Media::Events),
            ("text/plain", Media::Other),
            ("image/png", Media::Other),
            ("application/grpc", Media::Other),
            ("application/x-amz-json-1.1", Media::Json),
            ("application/csp-report", Media::Json),
            ("text/plain, application/json", Media::Unclear),
            ("multipart/mixed; boundary=\"a,b\"", Media::Multipart),
        ] {
            assert_eq!(Media::of(value.as_bytes()), media, "{value}");
        }
    }

    #[test]
    fn forms_are_masked_by_the_names_of_queries() {
        let kind = "application/x-www-form-urlencoded";
        assert_eq!(
            masked(kind, "user=ann&password=s3?c#r;et&p%69n=12", false).unwrap(),
            "user=ann&password=*********&p%69n=**"
        );
        assert_eq!(masked(kind, "user=ann&password=s3c", true).unwrap(), "user=ann&password=***");
    }

    #[test]
    fn parts_of_a_form_are_masked_by_their_names() {
        let kind = "multipart/form-data; boundary=b";
        let text = "--b\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n--b\r\ncontent-disposition: form-data; name=\"PIN\"\r\n\r\n12\r\n34\r\n--b\r\nContent-Disposition: form-data; name=\"j\"\r\n\r\n{\"pin\":5}\r\n--b--\r\n";
        let seen = masked(kind, text, false).unwrap();
        assert_eq!(seen, text.replace("12\r\n34", "******").replace("5", "0"));
        let open = &text[..text.find("34").unwrap() + 1];
        assert_eq!(masked(kind, open, true).unwrap(), open.replace("12\r\n3", "*****"));
        assert_eq!(masked(kind, "preamble\r\n--b\r\n", false), Err(Reason::RedactError));
    }

    #[test]
    fn json_is_masked_wherever_it_is() {
        assert_eq!(masked("application/json", "{\"pin\":7}", false).unwrap(), "{\"pin\":0}");
        assert_eq!(masked("text/plain", "{\"pin\":7}", false).unwrap(), "{\"pin\":0}");
        assert_eq!(
            masked("text/event-stream", "event: x\ndata: {\"pin\":7}\n\n", false).unwrap(),
            "event: x\ndata: {\"pin\":0}\n\n"
        );
        let marked = masked("text/event-stream", "\u{feff}data: {\"pin\":7}\n\n", false).unwrap();
        assert_eq!(marked, "\u{feff}data: {\"pin\":0}\n\n");
        assert_eq!(masked("text/plain", "{pin} is fine", false).unwrap(), "{pin} is fine");
    }

    #[test]
    fn json_is_masked_under_a_type_that_does_not_say_so() {
        for kind in ["application/octet-stream", "image/png", "application/x-amz-json-1.1", "application/csp-report"] {
            assert_eq!(masked(kind, "{\"pin\":7}", false).unwrap(), "{\"pin\":0}", "{kind}");
            assert_eq!(masked(kind, "[ [{\"pin\":7}]]", false).unwrap(), "[ [{\"pin\":0}]]", "{kind}");
        }
        assert_eq!(masked("image/png", "\u{89}PNG", false).unwrap(), "\u{89}PNG");
    }

    #[test]
    fn a_type_said_in_two_ways_is_masked_for_both() {
        let both = |first: &str, second: &str, text: &str| {
            let redaction = Redaction::new([Secret::Json("pin"), Secret::Query("pin")], []);
            let mut body = text.as_bytes().to_vec();
            let media = Media::Unsaid.and(first.as_bytes()).and(second.as_bytes());
            redaction.body(media, false, &mut body, false, &mut Masked::default())?;
            Ok::<_, Reason>(String::from_utf8(body).unwrap())
        };
        for (first, second) in [("application/json", "image/png"), ("image/png", "application/json")] {
            assert_eq!(both(first, second, "{\"pin\":7}").unwrap(), "{\"pin\":0}");
            assert_eq!(both(first, second, "[1,{\"pin\":7}]").unwrap(), "[1,{\"pin\":0}]");
            assert_eq!(both(first, second, "{\"pin\":"), Err(Reason::RedactError));
        }
        assert_eq!(both("text/plain", "application/x-www-form-urlencoded", "a=1&pin=7").unwrap(), "a=1&pin=*");
        let part = "--b\r\nContent-Disposition: form-data; name=pin\r\n\r\n77\r\n--b--\r\n";
        assert_eq!(both("text/plain", "multipart/form-data; boundary=b", part).unwrap(), part.replace("77", "**"));
        assert_eq!(both("image/png", "image/png", "a=1&pin=7").unwrap(), "a=1&pin=7", "twice the same is clear");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(masked("application/json", "{\"pin\":7", false), Err(Reason::RedactError));
        assert!(masked("application/json", "{\"pin\":7", true).is_ok());
        let redaction = Redaction::new([Secret::Json("pin")], []);
        let coded = |redaction: &Redaction, media| {
            redaction.body(media, true, &mut [0x1f, 0x8b], false, &mut Masked::default())
        };
        assert_eq!(coded(&redaction, Media::Json), Err(Reason::RedactError));
        assert_eq!(coded(&redaction, Media::Unsaid), Err(Reason::RedactError));
        assert_eq!(coded(&redaction, Media::Other), Ok(()));
        assert_eq!(coded(&Redaction::default(), Media::Json), Ok(()), "no member is named");
        assert_eq!(coded(&Redaction::default(), Media::Form), Err(Reason::RedactError));
    }
}

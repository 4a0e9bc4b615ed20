//! What is masked: whatever stands around a named secret, it does not survive, and nothing moves.
//!
//! The second opinion on JSON is serde_json's: what it reads under a name is masked, and what was JSON still is.

use crate::given::Given;
use http::Method;
use serde_json::Value;
use std::sync::Arc;
use tap::{Fields, Message, Redaction, Secret};

pub(super) const WORDS: &[&[u8]] = &[
    b"{\"pin\":",
    b"\"p\\u0069n\":",
    b"\"PIN\" : ",
    b"[{\"pin\":[1,2]},",
    b"\"S3CR3T\"",
    b"\"\\\"",
    b"\\",
    b"\"a\":",
    b"12345",
    b"-0.5e+7",
    b"true",
    b"null",
    b"}",
    b"]",
    b",",
    b"\xef\xbb\xbf",
    b"\x1e",
    b"\xc3\xa9",
    b"--b\r\nContent-Disposition: form-data; name=\"pin\"\r\n\r\n",
    b"\r\n--b--\r\n",
    b"data: {\"pin\":1}\n",
    b"&pin=",
    b";token=",
    b"%74oken=",
    b"user[password]=",
    b"://u:p@h/",
    b"eyJhbGciOiJ9.eyJzdWIiOiIx.c2ln",
    b"AKIAIOSFODNN7EXAMPLE",
    b"ghp_0123456789012345678901234567890123456",
    b"-----BEGIN PRIVATE KEY-----",
];

const SECRET: &[u8] = b"S3CR3T-S3CR3T";

/// A kind of body, and the body.
pub(super) fn body(input: &[u8]) {
    let redaction = redaction();
    let mut given = Given::new(input);
    let (kind, cut) = (given.byte(), given.flag());
    let kind: &[u8] = [
        &b"application/json"[..],
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=b",
        b"text/event-stream",
        b"text/plain",
        b"",
    ][usize::from(kind % 6)];
    let text = given.rest();
    let Some(masked) = tap::fuzzing::body(&redaction, kind, text, cut) else { return };
    assert_eq!(masked.len(), text.len());
    // What is masked once stays as it is.
    if kind != b"application/x-www-form-urlencoded" {
        assert_eq!(tap::fuzzing::body(&redaction, kind, &masked, cut).as_ref(), Some(&masked), "twice is once");
    }
    if kind == b"application/json"
        && let Ok(before) = values(text)
    {
        let after = values(&masked).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&masked)));
        assert_eq!(before.len(), after.len());
        after.iter().for_each(|value| is_masked(value, false));
    }
}

fn values(text: &[u8]) -> serde_json::Result<Vec<Value>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::Deserializer::from_slice(text).into_iter().collect()
}

fn is_masked(value: &Value, secret: bool) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| is_masked(value, secret)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            is_masked(value, secret || name.trim_matches([' ', '\t', '\r', '\n', '\u{c}']).eq_ignore_ascii_case("pin"));
        }),
        Value::String(text) => assert!(!secret || text.bytes().all(|byte| byte == b'*'), "{text}"),
        Value::Number(number) => assert!(!secret || number.as_f64() == Some(0.0), "{number}"),
        Value::Bool(truth) => assert!(!secret, "{truth}"),
        Value::Null => {}
    }
}

/// Text before and after a secret in the target, in a cookie, in a header of a secret name; and a value of another header.
pub(super) fn head(input: &[u8]) {
    let redaction = redaction();
    let mut given = Given::new(input);
    let (before, after) = (given.piece().unwrap_or_default(), given.piece().unwrap_or_default());
    let other = given.rest();
    if [before, after, other].iter().any(|text| has(text, b"S3CR3T")) {
        return;
    }
    let secret = std::str::from_utf8(SECRET).unwrap();
    let (Ok(start), Ok(end)) = (std::str::from_utf8(before), std::str::from_utf8(after)) else { return };
    let target = format!("/{start}?&token={secret}&{end}");
    let cookie = [before, b"; sid=", SECRET, b"; ", after].concat();
    let fields = Lines(vec![
        (b"x-internal".to_vec(), [before, SECRET, after].concat()),
        (b"Authorization".to_vec(), [b"Bearer ", SECRET].concat()),
        (b"cookie".to_vec(), cookie),
        (b"location".to_vec(), target.clone().into_bytes()),
        (b"x-mesh-src".to_vec(), SECRET.to_vec()),
        (b"x-other".to_vec(), other.to_vec()),
    ]);
    let message = Message::request(&redaction, Method::GET, &target, Some("orders"), &fields);
    if let Some(text) = tap::fuzzing::head(&message) {
        assert!(!has(text, b"S3CR3T"), "{}", String::from_utf8_lossy(text));
    }
    let logged = tap::without_secrets(target.as_bytes());
    assert!(!has(&logged, b"S3CR3T") && logged.len() == target.len());
}

fn redaction() -> Arc<Redaction> {
    let redact = [Secret::Header("x-internal"), Secret::Cookie("sid"), Secret::Query("pin"), Secret::Json("pin")];
    Redaction::new(redact, [Secret::Header("cookie")])
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

struct Lines(Vec<(Vec<u8>, Vec<u8>)>);

impl Fields for Lines {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }
}

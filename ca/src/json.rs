//! JSON in which no member is named twice.
//!
//! In come bytes that a peer or an API server wrote; out comes a value. Refused are duplicate members at any
//! depth (RFC 8259 §4 leaves their meaning open, and of two readers each may take another one), anything after
//! the value, and nesting beyond what a token or a key set needs.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonFault {
    /// A member stands twice in one object.
    Duplicate,
    /// Not JSON, or nested too deeply.
    Malformed,
}

/// Reads one value and nothing after it.
pub(crate) fn parse(text: &[u8]) -> Result<Value, JsonFault> {
    let duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { duplicate: &duplicate, depth: 0 }.deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if duplicate.get() => Err(JsonFault::Duplicate),
        Err(_) => Err(JsonFault::Malformed),
    }
}

/// Reads one object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    match parse(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(JsonFault::Malformed),
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    /// Set when a member came twice: the error type of the reader cannot say so.
    duplicate: &'a Cell<bool>,
    depth: usize,
}

impl Strict<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = items.next_key::<String>()? {
            if members.contains_key(&name) {
                self.duplicate.set(true);
                return Err(A::Error::custom("a member stands twice"));
            }
            members.insert(name, items.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

/// A token has four levels, the answer to a TokenReview six.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are() {
        let text = r#" {"a":[1,-2,0.5,true,null,"x"],"b":{"a":{}}} "#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(parse(b"18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
    }

    #[test]
    fn a_member_that_stands_twice_is_called_so() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"[{"a":1,"a":2}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(parse(text.as_bytes()), Err(JsonFault::Duplicate), "{text}");
        }
        assert!(parse(br#"{"a":{"a":1}}"#).is_ok());
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for text in ["", "{", "{} {}", "{},", "nul", "{'a':1}", "[1,]", "\u{feff}{}", "1e999"] {
            assert_eq!(parse(text.as_bytes()), Err(JsonFault::Malformed), "{text}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(JsonFault::Malformed));
        assert_eq!(object(b"[]"), Err(JsonFault::Malformed));
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonFault::Malformed));
        assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(JsonFault::Malformed));
    }
}

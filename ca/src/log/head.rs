//! The signed head: which record is the last.
//!
//! ```text
//! {"schema":1,"key":"…","segment":3,"seq":1042,"hash":"…","time":"…","signature":"…"}
//! ```
//! The links of the chain show a change in the middle; that the end is missing only the head shows, and that
//! all was not written anew by somebody else, its signature. It is replaced after each group of records and
//! before anybody is told that they are kept. A copy kept elsewhere also shows that a whole older folder was
//! put back, which nothing inside the folder can show.

use super::chain::Chain;
use super::error::{Finding, Flaw, LogError};
use super::folder::HEAD;
use super::hash::Hash;
use super::key::{LogKey, LogPublicKey};
use super::line::{Misread, Reader, Writer};
use super::stamp::Stamp;

/// A head. Whether its signature is good is asked by [`check`](Self::check).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The key that signed it.
    pub key: Hash,
    /// The segment of the last record.
    pub segment: u64,
    /// Its number.
    pub seq: u64,
    /// The hash of its line.
    pub hash: Hash,
    /// Its time.
    pub time: Stamp,
    signature: [u8; 64],
}

impl Head {
    pub(crate) fn sign(key: &LogKey, segment: u64, chain: &Chain) -> Result<Self, LogError> {
        let Chain { seq, hash, time } = *chain;
        let mut head = Self { key: key.public().id(), segment, seq, hash, time, signature: [0; 64] };
        head.signature = key.sign(&head.signed())?;
        Ok(head)
    }

    /// The file, which is one line.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut line = Writer::new(&mut out);
        self.fields(&mut line);
        line.hex("signature", &self.signature);
        line.end();
        out.push(b'\n');
        out
    }

    /// Reads a head.
    ///
    /// # Errors
    /// What is not there, or not spelt as [`text`](Self::text) does.
    pub fn read(text: &[u8]) -> Result<Self, Misread> {
        let line = text.strip_suffix(b"\n").ok_or(Misread("the end"))?;
        let mut reader = Reader::new(line);
        if reader.number("schema")? != SCHEMA {
            return Err(Misread("schema"));
        }
        let head = Self {
            key: reader.hash("key")?,
            segment: reader.number("segment")?,
            seq: reader.number("seq")?,
            hash: reader.hash("hash")?,
            time: reader.stamp("time")?,
            signature: reader.hex("signature")?,
        };
        reader.end()?;
        if head.text() == text { Ok(head) } else { Err(Misread("a field")) }
    }

    /// Whether the owner of `key` has signed it.
    ///
    /// # Errors
    /// Another key, or a signature that does not verify.
    pub fn check(&self, key: &LogPublicKey) -> Result<(), Flaw> {
        if self.key != key.id() {
            Err(Flaw::HeadKey { key: key.id() })
        } else if !key.verifies(&self.signed(), &self.signature) {
            Err(Flaw::HeadSignature)
        } else {
            Ok(())
        }
    }

    /// Reads and checks the head of a log's folder.
    pub(crate) fn load(folder: &std::path::Path, key: &LogPublicKey) -> Result<Self, LogError> {
        let found = |flaw| Finding::in_file(HEAD, flaw);
        let text = super::folder::read_small(&folder.join(HEAD))?.ok_or_else(|| found(Flaw::HeadMissing))?;
        let head = Self::read(&text).map_err(|misread| found(Flaw::HeadForm(misread)))?;
        head.check(key).map_err(found)?;
        Ok(head)
    }

    /// Whether the record with this head's number is the one it signs.
    pub(crate) fn is(&self, segment: u64, chain: &Chain) -> bool {
        (self.segment, self.seq, self.hash, self.time) == (segment, chain.seq, chain.hash, chain.time)
    }

    /// What is signed: the line up to the signature, behind words that no other signature of ours has.
    fn signed(&self) -> Vec<u8> {
        let mut out = CONTEXT.to_vec();
        self.fields(&mut Writer::new(&mut out));
        out
    }

    fn fields(&self, line: &mut Writer<'_>) {
        line.number("schema", SCHEMA);
        line.hash("key", &self.key);
        line.number("segment", self.segment);
        line.number("seq", self.seq);
        line.hash("hash", &self.hash);
        line.stamp("time", self.time);
    }
}

const SCHEMA: u64 = 1;
const CONTEXT: &[u8] = b"sekisho audit log head\n";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::record::tests::stamp;
    use super::*;

    #[test]
    fn any_changed_byte_of_a_head_is_found() {
        let key = LogKey::generate().unwrap();
        let chain = Chain { seq: 41, hash: Hash::of(b"line"), time: stamp(1_800_000_000_000) };
        let head = Head::sign(&key, 3, &chain).unwrap();
        let text = head.text();
        let read = Head::read(&text).unwrap();
        assert_eq!(read, head);
        assert!(read.is(3, &chain) && !read.is(2, &chain));
        read.check(&key.public()).unwrap();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone();
                bad[at] ^= 1 << bit;
                let believed = Head::read(&bad).is_ok_and(|head| head.check(&key.public()).is_ok());
                assert!(!believed, "byte {at}, bit {bit}");
            }
        }
        let other = LogKey::generate().unwrap().public();
        assert_eq!(head.check(&other), Err(Flaw::HeadKey { key: other.id() }));
    }
}

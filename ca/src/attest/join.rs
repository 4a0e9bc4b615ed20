//! Tokens for machines that no cluster vouches for.
//!
//! In come 32 random octets; out come the text that the operator hands to the machine, and what is kept of it: a
//! hash, the one SPIFFE ID it is good for, and its end. Who reads the folder learns no token, and the token is
//! in no log, no name and no certificate. Files and races are the business of [`Tokens`](crate::Tokens).

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::SpiffeId;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::token::base64url;
use super::{Attested, Evidence, Holder};
use crate::json;

/// A join token. It is shown once; `Debug` shows its public name only.
#[derive(Clone)]
pub struct JoinToken(String);

impl JoinToken {
    /// A token of 256 random bits.
    pub fn new(random: &[u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// Reads a presented one.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let random = text.strip_prefix(PREFIX).filter(|rest| rest.len() == ENCODED).and_then(base64url);
        match random {
            Some(random) if random.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(Refusal::JoinMalformed),
        }
    }

    /// Whether a text has the form of a join token, so that a server can tell it from a service account's.
    pub fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The token itself, for the one who asked for it.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Its public name: the first half of its hash, 32 hex digits.
    pub fn id(&self) -> String {
        hex(&self.hash()).chars().take(ID_DIGITS).collect()
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        hash
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id())
    }
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    hash: [u8; 32],
    pub(crate) spiffe_id: SpiffeId,
    /// In whole seconds, as all times of a record.
    pub(crate) created: SystemTime,
    pub(crate) expires: SystemTime,
}

impl Record {
    /// `None` when the dates are outside the calendar.
    pub(crate) fn new(token: &JoinToken, spiffe_id: &SpiffeId, ttl: Duration, now: SystemTime) -> Option<Self> {
        let created = time(seconds(now)?)?;
        let expires = time(seconds(now.checked_add(ttl)?)?)?;
        Some(Self { hash: token.hash(), spiffe_id: spiffe_id.clone(), created, expires })
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.hash).chars().take(ID_DIGITS).collect()
    }

    /// One line of JSON.
    pub(crate) fn write(&self) -> String {
        let line = json!({
            "schema": SCHEMA,
            "hash": hex(&self.hash),
            "spiffe_id": self.spiffe_id.as_str(),
            "created": seconds(self.created),
            "expires": seconds(self.expires),
        });
        format!("{line}\n")
    }

    /// Reads what [`write`](Self::write) wrote; `None` for anything else.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let members = json::object(text).ok()?;
        if members.len() != 5 || members.get("schema") != Some(&json!(SCHEMA)) {
            return None;
        }
        let text = |member: &str| members.get(member).and_then(Value::as_str);
        let date = |member: &str| time(members.get(member).and_then(Value::as_u64)?);
        Some(Self {
            hash: unhex(text("hash")?)?,
            spiffe_id: SpiffeId::parse(text("spiffe_id")?).ok()?,
            created: date("created")?,
            expires: date("expires")?,
        })
    }

    /// Whether `token` is this one and alive. The file was found by half of the hash; this compares all of it,
    /// and in constant time.
    pub(crate) fn admit(self, token: &JoinToken, now: SystemTime) -> Result<Admission, Refusal> {
        constant_time::verify_slices_are_equal(&self.hash, &token.hash()).map_err(|_| Refusal::JoinUnknown)?;
        if now >= self.expires {
            return Err(Refusal::JoinExpired);
        }
        Ok(Admission(self))
    }
}

/// A presented token that exists and is alive. It says which name to check a request against; only when it has
/// been used up ([`Tokens::consume`](crate::Tokens::consume)) is it a proof.
#[derive(Debug)]
#[must_use]
pub struct Admission(Record);

impl Admission {
    /// The name that the token is good for.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.0.spiffe_id
    }

    /// The token's public name.
    pub fn token_id(&self) -> String {
        self.0.id()
    }

    pub(crate) fn expires(&self) -> SystemTime {
        self.0.expires
    }

    /// For the room of the folder alone, after it has decided that nobody else gets this token.
    pub(crate) fn used_up(self) -> Attested {
        let token_id = self.0.id();
        Attested {
            id: self.0.spiffe_id,
            evidence: Evidence::Join { token_id: token_id.clone() },
            holder: Holder::Machine { token_id },
            lineage: None,
        }
    }
}

/// Whether a text is the public name of a token.
pub(crate) fn is_token_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn time(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// Scanners for leaked secrets find a token by it.
const PREFIX: &str = "sekisho-join-";

/// 32 octets in base64url.
const ENCODED: usize = 43;
const ID_DIGITS: usize = 32;
const SCHEMA: u32 = 1;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> SystemTime {
        time(1_800_000_000).unwrap()
    }

    fn record(token: &JoinToken) -> Record {
        let id = SpiffeId::parse("spiffe://example.org/host/db-1").unwrap();
        Record::new(token, &id, Duration::from_secs(600), now()).unwrap()
    }

    #[test]
    fn the_secret_is_shown_by_one_method_alone() {
        let token = JoinToken::new(&[7; 32]);
        let random = token.secret().strip_prefix(PREFIX).unwrap().to_owned();
        assert_eq!(random.len(), ENCODED);
        let record = record(&token);
        let kept =
            format!("{token:?} {record:?} {} {} {:?}", record.write(), token.id(), record.clone().admit(&token, now()));
        assert!(!kept.contains(&random));
        assert!(kept.contains(&token.id()));
        let attested = record.admit(&token, now()).unwrap().used_up();
        assert!(!format!("{attested:?}").contains(&random));
        assert_eq!(attested.id().as_str(), "spiffe://example.org/host/db-1");
        assert_eq!(attested.holder(), &Holder::Machine { token_id: token.id() });
    }

    #[test]
    fn a_token_has_one_form() {
        let token = JoinToken::new(&[0xff; 32]);
        let good = token.secret().to_owned();
        assert_eq!(JoinToken::parse(&good).unwrap().id(), token.id());
        for bad in [
            "",
            PREFIX,
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}="),
            &format!("{good} "),
            &good.to_uppercase(),
            // The last digit holds two bits that must be zero.
            &format!("{}9", &good[..good.len() - 1]),
            &good.replace('_', "/"),
        ] {
            assert_eq!(JoinToken::parse(bad).map(|_| ()), Err(Refusal::JoinMalformed), "{bad}");
        }
    }

    #[test]
    fn a_record_is_for_its_own_token_until_its_end() {
        let (token, other) = (JoinToken::new(&[1; 32]), JoinToken::new(&[2; 32]));
        let judge = |token: &JoinToken, seconds| {
            record(&JoinToken::new(&[1; 32])).admit(token, now() + Duration::from_secs(seconds)).map(|_| ())
        };
        assert_eq!(judge(&token, 599), Ok(()));
        assert_eq!(judge(&token, 600), Err(Refusal::JoinExpired));
        assert_eq!(judge(&other, 0), Err(Refusal::JoinUnknown));
        assert_eq!(judge(&other, 600), Err(Refusal::JoinUnknown));
    }

    #[test]
    fn a_record_is_a_closed_schema() {
        let good = record(&JoinToken::new(&[1; 32])).write();
        assert!(Record::read(good.as_bytes()).is_some());
        for (from, to) in [
            ("\"schema\":1", "\"schema\":2"),
            ("\"schema\":1", "\"schema\":1,\"x\":0"),
            ("\"schema\":1", "\"schema\":1,\"schema\":1"),
            ("spiffe://", "https://"),
            ("1800000600", "\"1800000600\""),
            ("1800000600", "-1"),
            ("created", "create"),
        ] {
            assert!(good.contains(from));
            assert_eq!(Record::read(good.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        assert_eq!(Record::read(good.to_uppercase().as_bytes()), None);
        assert_eq!(unhex(&"A".repeat(64)), None);
        assert_eq!(unhex(&"a".repeat(63)), None);
        assert_eq!(unhex(&"a".repeat(66)), None);
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(random in any::<[u8; 32]>(), ttl in 1u64..100_000) {
            let id = SpiffeId::parse("spiffe://example.org/host/db-1").unwrap();
            let token = JoinToken::new(&random);
            let record = Record::new(&token, &id, Duration::from_secs(ttl), now()).unwrap();
            prop_assert_eq!(Record::read(record.write().as_bytes()), Some(record.clone()));
            prop_assert_eq!(record.id(), token.id());
            prop_assert!(JoinToken::parse(token.secret()).is_ok());
        }
    }
}

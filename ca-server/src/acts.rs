//! What an operator does besides rotating: deny somebody, make and take back join tokens. Each act is on record.
//!
//! Asked for over the socket in the CA's folder alone: whoever makes a join token makes an identity.

use crate::server::Server;
use crate::steps::Undone;
use ca::denied::{DEFAULT_LIFE, Denied, DenyList};
use ca::log::What;
use identity::SpiffeId;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// An act, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Put something on the deny list.
    Deny { denied: Denied, reason: String, time: Duration },
    /// Take it from there.
    Lift(Denied),
    /// Make a join token.
    MakeToken { id: SpiffeId, ttl: Duration },
    /// Take one back, by its public name.
    RevokeToken(String),
}

impl Deed {
    /// Reads a path and the document that came with it; the schema is closed.
    pub(crate) fn parse(path: &str, body: &[u8]) -> Option<Result<Self, String>> {
        let read: fn(&mut Members) -> Result<Self, String> = match path {
            "/deny/add" => |members| {
                let time = members.seconds("seconds")?.unwrap_or(DEFAULT_LIFE);
                Ok(Self::Deny { denied: members.denied()?, reason: members.text("reason")?, time })
            },
            "/deny/remove" => |members| members.denied().map(Self::Lift),
            "/token/create" => |members| {
                let id = SpiffeId::parse(&members.text("id")?).map_err(|error| error.to_string())?;
                Ok(Self::MakeToken { id, ttl: members.seconds("seconds")?.ok_or("`seconds` is missing")? })
            },
            "/token/revoke" => |members| members.text("id").map(Self::RevokeToken),
            _ => return None,
        };
        let mut members = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Members(members),
            _ => return Some(Err("the body is not a JSON object".to_owned())),
        };
        let deed = read(&mut members);
        let unknown = members.0.keys().next();
        Some(deed.and_then(|deed| match unknown {
            Some(key) => Err(format!("`{}` is not known here", key.escape_default())),
            None => Ok(deed),
        }))
    }
}

/// The members of a document that have not been taken yet.
struct Members(Map<String, Value>);

impl Members {
    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("`{name}` is missing, or no text")),
        }
    }

    fn seconds(&mut self, name: &str) -> Result<Option<Duration>, String> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        // A century is beyond everything that is asked for here, and within the calendar.
        let seconds = value.as_u64().filter(|seconds| *seconds <= 3_153_600_000);
        seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or(format!("`{name}` is no count of seconds"))
    }

    fn denied(&mut self) -> Result<Denied, String> {
        let (kind, value) = (self.text("kind")?, self.text("value")?);
        Denied::parse(&kind, &value).map_err(|error| error.to_string())
    }
}

impl Server {
    /// Does it and puts it on record. Waits for the disk.
    pub(crate) fn deed(&self, deed: Deed, by: &str) -> Result<Value, Undone> {
        let now = SystemTime::now();
        match deed {
            Deed::Deny { denied, reason, time } => {
                let until = now.checked_add(time).ok_or_else(|| Undone::Wrong("the end is too far away".into()))?;
                let name = denied.to_string();
                let list = DenyList::change(&self.settings.dir, |list| list.add(denied, &reason, until, now))?;
                self.deny_by(list);
                self.act(What::Denied, &name, &reason, None, by).map_err(Undone::Failed)?;
                Ok(json!({}))
            }
            Deed::Lift(denied) => {
                let list = DenyList::change(&self.settings.dir, |list| list.remove(&denied, now))?;
                self.deny_by(list);
                self.act(What::DenialLifted, &denied.to_string(), "", None, by).map_err(Undone::Failed)?;
                Ok(json!({}))
            }
            Deed::MakeToken { id, .. } if id == self.own.id => {
                Err(Undone::Wrong(format!("{id} is the name of this CA itself; nobody else is given it")))
            }
            Deed::MakeToken { id, ttl } => {
                let mut random = [0; 32];
                let provider = identity::provider();
                provider
                    .secure_random
                    .fill(&mut random)
                    .map_err(|_| Undone::Failed("the system gives no random numbers".into()))?;
                let created = self.desk.tokens.create(&id, ttl, &random, now)?;
                // What is not on record is good for nothing.
                if let Err(why) = self.act(What::JoinTokenMade, &created.id, id.as_str(), None, by) {
                    let _ = self.desk.tokens.revoke(&created.id);
                    return Err(Undone::Failed(why));
                }
                let expires = created.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                Ok(json!({ "id": created.id, "token": created.token.secret(), "expires": expires }))
            }
            Deed::RevokeToken(token) => {
                let revoked = self.desk.tokens.revoke(&token)?;
                if revoked {
                    self.act(What::JoinTokenRevoked, &token, "", None, by).map_err(Undone::Failed)?;
                }
                Ok(json!({ "revoked": revoked }))
            }
        }
    }

    /// Watchers hear of it now, and not when the file is looked at next.
    fn deny_by(&self, list: DenyList) {
        self.denied_version.store(list.version(), Ordering::Relaxed);
        (self.say)("deny_list_changed", json!({ "version": list.version() }));
        self.desk.denied.send_replace(Arc::new(list));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(path: &str, body: &str) -> Result<Deed, String> {
        Deed::parse(path, body.as_bytes()).unwrap()
    }

    #[test]
    fn documents_are_read_whole_or_not_at_all() {
        let id = SpiffeId::parse("spiffe://example.org/vm/db-1").unwrap();
        let add = r#"{"kind":"id","value":"spiffe://example.org/vm/db-1","reason":"lost","seconds":60}"#;
        let denied = Denied::Id(id.clone());
        let time = Duration::from_secs(60);
        assert_eq!(read("/deny/add", add), Ok(Deed::Deny { denied: denied.clone(), reason: "lost".into(), time }));
        let remove = r#"{"kind":"id","value":"spiffe://example.org/vm/db-1"}"#;
        assert_eq!(read("/deny/remove", remove), Ok(Deed::Lift(denied)));
        let create = r#"{"id":"spiffe://example.org/vm/db-1","seconds":60}"#;
        assert_eq!(read("/token/create", create), Ok(Deed::MakeToken { id, ttl: time }));
        assert_eq!(read("/token/revoke", r#"{"id":"a"}"#), Ok(Deed::RevokeToken("a".into())));
        assert_eq!(Deed::parse("/token/other", b"{}"), None);
        for (path, body) in [
            ("/deny/add", ""),
            ("/deny/add", "[]"),
            ("/deny/add", r#"{"kind":"name","value":"x","reason":"lost"}"#),
            ("/deny/add", r#"{"kind":"serial","value":"0a"}"#),
            ("/deny/remove", r#"{"kind":"serial","value":"0a","reason":"x"}"#),
            ("/token/create", r#"{"id":"spiffe://example.org/vm/db-1"}"#),
            ("/token/create", r#"{"id":"vm/db-1","seconds":60}"#),
            ("/token/create", r#"{"id":"spiffe://example.org/vm/db-1","seconds":-1}"#),
            ("/token/create", r#"{"id":"spiffe://example.org/vm/db-1","seconds":60,"uses":2}"#),
        ] {
            assert!(read(path, body).is_err(), "{path} {body}");
        }
    }
}

//! `sekisho ca token`: join tokens for machines that have nothing else to show, from the server that runs on the folder or
//! without one.

use super::running::{Book, Running};
use super::{Failed, passphrase};
use crate::cli;
use ca::{
    Report, Tokens,
    log::What,
    rotation::{LastLeaf, Schedule},
};
use identity::SpiffeId;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Makes, lists, or takes back.
pub(super) fn token(arguments: &cli::CaToken) -> Result<(), Failed> {
    let now = SystemTime::now();
    let folder = Report::read(&arguments.dir, |_| LastLeaf::Unknown, &Schedule::default(), now)?;
    let tokens = Tokens::of(&arguments.dir, &folder.trust_domain);
    match &arguments.step {
        cli::TokenStep::Create { id, ttl } => {
            let id = SpiffeId::parse(id).map_err(|error| error.to_string())?;
            let (secret, name, expires) = match Running::on(&arguments.dir)? {
                Some(server) => {
                    let made = server.ask("/token/create", &json!({ "id": id.as_str(), "seconds": ttl.as_secs() }))?;
                    let text = |name: &str| made.get(name)?.as_str().map(str::to_owned);
                    let expires = made
                        .get("expires")
                        .and_then(Value::as_u64)
                        .map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
                    match (text("token"), text("id"), expires) {
                        (Some(token), Some(id), Some(expires)) => (token, id, expires),
                        _ => return Err("the server's answer is not whole".into()),
                    }
                }
                None => {
                    let book = book(arguments, now)?;
                    let mut random = [0; 32];
                    let provider = identity::provider();
                    provider.secure_random.fill(&mut random).map_err(|_| "the system gives no random numbers")?;
                    let created = tokens.create(&id, *ttl, &random, now)?;
                    // What is not on record is good for nothing.
                    if let Err(error) = book.record(What::JoinTokenMade, &created.id, id.as_str(), None) {
                        let _ = tokens.revoke(&created.id);
                        return Err(error);
                    }
                    (created.token.secret().to_owned(), created.id, created.expires)
                }
            };
            // The token alone on stdout, so that it can be redirected; it is not shown again.
            out!("{secret}");
            err!("join token {name} for {id}, once, until {}", proxy::rfc3339(expires));
        }
        cli::TokenStep::List => {
            for token in tokens.list()? {
                let state = match (token.used, token.expires < now) {
                    (true, _) => "used",
                    (false, true) => "expired",
                    (false, false) => "open",
                };
                out!("{} {state:7} until {} {}", token.id, proxy::rfc3339(token.expires), token.spiffe_id);
            }
        }
        cli::TokenStep::Revoke { token } => {
            let revoked = match Running::on(&arguments.dir)? {
                Some(server) => {
                    server.ask("/token/revoke", &json!({ "id": token }))?.get("revoked") == Some(&json!(true))
                }
                None => {
                    let book = book(arguments, now)?;
                    let revoked = tokens.revoke(token)?;
                    if revoked {
                        book.record(What::JoinTokenRevoked, token, "", None)?;
                    }
                    revoked
                }
            };
            if !revoked {
                return Err(format!("there is no open join token {token}").into());
            }
            out!("join token {token} is revoked");
        }
    }
    Ok(())
}

fn book(arguments: &cli::CaToken, now: SystemTime) -> Result<Book, Failed> {
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    Book::open(&arguments.dir, passphrase.as_deref(), now)
}

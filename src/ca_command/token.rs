//! `sekisho ca token`: join tokens for machines that have nothing else to show.

use super::Failed;
use crate::cli;
use ca::{
    Report, Tokens,
    rotation::{LastLeaf, Schedule},
};
use identity::SpiffeId;
use std::time::SystemTime;

/// Makes, lists, or takes back.
pub(super) fn token(arguments: &cli::CaToken) -> Result<(), Failed> {
    let now = SystemTime::now();
    let folder = Report::read(&arguments.dir, |_| LastLeaf::Unknown, &Schedule::default(), now)?;
    let tokens = Tokens::of(&arguments.dir, &folder.trust_domain);
    match &arguments.step {
        cli::TokenStep::Create { id, ttl } => {
            let id = SpiffeId::parse(id).map_err(|error| error.to_string())?;
            let mut random = [0; 32];
            let provider = identity::provider();
            provider.secure_random.fill(&mut random).map_err(|_| "the system gives no random numbers")?;
            let created = tokens.create(&id, *ttl, &random, now)?;
            // The token alone on stdout, so that it can be redirected; it is not shown again.
            out!("{}", created.token.secret());
            err!("join token {} for {id}, once, until {}", created.id, proxy::rfc3339(created.expires));
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
        cli::TokenStep::Revoke { token } => match tokens.revoke(token)? {
            true => out!("join token {token} is revoked"),
            false => return Err(format!("there is no open join token {token}").into()),
        },
    }
    Ok(())
}

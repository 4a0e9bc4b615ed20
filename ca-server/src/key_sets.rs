//! The keys of clusters: read at the start, looked at while we run, asked for where there is an API.

use crate::server::{Server, ServerError, error, lock};
use ca::attest::{Cluster, Clusters, Jwks, Template, TokenRules};
use config::ClusterSettings;
use identity::TrustDomain;
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

impl Server {
    /// Asks a cluster for its keys: at once, then now and then, and when a token names one that is not known here.
    pub(crate) async fn follow_keys(self: Arc<Self>, cluster: String, mut stop: watch::Receiver<bool>) {
        let Some(api) = self.desk.apis.get(&cluster) else { return };
        let mut before = None;
        loop {
            let asked = api.key_set().await;
            let pause = if asked.is_ok() { KEYS_EVERY } else { KEYS_AGAIN };
            if before.as_ref() != Some(&asked) {
                let parsed = asked
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|text| Jwks::parse(text).map_err(|error| error.to_string()));
                self.take_keys(&cluster, parsed);
                before = Some(asked);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.desk.keys_wanted.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn take_keys(&self, cluster: &str, read: Result<Jwks, String>) {
        // One after the other: each makes a new set of clusters from the last one.
        let _one = lock(&self.taking_keys);
        let clusters =
            read.and_then(|jwks| self.desk.clusters.load().with_keys(cluster, jwks).map_err(|error| error.to_string()));
        match clusters {
            Ok(clusters) => {
                self.desk.clusters.store(Arc::new(clusters));
                (self.say)("keys_changed", json!({ "cluster": cluster }));
            }
            // The old ones go on.
            Err(why) => (self.say)("keys_rejected", json!({ "cluster": cluster, "detail": why })),
        }
    }

    pub(crate) fn look_at_key_sets(&self) {
        for set in lock(&self.key_sets).iter_mut() {
            if let Some(read) = set.changed() {
                self.take_keys(&set.cluster, read);
            }
        }
    }
}

/// Where a cluster's keys are, and what they looked like.
pub(crate) struct KeySet {
    cluster: String,
    path: PathBuf,
    text: Vec<u8>,
}

impl KeySet {
    /// The keys, if the file is another than last time. What cannot be read is told once.
    fn changed(&mut self) -> Option<Result<Jwks, String>> {
        let text = read_keys(&self.path);
        match text {
            Ok(text) if text == self.text => None,
            Ok(text) => {
                let parsed = Jwks::parse(&text).map_err(|error| format!("{}: {error}", self.path.display()));
                self.text = text;
                Some(parsed)
            }
            Err(_) if self.text.is_empty() => None,
            Err(error) => {
                self.text.clear();
                Some(Err(format!("{}: {error}", self.path.display())))
            }
        }
    }
}

pub(crate) fn clusters(
    settings: &[ClusterSettings],
    domain: &TrustDomain,
) -> Result<(Clusters, Vec<KeySet>), ServerError> {
    let (mut clusters, mut sets) = (Vec::new(), Vec::new());
    for cluster in settings {
        let described = |error: &dyn std::fmt::Display| ServerError(format!("cluster `{}`: {error}", cluster.name));
        let keys = match &cluster.jwks {
            // A file that is there and wrong should be heard of at the start.
            Some(path) => {
                let in_file = |error: &dyn std::fmt::Display| ServerError(format!("{}: {error}", path.display()));
                let text = read_keys(path).map_err(|error| in_file(&error))?;
                let keys = Jwks::parse(&text).map_err(|error| in_file(&error))?;
                sets.push(KeySet { cluster: cluster.name.clone(), path: path.clone(), text });
                keys
            }
            // The cluster is asked once we run.
            None => Jwks::unknown(),
        };
        clusters.push(Cluster {
            name: cluster.name.clone(),
            issuer: cluster.issuer.clone(),
            audience: cluster.audience.clone(),
            keys: Arc::new(keys),
            template: Template::parse(&cluster.template).map_err(|error| described(&error))?,
            strict: cluster.strict,
        });
    }
    let clusters = Clusters::new(domain.clone(), TokenRules::default(), clusters).map_err(error)?;
    Ok((clusters, sets))
}

/// One byte more than a key set may have, so that one that is too large is refused by its reader.
fn read_keys(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?.take(MOST_KEYS).read_to_end(&mut text)?;
    Ok(text)
}

const KEYS_EVERY: Duration = Duration::from_secs(300);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
const MOST_KEYS: u64 = (64 << 10) + 1;

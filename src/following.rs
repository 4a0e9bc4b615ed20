//! Where the identity comes from while the process runs: files, a CA, or a socket. One channel, whichever it is.

use crate::files;
use agent::{
    Material, Readers, Surroundings,
    source::{
        Endpoint, Expected, FromCa, Paper, SecretNames, Source, Status, follow_ca, follow_sds, follow_workload_api,
    },
};
use config::{ExpectedCa, IdentitySource};
use identity::SpiffeId;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::JoinHandle};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// An identity that is being followed.
pub(crate) struct Following {
    /// What is in force; `None` until there is any.
    pub(crate) identity: watch::Receiver<Option<Arc<Material>>>,
    /// How the source stands.
    pub(crate) status: watch::Receiver<Status>,
    /// To be told by whoever hands it on.
    pub(crate) readers: Readers,
    leaving: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Following {
    /// Begins, on the runtime that is entered.
    ///
    /// # Errors
    /// A sentence: a path that cannot be that of a socket.
    pub(crate) fn begin(source: &IdentitySource, workload: &SpiffeId) -> Result<Self, String> {
        let (publish, identity) = watch::channel(None);
        let (tell, status) = watch::channel(Status::default());
        let (leaving, left) = watch::channel(false);
        let readers = Readers::default();
        let over_socket = |socket: &Path| -> Result<Source, String> {
            let endpoint =
                Endpoint::parse(&format!("unix://{}", socket.display())).map_err(|error| error.to_string())?;
            Ok(Source {
                endpoint,
                expected: Some(workload.clone()),
                identity: publish.clone(),
                status: tell.clone(),
                surroundings: Surroundings::real(),
            })
        };
        let task = match source {
            IdentitySource::Files { cert, key, bundle } => {
                let paths = [cert.clone(), key.clone(), bundle.clone()];
                tokio::spawn(follow_files(paths, workload.clone(), publish, tell))
            }
            IdentitySource::Ca(from) => tokio::spawn(follow_ca(FromCa {
                address: from.address.clone(),
                expected: match &from.expected {
                    ExpectedCa::Id(id) => Expected::Id(id.clone()),
                    ExpectedCa::Name(name) => Expected::Name(name.clone()),
                },
                roots: paper(&from.roots),
                token: paper(&from.token),
                cluster: from.cluster.clone(),
                ttl: from.ttl,
                workload: workload.clone(),
                identity: publish,
                status: tell,
                readers: readers.clone(),
                surroundings: Surroundings::real(),
                leaving: left,
            })),
            IdentitySource::WorkloadApi { socket } => tokio::spawn(follow_workload_api(over_socket(socket)?)),
            IdentitySource::Sds { socket, certificate, validation } => {
                let names = SecretNames {
                    certificate: certificate.clone(),
                    roots: validation.clone(),
                    node: workload.to_string(),
                };
                tokio::spawn(follow_sds(over_socket(socket)?, names))
            }
        };
        Ok(Self { identity, status, readers, leaving, task })
    }

    /// Waits for the first identity. `say` hears of each fault meanwhile.
    pub(crate) async fn first(&mut self, say: impl Fn(&str)) -> Arc<Material> {
        loop {
            if let Some(material) = self.identity.borrow_and_update().clone() {
                return material;
            }
            let mut status = self.status.clone();
            tokio::select! {
                _ = self.identity.changed() => {}
                changed = status.changed() => match (changed, &status.borrow_and_update().fault) {
                    (Ok(()), Some(fault)) => {
                        say(&fault.text);
                        self.status.mark_unchanged();
                    }
                    (Ok(()), None) => {}
                    // The task has ended, which it does only when told to.
                    (Err(_), _) => std::future::pending().await,
                },
            }
        }
    }

    /// Takes leave of the source, if it is one that wants to know; waits a moment for that.
    pub(crate) async fn leave(self) {
        self.leaving.send_replace(true);
        let _ = tokio::time::timeout(Duration::from_millis(300), self.task).await;
    }
}

fn paper(path: &Path) -> Paper {
    let path = path.to_owned();
    Arc::new(move || crate::credentials::read(&path))
}

/// Publishes what the files say, whenever they say something else that verifies.
async fn follow_files(
    [cert, key, bundle]: [PathBuf; 3],
    workload: SpiffeId,
    publish: watch::Sender<Option<Arc<Material>>>,
    tell: watch::Sender<Status>,
) {
    let paths = [cert, key, bundle];
    let mut seen = None;
    loop {
        let now = files::look(&paths);
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            let time = SystemTime::now();
            match load(&paths, &workload, time) {
                Ok(material) => {
                    publish.send_replace(Some(Arc::new(material)));
                    tell.send_modify(|status| status.delivered(time));
                }
                Err(why) => tell.send_modify(|status| status.failed(why, time)),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn load([cert, key, bundle]: &[PathBuf; 3], workload: &SpiffeId, now: SystemTime) -> Result<Material, String> {
    let [cert, key, bundle] = [cert, key, bundle].map(|path| crate::credentials::read(path));
    Material::from_pem(&cert?, &key?, &bundle?, workload, now).map_err(|error| error.to_string())
}

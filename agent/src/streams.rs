//! How many streams the processes of one user may hold, and that there is a process behind each.
//!
//! A stream holds a task and a few messages for as long as its caller likes. One user that opens them without end must not be
//! able to keep the others of the pod from their identity.

use crate::observer::{Api, Observer};
use crate::readers::{Reader, Readers};
use rpc::{Caller, Process};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::{Request, Status};

/// The open streams of one socket. Clones share them.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Inner>);

struct Inner {
    most: usize,
    observer: Arc<dyn Observer>,
    readers: Readers,
    /// Invariant: no count is zero.
    open: Mutex<HashMap<(u32, Api), usize>>,
}

impl Streams {
    pub(crate) fn new(most: usize, observer: Arc<dyn Observer>, readers: Readers) -> Self {
        Self(Arc::new(Inner { most, observer, readers, open: Mutex::default() }))
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.0.observer
    }

    /// The process behind a request. Without one, nobody knows who would read the key.
    pub(crate) fn process<T>(&self, api: Api, request: &Request<T>) -> Result<Process, Status> {
        let process = request.extensions().get::<Caller>().and_then(Caller::process);
        process.ok_or_else(|| {
            self.refuse(api, None, Status::permission_denied("identities are served over a unix socket alone"))
        })
    }

    /// Takes a place for one more stream.
    pub(crate) fn begin(&self, api: Api, process: Process) -> Result<Place, Status> {
        let mut open = self.open();
        let of_user: usize = open.iter().filter(|((uid, _), _)| *uid == process.uid).map(|(_, count)| count).sum();
        if of_user >= self.0.most {
            drop(open);
            let why = format!("user {} holds {of_user} streams already", process.uid);
            return Err(self.refuse(api, Some(process), Status::unavailable(why)));
        }
        *open.entry((process.uid, api)).or_default() += 1;
        let all = of_api(&open, api);
        drop(open);
        self.0.observer.streams(api, all);
        let reader = self.0.readers.join();
        Ok(Place { streams: self.clone(), api, process, reader })
    }

    /// Tells the observer of a refusal on its way out.
    pub(crate) fn refuse(&self, api: Api, process: Option<Process>, status: Status) -> Status {
        self.0.observer.refused(api, process, status.message());
        status
    }

    /// A panic elsewhere leaves counts that are still true.
    fn open(&self) -> MutexGuard<'_, HashMap<(u32, Api), usize>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream; its place is free again when dropped.
pub(crate) struct Place {
    streams: Streams,
    api: Api,
    process: Process,
    reader: Reader,
}

impl Place {
    /// What its caller has now.
    pub(crate) fn has(&self, version: &str) {
        self.reader.has(version);
    }

    pub(crate) fn served(&self, version: &str) {
        self.streams.observer().served(self.api, self.process, version);
    }

    pub(crate) fn refuse(&self, status: Status) -> Status {
        self.streams.refuse(self.api, Some(self.process), status)
    }

    pub(crate) fn rejected(&self, version: &str, why: &str) {
        self.streams.observer().rejected(self.process, version, why);
    }

    pub(crate) fn stale(&self) {
        self.streams.observer().stale(self.process);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let key = (self.process.uid, self.api);
        let mut open = self.streams.open();
        match open.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&key)),
        }
        let all = of_api(&open, self.api);
        drop(open);
        self.streams.observer().streams(self.api, all);
    }
}

fn of_api(open: &HashMap<(u32, Api), usize>, api: Api) -> usize {
    open.iter().filter(|((_, other), _)| *other == api).map(|(_, count)| count).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tonic::Code;

    struct Deaf;

    impl Observer for Deaf {
        fn streams(&self, _: Api, _: usize) {}
        fn served(&self, _: Api, _: Process, _: &str) {}
        fn refused(&self, _: Api, _: Option<Process>, _: &str) {}
        fn rejected(&self, _: Process, _: &str, _: &str) {}
        fn stale(&self, _: Process) {}
    }

    #[test]
    fn a_request_without_a_process_behind_it_is_refused() {
        let streams = Streams::new(1, Arc::new(Deaf), Readers::default());
        let refusal = streams.process(Api::Secrets, &Request::new(())).unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied);
    }

    #[test]
    fn each_user_has_its_own_places_for_all_methods_together() {
        let streams = Streams::new(2, Arc::new(Deaf), Readers::default());
        let process = |uid| Process { uid, gid: 0, pid: None };
        let first = streams.begin(Api::Secrets, process(1)).unwrap();
        let _second = streams.begin(Api::X509Svid, process(1)).unwrap();
        let full = streams.begin(Api::X509Bundles, process(1)).err().unwrap();
        assert_eq!(full.code(), Code::Unavailable);
        let _other = streams.begin(Api::Secrets, process(2)).unwrap();
        drop(first);
        streams.begin(Api::X509Bundles, process(1)).unwrap();
        assert_eq!(streams.open().len(), 2);
    }
}

//! A refusal: what the caller hears, what the counters say, what the log keeps.

use ca::attest::Refusal;
use ca::log::LogError;
use ca::{CaError, CsrError};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Why there is no certificate.
#[derive(Debug)]
pub(crate) struct Refused {
    /// A label from a fixed set.
    pub(crate) reason: &'static str,
    /// What the caller's library decides by.
    pub(crate) code: Code,
    /// A sentence for whoever reads the caller's log.
    pub(crate) text: String,
    /// When to come again, if that is of use.
    pub(crate) again: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(reason: &'static str, code: Code, text: impl Into<String>) -> Self {
        Self { reason, code, text: text.into(), again: None }
    }

    /// Nothing is wrong with the request but its moment.
    pub(crate) fn later(reason: &'static str, text: impl Into<String>, again: Duration) -> Self {
        Self { again: Some(again), ..Self::new(reason, Code::Unavailable, text) }
    }

    /// The answer on the wire. When to come again stands in `retry-after`, in seconds (RFC 9110 §10.2.3), and for libraries of
    /// gRPC in `grpc-retry-pushback-ms`.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status::new(self.code, self.text.clone());
        if let Some(again) = self.again {
            let millis = u64::try_from(again.as_millis()).unwrap_or(u64::MAX).max(1);
            let seconds = millis.div_ceil(1000);
            status.metadata_mut().insert("retry-after", MetadataValue::from(seconds));
            status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(millis));
        }
        status
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::JoinStorage(_) | Refusal::ReplayFull => Code::Unavailable,
            _ => Code::Unauthenticated,
        };
        // What is wrong with the folder is for the operator, in the server's own log.
        let text = match &refusal {
            Refusal::JoinStorage(_) => "join tokens cannot be looked up at the moment".to_owned(),
            other => other.to_string(),
        };
        Self::new(refusal.reason(), code, text)
    }
}

impl From<CsrError> for Refused {
    fn from(error: CsrError) -> Self {
        Self::new(error.reason(), Code::InvalidArgument, error.to_string())
    }
}

impl From<CaError> for Refused {
    fn from(error: CaError) -> Self {
        match error {
            CaError::OtherDomain { .. } | CaError::NoPath(_) => {
                Self::new("id_not_ours", Code::PermissionDenied, error.to_string())
            }
            CaError::Key(_) | CaError::InvalidKey => Self::new("csr_key", Code::InvalidArgument, error.to_string()),
            // A fault of ours, and its details nobody else's business.
            _ => Self::new("signing", Code::Unavailable, "the CA cannot issue at the moment"),
        }
    }
}

impl From<LogError> for Refused {
    /// Nothing is issued that is not logged.
    fn from(error: LogError) -> Self {
        let _ = error;
        Self::later("log", "the CA cannot write its log, and issues nothing meanwhile", Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_in_the_documentation() {
        let page = include_str!("../../docs/ca.md");
        let requests = ["csr_too_large", "csr_malformed", "csr_signature", "csr_other_name", "csr_ca_rights"];
        // No cluster of the server's file can demand a review yet.
        let attestation = Refusal::REASONS.iter().filter(|reason| !reason.starts_with("review_"));
        for reason in attestation.chain(&requests) {
            assert!(page.contains(&format!("`{reason}`")), "{reason}");
        }
    }
}

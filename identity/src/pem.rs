//! PEM files, read without skipping anything.
//!
//! In comes a file's bytes; out come its sections in order. Refused: a file above 1 MiB, a section with a
//! label that is not known, a section that does not end. `rustls-pki-types` passes over unknown labels in
//! silence, so the markers are counted as well. Text between sections is allowed (openssl writes it).

use std::fmt;

use rustls_pki_types::pem::{PemObject, SectionKind};

/// All sections of the file.
pub(crate) fn sections(pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, PemError> {
    if pem.len() > MAX_FILE {
        return Err(PemError::TooLarge);
    }
    let markers = pem.windows(MARKER.len()).filter(|window| *window == MARKER).count();
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::Malformed(format!("{error:?}")))?;
    if sections.is_empty() && markers == 0 {
        return Err(PemError::Empty);
    }
    if sections.len() != markers {
        return Err(PemError::UnknownSection);
    }
    Ok(sections)
}

/// Why a PEM file could not be read. Displays as the end of a sentence that begins with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PemError {
    TooLarge,
    Empty,
    UnknownSection,
    Malformed(String),
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "is larger than {MAX_FILE} bytes"),
            Self::Empty => f.write_str("holds no PEM section (`-----BEGIN …`)"),
            Self::UnknownSection => {
                f.write_str("holds a PEM section of an unknown kind (encrypted keys are not supported here)")
            }
            Self::Malformed(detail) => write!(f, "is not well-formed PEM: {detail}"),
        }
    }
}

/// Far above any chain or bundle in use; a bound on the work of one reload.
const MAX_FILE: usize = 1 << 20;

const MARKER: &[u8] = b"-----BEGIN ";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn text_between_sections_is_allowed() {
        let file = format!("subject=x\n{CERTIFICATE}\r\nnote\n{CERTIFICATE}");
        assert_eq!(sections(file.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_section_of_an_unknown_kind_is_not_passed_over() {
        let file =
            format!("{CERTIFICATE}-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n");
        assert_eq!(sections(file.as_bytes()), Err(PemError::UnknownSection));
    }

    #[test]
    fn a_byte_order_mark_before_the_marker_is_not_passed_over() {
        let file = format!("\u{feff}{CERTIFICATE}");
        assert_eq!(sections(file.as_bytes()), Err(PemError::UnknownSection));
    }

    #[test]
    fn half_a_section_is_refused() {
        let half = CERTIFICATE.split_at(40).0;
        assert!(matches!(sections(half.as_bytes()), Err(PemError::Malformed(_))));
        assert_eq!(sections(b""), Err(PemError::Empty));
        assert_eq!(sections(&vec![b'a'; MAX_FILE + 1]), Err(PemError::TooLarge));
    }
}

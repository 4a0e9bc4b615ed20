//! One certificate, leaf or CA, read strictly.
//!
//! In comes DER; out come the parsed fields and the few extensions whose exact bytes matter. Refused is what
//! RFC 5280 and X.690 forbid in every certificate: a version below 3, a bad serial number, an extension twice,
//! an unknown critical extension, bytes that are not DER, and anything of unreasonable size. What a leaf or a
//! CA must be beyond that is said in `svid` and `bundle`.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate, X509Extension, X509Version};

use crate::der::{self, Reader};
use crate::error::SvidError;

/// Reads a certificate twice, with a strict DER parser and with one that shows the fields, and applies the
/// rules that hold for leaf and CA alike.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(SvidError::NotX509(format!("larger than {MAX_CERTIFICATE} bytes")));
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| SvidError::NotX509("unreadable".into()))?;
    if !rest.is_empty() {
        return Err(SvidError::NotX509("bytes after the certificate".into()));
    }
    if certificate.version() != X509Version::V3 {
        return Err(SvidError::NotX509("not version 3".into()));
    }
    check_serial(certificate.raw_serial())?;
    // Ahead of the strict parser, which reports a repeated extension only as malformed.
    if certificate.extensions_map().is_err() {
        return Err(SvidError::DuplicateExtension);
    }
    EndEntityCert::try_from(&CertificateDer::from(der)).map_err(strict_parse_error)?;
    Ok(certificate)
}

/// The certificates that stand in DER one after the other; at least one, at most `most`. Only their frames are read.
pub(crate) fn split(der: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    if der.is_empty() {
        return Err("holds no certificate");
    }
    let mut certificates = Vec::new();
    let mut reader = Reader::new(der);
    while !reader.is_empty() {
        if certificates.len() == most {
            return Err("holds more certificates than are looked at");
        }
        let certificate = reader.whole_element(der::SEQUENCE).ok_or("is not a row of DER certificates")?;
        certificates.push(CertificateDer::from(certificate.to_vec()));
    }
    Ok(certificates)
}

/// The extension of this object identifier (content octets), if it is there.
pub(crate) fn extension<'c, 'a>(certificate: &'c X509Certificate<'a>, oid: &[u8]) -> Option<&'c X509Extension<'a>> {
    certificate.extensions().iter().find(|extension| extension.oid.as_bytes() == oid)
}

/// The bits of the key usage extension, bit 0 at the top; `None` when it is absent or malformed.
pub(crate) fn key_usage(extension: &X509Extension<'_>) -> Option<u16> {
    der::bit_string_16(der::whole(der::BIT_STRING, extension.value)?)
}

/// The URI and DNS names of a certificate, checked for characters.
pub(crate) struct AlternativeNames {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) critical: bool,
}

/// Reads the subject alternative names (RFC 5280 §4.2.1.6). Names that are neither URI nor DNS are passed over.
pub(crate) fn alternative_names(certificate: &X509Certificate<'_>) -> Result<AlternativeNames, SvidError> {
    let malformed = || SvidError::NotX509("malformed alternative names".into());
    let mut names = AlternativeNames { uris: Vec::new(), dns: Vec::new(), critical: false };
    let Some(extension) = extension(certificate, SUBJECT_ALT_NAME) else {
        return Ok(names);
    };
    names.critical = extension.critical;
    let mut entries = Reader::new(der::whole(der::SEQUENCE, extension.value).ok_or_else(malformed)?);
    while !entries.is_empty() {
        let (tag, content) = entries.next().ok_or_else(malformed)?;
        match tag {
            // A URI that is not UTF-8 is kept as one, so that it still counts; no SPIFFE ID has U+FFFD.
            URI => names.uris.push(String::from_utf8_lossy(content).into_owned()),
            // The names go into headers, where `;` or `,` would begin a forged element.
            DNS if !content.is_empty() && content.iter().all(is_host_byte) => {
                names.dns.push(content.iter().map(|byte| char::from(*byte)).collect())
            }
            DNS => return Err(SvidError::DnsName),
            _ => {}
        }
    }
    Ok(names)
}

/// RFC 5280 §4.1.2.2: positive, at most 20 octets; X.690 §8.3.2: shortest form.
fn check_serial(serial: &[u8]) -> Result<(), SvidError> {
    let shortest = match serial {
        [0, next, ..] => next & 0x80 != 0,
        [high, ..] => *high != 0 && high & 0x80 == 0,
        [] => false,
    };
    if shortest && serial.len() <= 20 { Ok(()) } else { Err(SvidError::Serial) }
}

fn strict_parse_error(error: webpki::Error) -> SvidError {
    match error {
        webpki::Error::UnsupportedCriticalExtension => SvidError::CriticalExtension,
        other => SvidError::NotX509(format!("{other:?}")),
    }
}

fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*')
}

/// Seconds since 1970 as a time. A date outside the platform's range becomes 1970, which is expired.
pub(crate) fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Real leaves are below 2 KiB; the bound keeps the work and the header made from one small.
pub(crate) const MAX_CERTIFICATE: usize = 16 << 10;

// Context tags of GeneralName (RFC 5280 §4.2.1.6).
const DNS: u8 = 0x82;
pub(crate) const URI: u8 = 0x86;

// Bits of KeyUsage (RFC 5280 §4.2.1.3), bit 0 at the top of 16.
pub(crate) const DIGITAL_SIGNATURE: u16 = 1 << 15;
pub(crate) const KEY_CERT_SIGN: u16 = 1 << 10;
pub(crate) const CRL_SIGN: u16 = 1 << 9;

// Content octets of object identifiers.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(crate) const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

//! A distinguished name as text, in the form Envoy writes into `x-forwarded-client-cert`.
//!
//! In comes a parsed name; out comes RFC 2253 text as OpenSSL's `XN_FLAG_RFC2253` prints it: most specific
//! first, short names, unknown types as dotted numbers with the value in hex, every byte outside printable
//! ASCII as `\XX`. The text is for logs and headers only and never decides anything.

use std::fmt::Write as _;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The whole name; empty for an empty name.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let rdns: Vec<_> = name.iter_rdn().collect();
    for (i, rdn) in rdns.iter().rev().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let attributes: Vec<_> = rdn.iter().collect();
        for (j, attribute) in attributes.iter().rev().enumerate() {
            if j > 0 {
                out.push('+');
            }
            write_attribute(&mut out, attribute);
        }
    }
    out
}

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let text = decode(value.header.tag().0, value.data);
    match (short_name(&oid), text) {
        (Some(name), Some(text)) => {
            let _ = write!(out, "{name}=");
            write_escaped(out, &text);
        }
        (name, _) => {
            let _ = write!(out, "{}=#", name.unwrap_or(&oid));
            write_der_hex(out, value.header.tag().0, value.data);
        }
    }
}

/// The value's bytes as UTF-8, by string type (RFC 5280 Appendix A, DirectoryString and IA5String).
fn decode(tag: u32, data: &[u8]) -> Option<String> {
    match tag {
        12 => String::from_utf8(data.to_vec()).ok(),
        // Numeric, Printable, IA5, Visible; T61String is read as Latin-1, as OpenSSL does.
        18 | 19 | 20 | 22 | 26 => Some(data.iter().map(|byte| char::from(*byte)).collect()),
        28 => utf32(data),
        30 => {
            let (units, rest) = data.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            rest.is_empty().then_some(text.ok()).flatten()
        }
        _ => None,
    }
}

fn utf32(data: &[u8]) -> Option<String> {
    let (units, rest) = data.as_chunks::<4>();
    let text: Option<String> = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect();
    rest.is_empty().then_some(text).flatten()
}

/// RFC 2253 §2.4, with controls and non-ASCII bytes in hex.
fn write_escaped(out: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if i == 0 => out.push_str("\\#"),
            b' ' if i == 0 || i == last => out.push_str("\\ "),
            0x20..0x7f => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

fn write_der_hex(out: &mut String, tag: u32, data: &[u8]) {
    let _ = write!(out, "{:02X}", tag & 0xff);
    match data.len() {
        length @ 0..0x80 => {
            let _ = write!(out, "{length:02X}");
        }
        length @ 0x80..0x100 => {
            let _ = write!(out, "81{length:02X}");
        }
        length => {
            let _ = write!(out, "82{length:04X}");
        }
    }
    for byte in data {
        let _ = write!(out, "{byte:02X}");
    }
}

/// OpenSSL's short names of the attribute types seen in certificates.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.13" => "description",
        "2.5.4.15" => "businessCategory",
        "2.5.4.17" => "postalCode",
        "2.5.4.41" => "name",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.44" => "generationQualifier",
        "2.5.4.45" => "x500UniqueIdentifier",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.72" => "role",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::*;

    fn print(names: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in names {
            params.distinguished_name.push(kind.clone(), *text);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(certificate.der()).unwrap();
        rfc2253(certificate.subject())
    }

    #[test]
    fn order_and_escapes_are_those_of_envoy() {
        let text = print(&[
            (DnType::CountryName, "US"),
            (DnType::OrganizationName, "Acme, \"Inc\""),
            (DnType::CommonName, "web;x"),
        ]);
        assert_eq!(text, "CN=web\\;x,O=Acme\\, \\\"Inc\\\",C=US");
    }

    #[test]
    fn an_empty_name_is_empty_text() {
        assert_eq!(print(&[]), "");
    }

    #[test]
    fn bytes_outside_printable_ascii_are_hex() {
        let text = print(&[(DnType::CommonName, " #é\r\n\0 ")]);
        assert_eq!(text, "CN=\\ #\\C3\\A9\\0D\\0A\\00\\ ");
        assert_eq!(print(&[(DnType::CommonName, "#1")]), "CN=\\#1");
    }

    #[test]
    fn unknown_types_are_numbers_with_a_hex_value() {
        let text = print(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "ab")]);
        assert_eq!(text, "1.2.3.4=#0C026162");
    }
}

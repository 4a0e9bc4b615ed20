//! Requests for certificates: 41.

use ca::parse_csr;
use identity::SpiffeId;
use rcgen::{KeyPair, PublicKeyData, SigningKey as _};
use rustls::SignatureScheme;
use support::scratch::Scratch;
use support::x509::{
    BASIC_CONSTRAINTS, EXT_KEY_USAGE, KEY_USAGE, Key, SAN, SERVER_AUTH, UNKNOWN, dns, element, oid, sequence, uri,
};

use crate::{Vector, Verdict};

const ID: &str = "spiffe://example.org/ns/shop/sa/web";
const OTHER: &str = "spiffe://example.org/ns/shop/sa/admin";

pub(crate) fn vectors() -> Vec<Vector> {
    let key = KeyPair::generate().unwrap();
    let spki = key.subject_public_key_info();
    let signed = |extensions: &[Vec<u8>]| request(&spki, extensions, |info| key.sign(info).unwrap());
    let unsigned = |spki: &[u8]| request(spki, &[], |_| vec![0; 70]);
    let rows: Vec<(&str, &'static str, Vec<u8>)> = vec![
        ("a signature that does not hold", "csr_signature", request(&spki, &[], |_| vec![0x30, 6, 2, 1, 1, 2, 1, 1])),
        ("the signature of another key", "csr_signature", {
            request(&spki, &[], |info| KeyPair::generate().unwrap().sign(info).unwrap())
        }),
        ("a signature over something else", "csr_signature", request(&spki, &[], |_| key.sign(b"else").unwrap())),
        ("CA:TRUE", "csr_ca_rights", {
            signed(&[extension(BASIC_CONSTRAINTS, true, sequence(&[element(0x01, &[0xff])]))])
        }),
        ("keyCertSign", "csr_ca_rights", signed(&[extension(KEY_USAGE, true, element(0x03, &[2, 0x04]))])),
        ("cRLSign", "csr_ca_rights", signed(&[extension(KEY_USAGE, true, element(0x03, &[1, 0x02]))])),
        ("a DNS name beside the own name", "csr_extra_name", signed(&[names(&[uri(ID), dns("bank.example")])])),
        ("an address", "csr_extra_name", signed(&[names(&[element(0x87, &[127, 0, 0, 1])])])),
        ("the name of another workload", "csr_other_name", signed(&[names(&[uri(OTHER)])])),
        ("the own name and another's", "csr_other_name", signed(&[names(&[uri(ID), uri(OTHER)])])),
        ("RSA of 512 bits", "key_rsa_small", unsigned(&rsa(64, 65537))),
        ("RSA of 1024 bits", "key_rsa_small", unsigned(&rsa(128, 65537))),
        ("RSA with the exponent 1", "key_rsa_exponent", unsigned(&rsa(256, 1))),
        ("RSA of 16384 bits", "key_rsa_large", unsigned(&rsa(2048, 65537))),
        ("P-224", "key_curve", {
            let scratch = Scratch::new();
            let options = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"];
            unsigned(&Key::by_openssl(scratch.path(), "p224", &options, SignatureScheme::ECDSA_NISTP256_SHA256).spki)
        }),
        ("a point off its curve", "key_invalid", {
            let mut off = spki.clone();
            *off.last_mut().unwrap() ^= 1;
            unsigned(&off)
        }),
        ("100 kB", "csr_too_large", signed(&[extension(UNKNOWN, false, vec![0; 100_000])])),
        (
            "a critical extension nobody knows",
            "csr_critical_extension",
            signed(&[extension(UNKNOWN, true, vec![5, 0])]),
        ),
        ("octets behind the request", "csr_malformed", [signed(&[]), vec![0]].concat()),
        ("no request", "csr_malformed", b"please".to_vec()),
    ];
    rows.into_iter().map(|(name, label, csr)| Vector::new(41, name, (label, ""), judge(&csr))).collect()
}

fn judge(csr: &[u8]) -> Verdict {
    let judged = parse_csr(csr, &SpiffeId::parse(ID).unwrap());
    judged.map(|_| ()).map_err(|error| (error.reason().to_owned(), error.to_string()))
}

/// PKCS #10 (RFC 2986 §4) with an extension request (RFC 2985 §5.4.2), signed by whatever `sign` does.
fn request(spki: &[u8], extensions: &[Vec<u8>], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let attributes = if extensions.is_empty() {
        Vec::new()
    } else {
        sequence(&[oid(EXTENSION_REQUEST), element(0x31, &sequence(extensions))])
    };
    let info = sequence(&[element(0x02, &[0]), sequence(&[]), spki.to_vec(), element(0xa0, &attributes)]);
    let signature = [vec![0], sign(&info)].concat();
    sequence(&[info, sequence(&[oid(ECDSA_SHA256)]), element(0x03, &signature)])
}

fn extension(name: &[u8], critical: bool, value: Vec<u8>) -> Vec<u8> {
    let critical = if critical { element(0x01, &[0xff]) } else { Vec::new() };
    sequence(&[oid(name), critical, element(0x04, &value)])
}

fn names(names: &[Vec<u8>]) -> Vec<u8> {
    extension(SAN, true, sequence(names))
}

/// An RSA key of so many octets, whose modulus is odd and no more: nobody signs with it.
fn rsa(octets: usize, exponent: u32) -> Vec<u8> {
    let modulus = [vec![0], vec![0xff; octets]].concat();
    let exponent: Vec<_> = exponent.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
    let key = sequence(&[element(0x02, &modulus), element(0x02, &exponent)]);
    sequence(&[sequence(&[oid(RSA), vec![0x05, 0x00]]), element(0x03, &[vec![0], key].concat())])
}

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

#[test]
fn requests_that_ask_for_what_a_leaf_has_are_granted() {
    let key = KeyPair::generate().unwrap();
    let spki = key.subject_public_key_info();
    let rows: &[(&str, &[Vec<u8>])] = &[
        ("nothing but a key", &[]),
        ("the own name", &[names(&[uri(ID)])]),
        (
            "the usages of a leaf",
            &[
                extension(BASIC_CONSTRAINTS, true, sequence(&[])),
                extension(KEY_USAGE, true, element(0x03, &[5, 0xa0])),
                extension(EXT_KEY_USAGE, false, sequence(&[oid(SERVER_AUTH)])),
            ],
        ),
        ("an extension nobody knows, and that need not be known", &[extension(UNKNOWN, false, vec![5, 0])]),
    ];
    for (name, extensions) in rows {
        let csr = request(&spki, extensions, |info| key.sign(info).unwrap());
        assert_eq!(parse_csr(&csr, &SpiffeId::parse(ID).unwrap()).unwrap().spki(), spki, "{name}");
    }
    // What plain `openssl req` makes of a P-384 key: a signature over SHA-256, which says nothing about the key.
    let scratch = Scratch::new();
    let mut openssl = support::tools::system("openssl", "openssl");
    openssl.args([
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-sha256",
        "-subj",
        "/CN=x",
    ]);
    openssl.args(["-keyout", "key.pem", "-out", "request.pem"]).current_dir(scratch.path());
    support::child::run(&mut openssl);
    assert_eq!(judge(scratch.read("request.pem").as_bytes()), Ok(()));
}

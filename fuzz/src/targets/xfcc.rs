//! `x-forwarded-client-cert`: what is written about any certificate that is taken is read back as that, by a reader that knows
//! only Envoy's grammar.
//!
//! A text of lines: `dns NAME`, and `OID TAG VALUE` for an attribute of the subject, TAG being the string type's number.

use identity::{SpiffeId, Svid};

pub(super) const WORDS: &[&[u8]] = &[
    b"\n",
    b"dns a.b\n",
    b"2.5.4.3 12 web",
    b"2.5.4.10 19 Acme",
    b"2.5.4.11 22 x",
    b"2.5.4.6 19 DE",
    b"1.2.3.4 12 x",
    b"2.5.4.3 30 \0a",
    b"2.5.4.3 28 \0\0\0a",
    b"2.5.4.3 20 \xe9",
    b"\"",
    b"\\",
    b"\\\"",
    b"\\\\",
    b",",
    b";",
    b"=",
    b"+",
    b"#",
    b" ",
    b";URI=spiffe://evil.example/x",
    b"\",By=spiffe://evil.example/x",
    b"\r\n",
    b"\xc3\xa9",
];

const OWN: &str = "spiffe://example.org/ns/shop/sa/orders";
const PEER: &str = "spiffe://example.org/ns/shop/sa/web";

pub(super) fn run(input: &[u8]) {
    let der = leaf(input);
    let Ok(svid) = Svid::from_leaf(&der) else { return };
    let own = SpiffeId::parse(OWN).unwrap();
    let element = proxy::fuzzing::xfcc(&own, &svid).expect("what a leaf says fits into a header");
    let element = String::from_utf8(element).expect("ASCII");
    let elements = read(&element).unwrap_or_else(|| panic!("cannot be read: {element}"));
    let [pairs] = &elements[..] else { panic!("more than one element: {element}") };
    let hash: String = svid.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut expected =
        vec![("By", OWN.to_owned()), ("Hash", hash), ("Subject", unescaped(svid.subject())), ("URI", PEER.to_owned())];
    expected.extend(svid.dns_names().iter().map(|name| ("DNS", name.clone())));
    let read: Vec<(&str, String)> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    assert_eq!(read, expected, "{element}");
}

type Pairs = Vec<(String, String)>;

/// Elements by `,`, pairs by `;`, neither inside quotes; inside, a backslash takes the next character as it is.
fn read(text: &str) -> Option<Vec<Pairs>> {
    let mut elements = vec![Vec::new()];
    let mut chars = text.chars();
    loop {
        let key: String = chars.by_ref().take_while(|c| *c != '=').collect();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphabetic()) {
            return None;
        }
        let mut value = String::new();
        let mut quoted = false;
        let end = loop {
            match chars.next() {
                None => break None,
                Some('"') => quoted = !quoted,
                Some('\\') if quoted => value.push(chars.next()?),
                Some(c @ (';' | ',')) if !quoted => break Some(c),
                Some(c) => value.push(c),
            }
        };
        if quoted {
            return None;
        }
        elements.last_mut()?.push((key, value));
        match end {
            None => return Some(elements),
            Some(',') => elements.push(Vec::new()),
            Some(_) => {}
        }
    }
}

/// The subject with its own escapes taken as they are: a backslash takes the next character.
fn unescaped(subject: &str) -> String {
    let mut out = String::new();
    let mut chars = subject.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// A leaf with this subject and these DNS names. Its signature is nobody's, which this is not about.
fn leaf(input: &[u8]) -> Vec<u8> {
    let (mut subject, mut names) = (Vec::new(), element(0x86, PEER.as_bytes()));
    for line in input.split(|byte| *byte == b'\n') {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(b"dns"), Some(name), None) => names.extend(element(0x82, name)),
            (Some(oid), Some(tag), Some(value)) => {
                let Some((oid, tag)) = oid_of(oid).zip(std::str::from_utf8(tag).ok().and_then(|tag| tag.parse().ok()))
                else {
                    continue;
                };
                let attribute = [element(0x06, &oid), element(tag, value)].concat();
                subject.extend(element(0x31, &element(0x30, &attribute)));
            }
            _ => {}
        }
    }
    let extension = |oid: u8, critical: bool, value: &[u8]| {
        let flag = if critical { element(1, &[0xff]) } else { Vec::new() };
        element(0x30, &[element(0x06, &[0x55, 0x1d, oid]), flag, element(0x04, value)].concat())
    };
    let extensions = [
        extension(0x11, true, &element(0x30, &names)),
        extension(0x13, true, &element(0x30, &[])),
        extension(0x0f, true, &[0x03, 0x02, 0x07, 0x80]),
    ]
    .concat();
    let algorithm = element(0x30, &element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let validity = element(0x30, &[element(0x17, b"260101000000Z"), element(0x17, b"280101000000Z")].concat());
    let tbs = [
        element(0xa0, &element(0x02, &[2])),
        element(0x02, &[0x5a]),
        algorithm.clone(),
        element(0x30, &[]),
        validity,
        element(0x30, &subject),
        KEY.to_vec(),
        element(0xa3, &element(0x30, &extensions)),
    ]
    .concat();
    let signature = element(0x03, &[0, 0x30, 0x06, 2, 1, 1, 2, 1, 1]);
    element(0x30, &[element(0x30, &tbs), algorithm, signature].concat())
}

fn oid_of(text: &[u8]) -> Option<Vec<u8>> {
    let mut numbers = std::str::from_utf8(text).ok()?.split('.').map(|number| number.parse::<u32>().ok());
    let (first, second) = (numbers.next()??, numbers.next()??);
    let mut out = vec![u8::try_from(first.checked_mul(40)?.checked_add(second)?).ok().filter(|byte| *byte < 0x80)?];
    for number in numbers {
        let number = number?;
        let groups: Vec<u8> =
            (0..5).rev().map(|group| (number >> (7 * group) & 0x7f) as u8).skip_while(|group| *group == 0).collect();
        match groups.split_last() {
            None => out.push(0),
            Some((last, high)) => {
                out.extend(high.iter().map(|group| group | 0x80));
                out.push(*last);
            }
        }
    }
    Some(out)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u16::try_from(content.len()).unwrap().to_be_bytes() {
        [0, low @ ..=0x7f] => out.push(low),
        [0, low] => out.extend([0x81, low]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

/// A P-256 key: the generator of the group, whose secret is 1 (SEC 2 §2.4.2).
const KEY: [u8; 91] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
    0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98,
    0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b,
    0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

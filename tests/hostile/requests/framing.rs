//! Classes 1 to 23: where a request ends. Whoever can make two programs disagree about that can hide a request in another's
//! body.

use support::catalogue::Table;
use support::strict::Seen;

use super::Must::{Arrive, Clean, Refuse};
use super::{Bench, Case, case, chunked_with, chunks, values};

#[test]
fn nobody_disagrees_about_where_a_request_ends() {
    let mut table = Table::new("http1-framing", 1..=23);
    let cases = [lengths_and_codings(), codings(), lengths(), chunked_bodies(), trailers(), cut_bodies()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    Bench::start().fill(&mut table, &cases);
    table.judge(&(1..=23).collect::<Vec<u8>>());
}

/// Bytes without the request at their end.
fn without_second(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"@S@") {
        bytes.truncate(bytes.len() - 3);
    }
    bytes
}

/// A request with this for its `Content-Length` line, five bytes of body and a request behind them.
fn length(line: &[u8]) -> Vec<u8> {
    [&b"POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n"[..], line, b"\r\n\r\nhello@S@"].concat()
}

fn body_is_hello(seen: &Seen) -> Option<String> {
    (seen.body != b"hello").then(|| format!("the body {:?}", String::from_utf8_lossy(&seen.body)))
}

/// That no trailer claims what only a head, or only a proxy, may say.
fn harmless_trailers(seen: &Seen) -> Option<String> {
    let forged = seen.trailers.iter().find(|(_, value)| value.contains("forged"));
    forged.map(|(name, _)| format!("the trailer {name}")).or_else(|| body_is_hello(seen))
}

/// That the application need not hold more trailers than it would hold of a head.
fn small_trailers(seen: &Seen) -> Option<String> {
    let bytes: usize = seen.trailers.iter().map(|(name, value)| name.len() + value.len()).sum();
    (bytes > 64 * 1024).then(|| format!("{bytes} bytes of trailers"))
}

/// That no field says a second time, under another spelling, how long the body is.
fn one_framing(seen: &Seen) -> Option<String> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let framing = |name: &str| matches!(plain(name).as_str(), "content-length" | "transfer-encoding");
    let names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).filter(|name| framing(name)).collect();
    (names.len() > 1).then(|| format!("the fields {names:?}"))
}

/// Classes 1 and 2.
fn lengths_and_codings() -> Vec<Case> {
    let head = "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n";
    [
        (1, "length, then chunked", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@"),
        (1, "length 0, then chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@"),
        (
            1,
            "length of all that follows, then chunked",
            "Content-Length: 75\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@",
        ),
        (
            1,
            "the length as the caller's chunk",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n@S@",
        ),
        (1, "length, then identity", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello@S@"),
        (2, "chunked, then length", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n@S@"),
        (2, "chunked, then length 0", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n@S@"),
        (
            2,
            "chunked, another field, then length",
            "Transfer-Encoding: chunked\r\nX: y\r\ncontent-length: 5\r\n\r\n0\r\n\r\n@S@",
        ),
    ]
    .map(|(class, name, rest)| case(class, Clean, name, format!("{head}{rest}")))
    .into()
}

/// Classes 3 to 9.
fn codings() -> Vec<Case> {
    let capitals = "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut cases = vec![case(3, Arrive, "chunked in capitals", capitals).check(body_is_hello)];
    let lines: [(u8, &str, &[u8]); 52] = [
        (3, "gzip", b"Transfer-Encoding: gzip"),
        (3, "identity", b"Transfer-Encoding: identity"),
        (3, "empty", b"Transfer-Encoding:"),
        (3, "xchunked", b"Transfer-Encoding: xchunked"),
        (3, "chunkedx", b"Transfer-Encoding: chunkedx"),
        (3, "chunked in quotes", b"Transfer-Encoding: \"chunked\""),
        (3, "gzip, chunked", b"Transfer-Encoding: gzip, chunked"),
        (3, "chunked with a parameter", b"Transfer-Encoding: chunked;q=1"),
        (3, "chunked and another word", b"Transfer-Encoding: chunked foo"),
        (4, "space before the colon", b"Transfer-Encoding : chunked"),
        (4, "tab before the colon", b"Transfer-Encoding\t: chunked"),
        (4, "VT before the colon", b"Transfer-Encoding\x0b: chunked"),
        (4, "NUL before the colon", b"Transfer-Encoding\0: chunked"),
        (4, "NUL in the name", b"Transfer\0-Encoding: chunked"),
        (4, "8-bit in the name", b"Transfer-Encod\xefng: chunked"),
        (4, "8-bit after the name", b"Transfer-Encoding\xa0: chunked"),
        (4, "= for the colon", b"Transfer-Encoding= chunked"),
        (4, "= before the colon", b"Transfer-Encoding=: chunked"),
        (4, "; before the colon", b"Transfer-Encoding;: chunked"),
        (4, "VT before the value", b"Transfer-Encoding: \x0bchunked"),
        (4, "FF after the value", b"Transfer-Encoding: chunked\x0c"),
        (4, "NUL after the value", b"Transfer-Encoding: chunked\0"),
        (4, "8-bit blank before the value", b"Transfer-Encoding: \xa0chunked"),
        (4, "DEL in the value", b"Transfer-Encoding: chun\x7fked"),
        (5, "value on a folded line", b"Transfer-Encoding:\r\n chunked"),
        (5, "value on a line folded by a tab", b"Transfer-Encoding:\r\n\tchunked"),
        (5, "the field as the fold of another", b"X-A: b\r\n Transfer-Encoding: chunked"),
        (5, "chunked, then a fold with identity", b"Transfer-Encoding: chunked\r\n , identity"),
        (5, "as the first line, after a blank", b" Transfer-Encoding: chunked"),
        (6, "chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        (6, "chunked, then identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        (6, "identity, then chunked", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        (6, "gzip, then chunked", b"Transfer-Encoding: gzip\r\nX: y\r\nTransfer-Encoding: chunked"),
        (6, "chunked, then nothing", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
        (7, "chunked, chunked", b"Transfer-Encoding: chunked, chunked"),
        (7, "chunked, gzip", b"Transfer-Encoding: chunked, gzip"),
        (7, "chunked, identity", b"Transfer-Encoding: chunked, identity"),
        (7, "chunked and a comma", b"Transfer-Encoding: chunked,"),
        (7, "a comma and chunked", b"Transfer-Encoding: , chunked"),
        (9, "behind a bare LF", b"X-A: b\nTransfer-Encoding: chunked"),
        (9, "behind a bare CR", b"X-A: b\rTransfer-Encoding: chunked"),
        (9, "behind a bare LF, and a length", b"X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5"),
        (9, "behind a bare CR, and a length", b"X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 5"),
        (9, "behind LF CR", b"X-A: b\n\rTransfer-Encoding: chunked"),
        (9, "behind CR CR LF", b"X-A: b\r\r\nTransfer-Encoding: chunked"),
        (9, "its own line ends in LF", b"Transfer-Encoding: chunked\nX-A: b"),
        (9, "its own line ends in CR", b"Transfer-Encoding: chunked\rX-A: b"),
        (9, "LF inside the name", b"Transfer-\nEncoding: chunked"),
        (9, "LF after the colon", b"Transfer-Encoding:\nchunked"),
        (9, "an empty line of bare LF", b"X-A: b\n\n0\r\n\r\n"),
        (9, "an empty line of bare CR", b"X-A: b\r\r0\r\n\r\n"),
        (9, "an empty line of LF after CRLF", b"X-A: b\r\n\n0\r\n\r\n"),
    ];
    // Classes 5 and 9 may be made into something with one reading; then what stands behind would be served by right.
    cases.extend(lines.map(|(class, name, line)| match class {
        5 | 9 => case(class, Clean, name, without_second(chunked_with(line))),
        _ => case(class, Refuse, name, chunked_with(line)),
    }));
    cases.push(
        case(
            4,
            Clean,
            "underscore for the hyphen",
            "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nContent-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\nhello",
        )
        .check(one_framing),
    );
    for (name, rest) in [
        ("chunked in HTTP/1.0", "HTTP/1.0\r\nHost: @H@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@"),
        (
            "chunked in HTTP/1.0, kept alive",
            "HTTP/1.0\r\nHost: @H@\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@",
        ),
        (
            "chunked and a length in HTTP/1.0",
            "HTTP/1.0\r\nHost: @H@\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@S@",
        ),
    ] {
        cases.push(case(8, Clean, name, format!("POST /open/@R@ {rest}")));
    }
    cases
}

/// Classes 10 to 14, and 23.
fn lengths() -> Vec<Case> {
    let lines: [(u8, &str, &[u8]); 33] = [
        (10, "5, then 6", b"Content-Length: 5\r\nContent-Length: 6"),
        (10, "5, then 0", b"Content-Length: 5\r\nX: y\r\ncontent-length: 0"),
        (10, "0, then 5", b"Content-Length: 0\r\nContent-Length: 5"),
        (10, "5, then nothing", b"Content-Length: 5\r\nContent-Length:"),
        (11, "5, 6", b"Content-Length: 5, 6"),
        (11, "5 and a comma", b"Content-Length: 5,"),
        (11, "a comma and 5", b"Content-Length: ,5"),
        (12, "+5", b"Content-Length: +5"),
        (12, "-5", b"Content-Length: -5"),
        (12, "-0", b"Content-Length: -0"),
        (12, "0x5", b"Content-Length: 0x5"),
        (12, "5.0", b"Content-Length: 5.0"),
        (12, "5e0", b"Content-Length: 5e0"),
        (12, "1_0", b"Content-Length: 1_0"),
        (12, "5 5", b"Content-Length: 5 5"),
        (12, "5 and NUL", b"Content-Length: 5\0"),
        (12, "VT and 5", b"Content-Length: \x0b5"),
        (12, "\"5\"", b"Content-Length: \"5\""),
        (12, "five", b"Content-Length: five"),
        (12, "5x", b"Content-Length: 5x"),
        (12, "8-bit blank and 5", b"Content-Length: \xa05"),
        (12, "an Arabic 5", b"Content-Length: \xd9\xa5"),
        (12, "empty", b"Content-Length:"),
        (12, "blanks", b"Content-Length:   \t"),
        (12, "5;x", b"Content-Length: 5;x"),
        (12, "space before the colon", b"Content-Length : 5"),
        (13, "2^64", b"Content-Length: 18446744073709551616"),
        (13, "2^64 + 5", b"Content-Length: 18446744073709551621"),
        (13, "2^128 + 5", b"Content-Length: 340282366920938463463374607431768211461"),
        (13, "2^63", b"Content-Length: 9223372036854775808"),
        (13, "a thousand nines", &NINES),
        (14, "2^32 + 5", b"Content-Length: 4294967301"),
        (14, "2^31", b"Content-Length: 2147483648"),
    ];
    let mut cases: Vec<Case> = lines.map(|(class, name, line)| case(class, Refuse, name, length(line))).into();
    for (class, name, line) in
        [(10, "5, then 5", "Content-Length: 5\r\nContent-Length: 5"), (11, "5, 5", "Content-Length: 5, 5")]
    {
        // Whoever takes the first for both reads the request that follows as one of its own, and may serve it.
        let head = format!("POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n{line}\r\n\r\nhello");
        cases.push(case(class, Clean, name, head).check(body_is_hello));
    }
    for (name, line) in [("leading zeros", "Content-Length: 0005"), ("blanks around it", "Content-Length: \t 5 \t")] {
        let head = format!("POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n{line}\r\n\r\nhello");
        cases.push(case(12, Arrive, name, head).check(body_is_hello));
    }
    let folded = "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nContent-Length:\r\n 5\r\n\r\nhello";
    cases.push(case(12, Clean, "5 on a folded line", folded).check(body_is_hello));
    let underscore = "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nContent_Length: 3\r\nContent-Length: 5\r\n\r\nhello";
    cases.push(case(12, Clean, "underscore for the hyphen beside the real one", underscore).check(one_framing));
    let bodies = [
        ("GET with a length", "Content-Length: 5\r\n\r\nhello"),
        ("GET with chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ];
    for (name, rest) in bodies {
        let bytes = format!("GET /open/@R@ HTTP/1.1\r\nHost: @H@\r\n{rest}");
        cases.push(case(23, Arrive, name, bytes).check(body_is_hello));
    }
    // The strict reader finds the request in the body if it was sent on as anything else.
    let inner = "GET /open/smuggled/x HTTP/1.1\r\nHost: h\r\n\r\n";
    let inner_length = inner.len();
    for method in ["GET", "DELETE", "OPTIONS"] {
        let bytes =
            format!("{method} /open/@R@ HTTP/1.1\r\nHost: @H@\r\nContent-Length: {inner_length}\r\n\r\n{inner}");
        cases.push(case(23, Arrive, format!("{method} with a request for a body"), bytes));
    }
    cases
}

const NINES: [u8; 1016] = {
    let mut line = [b'9'; 1016];
    let name = *b"Content-Length: ";
    let mut at = 0;
    while at < name.len() {
        line[at] = name[at];
        at += 1;
    }
    line
};

/// Classes 15 to 19.
fn chunked_bodies() -> Vec<Case> {
    let bodies: [(u8, &str, &[u8]); 39] = [
        (15, "0x5", b"0x5\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "+5", b"+5\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "-5", b"-5\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "5_0", b"5_0\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "space before the size", b" 5\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "space after the size", b"5 \r\nhello\r\n0\r\n\r\n@S@"),
        (15, "tab after the size", b"5\t\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "space after the last size", b"5\r\nhello\r\n0 \r\n\r\n@S@"),
        (15, "empty", b"\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "only an extension", b";a=b\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "2^63", b"8000000000000000\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "no hexadecimal digit", b"g\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "5 and NUL", b"5\0\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "an 8-bit digit", b"\xb5\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "5h", b"5h\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "5,", b"5,\r\nhello\r\n0\r\n\r\n@S@"),
        (15, "5.", b"5.\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "NUL in an extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "LF in a quoted extension", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "CR LF in a quoted extension", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n@S@"),
        (16, "LF in the last extension", b"5\r\nhello\r\n0;a\n\r\n\r\n@S@"),
        (18, "LF after an extension, chunks inside", b"2;\nxx\r\n4c\r\n0\r\n\r\n@S@"),
        (18, "LF after the size", b"5\nhello\r\n0\r\n\r\n@S@"),
        (18, "LF after the data", b"5\r\nhello\n0\r\n\r\n@S@"),
        (18, "LF after the last size", b"5\r\nhello\r\n0\n\r\n@S@"),
        (18, "LF for the last line", b"5\r\nhello\r\n0\r\n\n@S@"),
        (18, "LF everywhere", b"5\nhello\n0\n\n@S@"),
        (18, "CR after the size", b"5\rhello\r\n0\r\n\r\n@S@"),
        (18, "CR after the data", b"5\r\nhello\r0\r\n\r\n@S@"),
        (18, "CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n@S@"),
        (18, "nothing after the data", b"5\r\nhello0\r\n\r\n@S@"),
        (18, "two other bytes after the data", b"5\r\nhelloXX0\r\n\r\n@S@"),
        (19, "one byte more than said", b"5\r\nhello!\r\n0\r\n\r\n@S@"),
        (19, "five bytes less than said", b"a\r\nhello\r\n0\r\n\r\n@S@"),
        (19, "a request more than said", b"5\r\nhello@S@\r\n0\r\n\r\n"),
        (19, "a last chunk that has data", b"5\r\nhello\r\n0\r\nhello\r\n0\r\n\r\n@S@"),
    ];
    // An extension may be dropped, whatever is in it; then what stands behind the body would be served by right.
    let mut cases: Vec<Case> = bodies
        .map(|(class, name, body)| match class {
            16 => case(class, Clean, name, without_second(chunks(body))).check(body_is_hello),
            _ => case(class, Refuse, name, chunks(body)),
        })
        .into();
    let good = |name: &str, body: &[u8]| case(16, Arrive, name, chunks(body)).check(body_is_hello);
    cases.push(good("a plain extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n"));
    cases.push(good("a quoted extension", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"));
    let long = [b"5;a=".to_vec(), vec![b'b'; 1 << 20], b"\r\nhello\r\n0\r\n\r\n".to_vec()].concat();
    cases.push(case(17, Clean, "an extension of 1 MiB", chunks(&long)).check(body_is_hello));
    let endless = [b"5;a=".to_vec(), vec![b'b'; 20_000]].concat();
    cases.push(case(17, Refuse, "an extension without an end", chunks(&endless)));
    let many = [b"1;a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nh\r\n".repeat(20_000), b"0\r\n\r\n".to_vec()].concat();
    cases.push(
        case(17, Clean, "20,000 chunks of one byte, each with an extension", chunks(&many))
            .check(|seen| (seen.body.len() != 20_000).then(|| format!("{} bytes of body", seen.body.len()))),
    );
    cases
}

/// Classes 20 and 21.
fn trailers() -> Vec<Case> {
    let lines: [&[u8]; 12] = [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: private.shop.svc",
        b"X-Forwarded-Client-Cert: By=forged",
        b"Authorization: forged",
        b"X-HTTP-Method-Override: forged",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Connection: close",
        b"X-A : b",
        b"X-A: b\nX-B: c",
        b"X-A: b\0",
        b" X-A: folded",
    ];
    let mut cases: Vec<Case> = lines
        .iter()
        .map(|line| {
            let name = format!("{:?} for a trailer", String::from_utf8_lossy(line));
            let body = [&b"5\r\nhello\r\n0\r\n"[..], line, b"\r\n\r\n"].concat();
            case(20, Clean, name, chunks(&body)).check(harmless_trailers)
        })
        .collect();
    for (name, trailers) in [
        ("a trailer of 10 KB", [b"X-A: ".to_vec(), vec![b'a'; 10_000], b"\r\n".to_vec()].concat()),
        ("a trailer of 1 MB", [b"X-A: ".to_vec(), vec![b'a'; 1_000_000], b"\r\n".to_vec()].concat()),
        ("10,000 trailers", b"X-A: b\r\n".repeat(10_000)),
        ("a trailer without an end", [b"X-A: ".to_vec(), vec![b'a'; 100_000]].concat()),
    ] {
        let body = [&b"5\r\nhello\r\n0\r\n"[..], &trailers, b"\r\n"].concat();
        cases.push(case(21, Clean, name, chunks(&body)).check(small_trailers));
    }
    cases
}

/// Class 22: the sender closes its side in the middle.
fn cut_bodies() -> Vec<Case> {
    let head = "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n";
    [
        ("in a body with a length", "Content-Length: 10\r\n\r\nhello"),
        ("before a body with a length", "Content-Length: 10\r\n\r\n"),
        ("in a chunk", "Transfer-Encoding: chunked\r\n\r\na\r\nhello"),
        ("after a chunk's data", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello"),
        ("after a chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("in a chunk size", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1"),
        ("after the last size", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
        ("before the last LF", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r"),
        ("in a trailer", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b"),
        ("in the head", "Content-Len"),
        ("before the head's last LF", "X-A: b\r\n\r"),
    ]
    .map(|(name, rest)| case(22, Refuse, name, format!("{head}{rest}")).half_close())
    .into()
}

#[test]
fn a_field_that_says_the_length_again_is_seen() {
    let field = |name: &str| (name.to_owned(), "5".to_owned());
    let seen = |names: &[&str]| Seen {
        method: "POST".into(),
        target: "/".into(),
        fields: names.iter().map(|name| field(name)).collect(),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    assert!(one_framing(&seen(&["Content-Length", "x"])).is_none());
    assert!(one_framing(&seen(&["content-length", "Content_Length"])).is_some());
    assert_eq!(values(&seen(&["a", "A"]), "a").len(), 2);
}

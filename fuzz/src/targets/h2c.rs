//! A strict reader of one side of a connection of HTTP/2 with one stream (RFC 9113), whose header blocks keep no state (RFC 7541).
//!
//! In: what a side said, and the windows the other side announced. Out: its message. Panics at what a strict receiver would call
//! an error, and at more: Huffman codes, indexes, a frame that these connections have no use for.

/// What one side said.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub(super) ended: bool,
    pub(super) reset: Option<u32>,
    pub(super) goaway: Option<u32>,
    /// Bytes that the other side may send, on a stream and on the connection.
    pub(super) windows: (u64, u64),
}

impl Spoken {
    /// Reads all of it; nothing may be left.
    pub(super) fn read(said: &[u8], is_client: bool) -> Self {
        let mut rest = said;
        if is_client {
            rest = rest.strip_prefix(PREFACE).expect("the preface (section 3.4)");
        }
        let mut spoken = Self { windows: (65_535, 65_535), ..Self::default() };
        let (mut settings, mut acknowledged, mut block) = (0, 0, None::<(Vec<u8>, bool)>);
        while !rest.is_empty() {
            let (header, behind) = rest.split_at(9);
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            assert!(length <= 16_384, "section 4.2");
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
            let (payload, behind) = behind.split_at(length);
            rest = behind;
            assert!(settings > 0 || kind == 4, "settings come first (section 3.4)");
            assert_eq!(block.is_some(), kind == 9, "a block is not interrupted (section 6.10)");
            assert!(spoken.goaway.is_none(), "nothing follows the farewell");
            let on_stream = [0, 1, 3, 9].contains(&kind);
            assert_eq!(stream, u32::from(on_stream), "frame {kind}");
            assert!(!on_stream || kind == 3 || kind == 9 || !spoken.ended, "section 5.1");
            assert!(!on_stream || spoken.reset.is_none(), "section 5.1");
            match kind {
                0 => {
                    assert!(!spoken.fields.is_empty() && flags & !1 == 0 && length > 0);
                    spoken.body.extend_from_slice(payload);
                    spoken.ended = flags & 1 != 0;
                }
                1 | 9 => {
                    let (mut so_far, ends) = block.take().unwrap_or((Vec::new(), flags & 1 != 0));
                    assert_eq!(flags & !if kind == 1 { 5 } else { 4 }, 0);
                    so_far.extend_from_slice(payload);
                    if flags & 4 == 0 {
                        assert_eq!(length, 16_384, "a block is cut only where it must be");
                        block = Some((so_far, ends));
                    } else {
                        spoken.head(&so_far, ends);
                    }
                }
                3 => {
                    assert!(!spoken.fields.is_empty() || !is_client, "section 6.4: not on an idle stream");
                    spoken.reset = Some(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                4 if flags == 1 => acknowledged += usize::from(payload.is_empty()),
                4 => {
                    settings += 1;
                    assert_eq!((flags, length % 6), (0, 0));
                    for setting in payload.chunks(6) {
                        let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
                        match setting[..2] {
                            [0, 2] => assert!(is_client && value == 0, "section 6.5.2"),
                            [0, 4] => spoken.windows.0 = u64::from(value),
                            _ => panic!("setting {setting:?}"),
                        }
                    }
                }
                7 => {
                    let last = u32::from_be_bytes(payload[..4].try_into().unwrap());
                    assert_eq!(last, u32::from(!is_client), "section 6.8");
                    spoken.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
                8 => spoken.windows.1 += u64::from(u32::from_be_bytes(payload.try_into().unwrap())),
                kind => panic!("frame {kind}"),
            }
        }
        assert!(block.is_none());
        assert_eq!((settings, acknowledged), (1, 1));
        assert!(spoken.windows.0 < 1 << 31 && spoken.windows.1 < 1 << 31, "section 6.9.1");
        spoken
    }

    /// The values of a field.
    pub(super) fn field(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name.as_bytes()).map(|(_, value)| &value[..]).collect()
    }

    fn head(&mut self, block: &[u8], ends: bool) {
        let fields = literals(block);
        let pseudo = fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
        for (number, (name, value)) in fields.iter().enumerate() {
            assert_eq!(name.starts_with(b":"), number < pseudo, "section 8.3");
            let is_bad = |byte: &u8| *byte <= b' ' || byte.is_ascii_uppercase() || *byte >= 0x7f;
            assert!(!name.is_empty() && !name.iter().any(is_bad), "section 8.2.1: {}", name.escape_ascii());
            assert!(!name[1..].contains(&b':'), "section 8.2.1");
            assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)), "section 8.2.1: {}", value.escape_ascii());
            let blank = |byte: Option<&u8>| byte.is_some_and(|byte| b" \t".contains(byte));
            assert!(!blank(value.first()) && !blank(value.last()), "section 8.2.1");
            let hop = [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
            assert!(!hop.contains(&&name[..]), "section 8.2.2");
        }
        if self.fields.is_empty() {
            assert!(pseudo > 0);
            self.fields = fields;
        } else {
            assert!(self.trailers.is_none() && pseudo == 0 && ends, "section 8.1");
            self.trailers = Some(fields);
        }
        self.ended = ends;
    }
}

/// Fields as literals that are not indexed, or never.
fn literals(mut block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = |block: &mut &[u8]| {
        let (first, mut behind) = block.split_first().unwrap();
        assert!(*first < 0x80, "no Huffman code");
        let mut length = usize::from(*first);
        if *first == 0x7f {
            for shift in (0..).step_by(7) {
                let (byte, next) = behind.split_first().unwrap();
                behind = next;
                length += usize::from(byte & 0x7f) << shift;
                if *byte < 0x80 {
                    break;
                }
            }
        }
        let (text, behind) = behind.split_at(length);
        *block = behind;
        text.to_vec()
    };
    let mut fields = Vec::new();
    while let Some((kind, behind)) = block.split_first() {
        assert!([0, 0x10].contains(kind), "RFC 7541 sections 6.2.2 and 6.2.3");
        block = behind;
        fields.push((text(&mut block), text(&mut block)));
    }
    fields
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

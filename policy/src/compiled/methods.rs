//! Methods as bits: the usual ones have fixed bits, others get one as rules name them.

use crate::request::Methods;

const USUAL: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
/// How many other methods the rules of a direction may name.
pub(super) const OTHERS: usize = 22;
/// Every method; its last bit is that of methods no rule names.
pub(super) const ANY: u32 = u32::MAX;
const UNNAMED: u32 = 1 << 31;

/// The methods that rules name besides the usual ones.
#[derive(Default)]
pub(super) struct OtherMethods(Vec<Box<str>>);

impl OtherMethods {
    /// The bits of a rule's methods, each given a bit if it has none; `None` when the bits are used up.
    pub(super) fn bits_of_rule(&mut self, methods: &Methods) -> Option<u32> {
        let Methods::Only(names) = methods else {
            return Some(ANY);
        };
        names.iter().try_fold(0, |bits, name| Some(bits | self.numbered(name)?))
    }

    fn numbered(&mut self, name: &str) -> Option<u32> {
        let known = self.bit(name);
        if known != UNNAMED {
            return Some(known);
        }
        if self.0.len() >= OTHERS {
            return None;
        }
        self.0.push(name.into());
        Some(self.bit(name))
    }

    /// The bit of a request's method.
    #[inline]
    pub(super) fn bit(&self, method: &str) -> u32 {
        // As slices, which are compared in place.
        match *method.as_bytes() {
            [b'G', b'E', b'T'] => 1,
            [b'H', b'E', b'A', b'D'] => 1 << 1,
            [b'P', b'O', b'S', b'T'] => 1 << 2,
            _ => self.unusual(method),
        }
    }

    fn unusual(&self, method: &str) -> u32 {
        let mut named = USUAL.iter().copied().chain(self.0.iter().map(|name| &**name));
        named.position(|name| name == method).map_or(UNNAMED, |at| 1 << at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_a_bit_of_its_own_until_they_are_used_up() {
        let mut others = OtherMethods::default();
        let mut bits = 0;
        let names = USUAL.map(str::to_owned).into_iter().chain((0..OTHERS).map(|i| format!("M{i}")));
        for name in names {
            let bit = others.bits_of_rule(&Methods::Only([name.as_str().into()].into())).unwrap();
            assert!(bit.count_ones() == 1 && bits & bit == 0, "{name}");
            assert_eq!(others.bit(&name), bit, "{name}");
            bits |= bit;
        }
        assert_eq!(bits, ANY & !UNNAMED);
        assert_eq!(others.bits_of_rule(&Methods::Only(["MORE".into()].into())), None);
        assert_eq!(others.bits_of_rule(&Methods::Any), Some(ANY));
        assert_eq!(others.bit("MORE"), UNNAMED);
        assert_eq!(others.bit("get"), UNNAMED);
    }
}

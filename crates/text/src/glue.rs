//! Where text can be cut before merging without changing the result.

/// Which characters stand side by side inside some symbol, coarsely: by the last byte of the one and
/// the first byte of the other.
///
/// Merging only makes symbols of the vocabulary, so no symbol reaches over a place whose neighbours
/// never meet inside one, and the text can be merged in parts cut at such places. That keeps the parts
/// as short as words where the vocabulary has no token with an inner space.
pub(crate) struct Glue(Box<[u64; 1024]>);

/// Stands for both ends of `▁`, which shares its bytes with common punctuation; not a UTF-8 byte.
const SPACE: u8 = 0xFF;
const SPACE_MARK: &[u8] = "▁".as_bytes();

impl Glue {
    pub(crate) fn new() -> Glue {
        Glue(Box::new([0; 1024]))
    }

    /// Notes the neighbours inside a symbol.
    pub(crate) fn add(&mut self, symbol: &[u8]) {
        for at in 1..symbol.len() {
            if let Some(pair) = pair(symbol, at) {
                self.0[pair / 64] |= 1 << (pair % 64);
            }
        }
    }

    /// Cuts a text, in which spaces are `▁`, wherever no symbol reaches over.
    pub(crate) fn parts<'a>(&self, mut text: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::from_fn(move || {
            let bytes = text.as_bytes();
            let cut = (1..bytes.len())
                .find(|&at| pair(bytes, at).is_some_and(|pair| self.0[pair / 64] & 1 << (pair % 64) == 0));
            let (part, rest) = text.split_at(cut.unwrap_or(bytes.len()));
            text = rest;
            (!part.is_empty()).then_some(part)
        })
    }
}

/// The bytes that meet at `at`, if a character starts there.
fn pair(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes[at] & 0xC0 == 0x80 {
        return None;
    }
    let last = if bytes[..at].ends_with(SPACE_MARK) { SPACE } else { bytes[at - 1] };
    let first = if bytes[at..].starts_with(SPACE_MARK) { SPACE } else { bytes[at] };
    Some(usize::from(last) << 8 | usize::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_only_where_no_symbol_reaches() {
        let mut glue = Glue::new();
        for symbol in ["▁ab", "bc", "▁▁", "é!"] {
            glue.add(symbol.as_bytes());
        }
        let parts: Vec<_> = glue.parts("▁abca▁▁ab▁é!“▁").collect();
        assert_eq!(parts, ["▁abc", "a", "▁▁ab", "▁", "é!", "“", "▁"]);
        assert_eq!(glue.parts("").count(), 0);
    }
}

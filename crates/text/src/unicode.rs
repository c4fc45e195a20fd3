//! Classes of characters, as the patterns of pre-tokenizers name them.
//!
//! The ranges are those of crate regex-syntax (Unicode 16), spread once into a table of two levels, so
//! that a character costs two loads.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// `\p{L}`.
pub(crate) const LETTER: u8 = 1;
/// `\p{N}`.
pub(crate) const NUMBER: u8 = 2;
/// `\p{M}`.
pub(crate) const MARK: u8 = 4;
/// `\p{P}`.
pub(crate) const PUNCTUATION: u8 = 8;
/// `\p{S}`.
pub(crate) const SYMBOL: u8 = 16;
/// `\s`.
pub(crate) const SPACE: u8 = 32;
/// `[\p{Lu}\p{Lt}]`, also a [`LETTER`].
pub(crate) const UPPER: u8 = 64;
/// `\p{Ll}`, also a [`LETTER`].
pub(crate) const LOWER: u8 = 128;

const PATTERNS: [(u8, &str); 8] = [
    (LETTER, r"\p{L}"),
    (NUMBER, r"\p{N}"),
    (MARK, r"\p{M}"),
    (PUNCTUATION, r"\p{P}"),
    (SYMBOL, r"\p{S}"),
    (SPACE, r"\s"),
    (UPPER, r"[\p{Lu}\p{Lt}]"),
    (LOWER, r"\p{Ll}"),
];

/// Characters of one block of the table.
const BLOCK: usize = 256;

/// Class bits of every character.
pub(crate) struct Classes {
    /// Which of the distinct blocks each range of 256 characters uses.
    block_of: Vec<u16>,
    /// Distinct blocks end to end, about a hundred.
    flags: Vec<u8>,
}

impl Classes {
    /// The table, made on first use (about 2 ms).
    pub(crate) fn get() -> &'static Classes {
        static TABLE: LazyLock<Classes> = LazyLock::new(Classes::build);
        &TABLE
    }

    fn build() -> Classes {
        let mut all = vec![0u8; char::MAX as usize + 1];
        for (bit, pattern) in PATTERNS {
            let hir = regex_syntax::parse(pattern).expect("the Unicode classes are compiled in");
            let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
                unreachable!("a class pattern parses to a class of characters")
            };
            for range in class.ranges() {
                for flags in &mut all[range.start() as usize..=range.end() as usize] {
                    *flags |= bit;
                }
            }
        }
        let mut distinct = hashbrown::HashMap::new();
        let mut flags = Vec::new();
        let block_of = all
            .chunks(BLOCK)
            .map(|block| {
                *distinct.entry(block).or_insert_with(|| {
                    flags.extend_from_slice(block);
                    (flags.len() / BLOCK - 1) as u16
                })
            })
            .collect();
        Classes { block_of, flags }
    }

    /// The class bits of a character.
    #[inline]
    pub(crate) fn of(&self, c: char) -> u8 {
        let code = c as usize;
        self.flags[self.block_of[code / BLOCK] as usize * BLOCK + code % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_known_characters() {
        let classes = Classes::get();
        for (c, want) in [
            ('a', LETTER | LOWER),
            ('É', LETTER | UPPER),
            ('ǅ', LETTER | UPPER),
            ('ʰ', LETTER),
            ('中', LETTER),
            ('7', NUMBER),
            ('½', NUMBER),
            ('\u{301}', MARK),
            ('!', PUNCTUATION),
            ('$', SYMBOL),
            ('\u{85}', SPACE),
            ('\u{3000}', SPACE),
            ('\u{200d}', 0),
            ('\0', 0),
            ('\u{10ffff}', 0),
        ] {
            assert_eq!(classes.of(c), want, "{c:?}");
        }
    }

    #[test]
    fn agrees_with_the_standard_library() {
        let classes = Classes::get();
        for c in '\0'..=char::MAX {
            assert_eq!(classes.of(c) & SPACE != 0, c.is_whitespace(), "{c:?}");
            if classes.of(c) & NUMBER != 0 {
                assert!(c.is_numeric(), "{c:?}");
            }
        }
    }
}

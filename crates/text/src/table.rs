//! Byte strings and their numbers, both ways.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A set of byte strings in one allocation, numbered from 0 as they come, found by hash.
///
/// The hash is keyed at random per process, so a file cannot be made to collide.
#[derive(Default)]
pub(crate) struct Table {
    bytes: Vec<u8>,
    /// End of each string in `bytes`; a header is at most 512 MiB, so 32 bits are enough.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Table {
    pub(crate) fn with_capacity(strings: usize) -> Table {
        Table { index: HashTable::with_capacity(strings), ..Table::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string of a number below `len`.
    pub(crate) fn get(&self, number: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }

    /// The number of a string.
    #[inline]
    pub(crate) fn find(&self, string: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(string);
        self.index.find(hash, |&other| self.get(other) == string).copied()
    }

    /// The number of a string, added if it is new; and whether it was.
    pub(crate) fn insert(&mut self, string: &[u8]) -> (u32, bool) {
        if let Some(number) = self.find(string) {
            return (number, false);
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(string);
        self.ends.push(u32::try_from(self.bytes.len()).expect("the strings of a header stay below 4 GiB"));
        let Table { bytes, ends, index, hasher } = self;
        index.insert_unique(hasher.hash_one(string), number, |&other| {
            hasher.hash_one(slice(bytes, ends, other))
        });
        (number, true)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let at = number as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &bytes[start as usize..ends[at] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_it_holds() {
        let mut table = Table::default();
        for (i, string) in [&b"a"[..], b"", b"abc", b"\xff\x00"].into_iter().enumerate() {
            assert_eq!(table.insert(string), (i as u32, true));
            assert_eq!(table.insert(string), (i as u32, false));
        }
        assert_eq!(table.find(b"abc"), Some(2));
        assert_eq!(table.find(b"ab"), None);
        assert_eq!(table.get(3), b"\xff\x00");
        assert_eq!(table.len(), 4);
    }
}

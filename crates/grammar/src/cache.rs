//! Compiled rules kept for the next request that asks for the same.

use std::collections::VecDeque;

use crate::grammars::Compiled;
use std::sync::Arc;

/// The last used compiled rules, by what was asked for, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: VecDeque<(String, Arc<Compiled>)>,
}

impl Cache {
    /// What was compiled for `key`; it counts as used.
    pub(crate) fn get(&mut self, key: &str) -> Option<Arc<Compiled>> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        let entry = self.entries.remove(at)?;
        let compiled = entry.1.clone();
        self.entries.push_back(entry);
        Some(compiled)
    }

    /// Keeps one more; the oldest go until `most` are left that take at most `bytes` bytes.
    pub(crate) fn put(&mut self, key: String, compiled: Arc<Compiled>, most: usize, bytes: usize) {
        self.entries.retain(|(known, _)| *known != key);
        self.entries.push_back((key, compiled));
        let size = |(key, compiled): &(String, Arc<Compiled>)| key.len() + compiled.bytes();
        let mut total: usize = self.entries.iter().map(size).sum();
        while self.entries.len() > most || (total > bytes && !self.entries.is_empty()) {
            total -= self.entries.pop_front().map_or(0, |entry| size(&entry));
        }
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

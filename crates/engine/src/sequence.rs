//! A sequence: its tokens, what of them is cached and where, and what it is generating.

use crate::generation::Generation;
use crate::kv::{Pool, Table};
use model::runner::PAGE;

/// Names a sequence of an engine until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId {
    pub(crate) slot: u32,
    /// Tells sequences apart that had the slot one after the other.
    pub(crate) serial: u32,
}

/// A sequence in its slot.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    /// Tokens, the last few perhaps not cached yet.
    pub(crate) ids: Vec<u32>,
    /// How many of them the cache holds.
    pub(crate) cached: usize,
    /// How many of them were computed, be they cached still or not.
    pub(crate) known: usize,
    /// Its pages, by cache group.
    pub(crate) tables: Vec<Table>,
    pub(crate) generation: Option<Generation>,
}

/// The first position that the row after `len` others sees.
pub(crate) fn seen_from(len: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (len + 1).saturating_sub(window))
}

impl Sequence {
    /// An empty sequence with room for `context` cached tokens and one more.
    pub(crate) fn new(id: SequenceId, context: usize, groups: usize) -> Sequence {
        let pages = context.div_ceil(PAGE);
        Sequence {
            id,
            ids: Vec::with_capacity(context + 1),
            cached: 0,
            known: 0,
            tables: (0..groups).map(|_| Table::with_room(pages)).collect(),
            generation: None,
        }
    }

    /// Tokens that are not cached yet.
    pub(crate) fn pending(&self) -> usize {
        self.ids.len() - self.cached
    }

    /// `rows` more tokens are cached.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.cached += rows;
        self.known = self.known.max(self.cached);
    }

    /// How many of the first `len` cached tokens can be gone on from: none of them where a window has lost
    /// what the next row sees.
    pub(crate) fn whole(&self, len: usize, windows: &[Option<usize>]) -> usize {
        let has = |(table, &window): (&Table, _)| table.first() * PAGE <= seen_from(len, window);
        if self.tables.iter().zip(windows).all(has) { len } else { 0 }
    }

    /// Forgets all tokens from `len` on, and the cache of the others if it cannot be gone on from.
    pub(crate) fn truncate(&mut self, len: usize, windows: &[Option<usize>], pools: &mut [Pool]) {
        self.ids.truncate(len);
        self.known = self.known.min(len);
        self.uncache(len, windows, pools);
    }

    /// Forgets what is cached from `len` on, and all of it if the rest cannot be gone on from.
    pub(crate) fn uncache(&mut self, len: usize, windows: &[Option<usize>], pools: &mut [Pool]) {
        self.cached = self.whole(self.cached.min(len), windows);
        self.trim(pools);
    }

    /// Gives back pages of positions that are not cached.
    pub(crate) fn trim(&mut self, pools: &mut [Pool]) {
        for (table, pool) in self.tables.iter_mut().zip(pools) {
            table.truncate(self.cached.div_ceil(PAGE), pool);
        }
    }
}

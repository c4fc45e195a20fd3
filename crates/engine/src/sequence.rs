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

/// Pages of a cache group, outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredGroup {
    /// Number of the first page: those before are behind the group's window.
    pub first: usize,
    /// Pages one after the other, as the runner reads and writes them.
    pub bytes: Vec<u8>,
}

/// A sequence's cache, outside of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Positions.
    pub(crate) cached: usize,
    /// Pages, by cache group.
    pub(crate) groups: Vec<StoredGroup>,
}

impl Stored {
    /// Bytes of the pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes.len() as u64).sum()
    }

    /// Keeps pages of the first `len` positions.
    fn truncate(&mut self, len: usize) {
        for group in &mut self.groups {
            let pages = self.cached.div_ceil(PAGE) - group.first;
            let size = group.bytes.len().checked_div(pages).unwrap_or(0);
            group.bytes.truncate(len.div_ceil(PAGE).saturating_sub(group.first) * size);
            group.bytes.shrink_to_fit();
        }
        self.cached = len;
    }
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
    /// Its cache while that is not in pages.
    pub(crate) stored: Option<Stored>,
    /// When it was used last, in turns of the engine.
    pub(crate) used: u64,
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
            stored: None,
            used: 0,
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
        let has = |(first, &window): (usize, _)| first * PAGE <= seen_from(len, window);
        let whole = match &self.stored {
            Some(stored) => stored.groups.iter().map(|group| group.first).zip(windows).all(has),
            None => self.tables.iter().map(Table::first).zip(windows).all(has),
        };
        if whole { len } else { 0 }
    }

    /// How many tokens need not be computed anew, be their cache in pages or stored.
    pub(crate) fn kept(&self) -> usize {
        self.stored.as_ref().map_or(self.cached, |stored| stored.cached)
    }

    /// Forgets all tokens from `len` on, and the cache of the others if it cannot be gone on from.
    pub(crate) fn truncate(&mut self, len: usize, windows: &[Option<usize>], pools: &mut [Pool]) {
        self.ids.truncate(len);
        self.known = self.known.min(len);
        self.uncache(len, windows, pools);
    }

    /// Forgets what is cached from `len` on, and all of it if the rest cannot be gone on from.
    pub(crate) fn uncache(&mut self, len: usize, windows: &[Option<usize>], pools: &mut [Pool]) {
        let len = self.whole(self.kept().min(len), windows);
        match &mut self.stored {
            Some(stored) if len > 0 => stored.truncate(len),
            _ => {
                self.stored = None;
                self.cached = self.cached.min(len);
            }
        }
        self.trim(pools);
    }

    /// Gives back pages of positions that are not cached.
    pub(crate) fn trim(&mut self, pools: &mut [Pool]) {
        for (table, pool) in self.tables.iter_mut().zip(pools) {
            table.truncate(self.cached.div_ceil(PAGE), pool);
        }
    }
}

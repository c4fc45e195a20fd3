//! A sequence: its tokens, what of them is cached and where, and what it is generating.

use crate::generation::Generation;
use crate::kv::{Change, Pool, Table};
use model::Runner;
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
    /// Its pages, by cache group.
    pub(crate) tables: Vec<Table>,
    pub(crate) generation: Option<Generation>,
}

impl Sequence {
    /// An empty sequence with room for `context` cached tokens and one more.
    pub(crate) fn new(id: SequenceId, context: usize, groups: usize) -> Sequence {
        let pages = context.div_ceil(PAGE);
        Sequence {
            id,
            ids: Vec::with_capacity(context + 1),
            cached: 0,
            tables: (0..groups).map(|_| Table::with_room(pages)).collect(),
            generation: None,
        }
    }

    /// Tokens that are not cached yet.
    pub(crate) fn pending(&self) -> usize {
        self.ids.len() - self.cached
    }

    /// Makes the positions from `cached` up to `to` writable; returns up to where that worked.
    pub(crate) fn reserve(&mut self, to: usize, pools: &mut [Pool], runner: &mut dyn Runner) -> usize {
        let slot = self.id.slot as usize;
        let mut reached = to;
        for (group, (table, pool)) in self.tables.iter_mut().zip(pools).enumerate() {
            for index in self.cached / PAGE..to.div_ceil(PAGE) {
                match table.own(index, pool) {
                    Some(Change::None) => {}
                    Some(Change::Added(page)) => runner.map(slot, group, index, &[page]),
                    Some(Change::Copied { from, to }) => {
                        runner.copy_page(group, from, to);
                        runner.map(slot, group, index, &[to]);
                    }
                    None => {
                        reached = reached.min(index * PAGE);
                        break;
                    }
                }
            }
        }
        reached.max(self.cached)
    }

    /// Forgets all tokens from `len` on and gives their pages back.
    pub(crate) fn truncate(&mut self, len: usize, pools: &mut [Pool]) {
        self.ids.truncate(len);
        self.cached = self.cached.min(len);
        self.trim(pools);
    }

    /// Gives back pages of positions that are not cached.
    pub(crate) fn trim(&mut self, pools: &mut [Pool]) {
        for (table, pool) in self.tables.iter_mut().zip(pools) {
            table.truncate(self.cached.div_ceil(PAGE), pool);
        }
    }
}

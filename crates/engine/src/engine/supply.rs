//! Pages for the rows of the next step: free ones, else those that windows have left behind.
//!
//! A sequence gives pages behind a window back only when somebody needs one. Until then it can go back to an
//! earlier token without computing everything anew; and [`model::LoadOptions::group_pages`] are enough for
//! what all sequences must keep.

use super::Engine;
use crate::kv::Change;
use crate::sequence::seen_from;
use model::runner::PAGE;

impl Engine {
    /// Makes the positions of a slot's sequence from what is cached up to `to` writable; returns up to where
    /// that worked.
    pub(super) fn reserve(&mut self, slot: usize, to: usize) -> usize {
        let Some(cached) = self.slots[slot].as_ref().map(|sequence| sequence.cached) else { return 0 };
        let mut reached = to;
        for group in 0..self.pools.len() {
            for index in cached / PAGE..reached.div_ceil(PAGE) {
                if !self.own(slot, group, index) {
                    reached = index * PAGE;
                    break;
                }
            }
        }
        reached.max(cached)
    }

    /// Makes page `index` of a slot's list its own; whether there was one.
    fn own(&mut self, slot: usize, group: usize, index: usize) -> bool {
        let lacks = |engine: &Engine| {
            let table = engine.slots[slot].as_ref().map(|sequence| &sequence.tables[group]);
            table.is_some_and(|table| table.lacks(index, &engine.pools[group]))
        };
        if lacks(self) && !self.supply(group) {
            return false;
        }
        let Some(sequence) = &mut self.slots[slot] else { return false };
        match sequence.tables[group].own(index, &mut self.pools[group]) {
            Some(Change::None) => {}
            Some(Change::Added(page)) => self.runner.map(slot, group, index, &[page]),
            Some(Change::Copied { from, to }) => {
                self.runner.copy_page(group, from, to);
                self.runner.map(slot, group, index, &[to]);
            }
            None => return false,
        }
        true
    }

    /// Sees to it that a group has a free page; whether it has.
    fn supply(&mut self, group: usize) -> bool {
        let Some(window) = self.windows[group] else { return self.pools[group].free() > 0 };
        let pool = &mut self.pools[group];
        for sequence in self.slots.iter_mut().flatten() {
            // Steps under way count as not run: what they chose may be taken back.
            let keep = seen_from(sequence.cached, Some(window)) / PAGE;
            while pool.free() == 0 && sequence.tables[group].forget(keep, pool) {}
        }
        pool.free() > 0
    }
}

//! Pages for the rows of the next step: free ones, else those that windows have left behind, else those of idle
//! sequences.
//!
//! A sequence gives pages behind a window back only when somebody needs one. Until then it can go back to an
//! earlier token without computing everything anew; and [`model::LoadOptions::group_pages`] are enough for
//! what all sequences must keep.

use super::Engine;
use crate::kv::Change;
use crate::limits::MARGIN;
use crate::sequence::seen_from;
use model::runner::{Lost, PAGE};

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Sequences that generate have them all.
    Pages,
    /// There is no memory for one.
    Memory {
        /// Bytes that would do.
        needed: u64,
    },
}

/// Positions that were made writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    /// Up to where.
    pub(super) to: usize,
    /// Why no further, if not as far as asked.
    pub(super) short: Option<Short>,
}

impl Engine {
    /// Makes the positions of a slot's sequence from what is cached up to `to` writable, as far as that works.
    pub(super) fn reserve(&mut self, slot: usize, to: usize) -> Result<Reserved, Lost> {
        let cached = self.slots[slot].as_ref().map_or(to, |sequence| sequence.cached);
        let mut reserved = Reserved { to, short: None };
        for group in 0..self.pools.len() {
            for index in cached / PAGE..reserved.to.div_ceil(PAGE) {
                if let Some(short) = self.own(slot, group, index)? {
                    reserved = Reserved { to: cached.max(index * PAGE), short: Some(short) };
                    break;
                }
            }
        }
        Ok(reserved)
    }

    /// Makes page `index` of a slot's list its own, unless there is none.
    fn own(&mut self, slot: usize, group: usize, index: usize) -> Result<Option<Short>, Lost> {
        let table = self.slots[slot].as_ref().map(|sequence| &sequence.tables[group]);
        if table.is_some_and(|table| table.lacks(index, &self.pools[group]))
            && let Some(short) = self.supply(group, slot)?
        {
            return Ok(Some(short));
        }
        let Some(sequence) = &mut self.slots[slot] else { return Ok(None) };
        match sequence.tables[group].own(index, &mut self.pools[group]) {
            Some(Change::None) => {}
            Some(Change::Added(page)) => self.runner.map(slot, group, index, &[page]),
            Some(Change::Copied { from, to }) => {
                self.runner.copy_page(group, from, to);
                self.runner.map(slot, group, index, &[to]);
            }
            None => return Ok(Some(Short::Pages)),
        }
        Ok(None)
    }

    /// Sees to it that the next page of a group can be taken for `slot`, by nobody else and at once.
    pub(super) fn supply(&mut self, group: usize, slot: usize) -> Result<Option<Short>, Lost> {
        loop {
            match self.pools[group].next_has_memory() {
                None => {
                    if !self.left_behind(group) && !self.evict(slot)? {
                        return Ok(Some(Short::Pages));
                    }
                }
                Some(has) if has || self.guard.carefree() => return Ok(None),
                Some(_) => {
                    let bytes = self.runner.page_bytes(group) as u64;
                    if self.guard.spend(bytes) {
                        return Ok(None);
                    }
                    if !self.relieve_for(group, slot) {
                        return Ok(Some(Short::Memory { needed: bytes + MARGIN }));
                    }
                }
            }
        }
    }

    /// Takes pages that are behind windows back until there is one to be taken without a thought; whether there
    /// is.
    pub(super) fn left_behind(&mut self, group: usize) -> bool {
        let Some(window) = self.windows[group] else { return false };
        let pool = &mut self.pools[group];
        let carefree = self.guard.carefree();
        for sequence in self.slots.iter_mut().flatten() {
            // Steps under way count as not run: what they chose may be taken back.
            let keep = seen_from(sequence.cached, Some(window)) / PAGE;
            let table = &mut sequence.tables[group];
            while !pool.next_has_memory().is_some_and(|has| has || carefree) && table.forget(keep, pool) {}
        }
        pool.next_has_memory().is_some_and(|has| has || carefree)
    }
}

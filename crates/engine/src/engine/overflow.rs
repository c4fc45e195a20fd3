//! Sequences whose cache is elsewhere: stored in the host's memory, kept by the engine's owner, or given up.
//!
//! An idle sequence has three ways to make room. Stored, it keeps its slot and name, and its pages are copied
//! back when it goes on; given up, it keeps its tokens and they are computed anew; parked, it is a value of the
//! owner's and has no slot, so that there can be more conversations than slots, or files of them. Pages are
//! copied as they are: what comes back gives the same tokens as what never went.

use super::Engine;
use crate::sequence::{Sequence, Stored, StoredGroup, seen_from};
use crate::{Error, Notice, SequenceId};
use model::runner::{Lost, PAGE};

/// A sequence outside of an engine: all it takes to go on in an engine of the same model, cache type and
/// backend. What is kept in files is the owner's to check; [`Engine::unpark`] checks sizes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Tokens.
    pub ids: Vec<u32>,
    /// How many of them were computed once.
    pub known: usize,
    /// How many of them `groups` hold; at most `known`.
    pub cached: usize,
    /// Pages, by cache group; empty if `cached` is 0.
    pub groups: Vec<StoredGroup>,
}

impl Saved {
    /// Bytes of its pages.
    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes.len() as u64).sum()
    }
}

/// A saved sequence that an engine does not take.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// The sequence, unchanged.
    pub saved: Saved,
}

impl Engine {
    /// Lets idle sequences that must make room take up to `bytes` of the host's memory. Beyond that the longest
    /// unused are given up. 0 at first.
    pub fn set_overflow(&mut self, bytes: u64) {
        self.overflow = bytes;
    }

    /// Bytes of stored sequences.
    pub fn stored_bytes(&self) -> u64 {
        self.slots.iter().flatten().filter_map(|sequence| sequence.stored.as_ref()).map(Stored::bytes).sum()
    }

    /// Slots that [`Engine::open`] can give.
    pub fn free_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Moves the cache of an idle sequence to the host's memory, be there an overflow or not; it comes back when
    /// the sequence goes on. Returns how many bytes it takes now: none if nothing is cached.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Busy`], [`Error::Lost`]; [`Error::Memory`], and then it is where it was.
    pub fn store(&mut self, id: SequenceId) -> Result<u64, Error> {
        let slot = id.slot as usize;
        if let Some(stored) = &self.idle(id)?.stored {
            return Ok(stored.bytes());
        }
        let stored = self.copy(slot)?;
        let bytes = stored.bytes();
        self.keep(slot, stored);
        Ok(bytes)
    }

    /// Takes an idle sequence out of the engine; it is closed.
    ///
    /// # Errors
    /// Those of [`Engine::store`].
    pub fn park(&mut self, id: SequenceId) -> Result<Saved, Error> {
        self.store(id)?;
        let slot = id.slot as usize;
        let saved = self.slots[slot].take().map(|sequence| {
            let stored = sequence.stored.unwrap_or_default();
            let Stored { cached, groups } = stored;
            Saved { ids: sequence.ids, known: sequence.known, cached, groups }
        });
        self.leave(slot);
        Ok(saved.unwrap_or_default())
    }

    /// A copy of an idle sequence, which stays.
    ///
    /// # Errors
    /// Those of [`Engine::store`].
    pub fn export(&mut self, id: SequenceId) -> Result<Saved, Error> {
        let sequence = self.idle(id)?;
        let (ids, known) = (sequence.ids.clone(), sequence.known);
        let Stored { cached, groups } = match &sequence.stored {
            Some(stored) => stored.clone(),
            None => self.copy(id.slot as usize)?,
        };
        Ok(Saved { ids, known, cached, groups })
    }

    /// Gives a saved sequence a slot and a name. Its pages are copied to the cache when it goes on.
    ///
    /// # Errors
    /// [`Error::Slots`]; [`Error::Saved`] if it is not of this model, cache type or context. The sequence comes
    /// back with the error.
    pub fn unpark(&mut self, saved: Saved) -> Result<SequenceId, Refused> {
        if let Err(error) = self.check_saved(&saved) {
            return Err(Refused { error, saved });
        }
        let id = match self.open() {
            Ok(id) => id,
            Err(error) => return Err(Refused { error, saved }),
        };
        if let Some(sequence) = &mut self.slots[id.slot as usize] {
            sequence.ids.extend_from_slice(&saved.ids);
            sequence.known = saved.known;
            let stored = Stored { cached: saved.cached, groups: saved.groups };
            sequence.stored = (stored.cached > 0).then_some(stored);
        }
        Ok(id)
    }

    fn check_saved(&self, saved: &Saved) -> Result<(), Error> {
        let refuse = |what: &'static str| Err(Error::Saved { what });
        if saved.ids.len() > self.context + 1 || saved.cached > self.context {
            return refuse("has more tokens than the context");
        }
        if saved.ids.iter().any(|&id| id as usize >= self.vocab) {
            return refuse("has tokens that the vocabulary has not");
        }
        if saved.cached > saved.known || saved.known > saved.ids.len() {
            return refuse("has a cache of more tokens than it has");
        }
        if saved.cached == 0 {
            return Ok(());
        }
        if saved.groups.len() != self.pools.len() {
            return refuse("has other cache groups");
        }
        for (i, group) in saved.groups.iter().enumerate() {
            let last = saved.cached.div_ceil(PAGE);
            if group.first * PAGE > seen_from(saved.cached, self.windows[i]) {
                return refuse("lacks pages that a window sees");
            }
            if group.bytes.len() != (last - group.first) * self.runner.page_bytes(i) {
                return refuse("has pages of another size");
            }
        }
        Ok(())
    }

    /// Most bytes that copies of a slot's pages can take: those behind windows are not copied.
    fn copy_bytes(&self, slot: usize) -> u64 {
        let of = |sequence: &Sequence| {
            let groups = sequence.tables.iter().enumerate();
            groups.map(|(group, table)| table.pages().len() * self.runner.page_bytes(group)).sum::<usize>()
        };
        self.slots[slot].as_ref().map_or(0, of) as u64
    }

    /// Copies that somebody asked for, if there is memory for them.
    fn copy(&mut self, slot: usize) -> Result<Stored, Error> {
        let needed = self.copy_bytes(slot);
        self.ask_room();
        if needed > 0 && !self.guard.spend(needed) {
            return Err(Error::Memory { needed, room: self.guard.room() });
        }
        self.read(slot)
    }

    /// Copies of the pages that a slot's sequence must have to go on.
    fn read(&mut self, slot: usize) -> Result<Stored, Error> {
        let Some(sequence) = &self.slots[slot] else { return Ok(Stored::default()) };
        let cached = sequence.cached;
        let mut stored = Stored { cached, groups: vec![] };
        if cached == 0 {
            return Ok(stored);
        }
        for (group, table) in sequence.tables.iter().enumerate() {
            let first = table.first().max(seen_from(cached, self.windows[group]) / PAGE);
            let pages = &table.pages()[first - table.first()..];
            let size = self.runner.page_bytes(group);
            let mut bytes = vec![];
            if bytes.try_reserve_exact(pages.len() * size).is_err() {
                return Err(Error::Memory { needed: (pages.len() * size) as u64, room: 0 });
            }
            bytes.resize(pages.len() * size, 0);
            for (&page, to) in pages.iter().zip(bytes.chunks_exact_mut(size)) {
                self.runner.read_page(group, page, to)?;
            }
            stored.groups.push(StoredGroup { first, bytes });
        }
        Ok(stored)
    }

    /// Puts copies in the place of a slot's pages.
    fn keep(&mut self, slot: usize, stored: Stored) {
        let Some(sequence) = &mut self.slots[slot] else { return };
        if stored.cached == 0 {
            return;
        }
        sequence.uncache(0, &self.windows, &mut self.pools);
        let (id, tokens, bytes) = (sequence.id, sequence.ids.len(), stored.bytes());
        sequence.stored = Some(stored);
        self.notify(Notice::Stored { id, tokens, bytes });
    }

    /// Gives up the cache of a slot's sequence.
    pub(super) fn uncache(&mut self, slot: usize) {
        let Some(sequence) = &mut self.slots[slot] else { return };
        sequence.uncache(0, &self.windows, &mut self.pools);
        let (id, tokens) = (sequence.id, sequence.ids.len());
        self.notify(Notice::Dropped { id, tokens });
    }

    /// The idle sequence with pages that was not used for longest, other than `slot`'s.
    pub(super) fn least_used(&self, slot: Option<usize>) -> Option<usize> {
        let idle = |sequence: &Sequence| sequence.generation.is_none() && sequence.cached > 0;
        let slots = self.slots.iter().enumerate().filter(|&(i, _)| Some(i) != slot);
        let idle = slots.filter_map(|(i, sequence)| Some((i, sequence.as_ref().filter(|s| idle(s))?)));
        idle.min_by_key(|(_, sequence)| sequence.used).map(|(i, _)| i)
    }

    /// Makes the longest unused sequence's pages free for `slot`; whether there was one.
    pub(super) fn evict(&mut self, slot: usize) -> Result<bool, Lost> {
        let Some(victim) = self.least_used(Some(slot)) else { return Ok(false) };
        let bytes = self.copy_bytes(victim);
        if bytes <= self.overflow && self.guard.spend(bytes) {
            while self.stored_bytes() + bytes > self.overflow && self.drop_stored().is_some() {}
            match self.read(victim) {
                Ok(stored) => {
                    self.keep(victim, stored);
                    return Ok(true);
                }
                Err(Error::Lost(lost)) => return Err(lost),
                // No memory after all.
                Err(_) => {}
            }
        }
        self.uncache(victim);
        Ok(true)
    }

    /// Copies a stored sequence back to pages, or gives it up if there are not enough.
    pub(super) fn restore(&mut self, slot: usize) -> Result<(), Lost> {
        let stored = self.slots[slot].as_mut().and_then(|sequence| sequence.stored.take());
        let Some(stored) = stored else { return Ok(()) };
        self.ask_room();
        for (group, StoredGroup { first, bytes }) in stored.groups.iter().enumerate() {
            let pages = bytes.chunks_exact(self.runner.page_bytes(group));
            for (index, from) in (*first..).zip(pages) {
                let short = self.supply(group, slot)?.is_some();
                let page = if short { None } else { self.pools[group].take() };
                let (Some(page), Some(sequence)) = (page, &mut self.slots[slot]) else {
                    self.uncache(slot);
                    return Ok(());
                };
                sequence.tables[group].place(index, page);
                self.runner.map(slot, group, index, &[page]);
                self.runner.write_page(group, page, from)?;
            }
        }
        if let Some(sequence) = &mut self.slots[slot] {
            sequence.cached = stored.cached;
            let (id, tokens) = (sequence.id, sequence.ids.len());
            self.notify(Notice::Restored { id, tokens });
        }
        Ok(())
    }
}

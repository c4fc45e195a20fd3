//! Tokens that are computed for their logits, or for what follows them: nothing is chosen.

use super::Engine;
use super::supply::Short;
use crate::{Error, SequenceId};
use model::Row;
use std::ops::Range;

impl Engine {
    /// Computes `ids` after what of a sequence was computed before, without choosing anything: `on` gets the
    /// logits of those whose place in `ids` is in `wanted`, in order.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Busy`], [`Error::TooLong`], [`Error::Token`], [`Error::Memory`],
    /// [`Error::Lost`].
    pub fn feed(
        &mut self,
        id: SequenceId,
        ids: &[u32],
        wanted: Range<usize>,
        on: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let known = self.idle(id)?.known;
        if ids.is_empty() {
            return Ok(());
        }
        self.check(ids, self.context - known)?;
        self.ahead.interrupt();
        let slot = id.slot as usize;
        self.restore(slot)?;
        self.touch(slot);
        if let Some(sequence) = &mut self.slots[slot] {
            sequence.truncate(known, &self.windows, &mut self.pools);
            sequence.ids.extend_from_slice(ids);
        }
        let fed = self.feed_pending(
            slot,
            known.saturating_add(wanted.start)..known.saturating_add(wanted.end),
            &mut |i, row| {
                on(i - known, row);
            },
        );
        if fed.is_err()
            && let Some(sequence) = &mut self.slots[slot]
        {
            sequence.truncate(known, &self.windows, &mut self.pools);
        }
        fed
    }

    /// Computes all tokens of a slot that are not cached; `on` gets the logits of those in `wanted`.
    fn feed_pending(
        &mut self,
        slot: usize,
        wanted: Range<usize>,
        on: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let logit_rows = self.runner.options().logit_rows.max(1);
        loop {
            let Some(sequence) = &self.slots[slot] else { return Ok(()) };
            let (from, len) = (sequence.cached, sequence.ids.len());
            if from == len {
                return Ok(());
            }
            let mut to = (from + self.chunk).min(len);
            if from < wanted.end {
                to = to.min(from.max(wanted.start).saturating_add(logit_rows));
            }
            while !self.admitted() {}
            let begun = self.limited_now();
            self.ask_room();
            let reserved = self.reserve(slot, to)?;
            match reserved.short {
                None => {}
                Some(Short::Pages) => return Err(Error::TooLong { tokens: len, room: reserved.to }),
                Some(Short::Memory { needed }) => {
                    return Err(Error::Memory { needed, room: self.guard.room() });
                }
            }
            let Some(sequence) = &mut self.slots[slot] else { return Ok(()) };
            self.batch.rows.clear();
            self.batch.rows.extend((from..to).map(|i| Row {
                slot: slot as u32,
                position: i as u32,
                token: sequence.ids[i],
                logits: wanted.contains(&i),
            }));
            self.runner.step(&self.batch)?;
            sequence.advance(to - from);
            self.worked_since(begun);
            let rows = (from..to).filter(|i| wanted.contains(i));
            rows.zip(self.runner.logits().chunks_exact(self.vocab)).for_each(|(i, row)| on(i, row));
        }
    }

    /// The logits of `ids` at the places in `wanted`, computed in a sequence of their own.
    ///
    /// # Errors
    /// Those of [`Engine::open`] and [`Engine::feed`].
    pub fn logits(
        &mut self,
        ids: &[u32],
        wanted: Range<usize>,
        on: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let id = self.open()?;
        let fed = self.feed(id, ids, wanted, on);
        self.close(id);
        fed
    }
}

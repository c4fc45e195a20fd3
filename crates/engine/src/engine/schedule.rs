//! Which rows a step gets.

use super::supply::{Reserved, Short};
use super::{Engine, Turn};
use crate::generation::{Finish, Listener, Stopped};
use crate::sequence::Sequence;
use model::Row;
use model::runner::{Lost, PAGE};

impl Engine {
    /// Ends the generations that were asked to.
    pub(super) fn end_cancelled(&mut self, on: Listener) {
        for slot in 0..self.slots.len() {
            let cancelled = |sequence: &Sequence| sequence.generation.as_ref().is_some_and(|g| g.cancelled);
            if self.slots[slot].as_ref().is_some_and(cancelled) {
                self.finish(slot, Finish::Cancelled, on);
            }
        }
    }

    /// Chooses the rows of the next step: tokens being generated first, then prompts in chunks, both
    /// beginning with another slot each time so that all get their turn.
    pub(super) fn schedule(&mut self, on: Listener) -> Result<(), Lost> {
        self.batch.rows.clear();
        self.turns.clear();
        self.turn = (self.turn + 1) % self.slots.len().max(1);
        let options = *self.runner.options();
        let (mut rows, mut logits, mut chunk) = (options.rows, options.logit_rows, self.chunk);
        if self.guard.pressed() {
            chunk = chunk.min(PAGE);
        }
        for prompts in [false, true] {
            for i in 0..self.slots.len() {
                let slot = (self.turn + i) % self.slots.len();
                let Some(sequence) = &self.slots[slot] else { continue };
                let pending = sequence.pending();
                if sequence.generation.is_none() || pending == 0 || (pending > 1) != prompts {
                    continue;
                }
                let most = if prompts { rows.min(chunk) } else { rows };
                // Without room for its logits, a prompt stops before its last token.
                let useful = if logits > 0 { pending } else { pending - 1 };
                let want = most.min(useful);
                if want == 0 {
                    continue;
                }
                let from = sequence.cached;
                let Reserved { to, short } = self.reserve(slot, from + want)?;
                if to == from {
                    if let Some(Short::Memory { needed }) = short {
                        // It waits for the next step, before which the youngest ends if nothing has changed.
                        self.guard.starve(needed);
                    } else {
                        self.stop(slot, Stopped::Pages);
                        self.finish(slot, Finish::Length, on);
                    }
                    continue;
                }
                let Some(sequence) = &self.slots[slot] else { continue };
                let turn = Turn { slot, rows: to - from, logits: to == sequence.ids.len(), alive: true };
                let tokens = sequence.ids[from..to].iter().zip(from as u32..);
                self.batch.rows.extend(tokens.map(|(&token, position)| Row {
                    slot: slot as u32,
                    position,
                    token,
                    logits: turn.logits && position as usize + 1 == to,
                }));
                rows -= turn.rows;
                logits -= turn.logits as usize;
                chunk -= if prompts { turn.rows } else { 0 };
                self.turns.push(turn);
            }
        }
        Ok(())
    }
}

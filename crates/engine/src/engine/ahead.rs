//! Steps ahead of their results: where the runner chooses tokens by itself, decode steps are enqueued before
//! the tokens of earlier ones are known, so that the device never waits for the host.
//!
//! A run of such steps begins when every generation has just its next token to compute. It goes on while
//! nothing else is asked for: a prompt, a cancelled or ended generation and a missing page let the steps
//! under way come in first. What was computed beyond the end of a text is ignored; its positions are written
//! again before anybody reads them, because the device does everything in the order it was asked.

use super::{Engine, Outcome};
use crate::generation::{Generation, Listener};
use model::Chosen;
use model::runner::Lost;

/// The steps under way. Their rows are those of [`Engine::turns`].
#[derive(Default)]
pub(super) struct Ahead {
    /// Whether the engine's owner allows it.
    pub(super) on: bool,
    /// Whether the runner times its ops one by one, which it cannot do for steps nobody waits for.
    pub(super) traced: bool,
    /// Steps enqueued whose tokens were not taken.
    under_way: usize,
    /// Whether the device has what the next step starts from.
    whole: bool,
    /// Tokens of the step taken last.
    chosen: Vec<Chosen>,
}

impl Ahead {
    /// For runs of up to `rows` generations.
    pub(super) fn new(rows: usize) -> Ahead {
        Ahead { on: true, chosen: vec![Chosen::default(); rows], ..Ahead::default() }
    }

    fn allowed(&self) -> bool {
        self.on && !self.traced
    }

    /// A step of another kind was run: what is under way still comes in, and nothing follows it.
    pub(super) fn interrupt(&mut self) {
        self.whole = false;
    }
}

impl Engine {
    /// Begins a run with the batch and turns just scheduled, if the device can choose for all of them and
    /// nobody else waits.
    pub(super) fn begin_ahead(&mut self) -> Result<bool, Lost> {
        let alone = self.turns.iter().all(|turn| turn.rows == 1 && turn.logits);
        if !self.ahead.allowed() || !alone || self.turns.len() != self.generating() || self.turns.is_empty() {
            return Ok(false);
        }
        let Some(chooser) = self.runner.chooser().filter(|chooser| self.turns.len() <= chooser.rows()) else {
            return Ok(false);
        };
        let choosable = |slot: usize| {
            let generation = self.slots[slot].as_ref().and_then(|sequence| sequence.generation.as_ref());
            generation.is_some_and(Generation::choosable)
        };
        if !self.turns.iter().all(|turn| choosable(turn.slot)) {
            return Ok(false);
        }
        for turn in &self.turns {
            if let Some(sequence) = &mut self.slots[turn.slot]
                && let Some(generation) = &mut sequence.generation
            {
                generation.start(chooser, turn.slot)?;
            }
        }
        chooser.begin(&self.batch)?;
        (self.ahead.under_way, self.ahead.whole) = (1, true);
        Ok(true)
    }

    /// Keeps the device busy and delivers the oldest step under way; whether there was one.
    pub(super) fn step_ahead(&mut self, on: Listener) -> Result<bool, Lost> {
        if self.ahead.under_way == 0 && !self.ahead.whole {
            return Ok(false);
        }
        if self.turns.iter().all(|turn| !turn.alive) {
            if let Some(chooser) = self.runner.chooser() {
                chooser.forget();
            }
            (self.ahead.under_way, self.ahead.whole) = (0, false);
            return Ok(false);
        }
        while self.goes_on()? {
            if let Some(chooser) = self.runner.chooser() {
                chooser.again()?;
            }
            self.ahead.under_way += 1;
        }
        if self.ahead.under_way == 0 {
            self.ahead.whole = false;
            return Ok(false);
        }
        if let Some(chooser) = self.runner.chooser() {
            chooser.take(&mut self.ahead.chosen[..self.turns.len()])?;
        }
        self.ahead.under_way -= 1;
        self.deliver(Outcome::Chosen, on);
        Ok(true)
    }

    /// The token that the step just taken chose for a turn.
    pub(super) fn chosen(&self, turn: usize) -> Chosen {
        self.ahead.chosen[turn]
    }

    /// Whether another step may be enqueued; its positions are mapped then.
    fn goes_on(&mut self) -> Result<bool, Lost> {
        let most = self.runner.chooser().map_or(0, |chooser| chooser.ahead());
        let under_way = self.ahead.under_way;
        let rows = self.turns.len();
        if !self.ahead.allowed() || !self.ahead.whole || under_way >= most || self.generating() != rows {
            return Ok(false);
        }
        let room = |slot: usize, context: usize| {
            let sequence = self.slots[slot].as_ref()?;
            let generation = sequence.generation.as_ref()?;
            Some(generation.left() > under_way && sequence.cached + under_way < context)
        };
        if !self.turns.iter().all(|turn| turn.alive && room(turn.slot, self.context) == Some(true)) {
            return Ok(false);
        }
        for i in 0..self.turns.len() {
            let slot = self.turns[i].slot;
            let to = self.slots[slot].as_ref().map_or(0, |sequence| sequence.cached + under_way + 1);
            if self.reserve(slot, to)?.short.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Generations under way.
    fn generating(&self) -> usize {
        self.slots.iter().flatten().filter(|sequence| sequence.generation.is_some()).count()
    }
}

//! The engine: sequences in slots, and the loop that steps them.

mod ahead;
mod feed;
mod guard;
mod overflow;
mod schedule;
mod slide;
mod supply;

pub use overflow::{Refused, Saved};

use crate::Error;
use crate::generation::{Event, Finish, Generation, Listener, Params, Setting, Stopped, Summary};
use crate::kv::Pool;
use crate::sequence::{Sequence, SequenceId};
use ahead::Ahead;
use guard::Guard;
use model::runner::{Lost, PAGE};
use model::{Batch, Runner};
use std::sync::Arc;
use std::time::Duration;
use text::Tokenizer;

/// Time since some fixed moment. The engine has no clock of its own, so that tests can fake it.
pub type Clock = Box<dyn Fn() -> Duration + Send>;

/// Rows of the batch that belong to one sequence.
#[derive(Clone, Copy)]
struct Turn {
    slot: usize,
    rows: usize,
    /// Whether the last row's logits are wanted.
    logits: bool,
    /// Whether the generation it was made for still goes on.
    alive: bool,
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Logits of the rows that wanted them.
    Logits,
    /// A token for each row.
    Chosen,
}

/// Runs sequences on a runner.
///
/// A sequence keeps its tokens and their cache until it is closed, so a conversation goes on where it
/// stopped ([`Engine::extend`]). Generations of all sequences advance together, one [`Engine::step`] at a
/// time. After a generation has started, its steps allocate nothing.
pub struct Engine {
    runner: Box<dyn Runner>,
    tokenizer: Option<Arc<Tokenizer>>,
    /// Most bytes of text one token can add.
    piece: usize,
    clock: Clock,
    vocab: usize,
    context: usize,
    /// Most rows of prompts a step takes.
    chunk: usize,
    /// Pages, by cache group.
    pools: Vec<Pool>,
    /// How far a row sees, by cache group.
    windows: Vec<Option<usize>>,
    slots: Vec<Option<Sequence>>,
    /// Serial number of the next sequence.
    serial: u32,
    /// Slot that is served first in the next step.
    turn: usize,
    batch: Batch,
    turns: Vec<Turn>,
    ahead: Ahead,
    guard: Guard,
    /// Most bytes of stored sequences.
    overflow: u64,
    /// Uses of sequences so far.
    uses: u64,
}

impl Engine {
    /// An engine on `runner`. Without a tokenizer there are tokens, but no text, no stop strings and no
    /// end tokens.
    pub fn new(mut runner: Box<dyn Runner>, tokenizer: Option<Arc<Tokenizer>>, clock: Clock) -> Engine {
        let options = *runner.options();
        // A broken character becomes U+FFFD, three bytes for one; a few bytes may wait from tokens before.
        let bytes = |tokenizer: &Arc<Tokenizer>| {
            let longest = (0..tokenizer.len() as u32).map(|id| tokenizer.bytes(id).len()).max();
            3 * (longest.unwrap_or(0) + 4)
        };
        Engine {
            piece: tokenizer.as_ref().map_or(0, bytes),
            vocab: runner.plan().shape.vocab,
            context: runner.plan().context.min(options.pages * PAGE),
            chunk: options.rows,
            pools: (runner.plan().kv.iter())
                .map(|group| Pool::new(options.group_pages(group.window)))
                .collect(),
            windows: runner.plan().kv.iter().map(|group| group.window).collect(),
            slots: (0..options.slots).map(|_| None).collect(),
            serial: 0,
            turn: 0,
            batch: Batch { rows: Vec::with_capacity(options.rows) },
            turns: Vec::with_capacity(options.slots),
            ahead: Ahead::new(runner.chooser().map_or(0, |chooser| chooser.rows())),
            guard: Guard::new(runner.grows()),
            overflow: 0,
            uses: 0,
            runner,
            tokenizer,
            clock,
        }
    }

    /// The runner: its plan, options, memory and times.
    pub fn runner(&self) -> &dyn Runner {
        &*self.runner
    }

    /// Turns the runner's tracing on or off and clears its times. What is traced is not chosen by the device.
    pub fn trace(&mut self, on: bool) {
        self.ahead.interrupt();
        self.ahead.traced = on;
        self.runner.trace(on);
    }

    /// Lets the device choose tokens and feed them to its next steps where it can, which is the default, or
    /// keeps every choice on the processor. The tokens are the same.
    pub fn set_feedback(&mut self, on: bool) {
        self.ahead.on = on;
    }

    /// Whether the device can choose tokens, and may.
    pub fn feeds_back(&mut self) -> bool {
        self.ahead.on && self.runner.chooser().is_some()
    }

    /// Most tokens a sequence can cache.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Pages nobody has, of the largest cache group with the fewest: the others keep windows only, for which
    /// there is always room.
    pub fn free_pages(&self) -> usize {
        let most = self.pools.iter().map(Pool::pages).max();
        let large = self.pools.iter().filter(|pool| Some(pool.pages()) == most);
        large.map(Pool::free).min().unwrap_or(0)
    }

    /// Takes at most `rows` rows of prompts a step: shorter steps, so cancelling and other sequences wait
    /// less. Kept within 1 and what the runner was loaded with, which is also the default.
    pub fn set_chunk(&mut self, rows: usize) {
        self.chunk = rows.clamp(1, self.runner.options().rows.max(1));
    }

    /// An empty sequence.
    ///
    /// # Errors
    /// [`Error::Slots`] when all are taken.
    pub fn open(&mut self) -> Result<SequenceId, Error> {
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.ok_or(Error::Slots { slots: self.slots.len() })?;
        let id = SequenceId { slot: slot as u32, serial: self.serial };
        self.serial = self.serial.wrapping_add(1);
        self.slots[slot] = Some(Sequence::new(id, self.context, self.pools.len()));
        Ok(id)
    }

    /// Ends a sequence: its pages and slot are free again. No events follow. Closed ids are ignored.
    pub fn close(&mut self, id: SequenceId) {
        if self.sequence(id).is_ok()
            && let Some(mut sequence) = self.slots[id.slot as usize].take()
        {
            sequence.truncate(0, &self.windows, &mut self.pools);
            self.leave(id.slot as usize);
        }
    }

    /// A second sequence with the same tokens, sharing the cache of the first; neither sees what the other
    /// does from here on.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Busy`] while it generates, [`Error::Slots`], [`Error::Lost`].
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, Error> {
        self.idle(id)?;
        self.restore(id.slot as usize)?;
        let fork = self.open()?;
        let [Some(from), Some(to)] = self
            .slots
            .get_disjoint_mut([id.slot as usize, fork.slot as usize])
            .expect("a sequence in use and one just opened have two slots")
        else {
            return Err(Error::Closed { slot: id.slot });
        };
        to.ids.extend_from_slice(&from.ids);
        (to.cached, to.known) = (from.cached, from.known);
        let tables = to.tables.iter_mut().zip(&from.tables).zip(&mut self.pools);
        for (group, ((to, from), pool)) in tables.enumerate() {
            to.share(from, from.first() + from.pages().len(), pool);
            self.runner.map(fork.slot as usize, group, to.first(), to.pages());
        }
        self.touch(fork.slot as usize);
        Ok(fork)
    }

    /// The tokens of a sequence: prompt and answer. The last may not be cached yet.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn ids(&self, id: SequenceId) -> Result<&[u32], Error> {
        Ok(&self.sequence(id)?.ids)
    }

    /// Forgets the tokens of a sequence from position `len` on. Where layers see windows, the others may have
    /// to be computed anew.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Busy`] while it generates.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), Error> {
        self.idle(id)?;
        if let Some(sequence) = &mut self.slots[id.slot as usize] {
            sequence.truncate(len, &self.windows, &mut self.pools);
        }
        Ok(())
    }

    /// Opens a sequence and starts to generate after `prompt`.
    ///
    /// # Errors
    /// Those of [`Engine::open`] and [`Engine::extend`].
    pub fn start(&mut self, prompt: &[u32], params: &Params) -> Result<SequenceId, Error> {
        let id = self.open()?;
        let started = self.extend(id, prompt, params);
        if started.is_err() {
            self.close(id);
        }
        started.map(|_| id)
    }

    /// Starts to generate after `prompt`, the *whole* text so far in tokens; returns how many of them the
    /// sequence had cached already. What it had beyond the common beginning is forgotten; where layers see
    /// windows, it may be that nothing is left to go on from then.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Busy`]; [`Error::Empty`], [`Error::TooLong`], [`Error::Token`] for the
    /// prompt; [`Error::Setting`] for the parameters. Then the sequence is as it was.
    pub fn extend(&mut self, id: SequenceId, prompt: &[u32], params: &Params) -> Result<usize, Error> {
        self.idle(id)?;
        self.check(prompt, self.context)?;
        let sequence = self.sequence(id)?;
        let kept = sequence.ids[..sequence.kept()].iter();
        let common = kept.zip(prompt).take_while(|(old, new)| old == new).count();
        // The last token is always computed: its logits are needed.
        let reused = common.min(prompt.len() - 1);
        let mut generation = Generation::new(
            params,
            Setting {
                id,
                tokenizer: self.tokenizer.clone().map(|tokenizer| (tokenizer, self.piece)),
                vocab: self.vocab,
                context: self.context,
                prompt,
                now: (self.clock)(),
            },
        )?;
        generation.meet(self.runner.chooser());
        let slot = id.slot as usize;
        if let Some(sequence) = &mut self.slots[slot] {
            sequence.truncate(reused, &self.windows, &mut self.pools);
        }
        self.restore(slot)?;
        self.touch(slot);
        let Some(sequence) = &mut self.slots[slot] else { return Ok(0) };
        let reused = sequence.cached;
        sequence.ids.extend_from_slice(&prompt[sequence.ids.len()..]);
        generation.reuse(reused);
        sequence.generation = Some(generation);
        Ok(reused)
    }

    /// Asks a generation to end; it does at the start of the next step. Does nothing to others.
    pub fn cancel(&mut self, id: SequenceId) {
        if let Some(Some(sequence)) = self.slots.get_mut(id.slot as usize)
            && sequence.id == id
            && let Some(generation) = &mut sequence.generation
        {
            generation.cancelled = true;
        }
    }

    /// Whether anything is being generated.
    pub fn running(&self) -> bool {
        self.slots.iter().flatten().any(|sequence| sequence.generation.is_some())
    }

    /// One step of the runner for all generations: the next token of each and a chunk of prompts.
    ///
    /// `on` is told what happened. Returns whether anything is still being generated.
    ///
    /// # Errors
    /// The device went away; the engine is of no use any more.
    pub fn step(&mut self, on: &mut dyn FnMut(SequenceId, Event<'_>)) -> Result<bool, Lost> {
        self.end_cancelled(on);
        if self.running() && self.admitted() {
            let begun = self.limited_now();
            self.watch(on);
            self.step_once(on)?;
            self.worked_since(begun);
        }
        Ok(self.running())
    }

    fn step_once(&mut self, on: Listener) -> Result<(), Lost> {
        if self.step_ahead(on)? {
            return Ok(());
        }
        self.schedule(on)?;
        if self.begin_ahead()? {
            self.step_ahead(on)?;
        } else if !self.turns.is_empty() {
            self.runner.step(&self.batch)?;
            self.deliver(Outcome::Logits, on);
        }
        Ok(())
    }

    /// Steps until the generation of `id` ends; asks `cancelled` before each step.
    ///
    /// Other sequences advance too, but their events are not told.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Idle`] if nothing was started; [`Error::Lost`].
    pub fn run(
        &mut self,
        id: SequenceId,
        cancelled: &dyn Fn() -> bool,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, Error> {
        if self.sequence(id)?.generation.is_none() {
            return Err(Error::Idle { slot: id.slot });
        }
        let mut summary = None;
        loop {
            if let Some(summary) = summary {
                return Ok(summary);
            }
            if cancelled() {
                self.cancel(id);
            }
            self.step(&mut |of, event| {
                if of == id {
                    if let Event::Finished(end) = event {
                        summary = Some(end);
                    }
                    on(event);
                }
            })?;
        }
    }

    /// Takes the results of a step to the generations.
    fn deliver(&mut self, outcome: Outcome, on: Listener) {
        let now = (self.clock)();
        let mut row = 0;
        for i in 0..self.turns.len() {
            let turn = self.turns[i];
            if !turn.alive {
                continue;
            }
            let chosen = (outcome == Outcome::Chosen).then(|| self.chosen(i));
            let Some(sequence) = &mut self.slots[turn.slot] else { continue };
            sequence.advance(turn.rows);
            let Some(generation) = &mut sequence.generation else { continue };
            if !generation.prompt_known() {
                let done = generation.prompt - (sequence.ids.len() - sequence.cached);
                on(sequence.id, Event::Prompt { done, total: generation.prompt });
            }
            if !turn.logits {
                continue;
            }
            generation.prompt_ended(now);
            let logits = row * self.vocab..(row + 1) * self.vocab;
            row += 1;
            let mut end = (!generation.wants_more()).then_some(Finish::Length);
            if end.is_some() {
                generation.stopped = Some(Stopped::Tokens);
            }
            if end.is_none() {
                let (token, finish) = match chosen {
                    Some(chosen) => generation.follow(chosen, on),
                    None => generation.choose(&self.runner.logits()[logits], on),
                };
                generation.token_chosen((self.clock)());
                sequence.ids.push(token);
                // The token just chosen would need a position.
                end = finish;
                if end.is_none() && sequence.ids.len() > self.context && !self.slide(turn.slot) {
                    self.stop(turn.slot, Stopped::Context);
                    end = Some(Finish::Length);
                }
            }
            if let Some(finish) = end {
                self.finish(turn.slot, finish, on);
            }
        }
    }

    /// A slot's sequence is used now.
    fn touch(&mut self, slot: usize) {
        self.uses += 1;
        if let Some(sequence) = &mut self.slots[slot] {
            sequence.used = self.uses;
        }
    }

    /// Notes what there is no more of for the generation in a slot.
    fn stop(&mut self, slot: usize, stopped: Stopped) {
        if let Some(sequence) = &mut self.slots[slot]
            && let Some(generation) = &mut sequence.generation
        {
            generation.stopped = Some(stopped);
        }
    }

    /// Ends the generation in a slot.
    fn finish(&mut self, slot: usize, finish: Finish, on: Listener) {
        let now = (self.clock)();
        if let Some(sequence) = &mut self.slots[slot]
            && let Some(generation) = sequence.generation.take()
        {
            generation.finish(finish, sequence.cached, now, on);
            // Pages of steps that went too far.
            sequence.trim(&mut self.pools);
            self.leave(slot);
            self.touch(slot);
        }
    }

    /// Nothing more is delivered to what a slot generated.
    fn leave(&mut self, slot: usize) {
        self.turns.iter_mut().filter(|turn| turn.slot == slot).for_each(|turn| turn.alive = false);
    }

    fn sequence(&self, id: SequenceId) -> Result<&Sequence, Error> {
        match self.slots.get(id.slot as usize) {
            Some(Some(sequence)) if sequence.id == id => Ok(sequence),
            _ => Err(Error::Closed { slot: id.slot }),
        }
    }

    /// A sequence that is not generating.
    fn idle(&self, id: SequenceId) -> Result<&Sequence, Error> {
        let sequence = self.sequence(id)?;
        match sequence.generation {
            None => Ok(sequence),
            Some(_) => Err(Error::Busy { slot: id.slot }),
        }
    }

    /// Whether tokens are of this model and at most `room`.
    fn check(&self, ids: &[u32], room: usize) -> Result<(), Error> {
        if ids.is_empty() {
            return Err(Error::Empty);
        }
        if ids.len() > room {
            return Err(Error::TooLong { tokens: ids.len(), room });
        }
        let vocab = self.vocab;
        let wrong = ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab);
        wrong.map_or(Ok(()), |(index, &id)| Err(Error::Token { index, id, vocab }))
    }
}

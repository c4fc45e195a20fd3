//! What the machine allows: whether a step may run now, and whether there is memory for it.
//!
//! The room that is left is asked for once a step. Where pages grow it is counted down by each page that takes
//! memory for the first time. What happens when it does not last, in this order: pages that windows left behind
//! and pages nobody has give their memory back; stored sequences go, then the cache of idle ones, the longest
//! unused first (their tokens stay and are computed anew when wanted); prompts are read a page at a time; the
//! youngest generation ends.

use super::Engine;
use crate::generation::{Finish, Listener, Stopped};
use crate::limits::MARGIN;
use crate::sequence::seen_from;
use crate::{Limits, Notice};
use model::runner::PAGE;
use std::time::Duration;

/// Who is asked and who is told.
#[derive(Default)]
pub(super) struct Guard {
    limits: Option<Box<dyn Limits>>,
    notice: Option<Box<dyn FnMut(Notice) + Send>>,
    /// How long the last step took; nothing if none ran since limits were asked.
    worked: Duration,
    /// Whether pages take memory when they are written first.
    pub(super) grows: bool,
    /// Bytes left in this step; `None` where nobody knows.
    room: Option<u64>,
    /// What a sequence that had to be left out of the last step needs.
    starved: Option<u64>,
}

impl Guard {
    /// For a runner whose pages grow, or do not.
    pub(super) fn new(grows: bool) -> Guard {
        Guard { grows, ..Guard::default() }
    }

    /// Whether a page that was never written may be taken as well as any other.
    pub(super) fn carefree(&self) -> bool {
        !self.grows || self.room.is_none()
    }

    /// Takes `bytes` of the room; whether there are as many and the margin.
    pub(super) fn spend(&mut self, bytes: u64) -> bool {
        match &mut self.room {
            None => true,
            Some(room) if *room >= bytes.saturating_add(MARGIN) => {
                *room -= bytes;
                true
            }
            Some(_) => false,
        }
    }

    /// Memory was given back.
    fn earn(&mut self, bytes: u64) {
        if let Some(room) = &mut self.room {
            *room = room.saturating_add(bytes);
        }
        if let Some(limits) = &mut self.limits {
            limits.gave_back(bytes);
        }
    }

    /// Bytes left, as far as known.
    pub(super) fn room(&self) -> u64 {
        self.room.unwrap_or(0)
    }

    /// Whether other programs have touched the reserve.
    pub(super) fn pressed(&self) -> bool {
        self.room == Some(0)
    }

    /// A sequence is left out of this step for lack of so much memory.
    pub(super) fn starve(&mut self, needed: u64) {
        self.starved = Some(self.starved.map_or(needed, |least| least.min(needed)));
    }
}

impl Engine {
    /// Asks `limits` from now on; without, nothing is limited and nobody looks at the clock for it.
    pub fn set_limits(&mut self, limits: Box<dyn Limits>) {
        self.guard.limits = Some(limits);
        self.guard.worked = Duration::ZERO;
    }

    /// Tells `notice` what happens to sequences without being asked for, in place of whoever was told before.
    pub fn on_notice(&mut self, notice: Box<dyn FnMut(Notice) + Send>) {
        self.guard.notice = Some(notice);
    }

    /// Gives back all memory that no generation needs: free pages', stored sequences' and, where pages grow, the
    /// cache of idle sequences. Tokens stay and are computed anew when wanted. Returns how many bytes.
    pub fn relieve(&mut self) -> u64 {
        let mut bytes = 0;
        loop {
            bytes += self.give_back_pages();
            match self.drop_stored().or_else(|| self.guard.grows.then(|| self.drop_idle(None)).flatten()) {
                Some(freed) => bytes += freed,
                None => return bytes,
            }
        }
    }

    /// Whether a step may run now.
    pub(super) fn admitted(&mut self) -> bool {
        let worked = std::mem::take(&mut self.guard.worked);
        self.guard.limits.as_mut().is_none_or(|limits| limits.admit(worked))
    }

    /// The time, if anybody limits.
    pub(super) fn limited_now(&self) -> Option<Duration> {
        self.guard.limits.as_ref().map(|_| (self.clock)())
    }

    /// A step that began at `begun` has ended.
    pub(super) fn worked_since(&mut self, begun: Option<Duration>) {
        if let Some(begun) = begun {
            self.guard.worked = (self.clock)().saturating_sub(begun);
        }
    }

    /// Tells whoever wants to know.
    pub(super) fn notify(&mut self, notice: Notice) {
        if let Some(told) = &mut self.guard.notice {
            told(notice);
        }
    }

    /// Asks how much room there is.
    pub(super) fn ask_room(&mut self) {
        self.guard.room = self.guard.limits.as_mut().and_then(|limits| limits.room());
    }

    /// Asks how much room there is, and does what is to be done about it before a step.
    pub(super) fn watch(&mut self, on: Listener) {
        self.ask_room();
        let starved = self.guard.starved.take();
        let Some(room) = self.guard.room else { return };
        // When it starved, nothing that could be given back was left.
        let starved = starved.filter(|&needed| room < needed);
        if starved.is_none() && (room > 0 || self.relieve_some()) {
            return;
        }
        let needed = starved.unwrap_or(MARGIN);
        let age = |slot: &usize| {
            let sequence = self.slots[*slot].as_ref()?;
            sequence.generation.as_ref().map(|_| sequence.used)
        };
        let youngest = (0..self.slots.len()).filter(|slot| age(slot).is_some()).max_by_key(age);
        let Some((slot, sequence)) = youngest.and_then(|slot| Some((slot, self.slots[slot].as_ref()?)))
        else {
            return;
        };
        let (id, token) = (sequence.id, sequence.ids.len());
        self.stop(slot, Stopped::Memory);
        self.finish(slot, Finish::Length, on);
        self.notify(Notice::OutOfMemory { id, token, needed, room });
        if !self.running() {
            // No step follows that would.
            self.relieve();
        }
    }

    /// Gives back what is easiest to do without; whether there was anything.
    fn relieve_some(&mut self) -> bool {
        if self.give_back_pages() > 0 || self.drop_stored().is_some() {
            return true;
        }
        // Shared pages stay with those that generate.
        while self.guard.grows && self.drop_idle(None).is_some() {
            if self.give_back_pages() > 0 {
                return true;
            }
        }
        false
    }

    /// Makes memory for a page of `group` that `slot` wants, or a page that has some; whether anything came of it.
    pub(super) fn relieve_for(&mut self, group: usize, slot: usize) -> bool {
        self.left_behind(group)
            || self.give_back_pages() > 0
            || self.drop_stored().is_some()
            || self.drop_idle(Some(slot)).is_some()
    }

    /// Gives back the memory of pages nobody has or needs; returns how much that was.
    fn give_back_pages(&mut self) -> u64 {
        if !self.guard.grows {
            return 0;
        }
        let Self { pools, windows, slots, runner, .. } = self;
        let mut bytes = 0;
        for (group, pool) in pools.iter_mut().enumerate() {
            for sequence in slots.iter_mut().flatten() {
                let keep = seen_from(sequence.cached, windows[group]) / PAGE;
                while sequence.tables[group].forget(keep, pool) {}
            }
            let pages = pool.shrink(|page| runner.give_back(group, page));
            bytes += (pages * runner.page_bytes(group)) as u64;
        }
        if bytes > 0 {
            self.guard.earn(bytes);
            self.notify(Notice::GaveBack { bytes });
        }
        bytes
    }

    /// Gives up the stored sequence that was not used for longest; returns its bytes.
    pub(super) fn drop_stored(&mut self) -> Option<u64> {
        let stored = self.slots.iter_mut().flatten().filter(|sequence| sequence.stored.is_some());
        let sequence = stored.min_by_key(|sequence| sequence.used)?;
        let stored = sequence.stored.take()?;
        let (id, tokens, bytes) = (sequence.id, sequence.ids.len(), stored.bytes());
        drop(stored);
        self.guard.earn(bytes);
        self.notify(Notice::Dropped { id, tokens });
        Some(bytes)
    }

    /// Gives up the cache of the idle sequence that was not used for longest, other than `slot`'s; no bytes are
    /// free by that, but pages are.
    fn drop_idle(&mut self, slot: Option<usize>) -> Option<u64> {
        let slot = self.least_used(slot)?;
        self.uncache(slot);
        Some(0)
    }
}

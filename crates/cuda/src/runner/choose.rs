//! Steps that choose their tokens: enqueued without waiting, heard of through the outbox.

use super::CudaRunner;
use crate::choose::{AHEAD, Choice};
use crate::driver;
use crate::lower::Regime;
use crate::rows::Rows;
use model::runner::{Batch, Lost, Runner};
use model::{Chooser, Choosing, Chosen};
use std::hint::spin_loop;
use std::thread;
use std::time::Duration;

/// Looks at the outbox before the thread gives way, and before it sleeps: about 50 µs, and as much again.
const SPINS: u32 = 1000;
const YIELDS: u32 = 1100;

/// How long it sleeps at a time. The device has another step to do meanwhile.
const NAP: Duration = Duration::from_micros(50);

/// Naps after which the device is asked whether it is still there: a few milliseconds.
const NAPS: u32 = 20;

impl CudaRunner {
    /// Waits for all that was enqueued and not waited for.
    pub(super) fn settle(&mut self) -> Result<(), driver::Error> {
        if self.busy {
            self.stream.synchronize()?;
            self.busy = false;
            self.kv.settled();
        }
        Ok(())
    }

    fn choice(&self) -> &Choice {
        self.choice.as_ref().expect("only a runner that chooses is asked to")
    }

    fn choice_mut(&mut self) -> &mut Choice {
        self.choice.as_mut().expect("only a runner that chooses is asked to")
    }

    /// Launches a step and its choice.
    fn issue_choosing(&self, rows: &Rows, all: bool) -> Result<(), driver::Error> {
        for (launched, count) in self.launches(rows) {
            launched.run(&self.stream, rows, count)?;
        }
        self.choice().issue(&self.stream, rows.count, all)
    }

    /// Enqueues the step whose rows the device has.
    fn go(&mut self, rows: Rows) -> Result<(), driver::Error> {
        self.busy = true;
        self.update_tables()?;
        let all = self.choice().needs_all();
        if self.replay {
            if self.choice_mut().graph(rows.count, all).is_none() {
                let graph = self.stream.capture(|_| self.issue_choosing(&rows, all))?;
                *self.choice_mut().graph(rows.count, all) = Some(graph);
            }
            let Self { choice: Some(choice), stream, .. } = self else { return Ok(()) };
            let graph = choice.graph(rows.count, all).as_ref().expect("captured above");
            graph.launch(stream)?;
        } else {
            self.issue_choosing(&rows, all)?;
        }
        self.choice_mut().under_way += 1;
        Ok(())
    }

    fn begin_run(&mut self, batch: &Batch) -> Result<(), driver::Error> {
        self.settle()?;
        let (name, state) = self.buffers.state(Regime::Few);
        let most = self.tile_rows(Regime::Few);
        let rows = Rows::fill(&batch.rows, state, self.few.as_mut_slice(), most);
        let offset = self.buffers.layout.offset(name);
        self.busy = true;
        self.buffers.block.write_later(&self.stream, offset, &self.few, 0..state.entries())?;
        let choice = self.choice_mut();
        choice.members.clear();
        choice.members.extend(batch.rows.iter().map(|row| row.slot));
        choice.rows = Some(rows);
        self.go(rows)
    }

    /// Waits for a member's token; how many looks it took.
    fn wait(&mut self, member: usize) -> Result<(Chosen, u32), Lost> {
        let mut looks = 0;
        loop {
            if let Some(found) = self.choice().peek(member) {
                self.choice_mut().taken(member);
                let crate::args::sample::Chosen { token, nothing, not_a_number, .. } = found;
                return Ok((Chosen { token, nothing, not_a_number }, looks));
            }
            looks += 1;
            match looks {
                0..SPINS => spin_loop(),
                SPINS..YIELDS => thread::yield_now(),
                _ => thread::sleep(NAP),
            }
            if looks % NAPS == 0 && looks > YIELDS {
                let idle = self.stream.is_idle().map_err(|error| self.lose(&error))?;
                if idle && self.choice().peek(member).is_none() {
                    let cause = "a step ended without a token: a fault of the program".to_owned();
                    self.lost = Some(cause.clone());
                    return Err(Lost { device: self.name.clone(), cause });
                }
            }
        }
    }

    fn present(&self) -> Result<(), Lost> {
        match &self.lost {
            Some(cause) => Err(Lost { device: self.name.clone(), cause: cause.clone() }),
            None => Ok(()),
        }
    }
}

impl Chooser for CudaRunner {
    fn rows(&self) -> usize {
        self.choice().room.rows
    }

    fn ahead(&self) -> usize {
        self.choice().ahead
    }

    fn serves(&self, choosing: &Choosing) -> bool {
        self.choice().serves(choosing)
    }

    fn start(&mut self, slot: usize, choosing: &Choosing, recent: &[u32]) -> Result<(), Lost> {
        self.present()?;
        assert_eq!(self.choice().under_way, 0, "no step is under way");
        assert!(slot < self.options().slots, "a slot of this runner");
        assert!(recent.iter().all(|&id| (id as usize) < self.plan.shape.vocab), "tokens of the vocabulary");
        self.settle().map_err(|error| self.lose(&error))?;
        self.busy = true;
        let Self { choice: Some(choice), stream, buffers, .. } = self else { return Ok(()) };
        choice.start(stream, buffers, slot, choosing, recent).map_err(|error| self.lose(&error))
    }

    fn begin(&mut self, batch: &Batch) -> Result<(), Lost> {
        self.present()?;
        assert_eq!(self.choice().under_way, 0, "no step is under way");
        assert!((1..=self.rows()).contains(&batch.rows.len()), "a row, and no more than can choose");
        assert!(batch.rows.iter().all(|row| row.logits), "every row chooses");
        let others = |i: usize| &batch.rows[..i];
        let apart = |(i, row): (usize, &model::Row)| others(i).iter().all(|other| other.slot != row.slot);
        assert!(batch.rows.iter().enumerate().all(apart), "rows of different slots");
        self.wanted = 0;
        self.check(&batch.rows);
        self.begin_run(batch).map_err(|error| self.lose(&error))
    }

    fn again(&mut self) -> Result<(), Lost> {
        self.present()?;
        let choice = self.choice();
        assert!(choice.under_way < *AHEAD.end(), "no more steps under way than the outbox holds");
        let rows = choice.rows.expect("the step before this one chose tokens");
        self.go(rows).map_err(|error| self.lose(&error))
    }

    fn take(&mut self, chosen: &mut [Chosen]) -> Result<(), Lost> {
        self.present()?;
        assert!(self.choice().under_way > 0, "a step is under way");
        assert_eq!(chosen.len(), self.choice().members.len(), "a place for each row's token");
        for (member, to) in chosen.iter_mut().enumerate() {
            let (token, looks) = self.wait(member)?;
            *to = token;
            if member == 0 {
                let choice = self.choice_mut();
                // Late hosts have their device do more meanwhile; punctual ones throw less away at an end.
                choice.ahead = match looks {
                    0 => (choice.ahead + 1).min(*AHEAD.end()),
                    1..YIELDS => choice.ahead,
                    _ => (choice.ahead - 1).max(*AHEAD.start()),
                };
            }
        }
        self.choice_mut().under_way -= 1;
        Ok(())
    }

    fn forget(&mut self) {
        let choice = self.choice_mut();
        choice.under_way = 0;
        choice.rows = None;
    }
}

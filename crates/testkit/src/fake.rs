//! A runner without a model: its logits are a hash of everything a row may see.
//!
//! It keeps tokens in pages as a real runner keeps keys and values, and reads them back through the
//! mapped page lists. A page mapped wrongly, shared wrongly or not copied, a position or a token out of
//! place: each changes the tokens that come out.

use model::plan::{KvGroup, Shape};
use model::runner::Memory;
use model::runner::{KvType, Lost, OpTime, PAGE};
use model::{Batch, Chooser, Choosing, Chosen, LoadOptions, Plan, Row, Runner};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What a page keeps of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Position + 1; 0 where nothing was written.
    written: u32,
    token: u32,
}

/// Bytes of a page.
const PAGE_BYTES: usize = 8 * PAGE;

/// Page of a position that is not mapped.
const UNMAPPED: u32 = u32::MAX;

/// Chooses a slot's next token from its logits.
pub type Choose = Box<dyn FnMut(&[f32]) -> Chosen + Send>;

/// Makes what chooses as asked after recent tokens; `None` if that is not to be served.
pub type Choosers = Box<dyn Fn(&Choosing, &[u32]) -> Option<Choose> + Send>;

/// The fake's way to choose tokens by itself.
struct Choice {
    ahead: usize,
    rows: usize,
    make: Choosers,
    /// By slot, once started.
    slots: Vec<Option<Choose>>,
    /// What the next step starts from.
    next: Vec<Row>,
    /// Steps nobody has taken, as tokens of their rows.
    under_way: VecDeque<Vec<Chosen>>,
    /// Lists to be used again.
    spare: Vec<Vec<Chosen>>,
}

/// Memory that a growing fake takes from, with whoever else has a clone of it.
#[derive(Clone, Debug)]
pub struct FakeMemory(Arc<AtomicI64>);

impl FakeMemory {
    /// So many bytes, all free.
    pub fn new(bytes: i64) -> FakeMemory {
        FakeMemory(Arc::new(AtomicI64::new(bytes)))
    }

    /// Bytes that are free.
    pub fn free(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Another program takes bytes, or gives them back if they are less than none.
    pub fn take(&self, bytes: i64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The fake. Steps allocate nothing.
pub struct FakeRunner {
    plan: Plan,
    options: LoadOptions,
    /// `[group][page][PAGE]`.
    storage: Vec<Vec<[Cell; PAGE]>>,
    /// `[slot][group][index]`: pages.
    tables: Vec<Vec<Vec<u32>>>,
    logits: Vec<f32>,
    /// Steps left before the device goes away.
    steps_left: Option<usize>,
    /// Steps run.
    steps: usize,
    choice: Option<Choice>,
    /// What pages take when they are written first.
    memory: Option<FakeMemory>,
    /// `[group][page]`: whether it was.
    grown: Vec<Vec<bool>>,
}

/// A plan without operations: all the fake and the engine look at.
///
/// `windows` has one entry a cache group.
pub fn fake_plan(vocab: usize, context: usize, windows: &[Option<usize>]) -> Plan {
    let group = |(layer, &window)| KvGroup { window, layers: vec![layer] };
    let kv: Vec<KvGroup> = windows.iter().enumerate().map(group).collect();
    let layers = kv.len();
    let shape = Shape { dim: 1, heads: 1, kv_heads: 1, head_dim: 1, ff: 1, vocab, layers, eps: 1e-6 };
    Plan { shape, context, ops: vec![], weights: vec![], vectors: vec![], ropes: vec![], kv }
}

/// Options for `slots` sequences that share `pages` pages a group.
pub fn fake_options(rows: usize, logit_rows: usize, slots: usize, pages: usize) -> LoadOptions {
    LoadOptions { rows, logit_rows, slots, pages, kv: KvType::F16, threads: 1 }
}

impl FakeRunner {
    /// A fake for a plan, of which it uses vocabulary, context and cache groups.
    pub fn new(plan: Plan, options: LoadOptions) -> FakeRunner {
        let (groups, lists) = (plan.kv.len(), plan.context.div_ceil(PAGE).max(options.pages));
        FakeRunner {
            storage: (plan.kv.iter())
                .map(|group| vec![[Cell::default(); PAGE]; options.group_pages(group.window)])
                .collect(),
            grown: plan.kv.iter().map(|group| vec![false; options.group_pages(group.window)]).collect(),
            memory: None,
            tables: vec![vec![vec![UNMAPPED; lists]; groups]; options.slots],
            logits: Vec::with_capacity(options.logit_rows * plan.shape.vocab),
            plan,
            options,
            steps_left: None,
            steps: 0,
            choice: None,
        }
    }

    /// Lets the fake choose tokens in steps of up to `rows` rows, `ahead` of them under way. Each runs when it
    /// is enqueued, the earliest a device could, so what it writes too far is there at once.
    #[must_use]
    pub fn choosing(mut self, rows: usize, ahead: usize, make: Choosers) -> FakeRunner {
        let list = || Vec::with_capacity(rows);
        self.choice = Some(Choice {
            ahead,
            rows,
            make,
            slots: (0..self.options.slots).map(|_| None).collect(),
            next: Vec::with_capacity(rows),
            under_way: VecDeque::with_capacity(ahead + 1),
            spare: (0..=ahead).map(|_| list()).collect(),
        });
        self
    }

    /// Lets pages take memory when they are written first. Where there is none, the fake panics as a system
    /// would kill a program.
    #[must_use]
    pub fn growing(mut self, memory: FakeMemory) -> FakeRunner {
        self.memory = Some(memory);
        self
    }

    /// A page is written.
    fn touch(&mut self, group: usize, page: u32) {
        if let Some(memory) = &self.memory
            && !std::mem::replace(&mut self.grown[group][page as usize], true)
        {
            memory.take(PAGE_BYTES as i64);
            assert!(memory.free() >= 0, "killed: no memory for page {page} of group {group}");
        }
    }

    /// Lets the device go away after this many more steps.
    #[must_use]
    pub fn lost_after(mut self, steps: usize) -> FakeRunner {
        self.steps_left = Some(steps);
        self
    }

    /// Steps run so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Runs a step.
    fn compute(&mut self, rows: &[Row]) -> Result<(), Lost> {
        if let Some(left) = &mut self.steps_left {
            let lost = || Lost { device: "fake".to_owned(), cause: "told to".to_owned() };
            *left = left.checked_sub(1).ok_or_else(lost)?;
        }
        self.steps += 1;
        assert!(!rows.is_empty(), "a step without rows");
        assert!(rows.len() <= self.options.rows, "more rows than loaded for");
        let wanted = rows.iter().filter(|row| row.logits).count();
        assert!(wanted <= self.options.logit_rows, "more rows with logits than loaded for");
        for pair in rows.windows(2) {
            let [a, b] = [pair[0], pair[1]];
            assert!(a.slot != b.slot || b.position == a.position + 1, "positions of a slot must rise by one");
        }
        for row in rows {
            assert!((row.token as usize) < self.plan.shape.vocab, "token {} does not exist", row.token);
            assert!((row.position as usize) < self.plan.context, "position {} is too far", row.position);
            for group in 0..self.plan.kv.len() {
                let page = self.tables[row.slot as usize][group][row.position as usize / PAGE];
                if page != UNMAPPED {
                    self.touch(group, page);
                }
                *self.cell(row.slot, group, row.position) =
                    Cell { written: row.position + 1, token: row.token };
            }
        }
        self.logits.clear();
        for row in rows.iter().filter(|row| row.logits) {
            let hash = self.seen(row.slot, row.position);
            self.logits.extend((0..self.plan.shape.vocab).map(|token| logit(hash, token)));
        }
        Ok(())
    }

    fn cell(&mut self, slot: u32, group: usize, position: u32) -> &mut Cell {
        let (index, within) = (position as usize / PAGE, position as usize % PAGE);
        let page = self.tables[slot as usize][group][index];
        assert_ne!(page, UNMAPPED, "position {position} of slot {slot}, group {group}, is not mapped");
        &mut self.storage[group][page as usize][within]
    }

    /// Hash of what a row at `position` sees in all groups.
    fn seen(&mut self, slot: u32, position: u32) -> u64 {
        let mut hash = 0;
        for group in 0..self.plan.kv.len() {
            let window = self.plan.kv[group].window.unwrap_or(usize::MAX);
            let first = (position as usize + 1).saturating_sub(window) as u32;
            for p in first..=position {
                let cell = *self.cell(slot, group, p);
                hash = mix(hash ^ (u64::from(cell.written) << 32 | u64::from(cell.token)));
            }
            hash = mix(hash ^ group as u64);
        }
        hash
    }
}

/// The finisher of SplitMix64.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The logit of a token after a history with this hash, in [−4, 4).
fn logit(hash: u64, token: usize) -> f32 {
    (mix(hash ^ (token as u64).wrapping_mul(0xd605_bbb5_8c8a_bc03)) >> 40) as f32 / (1 << 21) as f32 - 4.0
}

/// Logits after `history`, computed without pages: what [`FakeRunner`] must give for its last token.
pub fn fake_logits(plan: &Plan, history: &[u32]) -> Vec<f32> {
    let mut hash = 0;
    for (group, kv) in plan.kv.iter().enumerate() {
        let first = history.len().saturating_sub(kv.window.unwrap_or(usize::MAX));
        for (i, &token) in history.iter().enumerate().skip(first) {
            hash = mix(hash ^ ((i as u64 + 1) << 32 | u64::from(token)));
        }
        hash = mix(hash ^ group as u64);
    }
    (0..plan.shape.vocab).map(|token| logit(hash, token)).collect()
}

impl Runner for FakeRunner {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn options(&self) -> &LoadOptions {
        &self.options
    }

    fn memory(&self) -> Memory {
        self.plan.memory(&self.options)
    }

    fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]) {
        for (i, &page) in pages.iter().enumerate() {
            assert!((page as usize) < self.storage[group].len(), "page {page} does not exist");
            self.tables[slot][group][first + i] = page;
        }
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        self.touch(group, to);
        self.storage[group][to as usize] = self.storage[group][from as usize];
    }

    fn page_bytes(&self, _group: usize) -> usize {
        PAGE_BYTES
    }

    fn grows(&self) -> bool {
        self.memory.is_some()
    }

    fn give_back(&mut self, group: usize, page: u32) {
        if let Some(memory) = &self.memory
            && std::mem::take(&mut self.grown[group][page as usize])
        {
            memory.take(-(PAGE_BYTES as i64));
            self.storage[group][page as usize] = [Cell::default(); PAGE];
        }
    }

    fn read_page(&mut self, group: usize, page: u32, to: &mut [u8]) -> Result<(), Lost> {
        for (to, cell) in to.chunks_exact_mut(8).zip(self.storage[group][page as usize]) {
            to[..4].copy_from_slice(&cell.written.to_le_bytes());
            to[4..].copy_from_slice(&cell.token.to_le_bytes());
        }
        Ok(())
    }

    fn write_page(&mut self, group: usize, page: u32, from: &[u8]) -> Result<(), Lost> {
        self.touch(group, page);
        let (bytes, _) = from.as_chunks::<4>();
        for (cell, bytes) in self.storage[group][page as usize].iter_mut().zip(bytes.chunks_exact(2)) {
            let [written, token] = [bytes[0], bytes[1]].map(u32::from_le_bytes);
            *cell = Cell { written, token };
        }
        Ok(())
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Lost> {
        if let Some(choice) = &mut self.choice {
            choice.next.clear();
        }
        self.compute(&batch.rows)
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }

    fn chooser(&mut self) -> Option<&mut dyn Chooser> {
        if self.choice.is_some() { Some(self) } else { None }
    }

    fn times(&self) -> &[OpTime] {
        &[]
    }

    fn trace(&mut self, _on: bool) {}
}
impl FakeRunner {
    fn choice(&mut self) -> &mut Choice {
        self.choice.as_mut().expect("only a fake that chooses is asked to")
    }

    /// Runs a step over the rows in `next`, chooses, and leaves the next step's rows there.
    fn choose(&mut self) -> Result<(), Lost> {
        let mut rows = std::mem::take(&mut self.choice().next);
        assert!(!rows.is_empty(), "another step was run, so there is nothing to go on from");
        self.compute(&rows)?;
        let vocab = self.plan.shape.vocab;
        let Self { choice: Some(choice), logits, .. } = self else { return Ok(()) };
        let mut chosen = choice.spare.pop().expect("no more steps are under way than allowed");
        chosen.clear();
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(vocab)) {
            let choose = choice.slots[row.slot as usize].as_mut();
            let token = choose.expect("a slot is started before it chooses")(logits);
            chosen.push(token);
            (row.token, row.position) = (token.token, row.position + 1);
        }
        choice.under_way.push_back(chosen);
        choice.next = rows;
        // What a device leaves of them is nobody's.
        logits.fill(f32::NAN);
        Ok(())
    }
}

impl Chooser for FakeRunner {
    fn rows(&self) -> usize {
        self.choice.as_ref().map_or(0, |choice| choice.rows)
    }

    fn ahead(&self) -> usize {
        self.choice.as_ref().map_or(0, |choice| choice.ahead)
    }

    fn serves(&self, choosing: &Choosing) -> bool {
        self.choice.as_ref().is_some_and(|choice| (choice.make)(choosing, &[]).is_some())
    }

    fn start(&mut self, slot: usize, choosing: &Choosing, recent: &[u32]) -> Result<(), Lost> {
        let choice = self.choice();
        assert!(choice.under_way.is_empty(), "a slot was started while steps are under way");
        assert!(recent.len() <= choosing.window, "more recent tokens than count");
        choice.slots[slot] = Some((choice.make)(choosing, recent).expect("only what is served is started"));
        Ok(())
    }

    fn begin(&mut self, batch: &Batch) -> Result<(), Lost> {
        let choice = self.choice();
        assert!(choice.under_way.is_empty(), "a run began while steps are under way");
        assert!(batch.rows.len() <= choice.rows, "more rows than can be chosen for");
        for (i, row) in batch.rows.iter().enumerate() {
            assert!(row.logits, "every row chooses");
            assert!(batch.rows[..i].iter().all(|other| other.slot != row.slot), "a slot has two rows");
        }
        choice.next.clear();
        choice.next.extend_from_slice(&batch.rows);
        self.choose()
    }

    fn again(&mut self) -> Result<(), Lost> {
        let choice = self.choice();
        assert!(choice.under_way.len() < choice.ahead, "more steps under way than allowed");
        self.choose()
    }

    fn take(&mut self, chosen: &mut [Chosen]) -> Result<(), Lost> {
        let choice = self.choice();
        let taken = choice.under_way.pop_front().expect("only steps under way are taken");
        chosen.copy_from_slice(&taken);
        choice.spare.push(taken);
        Ok(())
    }

    fn forget(&mut self) {
        let Choice { slots, next, under_way, spare, .. } = self.choice();
        for row in &mut *next {
            slots[row.slot as usize] = None;
        }
        next.clear();
        spare.extend(under_way.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Row;

    #[test]
    fn pages_decide_what_a_row_sees() {
        let plan = fake_plan(11, 128, &[None, Some(5)]);
        let run = |pages: [u32; 3]| {
            let mut runner = FakeRunner::new(plan.clone(), fake_options(96, 1, 1, 3));
            (0..2).for_each(|group| runner.map(0, group, 0, &pages));
            let row = |i| Row { slot: 0, position: i, token: i % 11, logits: i == 69 };
            runner.step(&Batch { rows: (0..70).map(row).collect() }).expect("it is never lost");
            runner.logits().to_vec()
        };
        let history: Vec<u32> = (0..70).map(|i| i % 11).collect();
        assert_eq!(run([0, 1, 2]), fake_logits(&plan, &history));
        assert_eq!(run([2, 0, 1]), fake_logits(&plan, &history));
        assert_ne!(run([0, 0, 1]), fake_logits(&plan, &history), "a page used twice must show");
    }
}

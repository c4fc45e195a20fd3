//! What a backend offers: a device loads a plan into a runner, a runner steps batches.
//!
//! A [`Batch`] is a list of rows, one token each; the same type serves prefill, decode, several
//! sequences at once and verification of drafts. The cache is paged: the engine owns page *lists*,
//! the runner owns page *storage*.

use crate::{Chooser, Error, Plan};
use gguf::Gguf;

/// Positions a page of the cache holds, for every layer of its group.
pub const PAGE: usize = 32;

/// Most steps under way that windows have room for, however few rows a step may have.
const AHEAD: usize = 8;

/// One token of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which sequence's page lists.
    pub slot: u32,
    /// Position in that sequence; rows of one slot are consecutive and rising within a batch.
    pub position: u32,
    /// Token id, below the vocabulary's size.
    pub token: u32,
    /// Whether this row's logits are wanted.
    pub logits: bool,
}

/// The rows of a step.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// At most [`LoadOptions::rows`].
    pub rows: Vec<Row>,
}

/// How a cache entry is kept; [`crate::kv`] says what the small ones mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KvType {
    /// IEEE half floats.
    #[default]
    F16,
    /// Single floats: for comparing with other implementations.
    F32,
    /// Bytes with a scale a head.
    Int8,
    /// Nibbles with a scale and an offset every 32.
    Int4,
}

impl KvType {
    /// Bytes of one head's keys, or of its values, at one position; a backend may pad heads.
    pub fn head_bytes(self, width: usize) -> usize {
        match self {
            KvType::F16 => 2 * width,
            KvType::F32 => 4 * width,
            KvType::Int8 => width + crate::kv::INT8_BESIDE,
            KvType::Int4 => {
                width.div_ceil(2) + width.div_ceil(crate::kv::INT4_GROUP) * crate::kv::INT4_BESIDE
            }
        }
    }

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
            KvType::Int8 => "int8",
            KvType::Int4 => "int4",
        }
    }
}

/// Sizes fixed at load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Most rows a step may have.
    pub rows: usize,
    /// Most rows of a step whose logits are wanted; at least 1.
    pub logit_rows: usize,
    /// Sequences.
    pub slots: usize,
    /// Pages of a cache group that keeps everything; see [`LoadOptions::group_pages`] for others.
    pub pages: usize,
    /// Type of the cache.
    pub kv: KvType,
    /// Threads; backends without threads ignore it.
    pub threads: usize,
}

impl LoadOptions {
    /// One sequence of up to `context` positions.
    pub fn single(context: usize, threads: usize) -> LoadOptions {
        LoadOptions {
            rows: 512.min(context.max(1)),
            logit_rows: 1,
            slots: 1,
            pages: context.div_ceil(PAGE),
            kv: KvType::F16,
            threads,
        }
    }

    /// Pages of a cache group: never more than of one that keeps everything.
    ///
    /// A row sees the `window` last positions, its own among them. For r rows of a step a sequence keeps
    /// window − 1 + r positions, and n positions lie in ⌈(n − 1) / PAGE⌉ + 1 pages at most. Either each sequence
    /// has as many as if all rows were its own, or each has its window's and all share those of the rows,
    /// whichever is less; an idle sequence needs no more than its window's.
    pub fn group_pages(&self, window: Option<usize>) -> usize {
        let Some(window) = window else { return self.pages };
        // Steps that a device chooses ahead are rows too.
        let rows = self.rows.max(AHEAD);
        let alone = (window.saturating_sub(1).saturating_add(rows)).div_ceil(PAGE).saturating_add(1);
        let shared = window.div_ceil(PAGE).saturating_add(2);
        let alone = alone.saturating_mul(self.slots);
        let shared = shared.saturating_mul(self.slots).saturating_add(rows.div_ceil(PAGE));
        self.pages.min(alone.min(shared))
    }
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Matrices and vectors, each once.
    pub weights: u64,
    /// Pages of the cache.
    pub kv: u64,
    /// Activations and logits.
    pub buffers: u64,
}

impl Memory {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.buffers
    }
}

/// Hardware that can run plans.
pub trait Device {
    /// Its name for people.
    fn name(&self) -> String;

    /// Loads the weights of `plan` from `file` and allocates everything a step needs.
    ///
    /// `progress` is told bytes done and bytes in all.
    ///
    /// # Errors
    /// What the device cannot run is refused here by name; a step never guesses.
    fn load(
        &self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Runner>, Error>;
}

/// The device went away in the middle of a step; everything the runner held is lost.
#[derive(Debug, thiserror::Error)]
#[error("{device} stopped answering: {cause}; start again")]
pub struct Lost {
    /// Which device.
    pub device: String,
    /// What it said last.
    pub cause: String,
}

/// Time spent in one kind of op, for `bench --trace` and profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OpTime {
    /// Times it ran.
    pub runs: u64,
    /// Nanoseconds in all.
    pub nanos: u64,
}

/// A loaded plan. A step allocates nothing and cannot fail, except for the device going away.
pub trait Runner: Send {
    /// The plan it runs.
    fn plan(&self) -> &Plan;

    /// The sizes it was loaded with.
    fn options(&self) -> &LoadOptions;

    /// Bytes held, by purpose.
    fn memory(&self) -> Memory;

    /// Makes `pages` the storage of `slot`'s positions from `first · PAGE` on, in one cache group.
    fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]);

    /// Copies a page of a group onto another.
    fn copy_page(&mut self, group: usize, from: u32, to: u32);

    /// Bytes that [`Runner::read_page`] gives for a page of a group.
    fn page_bytes(&self, group: usize) -> usize;

    /// Copies a page out, in a form of the backend's own: what another runner of the same backend, plan and
    /// [`KvType`] can [`Runner::write_page`]. `to` has [`Runner::page_bytes`].
    fn read_page(&mut self, group: usize, page: u32, to: &mut [u8]) -> Result<(), Lost>;

    /// Copies a page in, as [`Runner::read_page`] gave it. No step that sees the page is under way.
    fn write_page(&mut self, group: usize, page: u32, from: &[u8]) -> Result<(), Lost>;

    /// Whether a page takes memory only once it is written: then there may be too little of it in the middle
    /// of a run.
    fn grows(&self) -> bool {
        false
    }

    /// Gives the memory of a page that nobody maps back to the system, where pages grow.
    fn give_back(&mut self, group: usize, page: u32) {
        let _ = (group, page);
    }

    /// Runs a batch. Positions must be mapped; rows of a slot rise by one.
    fn step(&mut self, batch: &Batch) -> Result<(), Lost>;

    /// Logits of the last step: one row of `vocab` for each row that wanted them, in order.
    fn logits(&self) -> &[f32];

    /// Its way to choose tokens by itself, if it has one.
    fn chooser(&mut self) -> Option<&mut dyn Chooser> {
        None
    }

    /// Time by op since loading, in the plan's order; empty unless tracing was turned on.
    fn times(&self) -> &[OpTime];

    /// Turns tracing on or off and clears the times.
    fn trace(&mut self, on: bool);
}

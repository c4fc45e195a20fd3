//! Plans on cores.
//!
//! Weights lie in tiles of sixteen rows (`tile`), kernels are written once over sixteen lanes
//! (`simd`) and instantiated for the processor found (`kernels`), and all threads walk the lowered
//! plan together (`lower`, `walk`, `pool`). Results do not depend on the number of threads nor on how
//! tokens are cut into batches, bit for bit.
#![allow(unsafe_code, reason = "kernels read weights through pointers; every block says why it may")]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "regions start at a page, and what lies in them keeps its alignment"
)]

mod acts;
mod buffers;
mod isa;
mod kernels;
mod kv;
mod lower;
mod matrix;
mod memory;
mod ops;
mod pool;
mod runner;
mod simd;
mod tile;
mod walk;

pub use isa::Isa;

use gguf::Gguf;
use model::runner::Memory;
use model::{Device, Error, LoadOptions, Plan, Runner};

/// Bytes that a worker thread takes beside what [`Cpu::cost`] counts: the stack it touches and the system's own
/// bookkeeping for it; an estimate.
pub const THREAD_BYTES: u64 = 64 << 10;

/// This machine's cores.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// With the best kernels this processor can run.
    pub fn new() -> Cpu {
        Cpu { isa: Isa::detect() }
    }

    /// With the kernels of one instruction set; `None` if this processor lacks it.
    pub fn with_isa(isa: Isa) -> Option<Cpu> {
        isa.available().then_some(Cpu { isa })
    }

    /// The instruction set in use.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// What a runner of `plan` holds, exactly as its [`Runner::memory`] says after loading, before anything is
    /// read: weights as they lie in tiles, pages of the cache, and every buffer, each thread's own included.
    ///
    /// Of these only what is touched takes memory: the weights at load, a page of the cache when its first position
    /// is written (at most [`Cpu::page_cost`]), activations at load. A thread beside the
    /// caller's takes [`THREAD_BYTES`] more.
    pub fn cost(&self, plan: &Plan, options: &LoadOptions) -> Memory {
        runner::cost(&kernels::Kernels::of(self.isa), plan, options)
    }

    /// Bytes that writing to a page of a cache group takes at most: the page, rounded up to pages of the system.
    /// The cache never lies in huge pages, of which the first touch would take 2 MiB.
    pub fn page_cost(&self, plan: &Plan, group: usize, options: &LoadOptions) -> u64 {
        kv::Kv::page_cost(plan, group, options, &kernels::Kernels::of(self.isa))
    }

    /// Threads worth using for `plan` when there are `cores`: one for every 8 MiB of weights.
    ///
    /// Below that a step is shorter than what the threads' meetings cost when other programs want the
    /// same cores; a small model on one thread does not depend on them.
    pub fn threads_for(plan: &Plan, cores: usize) -> usize {
        let worth = 1 + plan.weight_bytes() / (8 << 20);
        cores.min(worth as usize).max(1)
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Cpu::new()
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        format!("cpu ({})", self.isa.name())
    }

    fn load(
        &self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Runner>, Error> {
        let kernels = kernels::Kernels::of(self.isa);
        Ok(Box::new(runner::CpuRunner::load(kernels, file, plan, options, progress)?))
    }
}

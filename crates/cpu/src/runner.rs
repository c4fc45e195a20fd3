//! The runner: what is loaded, and a step as the threads' walk over it.

use crate::buffers::{Buffers, widest};
use crate::kernels::Kernels;
use crate::kv::Kv;
use crate::lower::{Forms, Lowered, Part, lower};
use crate::matrix::Matrix;
use crate::memory::{Pages, Region};
use crate::pool::Pool;
use crate::walk::{Private, Walk};
use gguf::Gguf;
use model::plan::{Plan, Vector};
use model::runner::Memory;
use model::runner::{Batch, LoadOptions, Lost, OpTime, Runner};
use model::{Error, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A plan loaded on cores.
pub(crate) struct CpuRunner {
    plan: Plan,
    options: LoadOptions,
    kernels: Kernels,
    pool: Pool,
    lowered: Lowered,
    matrices: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    kv: Kv,
    buffers: Buffers,
    private: Vec<Private>,
    /// Two counters of shares a step.
    counters: Vec<AtomicUsize>,
    logits: Vec<f32>,
    wanted: usize,
    times: Vec<OpTime>,
    tracing: bool,
}

impl CpuRunner {
    pub(crate) fn load(
        kernels: Kernels,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<CpuRunner, Error> {
        let mut pool = Pool::new(options.threads)?;
        let kind = |id| (kernels.packed)(plan.weight(id).format).kind;
        let lowered = lower(plan, kind);
        let (mut done, total) = (0, plan.weight_bytes());
        progress(done, total);
        let room = |Part { weight, rows }: &Part| {
            let weight = plan.weight(*weight);
            Matrix::room(rows.len(), weight.cols, weight.format, &kernels)
        };
        let arena = Arc::new(Region::new("the weights", lowered.parts.iter().map(room).sum(), Pages::Huge)?);
        let (mut matrices, mut offset) = (vec![], 0);
        for part in &lowered.parts {
            let Part { weight, rows } = part;
            let weight = plan.weight(*weight);
            let tensor = file.tensor(&weight.tensor).expect("the emitter looked it up");
            let place = (Arc::clone(&arena), offset);
            let matrix = Matrix::load(file, tensor, weight.order, rows.clone(), &kernels, &mut pool, place)?;
            offset += room(part);
            done += matrix.bytes();
            progress(done.min(total), total);
            matrices.push(matrix);
        }
        let vectors = plan.vectors.iter().map(|vector| read(file, vector)).collect::<Result<_, _>>()?;
        let buffers = Buffers::new(plan, options, forms(&kernels, plan))?;
        let queries = ((kernels.kept)(options.kv).scratch)(plan.shape.head_dim);
        let private = |_| Private::new(widest(plan), plan.shape.dim, queries);
        let private = (0..pool.threads()).map(private).collect();
        Ok(CpuRunner {
            kv: Kv::new(plan, options, &kernels)?,
            counters: (0..2 * lowered.steps.len()).map(|_| AtomicUsize::new(0)).collect(),
            logits: vec![0.0; options.logit_rows * plan.shape.vocab],
            wanted: 0,
            times: vec![OpTime::default(); plan.ops.len()],
            tracing: false,
            plan: plan.clone(),
            options: *options,
            kernels,
            pool,
            lowered,
            matrices,
            vectors,
            buffers,
            private,
        })
    }
}

/// The forms that any product of a plan takes its input in.
fn forms(kernels: &Kernels, plan: &Plan) -> Forms {
    Forms::of(plan.weights.iter().map(|weight| (kernels.packed)(weight.format).kind))
}

/// What [`CpuRunner::memory`] says once a plan is loaded, before anything is.
pub(crate) fn cost(kernels: &Kernels, plan: &Plan, options: &LoadOptions) -> Memory {
    let kind = |id| (kernels.packed)(plan.weight(id).format).kind;
    let part = |Part { weight, rows }: &Part| {
        let weight = plan.weight(*weight);
        Matrix::cost(rows.len(), weight.cols, weight.format, kernels) as u64
    };
    let matrices: u64 = lower(plan, kind).parts.iter().map(part).sum();
    let vectors: u64 = plan.vectors.iter().map(|vector| vector.len as u64 * 4).sum();
    let queries = ((kernels.kept)(options.kv).scratch)(plan.shape.head_dim);
    let private = Private::bytes(widest(plan), plan.shape.dim, queries) * options.threads.max(1) as u64;
    let (kv, tables) = Kv::cost(plan, options, kernels);
    let logits = (options.logit_rows * plan.shape.vocab * 4) as u64;
    Memory {
        weights: matrices + vectors,
        kv,
        buffers: Buffers::cost(plan, options, forms(kernels, plan)) + logits + private + tables,
    }
}

fn read(file: &Gguf, vector: &Vector) -> Result<Vec<f32>, Error> {
    let tensor = file.tensor(&vector.tensor).expect("the emitter looked it up");
    let mut stored = vec![0.0; vector.len];
    tensor.format.decode(&file.read_all(tensor)?, &mut stored);
    Ok((0..vector.len).map(|i| stored[vector.order.stored(i)]).collect())
}

impl Runner for CpuRunner {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn options(&self) -> &LoadOptions {
        &self.options
    }

    fn memory(&self) -> Memory {
        let vectors: u64 = self.vectors.iter().map(|vector| vector.len() as u64 * 4).sum();
        let scratch = ((self.kernels.kept)(self.options.kv).scratch)(self.plan.shape.head_dim);
        let private = Private::bytes(widest(&self.plan), self.plan.shape.dim, scratch);
        let tables = self.kv.tables.iter().flatten().map(|table| 4 * table.len() as u64).sum::<u64>();
        Memory {
            weights: self.matrices.iter().map(Matrix::bytes).sum::<u64>() + vectors,
            kv: self.kv.bytes(),
            buffers: self.buffers.bytes()
                + self.logits.len() as u64 * 4
                + private * self.private.len() as u64
                + tables,
        }
    }

    fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]) {
        let most = self.kv.pages(group);
        assert!(pages.iter().all(|&page| (page as usize) < most), "pages of this runner");
        self.kv.tables[slot][group][first..][..pages.len()].copy_from_slice(pages);
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        self.kv.copy_page(group, from, to);
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.kv.page_bytes(group)
    }

    fn read_page(&mut self, group: usize, page: u32, to: &mut [u8]) -> Result<(), Lost> {
        self.kv.read_page(group, page, to);
        Ok(())
    }

    fn write_page(&mut self, group: usize, page: u32, from: &[u8]) -> Result<(), Lost> {
        self.kv.write_page(group, page, from);
        Ok(())
    }

    fn grows(&self) -> bool {
        true
    }

    fn give_back(&mut self, group: usize, page: u32) {
        self.kv.give_back(group, page);
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Lost> {
        let rows: &[Row] = &batch.rows;
        self.wanted = rows.iter().filter(|row| row.logits).count();
        // What unsafe code relies on below is checked here, once a step.
        assert!(rows.len() <= self.options.rows, "at most as many rows as the runner was loaded for");
        assert!(
            self.wanted <= self.options.logit_rows,
            "at most as many logits as the runner was loaded for"
        );
        for row in rows {
            assert!((row.token as usize) < self.plan.shape.vocab, "a token of the vocabulary");
            assert!((row.slot as usize) < self.options.slots, "a slot of this runner");
            assert!((row.position as usize) < self.options.pages * model::runner::PAGE, "a mapped position");
        }
        if rows.is_empty() {
            return Ok(());
        }
        for counter in &self.counters {
            counter.store(0, Ordering::Relaxed);
        }
        let walk = Walk {
            plan: &self.plan,
            kernels: &self.kernels,
            steps: &self.lowered.steps,
            matrices: &self.matrices,
            vectors: &self.vectors,
            kv: &self.kv,
            buffers: &self.buffers,
            counters: &self.counters,
            rows,
            wanted: self.wanted,
            logits: self.logits.as_mut_ptr(),
            private: self.private.as_mut_ptr(),
            times: if self.tracing { Some(self.times.as_mut_ptr()) } else { None },
            threads: self.pool.threads(),
        };
        // The pool lends its meeting place to the walk while it runs it.
        let meeting: *const crate::pool::Meeting = self.pool.meeting();
        // SAFETY: the meeting place lives as long as the pool, which outlives this call.
        let meeting = unsafe { &*meeting };
        self.pool.run(&|thread| walk.walk(thread, meeting));
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        &self.logits[..self.wanted * self.plan.shape.vocab]
    }

    fn times(&self) -> &[OpTime] {
        if self.tracing { &self.times } else { &[] }
    }

    fn trace(&mut self, on: bool) {
        self.tracing = on;
        self.times.fill(OpTime::default());
    }
}

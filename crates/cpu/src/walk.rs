//! One thread's way through a step.
//!
//! All threads walk the same list and take shares by number; what a share writes, no other share of
//! that step touches. With a single row (decode) norms and rounding are done by every thread for
//! itself: that is cheaper than a meeting.

use crate::acts::{Act32, Act256};
use crate::buffers::Buffers;
use crate::kernels::{Input, Kernels};
use crate::kv::Kv;
use crate::lower::{Forms, Step, Target};
use crate::matrix::Matrix;
use crate::ops::Attention;
use crate::pool::{Meeting, Run, Shares};
use crate::tile::{ROWS, Scratch, TOKENS};
use model::plan::{Buf, Plan, VectorId};
use model::runner::{OpTime, PAGE};
use model::{Activation, Row};
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

/// What belongs to one thread alone.
pub(crate) struct Private {
    /// A normalised row.
    h: Vec<f32>,
    q256: Vec<Act256>,
    q32: Vec<Act32>,
    scratch: Box<Scratch>,
    /// Products of a row tile, and of a second one for gates.
    tile: Vec<f32>,
    second: Vec<f32>,
    /// Prepared queries, as the cache's type wants them.
    queries: Vec<u128>,
}

impl Private {
    /// `queries`: bytes of prepared queries.
    pub(crate) fn new(widest: usize, dim: usize, queries: usize) -> Private {
        let act256 = Act256 {
            q: [0; 256],
            neg32: [0; 16],
            high32: [0; 2],
            low32: [0; 2],
            high16: [0; 4],
            low16: [0; 4],
            scale: 0.0,
        };
        Private {
            h: vec![0.0; dim],
            q256: vec![act256; widest / 256],
            q32: vec![Act32 { q: [0; 32], scale: 0.0, sum: 0 }; widest / 32],
            scratch: Scratch::new(),
            tile: vec![0.0; ROWS * TOKENS],
            second: vec![0.0; ROWS * TOKENS],
            queries: vec![0; queries.div_ceil(16)],
        }
    }

    /// Bytes that [`Private::new`] takes.
    pub(crate) fn bytes(widest: usize, dim: usize, queries: usize) -> u64 {
        let acts = widest / 256 * size_of::<Act256>() + widest / 32 * size_of::<Act32>();
        let floats = (dim + 2 * ROWS * TOKENS) * 4;
        (acts + size_of::<Scratch>() + floats + queries.next_multiple_of(16)) as u64
    }
}

/// Everything a step needs, shared by its threads.
pub(crate) struct Walk<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) kernels: &'a Kernels,
    pub(crate) steps: &'a [(Step, usize)],
    pub(crate) matrices: &'a [Matrix],
    pub(crate) vectors: &'a [Vec<f32>],
    pub(crate) kv: &'a Kv,
    pub(crate) buffers: &'a Buffers,
    pub(crate) counters: &'a [AtomicUsize],
    pub(crate) rows: &'a [Row],
    pub(crate) wanted: usize,
    pub(crate) logits: *mut f32,
    pub(crate) private: *mut Private,
    pub(crate) times: Option<*mut OpTime>,
    pub(crate) threads: usize,
}

// SAFETY: the pointers are to memory the runner owns for the whole step; who writes where is said at
// each step, and meetings order what depends on it.
unsafe impl Sync for Walk<'_> {}

impl Walk<'_> {
    /// Walks all steps as thread `thread`.
    pub(crate) fn walk(&self, thread: usize, meeting: &Meeting) {
        // SAFETY: one thread a number.
        let private = unsafe { &mut *self.private.add(thread) };
        let mut rows = self.rows.len();
        for (index, (step, op)) in self.steps.iter().enumerate() {
            let start = (thread == 0 && self.times.is_some()).then(Instant::now);
            if matches!(step, Step::SelectRows) {
                if rows != self.wanted {
                    if thread == 0 {
                        self.select();
                    }
                    meeting.wait();
                }
                rows = self.wanted;
                if rows == 0 {
                    return;
                }
            } else if self.run(step, index, rows, private, meeting) {
                meeting.wait();
            }
            if let (Some(start), Some(times)) = (start, self.times) {
                // SAFETY: only thread 0, and `op` is an index of the plan's.
                let time = unsafe { &mut *times.add(*op) };
                time.runs += 1;
                time.nanos += start.elapsed().as_nanos() as u64;
            }
        }
    }

    /// Runs a thread's share of a step; whether the threads must meet after it.
    fn run(&self, step: &Step, index: usize, rows: usize, private: &mut Private, meeting: &Meeting) -> bool {
        let each_row = |run| Shares { next: &self.counters[2 * index], count: rows, run: Run::Of(run) };
        let alone = rows == 1;
        match step {
            Step::Embed { matrix, scale } => {
                for row in each_row(4).flatten() {
                    let x = self.row(Buf::X, row);
                    self.matrices[*matrix].decode(self.rows[row].token as usize, x);
                    for x in x {
                        *x *= scale;
                    }
                    self.turn(row);
                }
            }
            Step::Residual { post } => {
                for row in each_row(4).flatten() {
                    let (x, o) = (self.row(Buf::X, row), self.row(Buf::O, row));
                    self.norm(o.as_ptr(), *post, o.len(), o.as_mut_ptr());
                    // SAFETY: this row of X and O is this share's; both are `dim` long.
                    unsafe { (self.kernels.accumulate)(x.as_mut_ptr(), o.as_ptr(), x.len()) };
                }
            }
            Step::Norm { weight, forms } => {
                let dim = self.plan.shape.dim;
                if alone {
                    let h = private.h.as_mut_ptr();
                    self.norm(self.row(Buf::X, 0).as_ptr(), *weight, dim, h);
                    self.round(h, dim, *forms, private.q256.as_mut_ptr(), private.q32.as_mut_ptr());
                    return false;
                }
                for row in each_row(4).flatten() {
                    let h = self.row(Buf::H, row).as_mut_ptr();
                    self.norm(self.row(Buf::X, row).as_ptr(), *weight, dim, h);
                    self.round_row(Buf::H, row, *forms);
                }
            }
            Step::Round { input, forms } => {
                if alone {
                    let row = self.row(*input, 0);
                    self.round(
                        row.as_ptr(),
                        row.len(),
                        *forms,
                        private.q256.as_mut_ptr(),
                        private.q32.as_mut_ptr(),
                    );
                    return false;
                }
                for row in each_row(4).flatten() {
                    self.round_row(*input, row, *forms);
                }
            }
            Step::Product { input, targets } => self.product(*input, targets, index, rows, private),
            Step::Attend { layer, rope, q_norm, k_norm, .. } => {
                let heads = self.plan.shape.kv_heads;
                let place = |row: usize, head: usize| {
                    self.place(row, head, *layer, *rope, *q_norm, *k_norm);
                };
                if alone {
                    // The thread that stores a head's key is the one that reads it.
                    let shares = Shares { next: &self.counters[2 * index], count: heads, run: Run::Of(1) };
                    for head in shares.flatten() {
                        place(0, head);
                        self.attend(step, 0, head, private.queries.as_mut_ptr());
                    }
                    return true;
                }
                for row in each_row(4).flatten() {
                    (0..heads).for_each(|head| place(row, head));
                }
                meeting.wait();
                // Rows of one head follow each other, so that its pages stay in cache.
                let shares =
                    Shares { next: &self.counters[2 * index + 1], count: heads * rows, run: Run::Of(4) };
                for share in shares.flatten() {
                    self.attend(step, share % rows, share / rows, private.queries.as_mut_ptr());
                }
            }
            Step::Gated { gate, up, activation } => {
                self.gated(*gate, *up, *activation, index, rows, private);
            }
            Step::SelectRows => unreachable!("handled by the walk"),
            Step::Logits { matrix, cap } => {
                self.logits(*matrix, *cap, index, rows, private);
            }
        }
        true
    }

    /// Shares of a product's row tiles.
    fn tiles(&self, index: usize, count: usize) -> Shares<'_> {
        Shares { next: &self.counters[2 * index], count, run: Run::Guided(self.threads) }
    }

    /// A row of a buffer.
    #[allow(clippy::mut_from_ref, reason = "shares of a step own disjoint rows; see each use")]
    fn row(&self, buf: Buf, row: usize) -> &mut [f32] {
        let width = self.plan.shape.width(buf);
        // SAFETY: inside the buffer, which holds `rows` rows; disjointness is the shares'.
        unsafe { std::slice::from_raw_parts_mut(self.buffers.floats(buf).add(row * width), width) }
    }

    fn norm(&self, x: *const f32, weight: VectorId, len: usize, out: *mut f32) {
        let weight = &self.vectors[weight.0];
        debug_assert_eq!(weight.len(), len);
        // SAFETY: all `len` long, as the plan's check says.
        unsafe { (self.kernels.norm)(x, weight.as_ptr(), len, self.plan.shape.eps, out) };
    }

    /// Rounds a row into the forms wanted; each destination has room for it.
    fn round(&self, x: *const f32, len: usize, forms: Forms, q256: *mut Act256, q32: *mut Act32) {
        // SAFETY: the row has `len` floats, the destinations `len` / 256 and `len` / 32 entries.
        unsafe {
            if forms.q256 {
                (self.kernels.quantize256)(x, std::slice::from_raw_parts_mut(q256, len / 256));
            }
            if forms.q32 {
                (self.kernels.quantize32)(x, std::slice::from_raw_parts_mut(q32, len / 32));
            }
        }
    }

    fn round_row(&self, buf: Buf, row: usize, forms: Forms) {
        let (x, len) = (self.row(buf, row).as_ptr(), self.plan.shape.width(buf));
        let q256 = self.buffers.q256.as_ptr().cast::<Act256>();
        let q32 = self.buffers.q32.as_ptr().cast::<Act32>();
        // SAFETY: the regions hold `rows` rows of the widest input.
        unsafe { self.round(x, len, forms, q256.add(row * (len / 256)), q32.add(row * (len / 32))) };
    }

    /// The turns of every rotation at a row's position.
    fn turn(&self, row: usize) {
        for (rope, turns) in self.plan.ropes.iter().zip(&self.buffers.turns) {
            let half = rope.frequency.len();
            // SAFETY: the region holds cosines and sines of every row; this row is this share's.
            let both = unsafe {
                std::slice::from_raw_parts_mut(turns.as_ptr().cast::<f32>().add(row * 2 * half), 2 * half)
            };
            let (cos, sin) = both.split_at_mut(half);
            rope.fill(self.rows[row].position, cos, sin);
        }
    }

    /// Keeps the rows of X and A that want logits.
    fn select(&self) {
        for (to, from) in
            self.rows.iter().enumerate().filter(|(_, row)| row.logits).map(|(i, _)| i).enumerate()
        {
            if to != from {
                for buf in [Buf::X, Buf::A] {
                    // Rows only move to the front, over rows already moved or dropped.
                    self.row(buf, to).copy_from_slice(self.row(buf, from));
                }
            }
        }
    }

    fn input(&self, buf: Buf, rows: usize, private: &Private) -> Input {
        let cols = self.plan.shape.width(buf);
        if rows == 1 {
            let x = if buf == Buf::H { private.h.as_ptr() } else { self.row(buf, 0).as_ptr() };
            return Input { x, cols, q256: private.q256.as_ptr(), q32: private.q32.as_ptr() };
        }
        self.buffers.input(buf, cols)
    }

    fn product(&self, buf: Buf, targets: &[Target], index: usize, rows: usize, private: &mut Private) {
        let input = self.input(buf, rows, private);
        let count = targets.iter().map(|target| self.matrices[target.matrix].tiles()).sum();
        for mut tile in self.tiles(index, count).flatten() {
            let mut targets = targets.iter();
            let target = loop {
                let target = targets.next().expect("tiles are counted over all targets");
                match tile.checked_sub(self.matrices[target.matrix].tiles()) {
                    Some(later) => tile = later,
                    None => break target,
                }
            };
            let matrix = &self.matrices[target.matrix];
            let width = self.plan.shape.width(target.to);
            let (at, lanes) = (tile * ROWS, ROWS.min(matrix.rows - tile * ROWS));
            for first in (0..rows).step_by(TOKENS) {
                let tokens = TOKENS.min(rows - first);
                // SAFETY: the input has `rows` rows in every form this step's matrices take.
                unsafe {
                    matrix.product(tile, &input, first, tokens, &mut private.tile, &mut private.scratch);
                }
                for (t, product) in private.tile.chunks_exact_mut(ROWS).take(tokens).enumerate() {
                    if let Some((bias, start)) = target.bias {
                        let bias = &self.vectors[bias.0][start + at..][..lanes];
                        product.iter_mut().zip(bias).for_each(|(p, b)| *p += b);
                    }
                    // SAFETY: these columns of this row are this tile's alone.
                    let to = unsafe {
                        let start = self.buffers.floats(target.to).add((first + t) * width + at);
                        std::slice::from_raw_parts_mut(start, lanes)
                    };
                    if target.add {
                        to.iter_mut().zip(product).for_each(|(to, p)| *to += *p);
                    } else {
                        to.copy_from_slice(&product[..lanes]);
                    }
                }
            }
        }
    }

    fn gated(
        &self,
        gate: usize,
        up: usize,
        activation: Activation,
        index: usize,
        rows: usize,
        private: &mut Private,
    ) {
        let input = self.input(Buf::H, rows, private);
        let (gate, up) = (&self.matrices[gate], &self.matrices[up]);
        let width = self.plan.shape.ff;
        for tile in self.tiles(index, gate.tiles()).flatten() {
            let (at, lanes) = (tile * ROWS, ROWS.min(gate.rows - tile * ROWS));
            for first in (0..rows).step_by(TOKENS) {
                let tokens = TOKENS.min(rows - first);
                let (used, scratch) = (ROWS * tokens, &mut private.scratch);
                // SAFETY: the input has `rows` rows in every form this step's matrices take.
                unsafe {
                    gate.product(tile, &input, first, tokens, &mut private.tile, scratch);
                    up.product(tile, &input, first, tokens, &mut private.second, scratch);
                    (self.kernels.gate)(activation, &mut private.tile[..used], &private.second[..used]);
                }
                for (t, gated) in private.tile.chunks_exact(ROWS).take(tokens).enumerate() {
                    // SAFETY: these columns of this row are this tile's alone.
                    let to = unsafe {
                        let start = self.buffers.floats(Buf::G).add((first + t) * width + at);
                        std::slice::from_raw_parts_mut(start, lanes)
                    };
                    to.copy_from_slice(&gated[..lanes]);
                }
            }
        }
    }

    fn logits(&self, matrix: usize, cap: Option<f32>, index: usize, rows: usize, private: &mut Private) {
        let input = self.input(Buf::H, rows, private);
        let matrix = &self.matrices[matrix];
        let vocab = self.plan.shape.vocab;
        for tile in self.tiles(index, matrix.tiles()).flatten() {
            let (at, lanes) = (tile * ROWS, ROWS.min(matrix.rows - tile * ROWS));
            for first in (0..rows).step_by(TOKENS) {
                let tokens = TOKENS.min(rows - first);
                // SAFETY: the input has `rows` rows in every form this step's matrices take.
                unsafe {
                    matrix.product(tile, &input, first, tokens, &mut private.tile, &mut private.scratch);
                    if let Some(cap) = cap {
                        (self.kernels.cap)(cap, &mut private.tile[..ROWS * tokens]);
                    }
                }
                for (t, product) in private.tile.chunks_exact(ROWS).take(tokens).enumerate() {
                    // SAFETY: these columns of this row are this tile's alone.
                    let to = unsafe {
                        std::slice::from_raw_parts_mut(self.logits.add((first + t) * vocab + at), lanes)
                    };
                    to.copy_from_slice(&product[..lanes]);
                }
            }
        }
    }

    /// Norms and turns a KV head's key and its query heads, and stores key and value.
    fn place(
        &self,
        row: usize,
        head: usize,
        layer: usize,
        rope: Option<usize>,
        q_norm: Option<VectorId>,
        k_norm: Option<VectorId>,
    ) {
        let shape = &self.plan.shape;
        let (dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
        let queries = self.row(Buf::Q, row)[head * group * dim..][..group * dim].chunks_exact_mut(dim);
        let key = &mut self.row(Buf::K, row)[head * dim..][..dim];
        let value = &self.row(Buf::V, row)[head * dim..][..dim];
        let turn = |part: &mut [f32], norm: Option<VectorId>| {
            if let Some(norm) = norm {
                self.norm(part.as_ptr(), norm, dim, part.as_mut_ptr());
            }
            if let Some(rope) = rope {
                let half = self.plan.ropes[rope].frequency.len();
                // SAFETY: `turn` filled this row's cosines and sines; the head is this share's.
                unsafe {
                    let cos = self.buffers.turns[rope].as_ptr().cast::<f32>().add(row * 2 * half);
                    (self.kernels.rotate)(part.as_mut_ptr(), cos, cos.add(half), half);
                }
            }
        };
        let turn = |part: &mut [f32], norm| {
            turn(part, norm);
            if self.kv.kept.rotated {
                // SAFETY: the head is `dim` long and this share's.
                unsafe { (self.kernels.hadamard)(part.as_mut_ptr(), dim) };
            }
        };
        queries.for_each(|query| turn(query, q_norm));
        turn(key, k_norm);
        let Row { slot, position, .. } = self.rows[row];
        let (group, _) = self.kv.homes[layer];
        let page = self.kv.tables[slot as usize][group][position as usize / PAGE];
        // SAFETY: the page is inside the group's storage; this position of this head is this share's.
        unsafe {
            let to = self.kv.base(group).add(self.kv.head(layer, head, page));
            (self.kv.kept.store)(to, position as usize % PAGE, key.as_ptr(), value.as_ptr(), dim);
        }
    }

    fn attend(&self, step: &Step, row: usize, head: usize, queries: *mut u128) {
        let &Step::Attend { layer, window, scale, cap, .. } = step else {
            unreachable!("only attention attends");
        };
        let shape = &self.plan.shape;
        let heads = shape.heads / shape.kv_heads;
        let (group, _) = self.kv.homes[layer];
        let Row { slot, position, .. } = self.rows[row];
        let seen = position as usize + 1;
        let view = Attention {
            base: self.kv.base(group).cast_const(),
            page_stride: self.kv.stride(group),
            head_offset: self.kv.head(layer, head, 0),
            pages: &self.kv.tables[slot as usize][group],
            first: window.map_or(0, |window| seen.saturating_sub(window)),
            seen,
            head_dim: shape.head_dim,
            scale,
            cap,
            scratch: queries.cast(),
        };
        let at = head * heads * shape.head_dim;
        let (q, out) = (self.row(Buf::Q, row)[at..].as_ptr(), self.row(Buf::A, row)[at..].as_mut_ptr());
        // SAFETY: `heads` heads from `at` on in Q and A; the pages hold all positions below `seen`.
        unsafe { (self.kv.kept.attend)(&view, heads, q, out) };
    }
}

//! The slow interpreter: the specification every backend is held to.
//!
//! One row at a time, every weight decoded to f32, every sum in f64; the cache in f32, whose values went
//! through [`crate::kv`] first where it is small ([`KvType::F16`] is kept as F32). It is written
//! to be read beside the doc comments of [`Op`]; nothing here is fast.

use crate::emit::read_vector;
use crate::kv;
use crate::plan::{Buf, GateUp, Op, Plan, RowOrder, VectorId, WeightId};
use crate::runner::Memory;
use crate::runner::{Batch, Device, KvType, LoadOptions, Lost, OpTime, PAGE, Row, Runner};
use crate::{Activation, Error};
use gguf::Gguf;

/// The device of the slow interpreter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceDevice;

impl Device for ReferenceDevice {
    fn name(&self) -> String {
        "reference interpreter".to_owned()
    }

    fn load(
        &self,
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Runner>, Error> {
        Ok(Box::new(Reference::load(file, plan, options, progress)?))
    }
}

/// A plan loaded for the slow interpreter.
pub struct Reference {
    plan: Plan,
    options: LoadOptions,
    /// Decoded matrices, row after row in plan order.
    weights: Vec<Vec<f32>>,
    vectors: Vec<Vec<f32>>,
    /// `kv[group][page]`: keys then values of each layer of the group, `[layer][2][PAGE][width]`.
    kv: Vec<Vec<Vec<f32>>>,
    /// `tables[slot][group]`: the page of each run of [`PAGE`] positions.
    tables: Vec<Vec<Vec<u32>>>,
    /// Where each layer lives: its group and its index there.
    homes: Vec<(usize, usize)>,
    logits: Vec<f32>,
}

impl Reference {
    /// Decodes every tensor of `plan`.
    ///
    /// # Errors
    /// What reading the file says.
    pub fn load(
        file: &Gguf,
        plan: &Plan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Reference, Error> {
        let total = plan.weight_bytes();
        let mut done = 0;
        let mut weights = vec![];
        for weight in &plan.weights {
            let tensor = file.tensor(&weight.tensor).expect("the emitter looked it up");
            let stored = read_vector(file, tensor)?;
            done += tensor.bytes;
            progress(done, total);
            let row = |row: usize| &stored[weight.order.stored(row) * weight.cols..][..weight.cols];
            weights.push((0..weight.rows).flat_map(row).copied().collect());
        }
        let mut vectors = vec![];
        for vector in &plan.vectors {
            let tensor = file.tensor(&vector.tensor).expect("the emitter looked it up");
            let stored = read_vector(file, tensor)?;
            vectors.push((0..vector.len).map(|i| stored[vector.order.stored(i)]).collect());
        }
        let mut homes = vec![(0, 0); plan.shape.layers];
        for (g, group) in plan.kv.iter().enumerate() {
            for (i, &layer) in group.layers.iter().enumerate() {
                homes[layer] = (g, i);
            }
        }
        let width = plan.shape.width(Buf::K);
        let storage = |group: &crate::plan::KvGroup| {
            let page = group.layers.len() * 2 * PAGE * width;
            vec![vec![0.0; page]; options.group_pages(group.window)]
        };
        Ok(Reference {
            kv: plan.kv.iter().map(storage).collect(),
            tables: vec![vec![vec![]; plan.kv.len()]; options.slots],
            plan: plan.clone(),
            options: *options,
            weights,
            vectors,
            homes,
            logits: vec![],
        })
    }

    /// The cache entry of a position: `half` 0 for keys, 1 for values.
    fn entry(&self, layer: usize, slot: u32, position: usize, half: usize) -> (usize, usize, usize) {
        let (group, index) = self.homes[layer];
        let page = self.tables[slot as usize][group][position / PAGE] as usize;
        let width = self.plan.shape.width(Buf::K);
        (group, page, ((index * 2 + half) * PAGE + position % PAGE) * width)
    }

    fn read(&self, layer: usize, slot: u32, position: usize, half: usize) -> &[f32] {
        let (group, page, at) = self.entry(layer, slot, position, half);
        &self.kv[group][page][at..][..self.plan.shape.width(Buf::K)]
    }

    fn write(&mut self, layer: usize, slot: u32, position: usize, half: usize, values: &[f32]) {
        let (group, page, at) = self.entry(layer, slot, position, half);
        self.kv[group][page][at..][..values.len()].copy_from_slice(values);
    }

    fn product(&self, weight: WeightId, input: &[f32], bias: Option<VectorId>) -> Vec<f32> {
        let rows = self.weights[weight.0].chunks_exact(input.len());
        let mut out: Vec<f32> = rows.map(|row| dot(row, input)).collect();
        if let Some(bias) = bias {
            out.iter_mut().zip(&self.vectors[bias.0]).for_each(|(out, bias)| *out += bias);
        }
        out
    }

    fn norm(&self, values: &[f32], weight: VectorId) -> Vec<f32> {
        let scale =
            1.0 / (dot(values, values) as f64 / values.len() as f64 + f64::from(self.plan.shape.eps)).sqrt();
        let weights = &self.vectors[weight.0];
        values.iter().zip(weights).map(|(v, w)| (f64::from(*v) * scale) as f32 * w).collect()
    }

    /// Runs one row through all ops; `Some` logits when it wants them.
    fn row(&mut self, row: Row) -> Option<Vec<f32>> {
        let shape = self.plan.shape;
        let (mut x, mut h, mut q, mut k, mut v) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut a, mut g, mut o) = (vec![], vec![], vec![]);
        let ops = self.plan.ops.clone();
        for op in &ops {
            match op {
                Op::Embed { table, scale } => {
                    let at = row.token as usize * shape.dim;
                    x = self.weights[table.0][at..][..shape.dim].iter().map(|e| e * scale).collect();
                }
                Op::Norm { weight } => h = self.norm(&x, *weight),
                Op::Residual { post } => {
                    let o = post.map_or_else(|| o.clone(), |post| self.norm(&o, post));
                    x.iter_mut().zip(o).for_each(|(x, o)| *x += o);
                }
                Op::Linear { input, outputs } => {
                    for output in outputs {
                        let input = match input {
                            Buf::H => &h,
                            Buf::A => &a,
                            Buf::G => &g,
                            other => unreachable!("no plan multiplies {other:?}"),
                        };
                        let product = self.product(output.weight, input, output.bias);
                        match output.to {
                            Buf::Q => q = product,
                            Buf::K => k = product,
                            Buf::V => v = product,
                            Buf::O => o = product,
                            other => unreachable!("no plan writes a product to {other:?}"),
                        }
                    }
                }
                Op::LinearSplit { weight, bias, .. } => {
                    let all = self.product(*weight, &h, *bias);
                    let (q_width, kv_width) = (shape.width(Buf::Q), shape.width(Buf::K));
                    q = all[..q_width].to_vec();
                    k = all[q_width..][..kv_width].to_vec();
                    v = all[q_width + kv_width..].to_vec();
                }
                Op::RopeStore { layer, rope, q_norm, k_norm } => {
                    for (values, norm) in [(&mut q, q_norm), (&mut k, k_norm)] {
                        for head in values.chunks_exact_mut(shape.head_dim) {
                            if let Some(norm) = norm {
                                head.copy_from_slice(&self.norm(head, *norm));
                            }
                            if let Some(rope) = rope {
                                self.rotate(*rope, row.position, head);
                            }
                        }
                    }
                    self.shrink(&mut q, &mut k, &mut v);
                    self.write(*layer, row.slot, row.position as usize, 0, &k);
                    self.write(*layer, row.slot, row.position as usize, 1, &v);
                }
                Op::Attend { layer, window, scale, cap } => {
                    a = self.attend(*layer, row, &q, *window, *scale, *cap);
                }
                Op::Gated { weights, activation } => {
                    let (gate, up) = match weights {
                        GateUp::Pair { gate, up } => {
                            (self.product(*gate, &h, None), self.product(*up, &h, None))
                        }
                        GateUp::Fused(both) => {
                            let mut gate = self.product(*both, &h, None);
                            let up = gate.split_off(shape.ff);
                            (gate, up)
                        }
                    };
                    g = gate.iter().zip(up).map(|(&gate, up)| activate(*activation, gate) * up).collect();
                }
                Op::SelectRows => {
                    if !row.logits {
                        return None;
                    }
                }
                Op::Logits { weight, cap } => {
                    let mut logits = self.product(*weight, &h, None);
                    if let Some(cap) = cap {
                        for logit in &mut logits {
                            *logit = soft_cap(*logit, *cap);
                        }
                    }
                    return Some(logits);
                }
            }
        }
        unreachable!("every plan ends with logits")
    }

    /// What small cache types do to a row's heads.
    fn shrink(&self, q: &mut [f32], k: &mut [f32], v: &mut [f32]) {
        let head = self.plan.shape.head_dim;
        match self.options.kv {
            KvType::F16 | KvType::F32 => {}
            KvType::Int8 => {
                k.chunks_exact_mut(head).for_each(kv::through_int8);
                v.chunks_exact_mut(head).for_each(kv::through_int8);
            }
            KvType::Int4 => {
                q.chunks_exact_mut(head).for_each(kv::rotate);
                k.chunks_exact_mut(head).for_each(kv::rotate);
                k.chunks_exact_mut(head).for_each(kv::through_int4);
                v.chunks_exact_mut(head).for_each(kv::through_int4);
            }
        }
    }

    fn rotate(&self, rope: usize, position: u32, head: &mut [f32]) {
        let table = &self.plan.ropes[rope];
        let half = table.frequency.len();
        let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
        table.fill(position, &mut cos, &mut sin);
        for i in 0..half {
            let (low, high) = (head[i], head[i + half]);
            head[i] = low * cos[i] - high * sin[i];
            head[i + half] = low * sin[i] + high * cos[i];
        }
    }

    fn attend(
        &self,
        layer: usize,
        row: Row,
        q: &[f32],
        window: Option<usize>,
        scale: f32,
        cap: Option<f32>,
    ) -> Vec<f32> {
        let shape = self.plan.shape;
        let seen = row.position as usize + 1;
        let first = window.map_or(0, |window| seen.saturating_sub(window));
        let mut out = vec![];
        for (head, q) in q.chunks_exact(shape.head_dim).enumerate() {
            let at = head / (shape.heads / shape.kv_heads) * shape.head_dim;
            let part = |position, half| &self.read(layer, row.slot, position, half)[at..][..shape.head_dim];
            let scores: Vec<f32> = (first..seen)
                .map(|position| dot(q, part(position, 0)) * scale)
                .map(|score| cap.map_or(score, |cap| soft_cap(score, cap)))
                .collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f64> = scores.iter().map(|s| f64::from(s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut mixed = vec![0.0f64; shape.head_dim];
            for (position, weight) in (first..seen).zip(&weights) {
                let values = part(position, 1);
                mixed.iter_mut().zip(values).for_each(|(m, v)| *m += weight * f64::from(*v));
            }
            out.extend(mixed.into_iter().map(|m| (m / sum) as f32));
        }
        out
    }
}

impl Runner for Reference {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn options(&self) -> &LoadOptions {
        &self.options
    }

    fn memory(&self) -> Memory {
        let floats = |all: &Vec<Vec<f32>>| all.iter().map(|one| one.len() as u64 * 4).sum::<u64>();
        Memory {
            weights: floats(&self.weights) + floats(&self.vectors),
            kv: self.kv.iter().map(floats).sum(),
            buffers: self.logits.len() as u64 * 4,
        }
    }

    fn map(&mut self, slot: usize, group: usize, first: usize, pages: &[u32]) {
        let table = &mut self.tables[slot][group];
        table.resize(table.len().max(first + pages.len()), 0);
        table[first..][..pages.len()].copy_from_slice(pages);
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32) {
        let page = self.kv[group][from as usize].clone();
        self.kv[group][to as usize] = page;
    }

    fn page_bytes(&self, group: usize) -> usize {
        self.kv[group].first().map_or(0, |page| page.len() * 4)
    }

    fn read_page(&mut self, group: usize, page: u32, to: &mut [u8]) -> Result<(), Lost> {
        let values = self.kv[group][page as usize].iter();
        to.chunks_exact_mut(4).zip(values).for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
        Ok(())
    }

    fn write_page(&mut self, group: usize, page: u32, from: &[u8]) -> Result<(), Lost> {
        let (bytes, _) = from.as_chunks::<4>();
        let values = self.kv[group][page as usize].iter_mut();
        values.zip(bytes).for_each(|(value, &bytes)| *value = f32::from_le_bytes(bytes));
        Ok(())
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Lost> {
        self.logits.clear();
        for &row in &batch.rows {
            if let Some(logits) = self.row(row) {
                self.logits.extend(logits);
            }
        }
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        &self.logits
    }

    fn times(&self) -> &[OpTime] {
        &[]
    }

    fn trace(&mut self, _on: bool) {}
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight partial sums: the order is fixed and the loop is not bound by one chain of additions.
    let mut sums = [0.0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 =
        a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    (sums.iter().sum::<f64>() + rest) as f32
}

fn soft_cap(value: f32, cap: f32) -> f32 {
    (f64::from(cap) * (f64::from(value) / f64::from(cap)).tanh()) as f32
}

fn activate(activation: Activation, value: f32) -> f32 {
    let x = f64::from(value);
    let y = match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    };
    y as f32
}

/// A matrix decoded in plan order, for tests of backends.
///
/// # Errors
/// What reading the file says.
pub fn decode_weight(file: &Gguf, plan: &Plan, id: WeightId) -> Result<Vec<f32>, Error> {
    let weight = plan.weight(id);
    let tensor = file.tensor(&weight.tensor).expect("the emitter looked it up");
    let stored = read_vector(file, tensor)?;
    if weight.order == RowOrder::Stored {
        return Ok(stored);
    }
    let row = |row: usize| &stored[weight.order.stored(row) * weight.cols..][..weight.cols];
    Ok((0..weight.rows).flat_map(row).copied().collect())
}

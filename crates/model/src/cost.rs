//! What a plan costs before anything is loaded: bytes to hold, bytes to read a step.

use crate::Plan;
use crate::plan::{Buf, Op};
use crate::runner::{LoadOptions, Memory, PAGE};

impl Plan {
    /// Bytes of one page of a cache group: keys and values of [`PAGE`] positions in all its layers.
    pub fn page_bytes(&self, group: usize, options: &LoadOptions) -> u64 {
        let heads = self.shape.kv_heads * options.kv.head_bytes(self.shape.head_dim);
        (2 * heads * self.kv[group].layers.len() * PAGE) as u64
    }

    /// Bytes of the matrices in the file's own formats, and of the vectors as F32.
    pub fn weight_bytes(&self) -> u64 {
        let matrix = |weight: &crate::plan::Weight| {
            let row = weight.format.row_bytes(weight.cols).expect("the reader checked whole blocks");
            (weight.rows * row) as u64
        };
        let vectors: usize = self.vectors.iter().map(|vector| vector.len * 4).sum();
        self.weights.iter().map(matrix).sum::<u64>() + vectors as u64
    }

    /// Bytes a run holds, as every backend must account for it; a backend adds its own scratch.
    pub fn memory(&self, options: &LoadOptions) -> Memory {
        let rows = options.rows as u64;
        let wide: u64 = [Buf::X, Buf::H, Buf::Q, Buf::K, Buf::V, Buf::A, Buf::G, Buf::O]
            .iter()
            .map(|&buf| self.shape.width(buf) as u64 * 4)
            .sum();
        let logits = options.logit_rows as u64 * self.shape.vocab as u64 * 4;
        let pages = |group: usize| {
            self.page_bytes(group, options) * options.group_pages(self.kv[group].window) as u64
        };
        Memory {
            weights: self.weight_bytes(),
            kv: (0..self.kv.len()).map(pages).sum(),
            buffers: rows * wide + logits,
        }
    }

    /// Bytes of weights and cache that one decoded token at `depth` reads.
    pub fn step_bytes(&self, depth: usize, options: &LoadOptions) -> u64 {
        let mut bytes = 0;
        for op in &self.ops {
            match op {
                Op::Embed { .. } => {}
                Op::Attend { window, .. } => {
                    let seen = window.unwrap_or(depth + 1).min(depth + 1) as u64;
                    let heads = self.shape.kv_heads * options.kv.head_bytes(self.shape.head_dim);
                    bytes += 2 * seen * heads as u64;
                }
                _ => {
                    for id in self.weights_of(op) {
                        let weight = self.weight(id);
                        let row = weight.format.row_bytes(weight.cols);
                        bytes += (weight.rows * row.expect("the reader checked whole blocks")) as u64;
                    }
                }
            }
        }
        bytes
    }

    /// Multiplications of weights with activations for one token, logits included.
    pub fn step_products(&self) -> u64 {
        let of = |op: &Op| match op {
            Op::Embed { .. } => 0,
            _ => {
                self.weights_of(op).iter().map(|&id| self.weight(id)).map(|w| (w.rows * w.cols) as u64).sum()
            }
        };
        self.ops.iter().map(of).sum()
    }
}

//! Mirrors of `kernels/rope.cuh` and `kernels/rope.cu`.

use super::common::Address;
use crate::driver::{Args, Launch};
use model::runner::KvType;

/// Widths of a head that attention is compiled for.
pub const WIDTHS: [usize; 5] = [32, 64, 96, 128, 256];

/// What a head takes in the cache: the smallest of [`WIDTHS`] that holds `head_dim`, or `None`. The kernels
/// take head sizes that are multiples of 8.
pub fn width(head_dim: usize) -> Option<usize> {
    WIDTHS.into_iter().find(|&width| head_dim.is_multiple_of(8) && head_dim > 0 && head_dim <= width)
}

/// Types of cache there are kernels for.
pub const TYPES: [KvType; 3] = [KvType::F16, KvType::Int8, KvType::Int4];

/// Which of [`TYPES`] it is.
pub(crate) fn index(kv: KvType) -> usize {
    TYPES.iter().position(|&of| of == kv).expect("types of caches are checked when a model is loaded")
}

/// The storage of a group of layers, seen from one layer: page p begins at `pages` + p · `page_stride` and
/// holds blocks `[keys, values][kv_heads]` of 32 · [`KvType::head_bytes`] bytes each; `kernels/kv` says what is in
/// one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// The layer's part of page 0, 16-byte aligned.
    pub pages: Address,
    /// u32 `[slot][table_stride]`: the page of positions 32i.. of a slot.
    pub table: Address,
    /// Bytes from one page to the next, a multiple of 16.
    pub page_stride: u32,
    /// Entries from one slot to the next.
    pub table_stride: u32,
}

/// What happens to a head of Q or K before it is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rope {
    /// f32 `[head_dim]` or null.
    pub q_norm: Address,
    /// f32 `[head_dim]` or null.
    pub k_norm: Address,
    /// f32 `[rows][half][2]`: cosine and sine.
    pub turns: Address,
    /// Dimensions i and i + half turn together; 0: nothing turns.
    pub half: u32,
    /// Epsilon of the norms.
    pub eps: f32,
}

/// Argument of `rope_store`: q = turn(norm(q)) in place, K page = codes of turn(norm(k)), V page = codes of v.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RopeStoreArgs {
    /// f32 `[rows][heads · head_dim]`.
    pub q: Address,
    /// f32 `[rows][kv_heads · head_dim]`.
    pub k: Address,
    /// f32 `[rows][kv_heads · head_dim]`.
    pub v: Address,
    /// u32 `[rows]`.
    pub position: Address,
    /// u32 `[rows]`.
    pub slot: Address,
    /// Of the layer.
    pub cache: Cache,
    /// Of the layer.
    pub rope: Rope,
    /// Rows of the step.
    pub rows: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Width of a head in q, k and v.
    pub head_dim: u32,
    /// Width of a head in the cache: [`width`] of `head_dim`.
    pub width: u32,
    /// Padding.
    pub unused: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for RopeStoreArgs {}

impl RopeStoreArgs {
    /// The kernel's name.
    ///
    /// # Panics
    /// For a type of cache that there are no kernels for.
    pub fn kernel(kv: KvType) -> &'static str {
        ["rope_store", "rope_store_int8", "rope_store_int4"][index(kv)]
    }

    /// The launch: a warp for each head of each row.
    pub fn launch(&self, kv: KvType) -> Launch {
        // Where heads are put in order to be rotated.
        let shared_bytes = if kv == KvType::Int4 { 4 * 4 * self.width } else { 0 };
        let blocks = (self.rows * (self.heads + 2 * self.kv_heads)).div_ceil(4);
        Launch { grid: [blocks, 1, 1], threads: 128, shared_bytes, overlap: true }
    }
}

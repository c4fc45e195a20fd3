//! Mirrors of `kernels/attend.cuh`, and the launches of attention.

use super::common::Address;
use super::rope::{Cache, Rope, WIDTHS, index, width};
use crate::driver::{Args, Launch, Plain};
use model::Plan;
use model::runner::KvType;

/// Rows `first`.. of the step, all of one slot and at consecutive positions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryTile {
    /// First row.
    pub first: u32,
    /// Number of rows, at most [`Attention::tile_rows`].
    pub rows: u32,
}

// SAFETY: two u32 without padding; any bits are a value.
unsafe impl Plain for QueryTile {}

/// In [`AttendArgs::output_row`]: the row's result is not wanted.
pub const NOWHERE: u32 = u32::MAX;

/// Argument of `attend_*` and `prefill_*`: A = softmax(cap(Q·Kᵀ · scale)) · V.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttendArgs {
    /// f32 `[rows][heads · head_dim]`.
    pub q: Address,
    /// f32 `[rows][kv_heads · head_dim]`, read if fused.
    pub k: Address,
    /// f32 `[rows][kv_heads · head_dim]`, read if fused.
    pub v: Address,
    /// f32 `[output rows][heads · head_dim]` or null.
    pub out: Address,
    /// f16 `[output rows][halves_stride]`, permuted within 32 columns for `matmul`, or null. Columns from
    /// heads · `head_dim` on are not written.
    pub out_halves: Address,
    /// u32 `[rows]`.
    pub position: Address,
    /// u32 `[rows]`.
    pub slot: Address,
    /// [`QueryTile`] `[tile_count]`; null: tile i is rows i · `tile_rows`.., all of one slot and at
    /// consecutive positions.
    pub tiles: Address,
    /// u32 `[rows]`: where a row's result goes, or [`NOWHERE`]; null: to the same row.
    pub output_row: Address,
    /// f32, [`Attention::partial_floats`]; not used with one split.
    pub partials: Address,
    /// u32, [`Attention::arrived`], zero before the first launch and after each; not used with one split.
    pub arrived: Address,
    /// Of the layer.
    pub cache: Cache,
    /// Of the layer, read if fused.
    pub rope: Rope,
    /// Rows of the step.
    pub rows: u32,
    /// Rows of a tile; with `tiles`, of the largest.
    pub tile_rows: u32,
    /// Tiles.
    pub tile_count: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Width of a head in q, k, v and out, a multiple of 8.
    pub head_dim: u32,
    /// Halves from one row of `out_halves` to the next, a multiple of 32.
    pub halves_stride: u32,
    /// Positions a row sees, itself included; 0: all.
    pub window: u32,
    /// A split has at least so many pages of 32 positions if there are as many: fewer merges.
    pub min_pages: u32,
    /// 1: q and k are not turned yet, k and v not stored: `attend_*` does it. Tiles of one row.
    pub fused: u32,
    /// Factor on scores.
    pub scale: f32,
    /// cap · tanh(score / cap); 0: none.
    pub cap: f32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for AttendArgs {}

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Few rows: the blocks of a tile share its pages.
    Attend,
    /// Many rows: a warp walks all pages of its tile.
    Prefill,
}

/// The widths of one model's attention, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// KV heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head; [`width`] knows it.
    pub head_dim: usize,
    /// Type of the cache, one of [`super::rope::TYPES`].
    pub kv: KvType,
}

/// Warps of a block.
const WARPS: usize = 4;

impl Attention {
    /// Of a plan.
    pub fn of(plan: &Plan, kv: KvType) -> Attention {
        let shape = &plan.shape;
        Attention { heads: shape.heads, kv_heads: shape.kv_heads, head_dim: shape.head_dim, kv }
    }

    /// Width of a head in the cache.
    fn width(&self) -> usize {
        width(self.head_dim).expect("head sizes are checked when a model is loaded")
    }

    fn index(&self) -> usize {
        WIDTHS.iter().position(|&width| width == self.width()).expect("width gives one of them")
    }

    /// Pairs (row, head) of a tile.
    fn pairs(&self, kind: Kind) -> usize {
        match kind {
            Kind::Attend if self.kv != KvType::F16 => 8,
            Kind::Attend => 16,
            Kind::Prefill if self.width() == 256 || (self.kv, self.width()) == (KvType::Int4, 128) => 16,
            Kind::Prefill => 32,
        }
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Most rows of a tile.
    pub fn tile_rows(&self, kind: Kind) -> usize {
        (self.pairs(kind) / self.group()).max(1)
    }

    /// Blocks of the grid in y: tiles that one run of rows takes, over all KV heads.
    pub fn columns(&self, kind: Kind) -> usize {
        self.kv_heads * self.group().div_ceil(self.pairs(kind))
    }

    /// The kernel's name.
    pub fn kernel(&self, kind: Kind) -> &'static str {
        let names = match kind {
            Kind::Attend => [
                ["attend_32", "attend_64", "attend_96", "attend_128", "attend_256"],
                ["attend_int8_32", "attend_int8_64", "attend_int8_96", "attend_int8_128", "attend_int8_256"],
                ["attend_int4_32", "attend_int4_64", "attend_int4_96", "attend_int4_128", "attend_int4_256"],
            ],
            Kind::Prefill => [
                ["prefill_32", "prefill_64", "prefill_96", "prefill_128", "prefill_256"],
                [
                    "prefill_int8_32",
                    "prefill_int8_64",
                    "prefill_int8_96",
                    "prefill_int8_128",
                    "prefill_int8_256",
                ],
                [
                    "prefill_int4_32",
                    "prefill_int4_64",
                    "prefill_int4_96",
                    "prefill_int4_128",
                    "prefill_int4_256",
                ],
            ],
        };
        names[index(self.kv)][self.index()]
    }

    /// Floats of [`AttendArgs::partials`] for `tiles` tiles of at most `tile_rows` rows and `splits` splits.
    pub fn partial_floats(&self, tiles: usize, tile_rows: usize, splits: usize) -> usize {
        let one = (self.most_pairs(tile_rows) * (self.width() + 2)).next_multiple_of(4);
        tiles * self.columns(Kind::Attend) * splits * one
    }

    /// Words of [`AttendArgs::arrived`] for `tiles` tiles.
    pub fn arrived(&self, tiles: usize) -> usize {
        tiles * self.columns(Kind::Attend)
    }

    /// Blocks of [`Kind::Attend`] that a multiprocessor holds at a time, by its 65536 registers. More blocks in
    /// all than fit at once take twice as long.
    pub fn resident(&self) -> usize {
        match (self.kv, self.width()) {
            (KvType::F16, 0..128) => 3,
            (KvType::F16, _) | (_, 256) => 2,
            (_, 96..=128) => 3,
            _ => 4,
        }
    }

    /// Pairs of a tile of `tile_rows` rows.
    fn most_pairs(&self, tile_rows: usize) -> usize {
        let (group, most) = (self.group(), self.pairs(Kind::Attend));
        if group < most { group * tile_rows } else { most }
    }

    /// The launch of [`Kind::Attend`] with `splits` blocks a tile.
    pub fn attend(&self, args: &AttendArgs, splits: usize) -> Launch {
        let pairs = self.most_pairs(args.tile_rows as usize);
        // And where heads are put in order to be rotated.
        let scratch = if self.kv == KvType::Int4 { WARPS * 4 * self.width() } else { 0 };
        let queries = self.staged_bytes(Kind::Attend) + scratch;
        // Tops and sums of the warps, then their results, 128 columns at a time.
        let merge = 2 * WARPS * 16 * 4 + WARPS * pairs * (self.width().min(128) + 8) * 4;
        let factors = 16 + splits * pairs * 4;
        Launch {
            grid: [splits as u32, self.columns(Kind::Attend) as u32, args.tile_count],
            threads: 32 * WARPS as u32,
            shared_bytes: queries.max(merge).max(factors) as u32,
            overlap: true,
        }
    }

    /// The launch of [`Kind::Prefill`].
    pub fn prefill(&self, args: &AttendArgs) -> Launch {
        let blocks = args.tile_count.div_ceil(WARPS as u32);
        Launch {
            grid: [blocks, self.columns(Kind::Prefill) as u32, 1],
            threads: 32 * WARPS as u32,
            shared_bytes: (WARPS * self.staged_bytes(Kind::Prefill)) as u32,
            overlap: true,
        }
    }

    /// Bytes of a tile in shared memory: queries and what belongs to each, a position for each, what describes
    /// the tile.
    fn staged_bytes(&self, kind: Kind) -> usize {
        let (each, all) = match self.kv {
            KvType::Int8 => (4, 16),
            KvType::Int4 => (4 + 32, 0),
            _ => (0, 0),
        };
        self.pairs(kind) * (2 * self.width() + each + 4) + all + 48
    }
}

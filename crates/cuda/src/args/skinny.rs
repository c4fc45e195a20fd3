//! Mirror of `kernels/skinny.cuh`, and how products of 2 to 8 rows are spread over a GPU.

use super::common::{Address, Epilogue, Output};
use crate::driver::{Args, Launch};
use crate::tile::TileFormat;

/// Rows of a step these products take.
pub const MAX_ROWS: usize = 8;

/// Rows that [`Precision::Packed`] takes.
const PACKED_ROWS: u32 = 4;

/// Warps of a block at most, and of a multiprocessor: those of eight rows have so many registers. (Those of
/// four have sixteen there.)
pub const WARPS: u32 = 12;

/// Row tiles of a unit, what a block multiplies.
const UNIT_TILES: u32 = 2;

/// Sums of a warp: eight rows of the step, 36 floats apart.
const MERGE_BYTES: u32 = 8 * 36 * 4;

/// Shared memory of a multiprocessor of compute capability 8.7, and what a block takes beside its own.
const SHARED_BYTES: u32 = 164 << 10;
const BLOCK_BYTES: u32 = 1 << 10;

/// What becomes of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 16 bits (F16 weights: 22) of the largest of 256 columns.
    Exact,
    /// The same for at most four rows, with half the work.
    Packed,
    /// 8 bits (F16 weights: 11).
    Coarse,
}

impl Precision {
    /// The cheapest exact one.
    pub fn exact(rows: usize) -> Precision {
        if rows <= PACKED_ROWS as usize { Precision::Packed } else { Precision::Exact }
    }
}

/// Argument of the `skinny` kernels: up to three products with up to eight rows, of formats [`together`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SkinnyArgs {
    /// The first `outputs` count; all as wide as the input and of the kernel's format.
    pub out: [Output; 3],
    /// Records of the input as [`super::stage8`] writes them: its halves for F16, else its bytes.
    pub staged: Address,
    /// Products; 2 for gated blocks, gate first.
    pub outputs: u32,
    /// Rows of the step.
    pub rows: u32,
    /// One for all.
    pub epilogue: Epilogue,
    /// For [`Epilogue::Cap`].
    pub cap: f32,
    /// Units of the outputs in the kernel's first format, which come first.
    units_first: u32,
    units: u32,
    /// Blocks for the first format; the others are for the second.
    blocks_first: u32,
    unused: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for SkinnyArgs {}

impl SkinnyArgs {
    /// The products of one launch; the launch itself comes from [`SkinnyArgs::spread`].
    ///
    /// # Panics
    /// For more than three products.
    pub fn new(outputs: &[Output], staged: Address, rows: usize, epilogue: Epilogue, cap: f32) -> SkinnyArgs {
        let gated = matches!(epilogue, Epilogue::GateSilu | Epilogue::GateGelu);
        let mut ordered = outputs.to_vec();
        if !gated {
            // In the order of the kernels' formats.
            ordered.sort_by_key(|output| output.matrix.format);
        }
        let first = ordered[0].matrix.format;
        let units = |only: Option<u32>| -> u32 {
            if gated {
                return ordered[0].matrix.row_tiles;
            }
            let counted =
                ordered.iter().filter(|output| only.is_none_or(|format| output.matrix.format == format));
            counted.map(|output| output.matrix.row_tiles.div_ceil(UNIT_TILES)).sum()
        };
        let (units_first, units) = (units(Some(first)), units(None));
        let mut out = [Output::default(); 3];
        out[..ordered.len()].copy_from_slice(&ordered);
        let (outputs, rows) = (ordered.len() as u32, rows as u32);
        SkinnyArgs { out, staged, outputs, rows, epilogue, cap, units_first, units, ..SkinnyArgs::default() }
    }

    /// The formats of the kernel: one, or the second of a launch of two as well.
    pub fn formats(&self) -> [TileFormat; 2] {
        let format = |output: &Output| TileFormat::ALL[output.matrix.format as usize];
        [format(&self.out[0]), format(&self.out[self.outputs as usize - 1])]
    }

    /// Chooses how many warps share a unit's columns on `sms` multiprocessors and how many blocks take turns at
    /// the units, and gives the launch, for any precision.
    ///
    /// The time of a round of units is estimated, in clocks, as that of the instructions of the busiest
    /// multiprocessor, or of a warp alone where there are few; then the warps of a block meet.
    pub fn spread(&mut self, sms: u32) -> Launch {
        let (_, parts, blocks, first) = (1..=WARPS)
            .filter(|&parts| parts == 1 || parts <= self.steps())
            .map(|parts| self.estimate(parts, sms))
            .min()
            .expect("one part is always possible");
        self.blocks_first = first;
        self.launch_of(parts, blocks)
    }

    /// Clocks, parts, blocks and blocks for the first format.
    fn estimate(&self, parts: u32, sms: u32) -> (u64, u32, u32, u32) {
        let by_shared = SHARED_BYTES / (parts * self.warp_bytes() + BLOCK_BYTES);
        let places = sms * (WARPS / parts).min(by_shared).max(1);
        let blocks = self.units.min(places);
        let time = |format: TileFormat, units: u32, blocks: u32| {
            let (rounds, rest) = (units / blocks, units % blocks);
            let all = u64::from(rounds) * self.round(format, parts, blocks.min(units), sms);
            if rest == 0 { all } else { all + self.round(format, parts, rest, sms) }
        };
        let [first, second] = self.formats();
        if first == second {
            return (time(first, self.units, blocks), parts, blocks, blocks);
        }
        // All multiprocessors have blocks of both formats: the rounds of one are as long as if all were of it.
        let both = |split: u32| {
            let apart = |format, units: u32, own: u32| {
                u64::from(units.div_ceil(own)) * self.round(format, parts, blocks, sms)
            };
            apart(first, self.units_first, split).max(apart(
                second,
                self.units - self.units_first,
                blocks - split,
            ))
        };
        let splits = (1..blocks)
            .filter(|&split| split <= self.units_first && blocks - split <= self.units - self.units_first);
        splits.map(|split| (both(split), parts, blocks, split)).min().unwrap_or((u64::MAX, parts, 2, 1))
    }

    /// Clocks of one unit of each of `blocks` blocks.
    fn round(&self, format: TileFormat, parts: u32, blocks: u32, sms: u32) -> u64 {
        const STEP_ALONE: u32 = 1000;
        const MEETING: u32 = 600;
        let busy = blocks.div_ceil(sms) * parts * step_clocks(format);
        u64::from(self.steps().div_ceil(parts) * busy.max(STEP_ALONE) + MEETING)
    }

    fn steps(&self) -> u32 {
        self.out[0].matrix.col_tiles * tile_steps(self.formats()[0])
    }

    /// Shared memory of a warp.
    fn warp_bytes(&self) -> u32 {
        let [first, second] = self.formats();
        warp_bytes(first).max(warp_bytes(second))
    }

    /// The launch in which `parts` warps, at most [`WARPS`], share a unit, and `blocks` blocks take turns.
    ///
    /// # Panics
    /// For a single block of two formats.
    pub fn launch(&mut self, parts: u32, blocks: u32) -> Launch {
        let [first, second] = self.formats();
        let blocks = blocks.min(self.units);
        self.blocks_first = if first == second { blocks } else { blocks.div_ceil(2).min(self.units_first) };
        assert!(first == second || blocks > self.blocks_first, "a block for each format");
        self.launch_of(parts, blocks)
    }

    fn launch_of(&self, parts: u32, blocks: u32) -> Launch {
        Launch {
            grid: [blocks, 1, 1],
            threads: parts * 32,
            shared_bytes: parts * self.warp_bytes(),
            overlap: true,
        }
    }
}

/// Instructions of a step of one warp, spread over four schedulers of which a quarter of the slots stays empty.
fn step_clocks(format: TileFormat) -> u32 {
    match format {
        TileFormat::Q4K | TileFormat::Q4_0 => 155,
        TileFormat::Q5K => 205,
        TileFormat::Q6K => 285,
        TileFormat::Q8_0 => 125,
        TileFormat::F16 => 50,
    }
}

/// Formats that one launch takes.
pub fn together(formats: &[TileFormat]) -> bool {
    let all = |a, b| formats.iter().all(|&format| format == a || format == b);
    // Q5_K with Q6_K has no registers for it.
    all(formats[0], formats[0]) || all(TileFormat::Q4K, TileFormat::Q6K)
}

/// Steps of a column tile.
fn tile_steps(format: TileFormat) -> u32 {
    if format == TileFormat::F16 { 2 } else { 1 }
}

/// Shared memory of a warp: a step of both tiles, and its sums.
fn warp_bytes(format: TileFormat) -> u32 {
    UNIT_TILES * format.bytes() as u32 / tile_steps(format) + MERGE_BYTES
}

/// The most shared memory a launch takes: what `Function::allow_shared` must be told once.
pub fn shared_bytes(format: TileFormat) -> u32 {
    WARPS * warp_bytes(format)
}

/// The kernel for the formats of a launch; two have no coarse one.
///
/// # Panics
/// For formats that are not [`together`].
pub fn kernel([first, second]: [TileFormat; 2], precision: Precision) -> &'static str {
    use Precision::{Coarse, Exact, Packed};
    if first != second {
        return match (first, second, precision) {
            (TileFormat::Q4K, TileFormat::Q6K, Exact) => "skinny_q4_k_q6_k",
            (TileFormat::Q4K, TileFormat::Q6K, Packed) => "skinny4_q4_k_q6_k",
            _ => panic!("no kernel takes these formats together"),
        };
    }
    match (first, precision) {
        (TileFormat::Q4K, Exact) => "skinny_q4_k",
        (TileFormat::Q5K, Exact) => "skinny_q5_k",
        (TileFormat::Q6K, Exact) => "skinny_q6_k",
        (TileFormat::Q8_0, Exact) => "skinny_q8_0",
        (TileFormat::Q4_0, Exact) => "skinny_q4_0",
        (TileFormat::F16, Exact) => "skinny_f16",
        (TileFormat::Q4K, Packed) => "skinny4_q4_k",
        (TileFormat::Q5K, Packed) => "skinny4_q5_k",
        (TileFormat::Q6K, Packed) => "skinny4_q6_k",
        (TileFormat::Q8_0, Packed) => "skinny4_q8_0",
        (TileFormat::Q4_0, Packed) => "skinny4_q4_0",
        (TileFormat::F16, Packed) => "skinny4_f16",
        (TileFormat::Q4K, Coarse) => "skinny8_q4_k",
        (TileFormat::Q5K, Coarse) => "skinny8_q5_k",
        (TileFormat::Q6K, Coarse) => "skinny8_q6_k",
        (TileFormat::Q8_0, Coarse) => "skinny8_q8_0",
        (TileFormat::Q4_0, Coarse) => "skinny8_q4_0",
        (TileFormat::F16, Coarse) => "skinny8_f16",
    }
}

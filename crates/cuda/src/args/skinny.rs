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

/// Argument of the `skinny` kernels: up to three products of one format with up to eight rows.
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
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for SkinnyArgs {}

impl SkinnyArgs {
    /// The products of one launch; the launch itself comes from [`SkinnyArgs::spread`].
    ///
    /// # Panics
    /// For more than three products.
    pub fn new(outputs: &[Output], staged: Address, rows: usize, epilogue: Epilogue, cap: f32) -> SkinnyArgs {
        let mut out = [Output::default(); 3];
        out[..outputs.len()].copy_from_slice(outputs);
        SkinnyArgs { out, staged, outputs: outputs.len() as u32, rows: rows as u32, epilogue, cap }
    }

    fn format(&self) -> TileFormat {
        TileFormat::ALL[self.out[0].matrix.format as usize]
    }

    /// Pairs of row tiles, each product rounded up; of gated products the row tiles of one: a block each.
    fn units(&self) -> u32 {
        if matches!(self.epilogue, Epilogue::GateSilu | Epilogue::GateGelu) {
            return self.out[0].matrix.row_tiles;
        }
        let outputs = &self.out[..self.outputs as usize];
        outputs.iter().map(|output| output.matrix.row_tiles.div_ceil(UNIT_TILES)).sum()
    }

    /// Chooses how many warps share a unit's columns on `sms` multiprocessors and gives the launch, for any
    /// precision.
    ///
    /// The time is estimated, in clocks, as that of the instructions of the busiest multiprocessor plus the
    /// latency of its blocks one behind the other: a warp alone takes ten times as long for a step as its
    /// share of the multiprocessor, and a block waits for its first weights and for its warps' sums.
    pub fn spread(&self, sms: u32) -> Launch {
        const STEP: u32 = 120;
        const STEP_ALONE: u32 = 1200;
        const BLOCK: u32 = 1500;
        let (format, units) = (self.format(), self.units());
        let steps = self.out[0].matrix.col_tiles * tile_steps(format);
        let clocks = |parts: u32| {
            let by_warps = WARPS / parts;
            let by_shared = SHARED_BYTES / (parts * warp_bytes(format) + BLOCK_BYTES);
            let waves = units.div_ceil(sms * by_warps.min(by_shared).clamp(1, 16));
            let issued = u64::from(units.div_ceil(sms)) * u64::from(steps * STEP);
            issued + u64::from(waves) * u64::from(steps.div_ceil(parts) * STEP_ALONE + BLOCK)
        };
        let choices = (1..=WARPS).filter(|&parts| parts <= steps);
        self.launch(choices.min_by_key(|&parts| clocks(parts)).unwrap_or(1))
    }

    /// The launch in which `parts` warps, at most [`WARPS`], share a unit.
    pub fn launch(&self, parts: u32) -> Launch {
        let shared_bytes = parts * warp_bytes(self.format());
        Launch { grid: [self.units(), 1, 1], threads: parts * 32, shared_bytes, overlap: true }
    }
}

/// Steps of a column tile.
fn tile_steps(format: TileFormat) -> u32 {
    if format == TileFormat::F16 { 2 } else { 1 }
}

/// Shared memory of a warp: a step of both tiles.
fn warp_bytes(format: TileFormat) -> u32 {
    UNIT_TILES * format.bytes() as u32 / tile_steps(format)
}

/// The most shared memory a launch takes: what `Function::allow_shared` must be told once.
pub fn shared_bytes(format: TileFormat) -> u32 {
    WARPS * warp_bytes(format)
}

/// The kernel for a format.
pub fn kernel(format: TileFormat, precision: Precision) -> &'static str {
    use Precision::{Coarse, Exact, Packed};
    match (format, precision) {
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

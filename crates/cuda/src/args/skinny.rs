//! Mirror of `kernels/skinny.cuh`, and how products of 2 to 8 rows are spread over a GPU.

use super::common::{Address, Epilogue, Output};
use crate::driver::{Args, Launch};
use crate::tile::TileFormat;

/// Rows of a step these products take.
pub const MAX_ROWS: usize = 8;

/// Rows that [`Precision::Packed`] takes.
const PACKED_ROWS: u32 = 4;

/// Warps of a block, at most.
const WARPS: u32 = 8;

/// Row tiles of a unit, what a warp multiplies at a time.
const UNIT_TILES: u32 = 2;

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
    /// Pairs of row tiles in all, each product rounded up; if gated, row tiles of the first.
    pub units: u32,
    /// Warps that share a unit's columns.
    pub parts: u32,
    /// For [`Epilogue::Cap`].
    pub cap: f32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for SkinnyArgs {}

impl SkinnyArgs {
    /// The products of one launch; the launch itself comes from [`SkinnyArgs::spread`].
    ///
    /// # Panics
    /// For no products or more than three.
    pub fn new(outputs: &[Output], staged: Address, rows: usize, epilogue: Epilogue, cap: f32) -> SkinnyArgs {
        let gated = matches!(epilogue, Epilogue::GateSilu | Epilogue::GateGelu);
        let units = if gated {
            outputs[0].matrix.row_tiles
        } else {
            outputs.iter().map(|output| output.matrix.row_tiles.div_ceil(UNIT_TILES)).sum()
        };
        let mut out = [Output::default(); 3];
        out[..outputs.len()].copy_from_slice(outputs);
        let (outputs, rows) = (outputs.len() as u32, rows as u32);
        SkinnyArgs { out, staged, outputs, rows, epilogue, units, parts: 1, cap }
    }

    fn format(&self) -> TileFormat {
        TileFormat::ALL[self.out[0].matrix.format as usize]
    }

    /// Steps of a unit's columns.
    fn steps(&self) -> u32 {
        self.out[0].matrix.col_tiles * tile_steps(self.format())
    }

    /// Chooses how warps share the work on `sms` multiprocessors and gives the launch.
    ///
    /// All warps of a multiprocessor advance together, so the time is that of the busiest one: whole waves
    /// of blocks times the steps of a warp, plus what meeting at the end costs, about a step.
    pub fn spread(&mut self, sms: u32) -> Launch {
        let steps = self.steps();
        let per_sm = blocks_per_sm(self.format());
        let work = |parts: u32| {
            let blocks = self.units.div_ceil(WARPS / parts);
            u64::from(blocks.div_ceil(sms * per_sm)) * u64::from(4 * steps.div_ceil(parts) + 3)
        };
        let choices = (1..=WARPS).filter(|&parts| parts <= steps);
        let parts = choices.min_by_key(|&parts| work(parts)).unwrap_or(1);
        self.launch(parts)
    }

    /// The launch in which `parts` warps, at most eight, share a unit.
    pub fn launch(&mut self, parts: u32) -> Launch {
        self.parts = parts;
        let units = (WARPS / parts).min(self.units.max(1));
        let warps = units * parts;
        let shared_bytes = warps * warp_bytes(self.format());
        let blocks = self.units.div_ceil(units);
        Launch { grid: [blocks, 1, 1], threads: warps * 32, shared_bytes, overlap: true }
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

/// The most shared memory a launch takes: what [`crate::driver::Function::allow_shared`] must be told.
pub fn shared_bytes(format: TileFormat) -> u32 {
    WARPS * warp_bytes(format)
}

/// Blocks of eight warps a multiprocessor holds: two by registers and by shared memory.
fn blocks_per_sm(_: TileFormat) -> u32 {
    2
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

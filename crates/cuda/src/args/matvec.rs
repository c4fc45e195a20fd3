//! Mirror of `kernels/matvec.cu`, and how a product is spread over a GPU.

use super::common::{Epilogue, Output, Source};
use crate::driver::{Args, Launch};
use crate::tile::TileFormat;

/// Argument of the `matvec` kernels: up to three products of one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MatvecArgs {
    /// The first `outputs` count; all as wide as the input.
    pub out: [Output; 3],
    /// One row.
    pub source: Source,
    /// Products; 2 for gated blocks, gate first.
    pub outputs: u32,
    /// One for all.
    pub epilogue: Epilogue,
    /// For [`Epilogue::Cap`].
    pub cap: f32,
    /// Warps that share a row tile: a divisor of the block's.
    pub split: u32,
    /// Groups of `split` warps in the launch.
    pub groups: u32,
    /// Row tiles in the kernel's first format.
    pub units_first: u32,
    /// Row tiles in its second.
    pub units_second: u32,
    /// ceil(2¹⁶ / split).
    pub share: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for MatvecArgs {}

impl MatvecArgs {
    /// The products of one launch; the launch itself comes from [`MatvecArgs::spread`].
    ///
    /// # Panics
    /// For no products or more than three.
    pub fn new(outputs: &[Output], source: Source, epilogue: Epilogue, cap: f32) -> MatvecArgs {
        let mut out = [Output::default(); 3];
        out[..outputs.len()].copy_from_slice(outputs);
        MatvecArgs { out, source, outputs: outputs.len() as u32, epilogue, cap, ..MatvecArgs::default() }
    }

    /// Formats that one launch can take together, in the kernel's order; others need a launch each.
    pub fn together(formats: &[TileFormat]) -> bool {
        kernel(formats, false).is_some()
    }

    /// What follows from the split and the number of blocks.
    fn share(&mut self, warps: u32, blocks: u32) {
        self.groups = warps / self.split * blocks;
        self.share = (1u32 << 16).div_ceil(self.split);
    }

    /// Another split than the one chosen, for tests and measurements; gives the number of blocks.
    ///
    /// # Panics
    /// For a split that does not divide the warps of a block.
    pub fn split(&mut self, split: u32, sms: u32) -> u32 {
        let warps = self.kernel().warps;
        assert!(split > 0 && warps.is_multiple_of(split), "a divisor of {warps}");
        self.split = split;
        let blocks = (self.units_first + self.units_second).div_ceil(warps / split).min(sms).max(1);
        self.share(warps, blocks);
        blocks
    }

    fn kernel(&self) -> &'static Kernel {
        kernel(&self.formats(), self.gated()).expect("lowering keeps to these")
    }

    fn formats(&self) -> Vec<TileFormat> {
        let of = |output: &Output| TileFormat::ALL[output.matrix.format as usize];
        self.out[..self.outputs as usize].iter().map(of).collect()
    }

    fn gated(&self) -> bool {
        matches!(self.epilogue, Epilogue::GateSilu | Epilogue::GateGelu)
    }

    /// Chooses how warps share the work on `sms` multiprocessors; gives the kernel and its launch.
    ///
    /// # Panics
    /// For formats that are not [`MatvecArgs::together`].
    pub fn spread(&mut self, sms: u32) -> (&'static str, Launch) {
        let &Kernel { name, first, warps, .. } = self.kernel();
        let outputs = &self.out[..self.outputs as usize];
        let units = |of: bool| {
            let mine = outputs.iter().filter(|output| (output.matrix.format == first.id()) == of);
            mine.map(|output| output.matrix.row_tiles).sum()
        };
        (self.units_first, self.units_second) = (units(true), units(false));
        if self.gated() {
            self.units_first = self.out[0].matrix.row_tiles;
        }
        let total = self.units_first + self.units_second;
        let col_tiles = self.out[0].matrix.col_tiles;
        let steps = col_tiles * steps(first);
        let parts = if self.gated() { 2 } else { 1 };
        // What a warp does in all, in steps; meeting the others costs about one more step a unit.
        let work = |split: u32| {
            let groups = warps / split * sms;
            let meeting = if split > 1 { 2 } else { 1 };
            u64::from(total.div_ceil(groups)) * u64::from(4 * parts * steps.div_ceil(split) + meeting)
        };
        let splits = (1..=warps).filter(|&split| warps.is_multiple_of(split) && split <= steps);
        self.split = splits.min_by_key(|&split| work(split)).unwrap_or(1);
        let blocks = total.div_ceil(warps / self.split).min(sms).max(1);
        self.share(warps, blocks);
        let shared_bytes = shared_bytes(col_tiles, first);
        (name, Launch { grid: [blocks, 1, 1], threads: warps * 32, shared_bytes, overlap: true })
    }
}

/// Shared memory a block takes: the staged input, 64 floats, four sets of partial sums.
pub fn shared_bytes(col_tiles: u32, format: TileFormat) -> u32 {
    let staged =
        if format == TileFormat::F16 { col_tiles * 1024 } else { (col_tiles * 644).next_multiple_of(16) };
    staged + 256 + 4 * MOST_WARPS * 128
}

/// Steps a tile takes.
fn steps(format: TileFormat) -> u32 {
    match format {
        TileFormat::F16 => 4,
        TileFormat::Q8_0 => 2,
        _ => 1,
    }
}

/// Warps of the largest block.
const MOST_WARPS: u32 = 24;

/// A kernel of `kernels/matvec.cu`.
struct Kernel {
    name: &'static str,
    gated: bool,
    first: TileFormat,
    /// Of another format that it takes too.
    second: Option<TileFormat>,
    /// Of a block.
    warps: u32,
}

/// The first that takes a product's formats is the best for them.
const KERNELS: [Kernel; 14] = {
    use TileFormat::{F16, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    const fn of(name: &'static str, gated: bool, first: TileFormat, warps: u32) -> Kernel {
        Kernel { name, gated, first, second: None, warps }
    }
    [
        of("matvec_q4_k", false, Q4K, 24),
        of("matvec_q5_k", false, Q5K, 24),
        of("matvec_q6_k", false, Q6K, 24),
        of("matvec_q8_0", false, Q8_0, 24),
        of("matvec_q4_0", false, Q4_0, 20),
        of("matvec_f16", false, F16, 24),
        of("matvec_gated_q4_k", true, Q4K, 24),
        of("matvec_gated_q5_k", true, Q5K, 20),
        of("matvec_gated_q6_k", true, Q6K, 24),
        of("matvec_gated_q8_0", true, Q8_0, 20),
        of("matvec_gated_q4_0", true, Q4_0, 20),
        of("matvec_gated_f16", true, F16, 24),
        Kernel { second: Some(Q6K), ..of("matvec_q4_k_q6_k", false, Q4K, 24) },
        Kernel { second: Some(Q6K), ..of("matvec_q5_k_q6_k", false, Q5K, 20) },
    ]
};

/// The kernel for these formats.
fn kernel(formats: &[TileFormat], gated: bool) -> Option<&'static Kernel> {
    let takes =
        |kernel: &Kernel, format: &TileFormat| *format == kernel.first || Some(*format) == kernel.second;
    KERNELS.iter().find(|kernel| kernel.gated == gated && formats.iter().all(|format| takes(kernel, format)))
}

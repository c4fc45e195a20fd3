//! Mirror of `kernels/matvec.cu`, and how a product is spread over a GPU.

use super::common::{Epilogue, Output, Source};
use crate::driver::{Args, Launch};
use crate::tile::TileFormat;

/// Warps of a block.
const WARPS: u32 = 20;

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
    /// Warps that share a row tile: a divisor of 20.
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
    fn share(&mut self, blocks: u32) {
        self.groups = WARPS / self.split * blocks;
        self.share = (1u32 << 16).div_ceil(self.split);
    }

    /// Another split than the one chosen, for tests and measurements; gives the number of blocks.
    ///
    /// # Panics
    /// For a split that does not divide the warps of a block.
    pub fn split(&mut self, split: u32, sms: u32) -> u32 {
        assert!(split > 0 && WARPS.is_multiple_of(split), "a divisor of {WARPS}");
        self.split = split;
        let blocks = (self.units_first + self.units_second).div_ceil(WARPS / split).min(sms).max(1);
        self.share(blocks);
        blocks
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
        let (name, first) = kernel(&self.formats(), self.gated()).expect("lowering keeps to these");
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
            let groups = WARPS / split * sms;
            let meeting = if split > 1 { 2 } else { 1 };
            u64::from(total.div_ceil(groups)) * u64::from(4 * parts * steps.div_ceil(split) + meeting)
        };
        let splits = [1, 2, 4, 5, 10, 20].into_iter().filter(|&split| split <= steps);
        self.split = splits.min_by_key(|&split| work(split)).unwrap_or(1);
        let blocks = total.div_ceil(WARPS / self.split).min(sms).max(1);
        self.share(blocks);
        let shared_bytes = shared_bytes(col_tiles, first);
        (name, Launch { grid: [blocks, 1, 1], threads: WARPS * 32, shared_bytes, overlap: true })
    }
}

/// Shared memory a block takes: the staged input, 64 floats, four sets of partial sums.
pub fn shared_bytes(col_tiles: u32, format: TileFormat) -> u32 {
    let staged =
        if format == TileFormat::F16 { col_tiles * 1024 } else { (col_tiles * 644).next_multiple_of(16) };
    staged + 256 + 4 * WARPS * 128
}

/// Steps a tile takes.
fn steps(format: TileFormat) -> u32 {
    match format {
        TileFormat::F16 => 4,
        TileFormat::Q8_0 => 2,
        _ => 1,
    }
}

/// The kernel for these formats, and its first format.
fn kernel(formats: &[TileFormat], gated: bool) -> Option<(&'static str, TileFormat)> {
    use TileFormat::{F16, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    let all = |of: &[TileFormat]| formats.iter().all(|format| of.contains(format));
    let plain = [
        ("matvec_q4_k", Q4K),
        ("matvec_q5_k", Q5K),
        ("matvec_q6_k", Q6K),
        ("matvec_q8_0", Q8_0),
        ("matvec_q4_0", Q4_0),
        ("matvec_f16", F16),
    ];
    let gates = [
        ("matvec_gated_q4_k", Q4K),
        ("matvec_gated_q5_k", Q5K),
        ("matvec_gated_q6_k", Q6K),
        ("matvec_gated_q8_0", Q8_0),
        ("matvec_gated_q4_0", Q4_0),
        ("matvec_gated_f16", F16),
    ];
    let list = if gated { &gates } else { &plain };
    if let Some(&found) = list.iter().find(|(_, format)| all(&[*format])) {
        return Some(found);
    }
    match () {
        () if gated => None,
        () if all(&[Q4K, Q6K]) => Some(("matvec_q4_k_q6_k", Q4K)),
        () if all(&[Q5K, Q6K]) => Some(("matvec_q5_k_q6_k", Q5K)),
        () => None,
    }
}

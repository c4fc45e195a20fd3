//! Mirror of `kernels/begin.cu`.

use super::common::Address;
use super::common::Matrix;
use crate::driver::{Args, Launch};

/// Most rotations of a plan.
pub const TABLES: usize = 4;

/// One rotation of the plan; all null for those that a plan lacks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Turns {
    /// f32 `[half]`, radians a position, at least 0.
    pub frequency: Address,
    /// f32 `[rows][half][2]`: cosine and sine, times magnitude.
    pub to: Address,
    /// Factor on both.
    pub magnitude: f32,
    /// Pairs of dimensions.
    pub half: u32,
}

/// Argument of `begin`: X = embedding rows · scale, and the turns of every rotation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BeginArgs {
    /// `vocab` × `dim`.
    pub table: Matrix,
    /// u32 `[rows]`.
    pub token: Address,
    /// u32 `[rows]`; position · frequency stays below 2²⁰ radians.
    pub position: Address,
    /// f32 `[rows][dim]`.
    pub x: Address,
    /// The first `tables` count.
    pub turns: [Turns; TABLES],
    /// Factor on embeddings.
    pub scale: f32,
    /// Rotations.
    pub tables: u32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for BeginArgs {}

impl BeginArgs {
    /// The kernel's name.
    pub const KERNEL: &str = "begin";

    /// The launch for `rows` rows.
    pub fn launch(&self, rows: usize) -> Launch {
        Launch {
            grid: [self.table.col_tiles + 1, rows as u32, 1],
            threads: 256,
            shared_bytes: 0,
            overlap: true,
        }
    }
}

//! Mirror of `kernels/matmul.cu`, and which size of block suits a product.

use super::common::{Address, Epilogue, Output};
use crate::driver::{Args, Launch};
use crate::tile::TileFormat;

/// Argument of the `matmul` kernels: up to three products of 9 and more rows of activations.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MatmulArgs {
    /// The first `count` count; all of one format and width. Gated: gate and up, equal in shape.
    pub outputs: [Output; 3],
    /// f16 `[tokens][input_stride]`, as `stage_f16` writes it.
    pub input: Address,
    /// Gated: f16 `[tokens][gated_stride]`, gate · up · [`GATED_SCALE`], permuted like `input`; or null.
    /// Output 0's `to` takes gate · up as f32, or is null.
    pub gated: Address,
    /// Halves from one row of the input to the next: a multiple of 256.
    pub input_stride: u32,
    /// Halves from one row of `gated` to the next: a multiple of 256, at least the rows of the matrix.
    pub gated_stride: u32,
    /// Products.
    pub count: u32,
    /// Rows of activations.
    pub tokens: u32,
    /// Row tiles of all outputs; gated: of one, up to a multiple of 256 rows if `gated` is not null.
    pub tiles: u32,
    /// One for all.
    pub epilogue: Epilogue,
    /// Times each product, before its bias: 1 / [`GATED_SCALE`] after a gated input.
    pub scale: f32,
    /// For [`Epilogue::Cap`].
    pub cap: f32,
}

// SAFETY: field by field the structure of the kernel; whoever fills in addresses answers for them.
unsafe impl Args for MatmulArgs {}

/// Factor on gated products as halves.
pub const GATED_SCALE: f32 = 1.0 / 64.0;

/// Size of a block: rows of the matrix by rows of activations. All have four warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 128 × 128.
    Large,
    /// 64 × 64.
    Medium,
    /// 64 × 32.
    Small,
}

impl Size {
    /// All of them.
    pub const ALL: [Size; 3] = [Size::Large, Size::Medium, Size::Small];

    /// Row tiles of a block.
    fn slots(self) -> u32 {
        if self == Size::Large { 8 } else { 4 }
    }

    /// Rows of activations of a block.
    fn tokens(self) -> u32 {
        match self {
            Size::Large => 128,
            Size::Medium => 64,
            Size::Small => 32,
        }
    }

    /// Clocks of a multiprocessor for 64 columns of a block, of several at once: 4 × 6.6 for an mma of the
    /// large block, limited by the tensor cores, and issued instructions for the others (see `matmul.cuh`).
    fn cost(self) -> u64 {
        match self {
            Size::Large => 850,
            Size::Medium => 235,
            Size::Small => 165,
        }
    }
}

const THREADS: u32 = 128;

impl MatmulArgs {
    /// The products of one launch; scale 1, nothing gated to halves.
    ///
    /// # Panics
    /// For no products or more than three.
    pub fn new(
        outputs: &[Output],
        input: Address,
        input_stride: usize,
        tokens: usize,
        epilogue: Epilogue,
    ) -> MatmulArgs {
        let mut args = MatmulArgs {
            input,
            input_stride: input_stride as u32,
            count: outputs.len() as u32,
            tokens: tokens as u32,
            epilogue,
            scale: 1.0,
            ..MatmulArgs::default()
        };
        args.outputs[..outputs.len()].copy_from_slice(outputs);
        let tiles = outputs.iter().map(|output| output.matrix.row_tiles);
        args.tiles = if args.is_gated() { outputs[0].matrix.row_tiles } else { tiles.sum() };
        args
    }

    /// Sends gate · up to halves, rows `stride` apart.
    #[must_use]
    pub fn gated_to(mut self, to: Address, stride: usize) -> MatmulArgs {
        (self.gated, self.gated_stride) = (to, stride as u32);
        self.tiles = self.tiles.next_multiple_of(16);
        self
    }

    fn is_gated(&self) -> bool {
        matches!(self.epilogue, Epilogue::GateSilu | Epilogue::GateGelu)
    }

    fn format(&self) -> TileFormat {
        TileFormat::ALL[self.outputs[0].matrix.format as usize]
    }

    fn grid(&self, size: Size) -> [u32; 3] {
        let tiles = if self.is_gated() { 2 * self.tiles } else { self.tiles };
        [self.tokens.div_ceil(size.tokens()), tiles.div_ceil(size.slots()), 1]
    }

    /// The size that takes the least time on `sms` multiprocessors: each works through its share of the
    /// blocks, and one block alone leaves it waiting for memory for a third of the time.
    pub fn choose(&self, sms: u32) -> Size {
        let time = |size: Size| {
            let [x, y, _] = self.grid(size);
            let share = (u64::from(x) * u64::from(y)).div_ceil(u64::from(sms.max(1)));
            size.cost() * if share == 1 { 3 } else { 2 * share }
        };
        Size::ALL.into_iter().min_by_key(|&size| time(size)).unwrap_or(Size::Large)
    }

    /// The kernel for a size and its launch.
    pub fn launch(&self, size: Size) -> (&'static str, Launch) {
        let format = self.format();
        let launch = Launch {
            grid: self.grid(size),
            threads: THREADS,
            shared_bytes: shared(format, size),
            overlap: true,
        };
        (kernel(format, size), launch)
    }
}

/// Bytes of shared memory, as `Matmul::SHARED` of the kernel.
fn shared(format: TileFormat, size: Size) -> u32 {
    let (slots, tokens) = (size.slots(), size.tokens());
    // Planes of a sub-block, high bits of a buffer, header; of a row tile.
    let (plane, high, header) = match format {
        TileFormat::Q4K | TileFormat::Q4_0 => (256, 0, 256),
        TileFormat::Q5K => (256, 512, 256),
        TileFormat::Q6K => (256, 512, 288),
        TileFormat::Q8_0 => (512, 0, 256),
        TileFormat::F16 => (1024, 0, 0),
    };
    let stages = if size == Size::Large && plane > 256 { 2 } else { 3 };
    let table = if header > 0 { 64 * 16 * slots } else { 0 };
    let copies = stages * (tokens * 128 + slots * 2 * plane) + slots * (2 * high + header) + table;
    let parts = if size == Size::Large { 1 } else { 2 };
    copies.max(4 * parts * tokens * (16 * slots + 4))
}

fn kernel(format: TileFormat, size: Size) -> &'static str {
    let names: [&str; 3] = match format {
        TileFormat::Q4K => ["matmul_q4_k", "matmul_q4_k_64", "matmul_q4_k_32"],
        TileFormat::Q5K => ["matmul_q5_k", "matmul_q5_k_64", "matmul_q5_k_32"],
        TileFormat::Q6K => ["matmul_q6_k", "matmul_q6_k_64", "matmul_q6_k_32"],
        TileFormat::Q8_0 => ["matmul_q8_0", "matmul_q8_0_64", "matmul_q8_0_32"],
        TileFormat::Q4_0 => ["matmul_q4_0", "matmul_q4_0_64", "matmul_q4_0_32"],
        TileFormat::F16 => ["matmul_f16", "matmul_f16_64", "matmul_f16_32"],
    };
    names[size as usize]
}

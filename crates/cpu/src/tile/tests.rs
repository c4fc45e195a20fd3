//! Matrix products of every format on every instruction set, against sums in f64.

use crate::Isa;
use crate::acts::{Act32, Act256};
use crate::kernels::{Input, Kernels, Kind};
use crate::matrix::Matrix;
use crate::memory::{Pages, Region};
use crate::pool::Pool;
use crate::tile::{ROWS, Scratch, TOKENS};
use gguf::{Gguf, Writer};
use half::{bf16, f16};
use model::Error;
use model::plan::RowOrder;
use quant::Format;
use std::ops::Range;
use std::sync::Arc;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// In −1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

pub(crate) fn sets() -> impl Iterator<Item = (Isa, Kernels)> {
    Isa::ALL.into_iter().filter(|isa| isa.available()).map(|isa| (isa, Kernels::of(isa)))
}

/// Sets that multiply and add in one rounding: these give the same bits.
pub(crate) fn fused(isa: Isa) -> bool {
    isa != Isa::Scalar
}

const TOKEN_COUNTS: [usize; 9] = [1, 2, 3, 4, 5, 8, 9, 13, 64];
const ROW_COUNTS: [usize; 5] = [1, 15, 16, 17, 40];

fn column_counts(format: Format) -> &'static [usize] {
    match format.block_len() {
        256 => &[256, 512, 1280],
        32 => &[32, 64, 288, 1024],
        _ => &[1, 7, 64, 255],
    }
}

/// Where a block keeps its half floats; the other bytes of a block may have any value.
fn half_floats(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 | Format::MXFP4 => &[],
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
    }
}

/// A finite half float of moderate size: negative, zero and subnormal ones among them.
fn moderate(random: &mut Random) -> f16 {
    match random.below(12) {
        0 => f16::ZERO,
        1 => f16::NEG_ZERO,
        2 => f16::from_bits(random.below(1024) as u16),
        _ => f16::from_f32(random.float() * 0.1),
    }
}

/// Rows of valid blocks. Every third row has all its codes equal: what overflows, overflows there.
fn blocks(format: Format, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let width = format.row_bytes(cols).expect("whole blocks");
    let mut bytes = vec![0; rows * width];
    for (row, bytes) in bytes.chunks_exact_mut(width).enumerate() {
        let constant = (row % 3 == 2).then(|| [0xff, 0x80, 0x00, 0x7f, 0x88][row / 3 % 5]);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            match format {
                Format::F32 => block.copy_from_slice(&(random.float() * 3.0).to_le_bytes()),
                Format::F16 => block.copy_from_slice(&moderate(random).to_le_bytes()),
                Format::BF16 => block.copy_from_slice(&bf16::from_f32(random.float()).to_le_bytes()),
                _ => block.fill_with(|| constant.unwrap_or_else(|| random.bits() as u8)),
            }
            for &at in half_floats(format) {
                block[at..at + 2].copy_from_slice(&moderate(random).to_le_bytes());
            }
            if format == Format::MXFP4 {
                block[0] = [0, 1, 2, 120][random.below(4)].max(random.below(130) as u8);
            }
        }
    }
    bytes
}

/// A file of one matrix `w`.
fn file_of(format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Gguf {
    let mut writer = Writer::new();
    writer.tensor("w", format, &[cols as u64, rows as u64]).expect("a small matrix");
    let mut body = writer.start(Vec::new()).expect("memory takes everything");
    body.write(bytes).expect("as many bytes as the matrix has");
    Gguf::from_bytes("test", body.finish().expect("all is written")).expect("what was just written")
}

fn load(
    file: &Gguf,
    order: RowOrder,
    range: Range<usize>,
    kernels: &Kernels,
    pool: &mut Pool,
) -> Result<Matrix, Error> {
    let tensor = file.tensor("w").expect("it was just written");
    let room = Matrix::room(range.len(), tensor.cols(), tensor.format, kernels);
    // A matrix is not always the first of the region.
    let arena = Arc::new(Region::new("a test", 4096 + room, Pages::Huge).expect("a small region"));
    Matrix::load(file, tensor, order, range, kernels, pool, (arena, 4096))
}

/// `TOKENS` rows of activations of all kinds.
fn activations(cols: usize, random: &mut Random) -> Vec<f32> {
    let mut x = vec![0.0; TOKENS * cols];
    for (token, x) in x.chunks_exact_mut(cols).enumerate() {
        let spike = random.below(cols);
        for (i, x) in x.iter_mut().enumerate() {
            *x = match token % 9 {
                1 => 0.0,
                2 => random.float() * 1e-20,
                3 => random.float() * 1e15,
                4 => random.float() + if i == spike { 1000.0 } else { 0.0 },
                5 => 3.0,
                6 => [-1.0, 1.0][i % 2],
                7 if i / 32 % 2 == 0 => 0.0,
                // Smaller than what 1/x can hold.
                8 => random.float() * 1e-39,
                _ => random.float() * 4.0,
            };
        }
        // What rounds worst: halves of a step.
        if token % 9 == 7 && cols > 40 {
            x[32] = 127.0;
            x[33..40].copy_from_slice(&[0.5, 1.5, -0.5, -2.5, 126.5, -126.5, -127.0]);
        }
    }
    x
}

/// Activations in every form the columns allow.
struct Acts {
    cols: usize,
    x: Vec<f32>,
    q256: Vec<Act256>,
    q32: Vec<Act32>,
}

impl Acts {
    fn new(x: Vec<f32>, cols: usize, kernels: &Kernels) -> Acts {
        let poison256 = Act256 {
            q: [99; 256],
            neg32: [99; 16],
            high32: [99; 2],
            low32: [99; 2],
            high16: [99; 4],
            low16: [99; 4],
            scale: f32::NAN,
        };
        let poison32 = Act32 { q: [99; 32], scale: f32::NAN, sum: 99 };
        let rows = x.len() / cols;
        let mut acts = Acts {
            cols,
            q256: vec![poison256; if cols.is_multiple_of(256) { rows * cols / 256 } else { 0 }],
            q32: vec![poison32; if cols.is_multiple_of(32) { rows * cols / 32 } else { 0 }],
            x,
        };
        // SAFETY: the set is available; whole blocks of as many floats as entries.
        unsafe {
            (kernels.quantize256)(acts.x.as_ptr(), &mut acts.q256);
            (kernels.quantize32)(acts.x.as_ptr(), &mut acts.q32);
        }
        acts
    }

    fn input(&self) -> Input {
        Input { x: self.x.as_ptr(), cols: self.cols, q256: self.q256.as_ptr(), q32: self.q32.as_ptr() }
    }

    /// What the kernels multiply, and the step of each value.
    fn rounded(&self, kind: Kind) -> Vec<(f64, f64)> {
        let value = |q: i8, step: f32| (f64::from(q) * f64::from(step), f64::from(step));
        match kind {
            Kind::F32 => self.x.iter().map(|x| (f64::from(*x), 0.0)).collect(),
            Kind::Q32 => self.q32.iter().flat_map(|a| a.q.map(|q| value(q, a.scale))).collect(),
            Kind::Q256 => self.q256.iter().flat_map(|a| a.q.map(|q| value(q, a.scale))).collect(),
        }
    }
}

/// All row tiles' products with `tokens` rows from `first` on, `[tokens][rows]`.
fn multiply(matrix: &Matrix, acts: &Acts, first: usize, tokens: usize) -> Vec<f32> {
    let mut scratch = Scratch::new();
    let mut all = vec![f32::NAN; tokens * matrix.rows];
    for tile in 0..matrix.tiles() {
        let mut out = vec![f32::NAN; ROWS * (tokens + 1)];
        // SAFETY: the activations are as wide as the matrix, and at least `first + tokens` rows.
        unsafe { matrix.product(tile, &acts.input(), first, tokens, &mut out, &mut scratch) };
        assert!(out[ROWS * tokens..].iter().all(|x| x.is_nan()), "written past the last token");
        for (token, out) in out.chunks_exact(ROWS).take(tokens).enumerate() {
            let at = tile * ROWS;
            let lanes = ROWS.min(matrix.rows - at);
            all[token * matrix.rows + at..][..lanes].copy_from_slice(&out[..lanes]);
        }
    }
    all
}

pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A matrix as its format says: weights, and |scale · code| + |min| of each, which bounds rounding.
fn decoded(format: Format, bytes: &[u8], len: usize) -> (Vec<f32>, Vec<f64>) {
    let mut weights = vec![f32::NAN; len];
    format.decode(bytes, &mut weights);
    let mut sizes = vec![];
    for block in bytes.chunks_exact(format.block_bytes()) {
        let (mut codes, mut scales, mut mins) = ([0; 256], [0.0; 16], [0.0; 16]);
        format.codes(block, &mut codes, &mut scales, &mut mins);
        sizes.extend((0..format.block_len()).map(|i| {
            let s = i / format.sub_len();
            (f64::from(scales[s]) * f64::from(codes[i])).abs() + f64::from(mins[s]).abs()
        }));
    }
    (weights, sizes)
}

/// One product in f64.
struct Expected {
    /// With the activations the kernels multiply.
    rounded: f64,
    /// With those given.
    exact: f64,
    /// Σ |w·x|, minima counted apart.
    size: f64,
    /// Most that rounding activations may have changed.
    steps: f64,
}

fn expect(row: &[f32], sizes: &[f64], x: &[f32], rounded: &[(f64, f64)]) -> Expected {
    let mut sums = Expected { rounded: 0.0, exact: 0.0, size: 0.0, steps: 0.0 };
    for (((w, size), x), (q, step)) in row.iter().zip(sizes).zip(x).zip(rounded) {
        let w = f64::from(*w);
        sums.rounded += w * q;
        sums.exact += w * f64::from(*x);
        sums.size += size * q.abs();
        // Blocks too small for a step are zero.
        sums.steps += w.abs() * if *step == 0.0 { f64::from(x.abs()).min(4e-37) } else { step / 2.0 };
    }
    sums
}

/// Loads the matrix on every set and compares its products with f64, with each other and between
/// numbers of tokens.
fn check_products(format: Format, rows: usize, cols: usize, random: &mut Random) {
    let bytes = blocks(format, rows, cols, random);
    let (weights, sizes) = decoded(format, &bytes, rows * cols);
    let file = file_of(format, rows, cols, &bytes);
    let x = activations(cols, random);
    let mut expected: Vec<Expected> = vec![];
    let mut first_fused: Option<Vec<f32>> = None;
    for (isa, kernels) in sets() {
        let name = format!("{format} {rows}×{cols} on {}", isa.name());
        let mut pool = Pool::new(2).expect("two threads");
        let matrix = load(&file, RowOrder::Stored, 0..rows, &kernels, &mut pool).expect("a whole file");
        let acts = Acts::new(x.clone(), cols, &kernels);
        let rounded = acts.rounded(matrix.packed.kind);
        if expected.is_empty() {
            for (x, rounded) in x.chunks_exact(cols).zip(rounded.chunks_exact(cols)) {
                let rows = weights.chunks_exact(cols).zip(sizes.chunks_exact(cols));
                expected.extend(rows.map(|(row, sizes)| expect(row, sizes, x, rounded)));
            }
        }
        let whole = multiply(&matrix, &acts, 0, TOKENS);
        // A rounding for each block or column added, and a few within a block.
        let roundings = (cols / matrix.packed.cols + 6) as f64 * 2f64.powi(-24);
        for (i, (got, want)) in whole.iter().zip(&expected).enumerate() {
            let (token, row) = (i / rows, i % rows);
            let off = (f64::from(*got) - want.rounded).abs();
            // Subnormal weights and sums have fewer digits, worth a step of activations each.
            let tiny = (cols as f64)
                * 2f64.powi(-149)
                * (1.0 + x[token * cols..][..cols].iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max));
            assert!(
                off <= want.size * roundings + tiny,
                "{name}, token {token}, row {row}: {got}, not {}",
                want.rounded
            );
            let off = (f64::from(*got) - want.exact).abs();
            let bound = want.steps * 1.001 + want.size * roundings + tiny;
            assert!(
                off <= bound,
                "{name}, token {token}, row {row}: {got}, not {} within {bound}",
                want.exact
            );
        }
        for tokens in TOKEN_COUNTS {
            let first = random.below(TOKENS - tokens + 1);
            let some = multiply(&matrix, &acts, first, tokens);
            assert!(
                same_bits(&some, &whole[first * rows..][..tokens * rows]),
                "{name}: {tokens} tokens from {first} on"
            );
        }
        for token in 0..16 {
            let one = multiply(&matrix, &acts, token, 1);
            assert!(same_bits(&one, &whole[token * rows..][..rows]), "{name}: token {token} alone");
        }
        if fused(isa) {
            let other = first_fused.get_or_insert_with(|| whole.clone());
            assert!(same_bits(other, &whole), "{name}: other bits than another set");
        }
    }
}

fn check_format(format: Format) {
    let mut random = Random(u64::from(format.id()) + 1);
    for rows in ROW_COUNTS {
        for &cols in column_counts(format) {
            check_products(format, rows, cols, &mut random);
        }
    }
}

/// One test a format, so that all that fail are named.
macro_rules! products {
    ($($name:ident $format:ident)*) => {
        mod products {
            $(#[test] fn $name() { super::check_format(quant::Format::$format); })*

            #[test]
            fn are_of_every_format() {
                let tested = [$(quant::Format::$format),*];
                assert!(quant::Format::ALL.iter().all(|format| tested.contains(format)));
            }
        }
    };
}

products! {
    f32 F32 f16 F16 bf16 BF16
    q4_0 Q4_0 q4_1 Q4_1 q5_0 Q5_0 q5_1 Q5_1 q8_0 Q8_0
    q2_k Q2_K q3_k Q3_K q4_k Q4_K q5_k Q5_K q6_k Q6_K
    iq4_nl IQ4_NL iq4_xs IQ4_XS mxfp4 MXFP4
}

/// Any bytes at all, scales that are not finite among them: the embedding decodes as the file says.
#[test]
fn decoded_rows_are_the_files_bit_for_bit() {
    let mut random = Random(1);
    for &format in Format::ALL {
        for rows in ROW_COUNTS {
            for &cols in column_counts(format) {
                let width = format.row_bytes(cols).expect("whole blocks");
                let bytes: Vec<u8> = (0..rows * width).map(|_| random.bits() as u8).collect();
                let file = file_of(format, rows, cols, &bytes);
                for (isa, kernels) in sets() {
                    let mut pool = Pool::new(1).expect("the caller's thread");
                    let matrix =
                        load(&file, RowOrder::Stored, 0..rows, &kernels, &mut pool).expect("a whole file");
                    let (mut ours, mut theirs) = (vec![f32::NAN; cols], vec![f32::NAN; cols]);
                    for (row, bytes) in bytes.chunks_exact(width).enumerate() {
                        matrix.decode(row, &mut ours);
                        format.decode(bytes, &mut theirs);
                        let same =
                            |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                        assert!(
                            ours.iter().zip(&theirs).all(same),
                            "{format} {rows}×{cols}, row {row}, on {}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

/// Parts of a matrix in the order of halves: row for row what the whole says.
#[test]
fn rows_are_loaded_in_the_order_and_range_asked_for() {
    let mut random = Random(2);
    for (format, cols) in [(Format::Q8_0, 64), (Format::Q4_K, 256), (Format::F16, 7), (Format::MXFP4, 32)] {
        for (rows, head_dim, dims) in [(40, 20, 20), (48, 8, 4), (16, 16, 10), (2, 2, 2), (36, 12, 0)] {
            let bytes = blocks(format, rows, cols, &mut random);
            let (weights, _) = decoded(format, &bytes, rows * cols);
            let file = file_of(format, rows, cols, &bytes);
            for order in [RowOrder::Stored, RowOrder::Halves { head_dim, dims }] {
                for range in [0..rows, 0..1, rows / 3..rows, 1..rows - 1] {
                    for threads in [1, 3] {
                        let mut pool = Pool::new(threads).expect("a few threads");
                        let kernels = Kernels::of(Isa::detect());
                        let matrix =
                            load(&file, order, range.clone(), &kernels, &mut pool).expect("a whole file");
                        assert_eq!((matrix.rows, matrix.cols), (range.len(), cols));
                        let mut row = vec![f32::NAN; cols];
                        for at in 0..range.len() {
                            matrix.decode(at, &mut row);
                            let want = &weights[order.stored(range.start + at) * cols..][..cols];
                            assert!(same_bits(&row, want), "{format}, {order:?}, {range:?}, row {at}");
                        }
                    }
                }
            }
        }
    }
}

/// A file that shrank since its header was read is an error of every order, not a matrix of zeros.
#[test]
fn truncated_files_are_errors() {
    let (rows, cols) = (40, 64);
    let bytes = blocks(Format::Q8_0, rows, cols, &mut Random(3));
    let mut writer = Writer::new();
    writer.tensor("w", Format::Q8_0, &[cols as u64, rows as u64]).expect("a small matrix");
    let path = std::env::temp_dir().join(format!("cpu-truncated-{}.gguf", std::process::id()));
    let mut body = writer.create(&path).expect("a temporary file");
    body.write(&bytes).expect("as many bytes as the matrix has");
    body.commit().expect("a temporary file");
    let file = Gguf::open(&path).expect("what was just written");
    let shorter = std::fs::OpenOptions::new().write(true).open(&path).expect("the file is there");
    shorter.set_len(file.file_bytes() - 100).expect("files can be cut");
    let kernels = Kernels::of(Isa::detect());
    for order in [RowOrder::Stored, RowOrder::Halves { head_dim: 8, dims: 8 }] {
        for threads in [1, 2] {
            let mut pool = Pool::new(threads).expect("a few threads");
            let error = load(&file, order, 0..rows, &kernels, &mut pool).err().expect("it is too short");
            assert!(error.to_string().contains("shorter"), "{error}");
            // The pool survives the error, and rows that are still there still load.
            load(&file, order, 0..16, &kernels, &mut pool).expect("these rows are still there");
        }
    }
    std::fs::remove_file(&path).expect("the file is there");
}

//! Weight tiles: sixteen rows of 256 columns, the one layout that every kernel reads.
//!
//! ```text
//! a matrix              col_tiles = ceil(cols / 256)
//!                    ┌────────┬────────┬────────┬┄┄┄┄┄┐
//!   row tile 0       │ tile 0 │ tile 1 │ tile 2 │  0  ┊  tiles lie one behind the other: a row tile is
//!                    ├────────┼────────┼────────┼┄┄┄┄┄┤  col_tiles · bytes long, and a kernel that walks
//!   row tile 1       │   …    │        │        │  0  ┊  along columns reads memory in order
//!                    └┄┄┄┄┄┄┄┄┴┄┄┄┄┄┄┄┄┴┄┄┄┄┄┄┄┄┴┄┄┄┄┄┘
//!                      0        0        0        0      what pads rows to 16 and columns to 256 is zero
//!
//! a tile, here Q4_K     row 0    row 1    …      row 15
//!                    ┌────────┬────────┬──────┬────────┐
//!              0     │ 16 B   │ 16 B   │  …   │ 16 B   │  header: scales of a row's eight sub-blocks
//!            256     │ 16 B   │        │      │        │  plane of sub-block 0: columns   0 ..  31
//!            512     │ 16 B   │        │      │        │  plane of sub-block 1: columns  32 ..  63
//!              …     │        │        │      │        │
//!           2048     │ 16 B   │        │      │        │  plane of sub-block 7: columns 224 .. 255
//!           2304     └────────┴────────┴──────┴────────┘
//!
//! 16 B of a plane       word t = 0        word 1            word 2            word 3
//!                    ┌────┬────┬────┬────┬─────────────────┬─────────────────┬─────────────────┐
//!   low nibbles      │  0 │  1 │  2 │  3 │  4   5   6   7  │  8   9  10  11  │ 12  13  14  15  │
//!   high nibbles     │ 16 │ 17 │ 18 │ 19 │ 20  21  22  23  │ 24  25  26  27  │ 28  29  30  31  │
//!                    └────┴────┴────┴────┴─────────────────┴─────────────────┴─────────────────┘
//! ```
//!
//! A sub-block is 32 columns: `s = 0..8`, its parity `p = s % 2` and its pair `j = s / 2`. A warp covers the
//! sixteen rows of two sub-blocks: its lane is `L = 16 p + row`, so that one load of 16 bytes a lane takes
//! 512 contiguous bytes and a warp walks the tile in four loads, `j = 0..4`. The same 16 bytes are what the
//! fragments of `mma` want: word `t` of row `g` is what lane `4 g + t` multiplies.
//!
//! Offsets in bytes; what is not named here is in the format's own file:
//!
//! | format | bytes | header | planes | more |
//! |---|---|---|---|---|
//! | [`TileFormat::Q4K`] | 2304 | 0 | 256 + 256 s + 16 row | |
//! | [`TileFormat::Q5K`] | 2816 | 0 | 256 + 256 s + 16 row | fifth bits: 2304 + 16 L + 4 j |
//! | [`TileFormat::Q6K`] | 3360 | none | 256 s + 16 row | upper two bits: 2048, scales: 3072 + 8 L, d: 3328 + 2 row |
//! | [`TileFormat::Q8_0`] | 4352 | 0 | 256 + 512 s + 256 h + 16 row | h: columns 16 h .. 16 h + 15 |
//! | [`TileFormat::Q4_0`] | 2304 | 0 | 256 + 256 s + 16 row | |
//! | [`TileFormat::F16`] | 8192 | none | 1024 s + 256 t + 16 row | columns permuted |
//!
//! All take exactly the bytes of the file's blocks. Formats without a tile are converted when loaded, see
//! [`Conversion`].

mod convert;
mod f16;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
#[cfg(test)]
mod tests;

use quant::Format;

/// Rows of a tile.
pub const ROWS: usize = 16;

/// Columns of a tile.
pub const COLS: usize = 256;

/// Bytes to which the address of a matrix is aligned.
pub const ALIGN: u64 = 256;

/// The layout of a tile; its number is what kernels are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(non_camel_case_types, reason = "the field's own names")]
pub enum TileFormat {
    /// 4 bits, a scale and a minimum every 32 columns.
    Q4K = 0,
    /// 5 bits, a scale and a minimum every 32 columns.
    Q5K = 1,
    /// 6 bits, a scale every 16 columns.
    Q6K = 2,
    /// 8 bits, a scale every 32 columns.
    Q8_0 = 3,
    /// 4 bits, a scale every 32 columns.
    Q4_0 = 4,
    /// Half floats.
    F16 = 5,
}

/// What happens to weights that have no tile of their own, while they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The file's own codes and scales, moved.
    None,
    /// Rounded to half floats; a finite weight that becomes infinite is refused.
    ToF16,
    /// Eight bits with a scale every 32 columns. Exact for Q5_0, IQ4_NL and MXFP4 (scales from 2⁻²⁴ up), whose
    /// codes fit; within 2⁻¹¹ of each weight for IQ4_XS, whose scale is rounded; within half a code of the 32
    /// columns' largest weight for the others.
    ToQ8_0,
}

/// A weight that the tile's format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overflow {
    /// Which of the rows given.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// The weight.
    pub value: f32,
}

impl TileFormat {
    /// Every layout, by number.
    pub const ALL: [TileFormat; 6] = [
        TileFormat::Q4K,
        TileFormat::Q5K,
        TileFormat::Q6K,
        TileFormat::Q8_0,
        TileFormat::Q4_0,
        TileFormat::F16,
    ];

    /// The tile that holds weights of `format`, and what must be done to them first.
    pub fn of(format: Format) -> (TileFormat, Conversion) {
        match format {
            Format::Q4_K => (TileFormat::Q4K, Conversion::None),
            Format::Q5_K => (TileFormat::Q5K, Conversion::None),
            Format::Q6_K => (TileFormat::Q6K, Conversion::None),
            Format::Q8_0 => (TileFormat::Q8_0, Conversion::None),
            Format::Q4_0 => (TileFormat::Q4_0, Conversion::None),
            Format::F16 => (TileFormat::F16, Conversion::None),
            Format::F32 | Format::BF16 => (TileFormat::F16, Conversion::ToF16),
            Format::Q4_1
            | Format::Q5_0
            | Format::Q5_1
            | Format::Q2_K
            | Format::Q3_K
            | Format::IQ4_NL
            | Format::IQ4_XS
            | Format::MXFP4 => (TileFormat::Q8_0, Conversion::ToQ8_0),
        }
    }

    /// The number kernels know it by.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The file format with the same codes and scales.
    pub fn format(self) -> Format {
        match self {
            TileFormat::Q4K => Format::Q4_K,
            TileFormat::Q5K => Format::Q5_K,
            TileFormat::Q6K => Format::Q6_K,
            TileFormat::Q8_0 => Format::Q8_0,
            TileFormat::Q4_0 => Format::Q4_0,
            TileFormat::F16 => Format::F16,
        }
    }

    /// Bytes of a tile.
    pub fn bytes(self) -> usize {
        match self {
            TileFormat::Q4K => q4_k::BYTES,
            TileFormat::Q5K => q5_k::BYTES,
            TileFormat::Q6K => q6_k::BYTES,
            TileFormat::Q8_0 => q8_0::BYTES,
            TileFormat::Q4_0 => q4_0::BYTES,
            TileFormat::F16 => f16::BYTES,
        }
    }

    /// Bytes of a row tile of `cols` columns.
    pub fn row_tile_bytes(self, cols: usize) -> usize {
        cols.div_ceil(COLS) * self.bytes()
    }
}

/// Packs one row tile: up to sixteen rows of `cols` weights in blocks of `from`.
///
/// `out` takes [`TileFormat::row_tile_bytes`] of the tile that [`TileFormat::of`] gives for `from`, and every
/// byte of it is written: missing rows and columns are zero.
///
/// # Errors
/// [`Overflow`] where a conversion would turn a finite weight into an infinite one; formats with a tile of
/// their own never fail.
///
/// # Panics
/// If there are more than sixteen rows, or a length is not what `cols` says.
pub fn pack(from: Format, rows: &[&[u8]], cols: usize, out: &mut [u8]) -> Result<(), Overflow> {
    let (to, conversion) = TileFormat::of(from);
    let row_bytes = from.row_bytes(cols).expect("rows are whole blocks");
    assert!(rows.len() <= ROWS, "a row tile has sixteen rows");
    assert!(rows.iter().all(|row| row.len() == row_bytes), "rows have `cols` weights");
    assert_eq!(out.len(), to.row_tile_bytes(cols), "a row tile is written whole");
    match conversion {
        Conversion::None => match to {
            TileFormat::Q4K => place(q4_k::put, rows, out),
            TileFormat::Q5K => place(q5_k::put, rows, out),
            TileFormat::Q6K => place(q6_k::put, rows, out),
            TileFormat::Q8_0 => place(q8_0::put, rows, out),
            TileFormat::Q4_0 => place(q4_0::put, rows, out),
            TileFormat::F16 => place(f16::put, rows, out),
        },
        Conversion::ToF16 => convert_rows(convert::to_f16, f16::put, from, rows, out)?,
        Conversion::ToQ8_0 => convert_rows(convert::to_q8_0, q8_0::put, from, rows, out)?,
    }
    Ok(())
}

/// Row `row` of a row tile as floats, the same bits that [`Format::decode`] gives for what was packed.
///
/// # Panics
/// If `row` is not below sixteen or `tiles` is shorter than a row tile of `out.len()` columns.
pub fn unpack_row(format: TileFormat, tiles: &[u8], row: usize, out: &mut [f32]) {
    assert!(row < ROWS, "a row of a tile");
    assert!(tiles.len() >= format.row_tile_bytes(out.len()), "a whole row tile");
    match format {
        TileFormat::Q4K => fetch(q4_k::get, tiles, row, out),
        TileFormat::Q5K => fetch(q5_k::get, tiles, row, out),
        TileFormat::Q6K => fetch(q6_k::get, tiles, row, out),
        TileFormat::Q8_0 => fetch(q8_0::get, tiles, row, out),
        TileFormat::Q4_0 => fetch(q4_0::get, tiles, row, out),
        TileFormat::F16 => fetch(f16::get, tiles, row, out),
    }
}

/// Puts a stretch of 256 columns, `S` bytes of blocks, into one row of a tile of `T` bytes, whole.
type Put<const S: usize, const T: usize> = fn(&[u8; S], usize, &mut [u8; T]);

/// Makes floats of a row of a tile.
type Get<const T: usize> = fn(&[u8; T], usize, &mut [f32; COLS]);

/// Makes a stretch of whole blocks of another format, or names the column and value that do not fit.
type Convert<const S: usize> = fn(Format, &[u8], &mut [u8; S]) -> Result<(), (usize, f32)>;

/// Rows into tiles, tile after tile: sixteen streams are read and a tile stays in L1 until it is full.
#[inline(always)]
fn place<const S: usize, const T: usize>(
    put: impl Fn(&[u8; S], usize, &mut [u8; T]),
    rows: &[&[u8]],
    out: &mut [u8],
) {
    for (c, tile) in out.as_chunks_mut::<T>().0.iter_mut().enumerate() {
        if rows.len() < ROWS {
            tile.fill(0);
        }
        for (row, bytes) in rows.iter().enumerate() {
            let bytes = &bytes[c * S..];
            if let Some(stretch) = bytes.first_chunk() {
                put(stretch, row, tile);
            } else {
                // Zero bytes are zero weights in every format whose rows may end here.
                let mut padded = [0; S];
                padded[..bytes.len()].copy_from_slice(bytes);
                put(&padded, row, tile);
            }
        }
    }
}

/// [`place`], each stretch converted first.
fn convert_rows<const S: usize, const T: usize>(
    convert: Convert<S>,
    put: Put<S, T>,
    from: Format,
    rows: &[&[u8]],
    out: &mut [u8],
) -> Result<(), Overflow> {
    let width = from.row_bytes(COLS).expect("256 columns are whole blocks of every format");
    for (c, tile) in out.as_chunks_mut::<T>().0.iter_mut().enumerate() {
        if rows.len() < ROWS {
            tile.fill(0);
        }
        for (row, bytes) in rows.iter().enumerate() {
            let mut stretch = [0; S];
            let bytes = &bytes[c * width..bytes.len().min((c + 1) * width)];
            convert(from, bytes, &mut stretch).map_err(|(column, value)| Overflow {
                row,
                column: c * COLS + column,
                value,
            })?;
            put(&stretch, row, tile);
        }
    }
    Ok(())
}

fn fetch<const T: usize>(get: Get<T>, tiles: &[u8], row: usize, out: &mut [f32]) {
    let mut weights = [0.0; COLS];
    for (tile, out) in tiles.as_chunks::<T>().0.iter().zip(out.chunks_mut(COLS)) {
        get(tile, row, &mut weights);
        out.copy_from_slice(&weights[..out.len()]);
    }
}

/// Writes 16 bytes, the unit of every field but Q6_K's scales.
#[inline(always)]
fn store(tile: &mut [u8], at: usize, bytes: [u8; 16]) {
    tile[at..at + 16].copy_from_slice(&bytes);
}

/// Four words as 16 bytes.
#[inline(always)]
fn words(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

/// The little-endian word at `at`.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("callers stay inside blocks and tiles"))
}

/// The half float at `at`.
#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The K formats keep the codes of two sub-blocks in the halves of 32 bytes; a plane keeps the halves of one
/// sub-block. Gives the planes of the low and of the high nibbles.
#[inline(always)]
fn planes(bytes: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    for k in 0..16 {
        low[k] = bytes[k] & 15 | bytes[16 + k] << 4;
        high[k] = bytes[k] >> 4 | bytes[16 + k] & 0xf0;
    }
    (low, high)
}

/// The code of column `col` (0..32) of the plane at `at`.
#[inline(always)]
fn nibble(tile: &[u8], at: usize, col: usize) -> u8 {
    tile[at + col % 16] >> (4 * (col / 16)) & 15
}

/// One step of a transposition of bits within bytes: what `mask << shift` covers of `a` changes places with
/// what `mask` covers of `b`.
#[inline(always)]
fn exchange(a: &mut u32, b: &mut u32, shift: u32, mask: u32) {
    let differs = (*a >> shift ^ *b) & mask;
    *b ^= differs;
    *a ^= differs << shift;
}

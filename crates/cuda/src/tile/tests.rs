//! Every tile against the file's own decoder, and against a second description of where each bit lies.

use super::{COLS, Conversion, ROWS, TileFormat, pack, unpack_row};
use half::{bf16, f16};
use quant::Format;

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same numbers on every machine.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// In −1..1.
    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Finite, extremes among them.
    fn half(&mut self) -> f16 {
        match self.below(10) {
            0 => [f16::ZERO, f16::NEG_ZERO, f16::MAX, f16::MIN, f16::from_bits(1)][self.below(5)],
            1 => f16::from_bits(self.below(1024) as u16),
            _ => f16::from_f32(self.float() * 0.1),
        }
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

/// Rows of random blocks; every third row has all its codes equal.
fn blocks(format: Format, rows: usize, cols: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let row = |row: usize| {
        let mut bytes = vec![0; format.row_bytes(cols).expect("whole blocks")];
        let constant = (row % 3 == 2).then(|| [0xff, 0x80, 0x00, 0x7f, 0x88][row / 3 % 5]);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            match format {
                Format::F32 => block.copy_from_slice(&(random.float() * 3.0).to_le_bytes()),
                Format::F16 => block.copy_from_slice(&random.half().to_le_bytes()),
                Format::BF16 => block.copy_from_slice(&bf16::from_f32(random.float()).to_le_bytes()),
                _ => block.fill_with(|| constant.unwrap_or_else(|| random.bits() as u8)),
            }
            for &at in half_floats(format) {
                block[at..at + 2].copy_from_slice(&random.half().to_le_bytes());
            }
            if format == Format::MXFP4 {
                // Scales that half floats hold: 2^(e − 128) from 2⁻²⁴ up.
                block[0] = 104 + random.below(30) as u8;
            }
        }
        bytes
    };
    (0..rows).map(row).collect()
}

/// Brings a row's half floats into −1..1: with these the scale of a converted tile cannot overflow.
fn calm(format: Format, row: &mut [u8]) {
    for block in row.chunks_exact_mut(format.block_bytes()) {
        for &at in half_floats(format) {
            let value = f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            block[at..at + 2].copy_from_slice(&f16::from_f32(value.clamp(-1.0, 1.0)).to_le_bytes());
        }
    }
}

fn slices(rows: &[Vec<u8>]) -> Vec<&[u8]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn packed(from: Format, rows: &[Vec<u8>], cols: usize, poison: u8) -> Vec<u8> {
    let mut out = vec![poison; TileFormat::of(from).0.row_tile_bytes(cols)];
    pack(from, &slices(rows), cols, &mut out).expect("weights that fit");
    out
}

fn decoded(format: Format, row: &[u8], cols: usize) -> Vec<f32> {
    let mut weights = vec![f32::NAN; cols];
    format.decode(row, &mut weights);
    weights
}

fn column_counts(format: Format) -> &'static [usize] {
    match format.block_len() {
        256 => &[256, 512, 1280],
        32 => &[32, 256, 288, 992, 1024],
        _ => &[1, 7, 64, 255, 256, 300],
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn rows_come_back_bit_for_bit_and_padding_is_zero() {
    for tile in TileFormat::ALL {
        let format = tile.format();
        for &cols in column_counts(format) {
            for count in [1, 3, 15, 16] {
                let rows = blocks(format, count, cols, (cols * 31 + count) as u64);
                let tiles = packed(format, &rows, cols, 0xa5);
                assert_eq!(tiles, packed(format, &rows, cols, 0x5a), "{format}: a byte was not written");
                // Columns that pad a row are read too: the whole width of the tiles.
                let wide = cols.next_multiple_of(COLS);
                let mut out = vec![f32::NAN; wide];
                for row in 0..ROWS {
                    unpack_row(tile, &tiles, row, &mut out);
                    let real = rows.get(row).map_or(vec![], |row| decoded(format, row, cols));
                    assert!(
                        same(&out[..real.len()], &real),
                        "{format}: row {row} of {count}, {cols} columns"
                    );
                    assert!(out[real.len()..].iter().all(|&x| x == 0.0), "{format}: padding of row {row}");
                    unpack_row(tile, &tiles, row, &mut out[..cols]);
                    assert!(same(&out[..real.len()], &real), "{format}: without its padding");
                }
            }
        }
    }
}

#[test]
fn bytes_are_the_files_bytes_and_numbers_are_the_kernels() {
    for (tile, id, bytes) in [
        (TileFormat::Q4K, 0, 2304),
        (TileFormat::Q5K, 1, 2816),
        (TileFormat::Q6K, 2, 3360),
        (TileFormat::Q8_0, 3, 4352),
        (TileFormat::Q4_0, 4, 2304),
        (TileFormat::F16, 5, 8192),
    ] {
        assert_eq!((tile.id(), tile.bytes()), (id, bytes));
        assert_eq!(Some(bytes), tile.format().row_bytes(COLS).map(|row| row * ROWS));
        assert_eq!(TileFormat::of(tile.format()), (tile, Conversion::None));
        assert_eq!(tile.row_tile_bytes(257), 2 * bytes);
    }
}

/// Some bits of one byte.
#[derive(Clone, Copy, Debug)]
struct Bits {
    byte: usize,
    first: usize,
    width: usize,
}

fn bits(byte: usize, first: usize, width: usize) -> Bits {
    Bits { byte, first, width }
}

/// Where everything that makes one weight lies; parts of a number from its low bits up.
#[derive(Default)]
struct Place {
    code: Vec<Bits>,
    scale: Vec<Bits>,
    min: Vec<Bits>,
    halves: Vec<usize>,
}

/// The layouts a second time, an element at a time and without a line of the packers: what a kernel's author
/// reads, kept true by the tests below.
fn place(format: TileFormat, row: usize, column: usize) -> Place {
    let (s, c) = (column / 32, column % 32);
    let (p, j) = (s % 2, s / 2);
    let lane = 16 * p + row;
    // Column c of a sub-block is 4t + i, or 16 + 4t + i where `high` is 1.
    let (high, t, i) = (c / 16, c % 16 / 4, c % 4);
    let nibble = |planes: usize| bits(planes + s * 256 + row * 16 + 4 * t + i, 4 * high, 4);
    let header = |code: Vec<Bits>| Place {
        code,
        scale: vec![bits(row * 16 + 4 + 4 * p + j, 0, 6)],
        min: vec![bits(row * 16 + 12 + j, 4 * p, 4), bits(row * 16 + 4 + 4 * p + j, 6, 2)],
        halves: vec![row * 16, row * 16 + 2],
    };
    match format {
        TileFormat::Q4K => header(vec![nibble(256)]),
        TileFormat::Q5K => header(vec![
            nibble(256),
            bits(2304 + lane * 16 + j * 4 + i, if high == 1 { 4 + t } else { t }, 1),
        ]),
        TileFormat::Q6K => {
            let w = 2 * (j % 2) + high;
            Place {
                code: vec![nibble(0), bits(2048 + j / 2 * 512 + lane * 16 + 4 * w + i, 2 * t, 2)],
                scale: vec![bits(3072 + lane * 8 + 2 * j + high, 0, 8)],
                min: vec![],
                halves: vec![3328 + row * 2],
            }
        }
        TileFormat::Q8_0 => Place {
            code: vec![bits(256 + s * 512 + high * 256 + row * 16 + c % 16, 0, 8)],
            halves: vec![row * 16 + 2 * (p * 4 + j)],
            ..Place::default()
        },
        TileFormat::Q4_0 => {
            Place { code: vec![nibble(256)], halves: vec![row * 16 + 2 * (p * 4 + j)], ..Place::default() }
        }
        TileFormat::F16 => {
            let order = [0, 2, 1, 3, 16, 18, 17, 19];
            let at = order.iter().position(|&k| k == 16 * high + i).expect("eight columns of word t");
            Place { halves: vec![s * 1024 + t * 256 + row * 16 + 2 * at], ..Place::default() }
        }
    }
}

fn number(tile: &[u8], parts: &[Bits]) -> u8 {
    let (mut value, mut shift) = (0u32, 0);
    for part in parts {
        value |= (u32::from(tile[part.byte]) >> part.first & ((1 << part.width) - 1)) << shift;
        shift += part.width;
    }
    value as u8
}

fn weight(format: TileFormat, tile: &[u8], place: &Place) -> f32 {
    let half = |i: usize| f16::from_le_bytes([tile[place.halves[i]], tile[place.halves[i] + 1]]).to_f32();
    let (q, scale) = (number(tile, &place.code), number(tile, &place.scale));
    match format {
        TileFormat::Q4K | TileFormat::Q5K => {
            let min = half(1) * f32::from(number(tile, &place.min));
            half(0) * f32::from(scale) * f32::from(q) - min
        }
        TileFormat::Q6K => half(0) * f32::from(scale as i8) * (f32::from(q) - 32.0),
        TileFormat::Q8_0 => half(0) * f32::from(q as i8),
        TileFormat::Q4_0 => half(0) * (f32::from(q) - 8.0),
        TileFormat::F16 => half(0),
    }
}

#[test]
fn every_element_lies_where_the_layout_says() {
    for tile in TileFormat::ALL {
        let (format, cols) = (tile.format(), 3 * COLS);
        let rows = blocks(format, ROWS, cols, 77);
        let tiles = packed(format, &rows, cols, 0xa5);
        for (r, row) in rows.iter().enumerate() {
            for (c, expected) in decoded(format, row, cols).into_iter().enumerate() {
                let bytes = &tiles[c / COLS * tile.bytes()..][..tile.bytes()];
                let found = weight(tile, bytes, &place(tile, r, c % COLS));
                assert_eq!(found.to_bits(), expected.to_bits(), "{format}: row {r}, column {c}");
            }
        }
    }
}

/// A bit of a code belongs to one element, a bit of a scale to one kind of number, and none is left over.
#[test]
fn every_bit_of_a_tile_has_one_meaning() {
    for tile in TileFormat::ALL {
        let mut meaning = vec![None; tile.bytes() * 8];
        for (row, col) in (0..ROWS).flat_map(|row| (0..COLS).map(move |col| (row, col))) {
            let place = place(tile, row, col);
            let mut claim = |parts: &[Bits], owner: (&'static str, usize, usize)| {
                for part in parts {
                    for bit in part.first..part.first + part.width {
                        let known = meaning[part.byte * 8 + bit].replace(owner);
                        // Many elements share a scale; none shares a code.
                        assert!(
                            known.is_none() || known == Some(owner) && owner.0 != "code",
                            "{tile:?}: bit {bit} of byte {} is {known:?} and {owner:?}",
                            part.byte
                        );
                    }
                }
            };
            let sub = col / tile.format().sub_len();
            claim(&place.code, ("code", row, col));
            claim(&place.scale, ("scale", row, sub));
            claim(&place.min, ("min", row, sub));
            let super_block = if place.scale.is_empty() { sub } else { 0 };
            for (name, &at) in ["d", "dmin"].into_iter().zip(&place.halves) {
                claim(&[bits(at, 0, 8), bits(at + 1, 0, 8)], (name, row, super_block));
            }
        }
        assert!(meaning.iter().all(Option::is_some), "{tile:?}: bits without meaning");
    }
}

#[test]
fn other_formats_become_the_nearest_tile() {
    let (rows, tolerance) = (16, |format| match format {
        // Rounding to half floats, and their smallest step.
        Format::F32 | Format::BF16 => (2f32.powi(-11), 2f32.powi(-25)),
        // Their codes and scales fit.
        Format::Q5_0 | Format::IQ4_NL | Format::MXFP4 => (0.0, 0.0),
        Format::IQ4_XS => (2f32.powi(-11), 127.0 * 2f32.powi(-25)),
        _ => (f32::INFINITY, 0.0),
    });
    for &format in Format::ALL {
        let (tile, conversion) = TileFormat::of(format);
        if conversion == Conversion::None {
            continue;
        }
        assert_eq!(conversion == Conversion::ToF16, tile == TileFormat::F16);
        for &cols in column_counts(format) {
            let mut blocks = blocks(format, rows, cols, 5);
            for row in &mut blocks {
                calm(format, row);
            }
            let tiles = packed(format, &blocks, cols, 0xa5);
            assert_eq!(tiles, packed(format, &blocks, cols, 0x5a));
            let mut out = vec![f32::NAN; cols];
            for (r, row) in blocks.iter().enumerate() {
                unpack_row(tile, &tiles, r, &mut out);
                let expected = decoded(format, row, cols);
                let (relative, absolute) = tolerance(format);
                for (sub, out) in expected.chunks(32).zip(out.chunks(32)) {
                    // Half a code of the block's largest weight, and the rounding of the scale.
                    let largest = sub.iter().fold(0f32, |max, x| max.max(x.abs()));
                    let code = largest * (0.5 / 127.0 + 2f32.powi(-11)) * 1.001 + 127.0 * 2f32.powi(-25);
                    for (&x, &y) in sub.iter().zip(out) {
                        let bound = (x.abs() * relative + absolute).min(code);
                        assert!((x - y).abs() <= bound, "{format}: {x} became {y}");
                    }
                }
            }
        }
    }
}

/// A row tile of `value` at one place, else zeros, in F32.
fn spike(row: usize, column: usize, cols: usize, value: f32) -> Vec<Vec<u8>> {
    let mut rows = vec![vec![0; 4 * cols]; ROWS];
    rows[row][4 * column..][..4].copy_from_slice(&value.to_le_bytes());
    rows
}

#[test]
fn a_weight_that_would_become_infinite_is_refused_by_place_and_value() {
    let cols = 300;
    let mut out = vec![0; TileFormat::F16.row_tile_bytes(cols)];
    for (value, fits) in [(65519.0, true), (65520.0, false), (-1e30, false), (f32::INFINITY, true)] {
        let rows = spike(9, 290, cols, value);
        let result = pack(Format::F32, &slices(&rows), cols, &mut out);
        let found = result.err().map(|overflow| (overflow.row, overflow.column, overflow.value));
        assert_eq!(found, (!fits).then_some((9, 290, value)));
    }
    // BF16 reaches as far as F32: 2^16 is its first power beyond half floats.
    let mut rows = vec![vec![0; 2 * cols]; 2];
    rows[1][14..16].copy_from_slice(&bf16::from_f32(65536.0).to_le_bytes());
    let overflow = pack(Format::BF16, &slices(&rows), cols, &mut out).expect_err("2^16 is too large");
    assert_eq!((overflow.row, overflow.column, overflow.value), (1, 7, 65536.0));
    // A block of MXFP4 of scale 2^30, all of whose codes are 0 but one: that one is 6.
    let mut row = vec![0; 17 * 9];
    (row[17 * 8], row[17 * 8 + 4]) = (127 + 30, 0x70);
    let mut out = vec![0; TileFormat::Q8_0.row_tile_bytes(288)];
    let overflow = pack(Format::MXFP4, &[&row], 288, &mut out).expect_err("6 · 2^30 / 127 is too large");
    let weight = decoded(Format::MXFP4, &row, 288)[256 + 19];
    assert_eq!((overflow.row, overflow.column, overflow.value), (0, 256 + 19, weight));
    // With a scale of 2^20 the codes' scale is too large, the weights are not.
    row[17 * 8] = 127 + 20;
    pack(Format::MXFP4, &[&row], 288, &mut out).expect("6 · 2^20 / 127 is a half float");
    let mut weights = vec![0.0; 288];
    unpack_row(TileFormat::Q8_0, &out, 0, &mut weights);
    let expected = decoded(Format::MXFP4, &row, 288);
    assert!(weights.iter().zip(&expected).all(|(x, y)| (x - y).abs() <= y.abs() * 2f32.powi(-10)));
    assert!(weights[275] > 1e6);
}

/// How fast one core packs, printed in release builds and required to keep up with disks there.
#[test]
fn packing_keeps_up_with_disks() {
    if cfg!(debug_assertions) {
        eprintln!("skipped: the speed of a build without optimisation says nothing");
        return;
    }
    let cols = 4096;
    for &format in Format::ALL {
        let (tile, conversion) = TileFormat::of(format);
        let mut rows = blocks(format, ROWS, cols, 3);
        for row in &mut rows {
            calm(format, row);
        }
        let rows = slices(&rows);
        let mut out = vec![0; tile.row_tile_bytes(cols)];
        let bytes = rows.iter().map(|row| row.len()).sum::<usize>();
        let mut best = f64::INFINITY;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            for _ in 0..20 {
                pack(format, std::hint::black_box(&rows), cols, &mut out).expect("weights that fit");
                std::hint::black_box(&mut out);
            }
            best = best.min(start.elapsed().as_secs_f64() / 20.0);
        }
        let rate = bytes as f64 / best * 1e-9;
        eprintln!("{format}: {rate:.1} GB/s");
        assert!(conversion != Conversion::None || rate > 0.5, "{format}: {rate} GB/s");
    }
}

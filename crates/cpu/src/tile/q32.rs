//! Formats whose blocks hold 32 weights and one scale.
//!
//! Heads: sixteen scales (and sixteen minima). Codes: eight quads; nibbles pack quad `i` low and quad
//! `i + 4` high, as the files do.

use super::{ROWS, Tile, gather_half, quad_byte};
use crate::simd::Simd;

/// Packs the 16 nibble bytes of each row at `at`: byte `4r + j` of word `i` is the file's byte `4i + j`.
fn pack_nibbles(blocks: &[&[u8]; ROWS], at: usize, codes: &mut [u8]) {
    for quad in 0..4 {
        for (row, block) in blocks.iter().enumerate() {
            let to = quad * 64 + row * 4;
            codes[to..to + 4].copy_from_slice(&block[at + quad * 4..][..4]);
        }
    }
}

#[inline(always)]
unsafe fn nibbles<V: Simd>(codes: *const u8, out: &mut [V::B; 16]) {
    // SAFETY: the caller gives 256 bytes.
    unsafe {
        let mask = V::splat_b(0x0f);
        for i in 0..4 {
            let both = V::load_b(codes.add(64 * i));
            out[i] = V::and(both, mask);
            out[i + 4] = V::and(V::shr(both, 4), mask);
        }
    }
}

/// Adds the fifth bits, kept as one 64-byte word: byte `4r + j` has bit `q` for quad `q`.
#[inline(always)]
unsafe fn fifth<V: Simd>(bits: *const u8, out: &mut [V::B; 16]) {
    // SAFETY: the caller gives 64 bytes.
    unsafe {
        let (bits, mask) = (V::load_b(bits), V::splat_b(0x10));
        for (q, out) in out.iter_mut().enumerate().take(8) {
            let bit = if q < 4 { V::shl(bits, 4 - q as u32) } else { V::shr(bits, q as u32 - 4) };
            *out = V::or(*out, V::and(bit, mask));
        }
    }
}

/// Packs 32 fifth bits a row, at `at` as a little-endian word, bit `c` for column `c`.
fn pack_fifth(blocks: &[&[u8]; ROWS], at: usize, codes: &mut [u8]) {
    for byte in 0..64 {
        let mut bits = 0;
        for quad in 0..8 {
            let (row, column) = quad_byte(quad, byte);
            bits |= ((blocks[row][at + column / 8] >> (column % 8)) & 1) << quad;
        }
        codes[byte] = bits;
    }
}

#[inline(always)]
unsafe fn halves<V: Simd>(head: *const u8, index: usize) -> V::F {
    // SAFETY: the caller gives a head of more than `index` runs of sixteen half floats.
    unsafe { V::load_f16(head.add(32 * index).cast()) }
}

macro_rules! halves_head {
    (d) => {
        #[inline(always)]
        unsafe fn d<V: Simd>(head: *const u8) -> V::F {
            // SAFETY: as the trait's method.
            unsafe { halves::<V>(head, 0) }
        }
    };
    (d, m) => {
        halves_head!(d);
        #[inline(always)]
        unsafe fn dmin<V: Simd>(head: *const u8) -> V::F {
            // The files' m is added; minima are subtracted.
            // SAFETY: as the trait's method.
            unsafe { V::sub(V::splat(0.0), halves::<V>(head, 1)) }
        }
    };
}

/// Eight signed bits.
pub(crate) struct Q8_0;

impl Tile for Q8_0 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 32;
    const CODES: usize = 512;
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        for quad in 0..8 {
            for (row, block) in blocks.iter().enumerate() {
                let to = quad * 64 + row * 4;
                codes[to..to + 4].copy_from_slice(&block[2 + quad * 4..][..4]);
            }
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        for i in 0..8 {
            // SAFETY: as the trait's method.
            out[i] = unsafe { V::load_b(codes.add(64 * i)) };
        }
    }

    halves_head!(d);
}

/// Four bits around eight.
pub(crate) struct Q4_0;

impl Tile for Q4_0 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 32;
    const CODES: usize = 256;
    const SIGNED: bool = false;
    const OFFSET: i32 = 8;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        pack_nibbles(blocks, 2, codes);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe { nibbles::<V>(codes, out) };
    }

    halves_head!(d);
}

/// Four bits and a minimum.
pub(crate) struct Q4_1;

impl Tile for Q4_1 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 64;
    const CODES: usize = 256;
    const SIGNED: bool = false;
    const OFFSET: i32 = 0;
    const MINS: bool = true;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        gather_half(blocks, 2, &mut head[32..]);
        pack_nibbles(blocks, 4, codes);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe { nibbles::<V>(codes, out) };
    }

    halves_head!(d, m);
}

/// Five bits around sixteen.
pub(crate) struct Q5_0;

impl Tile for Q5_0 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 32;
    const CODES: usize = 320;
    const SIGNED: bool = false;
    const OFFSET: i32 = 16;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        pack_fifth(blocks, 2, codes);
        pack_nibbles(blocks, 6, &mut codes[64..]);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes.add(64), out);
            fifth::<V>(codes, out);
        }
    }

    halves_head!(d);
}

/// Five bits and a minimum.
pub(crate) struct Q5_1;

impl Tile for Q5_1 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 64;
    const CODES: usize = 320;
    const SIGNED: bool = false;
    const OFFSET: i32 = 0;
    const MINS: bool = true;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        gather_half(blocks, 2, &mut head[32..]);
        pack_fifth(blocks, 4, codes);
        pack_nibbles(blocks, 8, &mut codes[64..]);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes.add(64), out);
            fifth::<V>(codes, out);
        }
    }

    halves_head!(d, m);
}

/// Four bits through a table.
pub(crate) struct Iq4Nl;

impl Tile for Iq4Nl {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 32;
    const CODES: usize = 256;
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 0, head);
        pack_nibbles(blocks, 2, codes);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes, out);
            for out in out.iter_mut().take(8) {
                *out = V::lookup(&quant::iq4_nl::VALUES, *out);
            }
        }
    }

    halves_head!(d);
}

/// Four-bit floats with a power-of-two scale a block (OCP Microscaling Formats 1.0).
pub(crate) struct Mxfp4;

impl Tile for Mxfp4 {
    const COLS: usize = 32;
    const SUB: usize = 32;
    const HEAD: usize = 16;
    const CODES: usize = 256;
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            head[row] = block[0];
        }
        pack_nibbles(blocks, 1, codes);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, _chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes, out);
            for out in out.iter_mut().take(8) {
                *out = V::lookup(&quant::mxfp4::VALUES, *out);
            }
        }
    }

    #[inline(always)]
    unsafe fn d<V: Simd>(head: *const u8) -> V::F {
        // The table holds doubled values, so the scale is half of 2^(e − 127); e below 2 is denormal.
        let half = |e: u8| {
            let e = u32::from(e);
            f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
        };
        // SAFETY: as the trait's method.
        unsafe {
            let exponents = head.cast::<[u8; 16]>().read_unaligned();
            V::load(exponents.map(half).as_ptr())
        }
    }
}

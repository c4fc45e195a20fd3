//! Formats whose blocks hold 256 weights.
//!
//! Codes lie in four chunks of 64 columns, sixteen quads each. Where a chunk's quads share bytes, quad
//! `i` is low and quad `i + 8` high (nibbles), or quads `i, i+4, i+8, i+12` share a byte (pairs of
//! bits). Integer scales lie as quads too: byte `4r + k` of word `w` is sub-block `4w + k`.

use super::{ROWS, Tile, gather_half, quad_byte};
use crate::simd::Simd;

/// Packs `code(row, column)` nibbles: word `i` of a chunk holds quad `i` low and quad `i + 8` high.
fn pack_nibbles(chunk: usize, words: &mut [u8], code: impl Fn(usize, usize) -> u8) {
    for (i, byte) in words.iter_mut().enumerate() {
        let quad = chunk * 16 + i / 64;
        let (row, low) = quad_byte(quad, i % 64);
        *byte = (code(row, low) & 15) | (code(row, low + 32) << 4);
    }
}

/// Packs pairs of bits: word `i` of a chunk holds quads `i, i+4, i+8, i+12`, lowest first.
fn pack_pairs(chunk: usize, words: &mut [u8], pair: impl Fn(usize, usize) -> u8) {
    for (i, byte) in words.iter_mut().enumerate() {
        let quad = chunk * 16 + i / 64;
        let (row, column) = quad_byte(quad, i % 64);
        *byte = (0..4).map(|k| (pair(row, column + 16 * k) & 3) << (2 * k)).sum();
    }
}

#[inline(always)]
unsafe fn nibbles<V: Simd>(words: *const u8, out: &mut [V::B; 16]) {
    // SAFETY: the caller gives 512 bytes.
    unsafe {
        let mask = V::splat_b(0x0f);
        for i in 0..8 {
            let both = V::load_b(words.add(64 * i));
            out[i] = V::and(both, mask);
            out[i + 8] = V::and(V::shr(both, 4), mask);
        }
    }
}

/// Sixteen signed scale bytes a row, as four words.
#[inline(always)]
unsafe fn signed_scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
    for w in 0..4 {
        // SAFETY: the caller gives 256 bytes.
        let word = unsafe { V::load_b(head.add(64 * w)) };
        for k in 0..4 {
            // SAFETY: lanes only.
            out[4 * w + k] = unsafe { V::byte_signed(word, k as u32) };
        }
    }
}

fn pack_scale_words(head: &mut [u8], words: usize, scale: impl Fn(usize, usize) -> u8) {
    for (i, byte) in head[..64 * words].iter_mut().enumerate() {
        *byte = scale((i % 64) / 4, 4 * (i / 64) + i % 4);
    }
}

/// Heads of Q4_K and Q5_K: d, dmin (sixteen half floats each); then two words of low nibbles (scale low,
/// min high; sub-blocks 0–3 and 4–7) and one word of upper pairs of bits (scale and min of sub-block
/// k, then of k + 4).
const HEAD_6BIT: usize = 256;

fn pack_head_6bit(blocks: &[&[u8]; ROWS], head: &mut [u8]) {
    gather_half(blocks, 0, head);
    gather_half(blocks, 2, &mut head[32..]);
    for (row, block) in blocks.iter().enumerate() {
        let packed: &[u8; 12] = block[4..16].try_into().expect("twelve bytes");
        let (scales, mins) = quant::q4_k::scales(packed);
        for k in 0..4 {
            let at = 4 * row + k;
            head[64 + at] = (scales[k] & 15) | (mins[k] << 4);
            head[128 + at] = (scales[k + 4] & 15) | (mins[k + 4] << 4);
            head[192 + at] =
                (scales[k] >> 4) | (mins[k] >> 4) << 2 | (scales[k + 4] >> 4) << 4 | (mins[k + 4] >> 4) << 6;
        }
    }
}

#[inline(always)]
unsafe fn scales_6bit<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
    // SAFETY: the caller gives a head.
    unsafe {
        let (nibble, pair) = (V::splat_b(0x0f), V::splat_b(0x30));
        let upper = V::load_b(head.add(192));
        let words = [
            V::or(V::and(V::load_b(head.add(64)), nibble), V::and(V::shl(upper, 4), pair)),
            V::or(V::and(V::load_b(head.add(128)), nibble), V::and(upper, pair)),
        ];
        for k in 0..4 {
            out[k] = V::byte(words[0], k as u32);
            out[4 + k] = V::byte(words[1], k as u32);
        }
    }
}

#[inline(always)]
unsafe fn mins_6bit<V: Simd>(head: *const u8, out: &mut [V::B; 4]) {
    // SAFETY: the caller gives a head.
    unsafe {
        let (nibble, pair) = (V::splat_b(0x0f), V::splat_b(0x30));
        let upper = V::load_b(head.add(192));
        let low = |at| V::and(V::shr(V::load_b(head.add(at)), 4), nibble);
        out[0] = V::or(low(64), V::and(V::shl(upper, 2), pair));
        out[1] = V::or(low(128), V::and(V::shr(upper, 2), pair));
    }
}

macro_rules! six_bit_head {
    () => {
        #[inline(always)]
        unsafe fn scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
            // SAFETY: as the trait's method.
            unsafe { scales_6bit::<V>(head, out) };
        }

        #[inline(always)]
        unsafe fn mins<V: Simd>(head: *const u8, out: &mut [V::B; 4]) {
            // SAFETY: as the trait's method.
            unsafe { mins_6bit::<V>(head, out) };
        }

        #[inline(always)]
        unsafe fn d<V: Simd>(head: *const u8) -> V::F {
            // SAFETY: as the trait's method.
            unsafe { V::load_f16(head.cast()) }
        }

        #[inline(always)]
        unsafe fn dmin<V: Simd>(head: *const u8) -> V::F {
            // SAFETY: as the trait's method.
            unsafe { V::load_f16(head.add(32).cast()) }
        }
    };
}

/// Four bits, eight 6-bit scales and minima. Chunk `p` is sub-blocks 2p (low) and 2p + 1 (high), so
/// packing only moves words of the file.
pub(crate) struct Q4K;

impl Tile for Q4K {
    const COLS: usize = 256;
    const SUB: usize = 32;
    const HEAD: usize = HEAD_6BIT;
    const CODES: usize = 2048;
    const SIGNED: bool = false;
    const OFFSET: i32 = 0;
    const MINS: bool = true;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        pack_head_6bit(blocks, head);
        pack_file_nibbles(blocks, 16, codes);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe { nibbles::<V>(codes.add(512 * chunk), out) };
    }

    six_bit_head!();
}

/// Moves 128 bytes of nibbles a row, at `at`, of which each 32 hold two sub-blocks of 32.
fn pack_file_nibbles(blocks: &[&[u8]; ROWS], at: usize, codes: &mut [u8]) {
    for word in 0..32 {
        for (row, block) in blocks.iter().enumerate() {
            let to = word * 64 + row * 4;
            codes[to..to + 4].copy_from_slice(&block[at + word * 4..][..4]);
        }
    }
}

/// Five bits: eight words of fifth bits (word `i` bit `s`: quad `i` of sub-block `s`), then Q4_K's nibbles.
pub(crate) struct Q5K;

impl Tile for Q5K {
    const COLS: usize = 256;
    const SUB: usize = 32;
    const HEAD: usize = HEAD_6BIT;
    const CODES: usize = 2560;
    const SIGNED: bool = false;
    const OFFSET: i32 = 0;
    const MINS: bool = true;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        pack_head_6bit(blocks, head);
        for word in 0..8 {
            for (row, block) in blocks.iter().enumerate() {
                let to = word * 64 + row * 4;
                codes[to..to + 4].copy_from_slice(&block[16 + word * 4..][..4]);
            }
        }
        pack_file_nibbles(blocks, 48, &mut codes[512..]);
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes.add(512 + 512 * chunk), out);
            let mask = V::splat_b(0x10);
            for i in 0..8 {
                let bits = V::shr(V::load_b(codes.add(64 * i)), 2 * chunk as u32);
                out[i] = V::or(out[i], V::and(V::shl(bits, 4), mask));
                out[i + 8] = V::or(out[i + 8], V::and(V::shl(bits, 3), mask));
            }
        }
    }

    six_bit_head!();
}

/// Six bits around 32, sixteen signed scales. Head: four words of scales, then d.
/// A chunk is 512 bytes of nibbles and 256 of upper pairs of bits.
pub(crate) struct Q6K;

impl Tile for Q6K {
    const COLS: usize = 256;
    const SUB: usize = 16;
    const HEAD: usize = 288;
    const CODES: usize = 3072;
    const SIGNED: bool = false;
    const OFFSET: i32 = 32;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        pack_scale_words(head, 4, |row, sub| blocks[row][192 + sub]);
        gather_half(blocks, 208, &mut head[256..]);
        let mut all = [[0u8; 256]; ROWS];
        for (all, block) in all.iter_mut().zip(blocks) {
            for half in 0..2 {
                for l in 0..32 {
                    let (a, b) = (block[64 * half + l], block[64 * half + l + 32]);
                    let upper = block[128 + 32 * half + l];
                    let to = &mut all[128 * half..][..128];
                    to[l] = (a & 15) | (upper & 3) << 4;
                    to[l + 32] = (b & 15) | ((upper >> 2) & 3) << 4;
                    to[l + 64] = (a >> 4) | ((upper >> 4) & 3) << 4;
                    to[l + 96] = (b >> 4) | (upper >> 6) << 4;
                }
            }
        }
        for (chunk, codes) in codes.chunks_exact_mut(768).enumerate() {
            pack_nibbles(chunk, &mut codes[..512], |row, column| all[row][column] & 15);
            pack_pairs(chunk, &mut codes[512..], |row, column| all[row][column] >> 4);
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            let codes = codes.add(768 * chunk);
            nibbles::<V>(codes, out);
            let mask = V::splat_b(0x30);
            for i in 0..4 {
                let upper = V::load_b(codes.add(512 + 64 * i));
                out[i] = V::or(out[i], V::and(V::shl(upper, 4), mask));
                out[i + 4] = V::or(out[i + 4], V::and(V::shl(upper, 2), mask));
                out[i + 8] = V::or(out[i + 8], V::and(upper, mask));
                out[i + 12] = V::or(out[i + 12], V::and(V::shr(upper, 2), mask));
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
        // SAFETY: as the trait's method.
        unsafe { signed_scales::<V>(head, out) };
    }

    #[inline(always)]
    unsafe fn d<V: Simd>(head: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(head.add(256).cast()) }
    }
}

/// Three bits around four, sixteen 6-bit scales around 32. Head: four words of scales as signed
/// bytes (32 bytes a tile more than the file), then d. Codes: four chunks of 256 bytes of lower
/// pairs of bits, then eight words of third bits (word `i` bit `s`: quad `i` of columns 32s..).
pub(crate) struct Q3K;

impl Tile for Q3K {
    const COLS: usize = 256;
    const SUB: usize = 16;
    const HEAD: usize = 288;
    const CODES: usize = 1536;
    const SIGNED: bool = false;
    const OFFSET: i32 = 4;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        // Twelve bytes hold sixteen scales: eight bytes of nibbles, four of upper pairs.
        pack_scale_words(head, 4, |row, sub| {
            let packed = &blocks[row][96..108];
            let nibble = if sub < 8 { packed[sub] & 15 } else { packed[sub - 8] >> 4 };
            let upper = (packed[8 + sub % 4] >> (2 * (sub / 4))) & 3;
            (nibble | upper << 4).wrapping_sub(32)
        });
        gather_half(blocks, 108, &mut head[256..]);
        let pair = |row: usize, column: usize| {
            let (half, at) = (column / 128, column % 128);
            blocks[row][32 + 32 * half + at % 32] >> (2 * (at / 32))
        };
        for chunk in 0..4 {
            pack_pairs(chunk, &mut codes[256 * chunk..][..256], pair);
        }
        for word in 0..8 {
            for (row, block) in blocks.iter().enumerate() {
                let to = 1024 + word * 64 + row * 4;
                codes[to..to + 4].copy_from_slice(&block[word * 4..][..4]);
            }
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            let mask = V::splat_b(3);
            for i in 0..4 {
                let pairs = V::load_b(codes.add(256 * chunk + 64 * i));
                for k in 0..4 {
                    out[i + 4 * k] = V::and(V::shr(pairs, 2 * k as u32), mask);
                }
            }
            let mask = V::splat_b(4);
            for i in 0..8 {
                let bits = V::shr(V::load_b(codes.add(1024 + 64 * i)), 2 * chunk as u32);
                out[i] = V::or(out[i], V::and(V::shl(bits, 2), mask));
                out[i + 8] = V::or(out[i + 8], V::and(V::shl(bits, 1), mask));
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
        // SAFETY: as the trait's method.
        unsafe { signed_scales::<V>(head, out) };
    }

    #[inline(always)]
    unsafe fn d<V: Simd>(head: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(head.add(256).cast()) }
    }
}

/// Two bits, sixteen 4-bit scales and minima. Head: d, dmin, four words (scale low, min high).
pub(crate) struct Q2K;

impl Tile for Q2K {
    const COLS: usize = 256;
    const SUB: usize = 16;
    const HEAD: usize = 320;
    const CODES: usize = 1024;
    const SIGNED: bool = false;
    const OFFSET: i32 = 0;
    const MINS: bool = true;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        gather_half(blocks, 80, head);
        gather_half(blocks, 82, &mut head[32..]);
        pack_scale_words(&mut head[64..], 4, |row, sub| blocks[row][sub]);
        let pair = |row: usize, column: usize| {
            let (half, at) = (column / 128, column % 128);
            blocks[row][16 + 32 * half + at % 32] >> (2 * (at / 32))
        };
        for chunk in 0..4 {
            pack_pairs(chunk, &mut codes[256 * chunk..][..256], pair);
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            let mask = V::splat_b(3);
            for i in 0..4 {
                let pairs = V::load_b(codes.add(256 * chunk + 64 * i));
                for k in 0..4 {
                    out[i + 4 * k] = V::and(V::shr(pairs, 2 * k as u32), mask);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            for w in 0..4 {
                let word = V::and(V::load_b(head.add(64 + 64 * w)), V::splat_b(0x0f));
                for k in 0..4 {
                    out[4 * w + k] = V::byte(word, k as u32);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn mins<V: Simd>(head: *const u8, out: &mut [V::B; 4]) {
        // SAFETY: as the trait's method.
        unsafe {
            for (w, out) in out.iter_mut().enumerate() {
                *out = V::and(V::shr(V::load_b(head.add(64 + 64 * w)), 4), V::splat_b(0x0f));
            }
        }
    }

    #[inline(always)]
    unsafe fn d<V: Simd>(head: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(head.cast()) }
    }

    #[inline(always)]
    unsafe fn dmin<V: Simd>(head: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(head.add(32).cast()) }
    }
}

/// Four bits through a table, eight 6-bit scales around 32. Head: two words of scales as signed bytes
/// (32 bytes a tile more than the file), then d.
pub(crate) struct Iq4Xs;

impl Tile for Iq4Xs {
    const COLS: usize = 256;
    const SUB: usize = 32;
    const HEAD: usize = 160;
    const CODES: usize = 2048;
    const SIGNED: bool = true;
    const OFFSET: i32 = 0;
    const MINS: bool = false;

    fn pack(blocks: &[&[u8]; ROWS], head: &mut [u8], codes: &mut [u8]) {
        pack_scale_words(head, 2, |row, sub| {
            let block = blocks[row];
            let nibble = (block[4 + sub / 2] >> (4 * (sub % 2))) & 15;
            let upper = (u16::from_le_bytes([block[2], block[3]]) >> (2 * sub)) & 3;
            (nibble | (upper as u8) << 4).wrapping_sub(32)
        });
        gather_half(blocks, 0, &mut head[128..]);
        // Each 16 bytes hold one sub-block: low nibbles its first sixteen columns, high its last.
        let code = |row: usize, column: usize| {
            let byte = blocks[row][8 + 16 * (column / 32) + column % 16];
            if column % 32 < 16 { byte & 15 } else { byte >> 4 }
        };
        for (chunk, codes) in codes.chunks_exact_mut(512).enumerate() {
            pack_nibbles(chunk, codes, code);
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Simd>(codes: *const u8, chunk: usize, out: &mut [V::B; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            nibbles::<V>(codes.add(512 * chunk), out);
            for out in out.iter_mut() {
                *out = V::lookup(&quant::iq4_nl::VALUES, *out);
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<V: Simd>(head: *const u8, out: &mut [V::I; 16]) {
        // SAFETY: as the trait's method.
        unsafe {
            for w in 0..2 {
                let word = V::load_b(head.add(64 * w));
                for k in 0..4 {
                    out[4 * w + k] = V::byte_signed(word, k as u32);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn d<V: Simd>(head: *const u8) -> V::F {
        // SAFETY: as the trait's method.
        unsafe { V::load_f16(head.add(128).cast()) }
    }
}
